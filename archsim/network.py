"""Layer and Network: shapes from built-in YAML, from the user's YAML, or from a CSV table.

Dimensions are the field's letters: N batch, C input channels, K output channels, H W input,
P Q output, R S kernel, G groups.  A fully connected layer is a 1x1 convolution of a 1x1 picture.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from archsim.errors import input_error
from archsim.schema import validate
from archsim.yamlfile import Mark, Node, read_yaml

FLOAT_BYTES: Final = 4
INDEX_BYTES: Final = 4
CSV_COLUMNS: Final = (
    "name", "type", "C", "H", "W", "K", "R", "S", "stride", "pad", "dilation", "groups",
)  # fmt: skip


def _pair(value: Any) -> Any:
    """Read ``2`` or ``[2, 1]`` as (height, width)."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


_Positive = Annotated[int, Field(ge=1, strict=True, le=2**31 - 1)]
_Natural = Annotated[int, Field(ge=0, strict=True, le=2**31 - 1)]
_Steps = Annotated[tuple[_Positive, _Positive], BeforeValidator(_pair)]
_Pads = Annotated[tuple[_Natural, _Natural], BeforeValidator(_pair)]


@dataclass(frozen=True)
class Layer:
    """Shape of one layer.

    ``C`` counts the input channels of all groups.  ``stride``, ``pad`` and ``dilation`` are
    (height, width).
    """

    name: str
    C: int
    K: int
    H: int = 1
    W: int = 1
    R: int = 1
    S: int = 1
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    type: Literal["conv", "fc"] = "conv"
    network: str = ""

    def __post_init__(self) -> None:
        if self.C % self.groups or self.K % self.groups:
            raise ValueError(
                f"layer {self.name}: groups must divide C ({self.C}) and K ({self.K}); "
                f"found {self.groups}"
            )
        if self.P < 1 or self.Q < 1:
            raise ValueError(
                f"layer {self.name}: the kernel {self.R}x{self.S} (dilation {self.dilation}) does "
                f"not fit into the padded input {self.H}x{self.W} (pad {self.pad})"
            )
        if self.type == "fc" and (self.H, self.W, self.R, self.S, self.groups) != (1,) * 5:
            raise ValueError(f"layer {self.name}: a fully connected layer has C and K only")

    @cached_property
    def P(self) -> int:  # noqa: N802
        """Output height."""
        span = self.dilation[0] * (self.R - 1) + 1
        return (self.H + 2 * self.pad[0] - span) // self.stride[0] + 1

    @cached_property
    def Q(self) -> int:  # noqa: N802
        """Output width."""
        span = self.dilation[1] * (self.S - 1) + 1
        return (self.W + 2 * self.pad[1] - span) // self.stride[1] + 1

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(K, C / groups, R, S)."""
        return self.K, self.C // self.groups, self.R, self.S

    @cached_property
    def weights(self) -> int:
        """Number of weights, zeros included."""
        return self.K * (self.C // self.groups) * self.R * self.S

    @cached_property
    def macs(self) -> int:
        """Multiply-adds of one image, zeros included."""
        return self.weights * self.P * self.Q

    @property
    def flop(self) -> float:
        """Dense FLOP of one image, two per multiply-add."""
        return 2.0 * self.macs

    @property
    def input_bytes(self) -> int:
        """Bytes of one unpadded input image."""
        return FLOAT_BYTES * self.C * self.H * self.W

    @property
    def output_bytes(self) -> int:
        """Bytes of one output image."""
        return FLOAT_BYTES * self.K * self.P * self.Q

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense weights."""
        return FLOAT_BYTES * self.weights

    def sparse_bytes(self, density: float) -> float:
        """Bytes of the weights as CSR: value and column index per nonzero, row pointers."""
        nonzeros = density * self.weights
        return (FLOAT_BYTES + INDEX_BYTES) * nonzeros + INDEX_BYTES * (self.K + 1)


@dataclass(frozen=True)
class SparsityMap:
    """Published or user-given sparsities, by layer name; layers not named are dense."""

    name: str
    layers: Mapping[str, float]
    description: str = ""
    source: str = ""
    domain: Literal["spatial", "winograd"] = "spatial"
    top1_accuracy: float | None = None


