"""Layer and Network: shapes from built-in YAML, from the user's YAML, or from a CSV table.

Dimensions are the field's letters: N batch, C input channels, K output channels, H W input,
P Q output, R S kernel, G groups.  A fully connected layer is a 1x1 convolution of a 1x1 picture.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from archsim.errors import input_error
from archsim.schema import validate
from archsim.yamlfile import Mark, Node, read_text, read_yaml

FLOAT_BYTES: Final = 4
INDEX_BYTES: Final = 4
CSV_COLUMNS: Final = (
    "name", "type", "C", "H", "W", "K", "R", "S", "stride", "pad", "dilation", "groups",
)  # fmt: skip


#: ``3`` or ``3x1``; digits of ASCII, and few enough for any limit
_CELL: Final = re.compile(r"([+-]?[0-9]{1,20})(?:\s*x\s*([+-]?[0-9]{1,20}))?")


def _pair(value: Any) -> Any:
    """Read ``2`` or ``[2, 1]`` as (height, width)."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


MAX_CHANNELS: Final = 2**20
MAX_SIZE: Final = 2**16  # height and width, and whatever counts along them
MAX_KERNEL: Final = 2**10
MAX_NAME: Final = 200
#: least and greatest value of a layer's whole numbers
_LIMITS: Final = {
    "C": (1, MAX_CHANNELS), "K": (1, MAX_CHANNELS), "groups": (1, MAX_CHANNELS),
    "H": (1, MAX_SIZE), "W": (1, MAX_SIZE), "R": (1, MAX_KERNEL), "S": (1, MAX_KERNEL),
    "stride": (1, MAX_SIZE), "pad": (0, 2**31 - 1), "dilation": (1, MAX_SIZE),
}  # fmt: skip

_Channels = Annotated[int, Field(ge=1, strict=True, le=MAX_CHANNELS)]
_Positive = Annotated[int, Field(ge=1, strict=True, le=MAX_SIZE)]
_Kernel = Annotated[int, Field(ge=1, strict=True, le=MAX_KERNEL)]
_Natural = Annotated[int, Field(ge=0, strict=True, le=2**31 - 1)]
_Steps = Annotated[tuple[_Positive, _Positive], BeforeValidator(_pair)]
_Pads = Annotated[tuple[_Natural, _Natural], BeforeValidator(_pair)]


