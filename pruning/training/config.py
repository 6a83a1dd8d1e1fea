"""The file that ``archsim prune`` reads: strict YAML, checked before anything is trained."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim.errors import ArchsimError, InputError, input_error
from archsim.pruning.training.loop import Phase, PhaseName
from archsim.pruning.training.methods import get_pruning_method
from archsim.schema import validate
from archsim.yamlfile import Node, read_yaml

_Positive = Annotated[float, Field(gt=0, strict=True)]
_NotNegative = Annotated[float, Field(ge=0, strict=True)]
_Share = Annotated[float, Field(gt=0, lt=1, strict=True)]
_Count = Annotated[int, Field(ge=1, strict=True)]
_Plain = bool | int | float | str | None
#: Park et al. (ICLR 2017) retrain at a tenth of the learning rate
_TUNE_RATE: Final = 0.1


_PHASES: Final[tuple[PhaseName, ...]] = ("train", "prune", "tune")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PhaseConfig(_File):
    """``train``, ``prune`` and ``tune``."""

    epochs: Annotated[int, Field(ge=0, strict=True)]
    learning_rate: _Positive | None = None
    batch: _Count = 64
    momentum: _NotNegative = 0.9
    weight_decay: _NotNegative = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    drops: list[_Share] = Field(default_factory=list)


class ProjectionConfig(_File):
    """How machines are asked."""

    model: Literal["ecm", "park", "simulator"] = "ecm"
    batch: _Count | None = None
    threads: _Count | None = None
    every: _Count = 100


class PruneConfig(_File):
    """The whole file."""

    format: Literal[1] = 1
    model: str
    weights: str | None = None
    data: str
    data_path: str | None = None
    method: str
    options: dict[str, _Plain | list[_Plain] | dict[str, _Plain]] = Field(default_factory=dict)
    layers: list[str] | dict[str, _NotNegative] | None = None
    machines: list[str] = Field(default_factory=lambda: ["host"], min_length=1)
    projection: ProjectionConfig = ProjectionConfig()
    train: PhaseConfig | None = None
    prune: PhaseConfig
    tune: PhaseConfig | None = None
    sensitivity: list[_Share] = Field(default_factory=list)
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    threads: _Count | None = None


@dataclass(frozen=True)
class Config:
    """A file that was read; relative paths in it start from ``folder``."""

    file: PruneConfig
    node: Node
    folder: Path
    phases: tuple[Phase, ...]

    @property
    def key(self) -> str:
        """Digest of all that a run depends on."""
        return hashlib.sha256(self.file.model_dump_json().encode()).hexdigest()

    def path(self, name: str) -> Path:
        """Return a path of the file."""
        return self.folder / name

    def place(self, key: str) -> str:
        """Return file, line and key, to begin an error with."""
        return f"{self.node.mark_at((key,))}: {key}"


def read_config(path: str | Path) -> Config:
    """Read and check a file.

    Raises
    ------
    InputError
        Unreadable, an unknown key, a value of the wrong kind, an unknown method or option.
    """
    path = Path(path)
    node = read_yaml(path)
    file = validate(PruneConfig, node)
    try:
        options = get_pruning_method(file.method).options()
    except InputError as error:
        raise InputError(f"{node.mark_at(('method',))}: {error}") from None
    for key in file.options:
        if key not in options:
            raise input_error(f"{node.mark_at(('options', key))}: options", f"unknown key {key!r}",
                              allowed=", ".join(options), near=(key, options))  # fmt: skip
    return Config(file, node, path.resolve().parent, _phases(file, node))


def _phases(file: PruneConfig, node: Node) -> tuple[Phase, ...]:
    found = []
    rates = {
        "train": file.train and file.train.learning_rate,
        "prune": file.prune.learning_rate,
        "tune": file.tune and (file.tune.learning_rate
                               or _TUNE_RATE * (file.prune.learning_rate or 0.0)),
    }  # fmt: skip
    for name in _PHASES:
        part: PhaseConfig | None = getattr(file, name)
        if part is None:
            continue
        rate = rates[name]
        if not rate:
            raise input_error(f"{node.mark_at((name,))}: {name}", "key 'learning_rate' is missing")
        found.append(
            Phase(
                name, part.epochs, rate, part.batch, part.momentum,
                part.weight_decay, part.optimizer, tuple(part.drops),
            )
        )  # fmt: skip
    return tuple(found)


def load_named(config: Config, key: str, name: str) -> Callable[..., Any]:
    """Import ``package.module:factory``, also from beside the file.

    This runs code that the file names: read a stranger's file before you use it.

    Raises
    ------
    InputError
        It is no such name, cannot be imported, or is not callable.
    """
    module, colon, attribute = name.partition(":")
    if not (colon and module and attribute):
        raise input_error(config.place(key), "package.module:factory is due", found=name)
    try:
        with _beside(config.folder):
            found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ArchsimError:
        raise
    except Exception as error:  # importing runs anything
        why = " ".join(str(error).split()) or type(error).__name__
        raise input_error(config.place(key), f"cannot be imported ({why})", found=name) from error
    if not callable(found):
        raise input_error(config.place(key), "a function is due", found=name)
    made: Callable[..., Any] = found
    return made


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