@dataclass(frozen=True)
class Network:
    """Layers in the order of execution, and the named sparsities that come with them."""

    name: str
    layers: tuple[Layer, ...]
    description: str = ""
    sparsities: Mapping[str, SparsityMap] = field(default_factory=dict)
    default_sparsity: str | None = None
    source: str = ""

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        raise input_error(
            f"network {self.name}",
            "unknown layer",
            found=name,
            allowed=", ".join(names[:12]) + (", ..." if len(names) > 12 else ""),
            near=(name, names),
        )

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image, zeros included."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        """Number of weights, zeros included."""
        return sum(layer.weights for layer in self.layers)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _LayerEntry(_File):
    name: str = Field(min_length=1)
    type: Literal["conv", "fc"] = "conv"
    C: _Positive
    K: _Positive
    H: _Positive = 1
    W: _Positive = 1
    R: _Positive = 1
    S: _Positive = 1
    stride: _Steps = (1, 1)
    pad: _Pads = (0, 0)
    dilation: _Steps = (1, 1)
    groups: _Positive = 1

    @model_validator(mode="after")
    def _check(self) -> _LayerEntry:
        Layer(**self.model_dump())  # its rules are the rules
        return self


class _SourceEntry(_File):
    kind: Literal["datasheet", "measured", "published", "assumed", "derived"]
    text: str


class _MapEntry(_File):
    layers: dict[str, Annotated[float, Field(ge=0, le=1, strict=True)]]
    description: str = ""
    source: str = ""
    domain: Literal["spatial", "winograd"] = "spatial"
    top1_accuracy: float | None = None


class _NetworkFile(_File):
    format: Literal[1] = 1
    name: str = Field(min_length=1)
    description: str = ""
    sources: dict[str, _SourceEntry] = Field(default_factory=dict)
    source: str = ""
    layers: list[_LayerEntry] = Field(min_length=1)
    sparsities: dict[str, _MapEntry] = Field(default_factory=dict)
    default_sparsity: str | None = None


def network_names() -> list[str]:
    """Return the names of the networks that ship with archsim."""
    folder = resources.files("archsim") / "networks"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_network(name_or_path: str | Path) -> Network:
    """Load a network by built-in name, or from a YAML file or CSV layer table.

    Raises
    ------
    InputError
        Unknown name, unreadable or wrong file.
    """
    text = str(name_or_path)
    if text in (names := network_names()):
        with resources.as_file(resources.files("archsim") / "networks" / f"{text}.yaml") as path:
            return _from_yaml(read_yaml(path))
    path = Path(name_or_path)
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    if path.suffix.lower() in (".yaml", ".yml") or exists(path):
        return _from_yaml(read_yaml(path))
    raise input_error(
        "network",
        "no such network, and no such file",
        found=text,
        allowed=", ".join(names) + ", or a .yaml or .csv file",
        near=(text, names),
    )


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; a name too long for one is none."""
    try:
        return path.exists()
    except OSError:
        return False


def _from_yaml(node: Node) -> Network:
    file = validate(_NetworkFile, node)
    layers = tuple(Layer(**entry.model_dump(), network=file.name) for entry in file.layers)
    names = [layer.name for layer in layers]
    for index, name in enumerate(names):
        if name in names[:index]:
            mark = node.mark_at(("layers", index, "name"))
            raise input_error(f"{mark}: layers[{index}].name", "layer name is taken", found=name)
    for key, entry in file.sparsities.items():
        for layer in entry.layers:
            if layer not in names:
                mark = node.mark_at(("sparsities", key, "layers", layer))
                raise input_error(
                    f"{mark}: sparsities.{key}", "unknown layer", found=layer, near=(layer, names)
                )
    if file.default_sparsity is not None and file.default_sparsity not in file.sparsities:
        raise input_error(
            f"{node.mark_at(('default_sparsity',))}: default_sparsity",
            "no such map",
            found=file.default_sparsity,
            allowed=", ".join(file.sparsities) or "none is given",
        )

    def cite(key: str) -> str:
        return file.sources[key].text if key in file.sources else key

    maps = {
        key: SparsityMap(
            name=key,
            layers=dict(entry.layers),
            description=entry.description,
            source=cite(entry.source),
            domain=entry.domain,
            top1_accuracy=entry.top1_accuracy,
        )
        for key, entry in file.sparsities.items()
    }
    return Network(
        name=file.name,
        layers=layers,
        description=file.description,
        sparsities=maps,
        default_sparsity=file.default_sparsity,
        source=cite(file.source),
    )


def _from_csv(path: Path) -> Network:
    """Read a layer table; columns in any order, ``name``, ``C`` and ``K`` needed."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except OSError as error:
        raise input_error(str(path), f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise input_error(str(path), f"is not UTF-8 text ({error.reason})") from error
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        return _from_rows(rows, path)
    except csv.Error as error:
        raise input_error(f"{path}:{rows.line_num + 1}", f"not a CSV table ({error})") from error


def _from_rows(rows: csv.DictReader[str], path: Path) -> Network:
    columns = [column.strip() for column in rows.fieldnames or []]
    rows.fieldnames = columns
    for column in columns:
        if column not in CSV_COLUMNS:
            raise input_error(
                f"{path}:1", f"unknown column {column!r}", allowed=", ".join(CSV_COLUMNS),
                near=(column, CSV_COLUMNS),
            )  # fmt: skip
    if len(set(columns)) != len(columns):
        raise input_error(f"{path}:1", "a column stands twice", found=",".join(columns))
    entries = []
    for row in rows:
        mark = Mark(str(path), rows.line_num)
        if None in row:
            raise input_error(str(mark), f"row has more than {len(columns)} columns")
        cells = {
            key: Node(_cell(key, value, mark), mark)
            for key, value in row.items()
            if value not in ("", None)
        }
        entries.append(Node(cells, mark))
    start = Mark(str(path), 1)
    return _from_yaml(Node({"name": Node(path.stem, start), "layers": Node(entries, start)}, start))


def _cell(column: str, text: str, mark: Mark) -> Any:
    """Read a CSV cell: ``3``, or ``3x1`` for (height, width); other text stays text."""
    text = text.strip()
    if column in ("name", "type"):
        return text
    height, cross, width = text.partition("x")
    try:
        if not cross:
            return int(text)
        return [Node(int(height), mark), Node(int(width), mark)]
    except ValueError:
        return text