@dataclass(frozen=True)
class Layer:
    """Shape of one layer.

    ``C`` counts the input channels of all groups.  ``stride``, ``pad`` and ``dilation`` are
    (height, width); one number stands for both.

    Raises
    ------
    InputError
        A value is of the wrong type or outside its limits, or the shape cannot be.
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
        _check_name("layer name", self.name)
        if self.network != "":
            _check_name(f"layer {self.name}: network", self.network)
        where = f"layer {self.name}"
        if self.type not in ("conv", "fc"):
            raise input_error(f"{where}: type", "unknown", found=self.type, allowed="conv, fc")
        for key in _LIMITS:
            value = getattr(self, key)
            if key in ("stride", "pad", "dilation"):
                object.__setattr__(self, key, _two(f"{where}: {key}", value, *_LIMITS[key]))
            else:
                object.__setattr__(self, key, _whole(f"{where}: {key}", value, *_LIMITS[key]))
        self._check_shape(where)

    def _check_shape(self, where: str) -> None:
        if self.C % self.groups or self.K % self.groups:
            raise input_error(
                where, f"groups must divide C ({self.C}) and K ({self.K})", found=self.groups
            )
        if self.P < 1 or self.Q < 1:
            raise input_error(
                where,
                f"the kernel {self.R}x{self.S} (dilation {self.dilation}) does not fit into the "
                f"padded input {self.H}x{self.W} (pad {self.pad})",
            )
        spans = tuple(
            d * (kernel - 1) + 1 for d, kernel in zip(self.dilation, (self.R, self.S), strict=True)
        )
        if self.pad[0] > spans[0] or self.pad[1] > spans[1]:
            raise input_error(
                f"{where}: pad", f"must not exceed the kernel's span {spans}", found=self.pad
            )
        if self.type == "fc" and (self.H, self.W, self.R, self.S, self.groups, self.pad) != (
            1, 1, 1, 1, 1, (0, 0),
        ):  # fmt: skip
            raise input_error(where, "a fully connected layer has C and K only")

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

    def sparse_bytes(self, density: float, positions: int = 0) -> float:
        """Bytes of the weights as CSR: value and column index per nonzero, row pointers.

        With ``positions`` of the Winograd domain: a matrix of K x C / groups for each.
        """
        rows, weights = self.K, self.weights
        if positions:
            rows, weights = positions * self.K, positions * self.K * (self.C // self.groups)
        return (FLOAT_BYTES + INDEX_BYTES) * density * weights + INDEX_BYTES * (rows + 1)


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise input_error(where, "must be text without control characters", found=name)
    if len(name) > MAX_NAME:
        raise input_error(where, f"must not exceed {MAX_NAME} characters", found=name)


def _whole(where: str, value: object, least: int, greatest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise input_error(where, "must be a whole number", found=value)
    number = int(value)
    if not least <= number <= greatest:
        raise input_error(where, f"must lie in {least}..{greatest}", found=number)
    return number


def _two(where: str, value: object, least: int, greatest: int) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)):
        value = (value, value)
    if len(value) != 2:
        raise input_error(where, "must be one whole number or two", found=value)
    return _whole(where, value[0], least, greatest), _whole(where, value[1], least, greatest)


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

    def __contains__(self, item: object) -> bool:
        """Whether a layer, or a layer of this name, is in the network."""
        return any(item in (layer.name, layer) for layer in self.layers)

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
    name: str = Field(min_length=1, max_length=MAX_NAME)
    type: Literal["conv", "fc"] = "conv"
    C: _Channels
    K: _Channels
    H: _Positive = 1
    W: _Positive = 1
    R: _Kernel = 1
    S: _Kernel = 1
    stride: _Steps = (1, 1)
    pad: _Pads = (0, 0)
    dilation: _Steps = (1, 1)
    groups: _Channels = 1

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
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=MAX_NAME)
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
    if not isinstance(name_or_path, (str, Path)):
        raise input_error("network", "wrong type", found=name_or_path, allowed="a name or a path")
    text = str(name_or_path)
    if text in (names := network_names()):
        with resources.as_file(resources.files("archsim") / "networks" / f"{text}.yaml") as path:
            return _from_yaml(read_yaml(path))
    path = Path(name_or_path)
    if path.suffix.lower() == ".onnx":
        raise input_error(
            "network", "ONNX files are not read", found=text,
            allowed="a .yaml or .csv file; in Python archsim.from_torch(model, ...)",
        )  # fmt: skip
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
    except (OSError, ValueError):  # ValueError: a zero byte
        return False


def _from_yaml(node: Node) -> Network:
    file = validate(_NetworkFile, node)
    layers = tuple(Layer(**entry.model_dump(), network=file.name) for entry in file.layers)
    names = [layer.name for layer in layers]
    taken: set[str] = set()
    for index, name in enumerate(names):
        if name in taken:
            mark = node.mark_at(("layers", index, "name"))
            raise input_error(f"{mark}: layers[{index}].name", "layer name is taken", found=name)
        taken.add(name)
    for key, entry in file.sparsities.items():
        for layer in entry.layers:
            if layer not in taken:
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
    text = read_text(path).removeprefix("\ufeff")  # spreadsheets write a byte order mark
    rows = csv.DictReader(io.StringIO(text, newline=None), skipinitialspace=True)
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
    name = re.sub(r"[^A-Za-z0-9._ -]", "_", path.stem).lstrip("._ -")[:MAX_NAME] or "network"
    return _from_yaml(Node({"name": Node(name, start), "layers": Node(entries, start)}, start))


def _cell(column: str, text: str, mark: Mark) -> Any:
    """Read a CSV cell: ``3``, or ``3x1`` for (height, width); other text stays text."""
    text = text.strip()
    if column in ("name", "type"):
        return text
    match = _CELL.fullmatch(text)
    if match is None:
        return text
    if match[2] is None:
        return int(match[1])
    return [Node(int(match[1]), mark), Node(int(match[2]), mark)]
