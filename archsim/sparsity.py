"""Sparsity: how many weights of a layer are not zero, and where they are.

*sparsity* is the share of zeros, *density* the share of nonzeros.  A density alone means a
uniformly random pattern; a real pattern comes from arrays, ``.npz`` or Matrix Market files.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError, input_error
from archsim.network import Layer, Network, exists
from archsim.targetsfile import TARGETS_KIND, Ways, read_layers, read_ways
from archsim.weightfile import read_mtx, read_npz, reason
from archsim.yamlfile import Node, parse_yaml, read_text, shown_path

Domain = Literal["spatial", "winograd"]
DOMAINS: tuple[Domain, ...] = ("spatial", "winograd")
Structure = Literal["output-map", "input-map", "kernel", "intra-kernel-strided"]
STRUCTURES: tuple[Structure, ...] = ("output-map", "input-map", "kernel", "intra-kernel-strided")

#: Sides of the tiles that Winograd's variants have, by the side of the kernel (archsim.methods).
WINOGRAD_TILES: Final = {3: (6, 4), 5: (8,)}

_MAX_BYTES: Final = 2**24  # of a map or of targets, which hold a front and a map beside
_NAMED: Final = 8  # names that a warning lists


def winograd_shape(layer: Layer, tile: int) -> tuple[int, int, int, int]:
    """Return the shape of a layer's weights in the Winograd domain, (t, t, K, C / groups)."""
    return (tile, tile, *layer.weight_shape[:2])


def weight_shapes(layer: Layer, domain: Domain) -> list[tuple[int, ...]]:
    """Return the shapes that a layer's weights may have in a domain; the usual one is first."""
    tiles = WINOGRAD_TILES.get(layer.R, ()) if layer.R == layer.S else ()
    if domain == "spatial" or layer.type == "fc" or not tiles:
        return [layer.weight_shape]
    return [winograd_shape(layer, tile) for tile in tiles]


@dataclass(frozen=True, eq=False)
class Sparsity:
    """Density of one layer's weights, or the weights themselves.

    Attributes
    ----------
    density : float
        Share of nonzeros, 0 to 1.
    weights : ndarray of shape (K, C / groups, R, S), float32, optional
        Real or drawn weights; their zeros are the pattern.  None: uniformly random.  In the
        Winograd domain they have the shape (t, t, K, C / groups), t being a tile's side.
    domain : {"spatial", "winograd"}
        Where the zeros are counted.
    label : str
        Where it comes from, for tables.
    """

    density: float
    weights: NDArray[np.float32] | None = None
    domain: Domain = "spatial"
    label: str = "uniform"

    def __post_init__(self) -> None:
        if isinstance(self.density, bool) or not isinstance(
            self.density, (int, float, np.integer, np.floating)
        ):
            raise input_error("density", "a number is due", found=self.density, allowed="0..1")
        if not 0.0 <= self.density <= 1.0:  # nor is NaN
            raise input_error("density", "must lie in 0..1", found=self.density)
        if self.domain not in DOMAINS:
            raise input_error(
                "density_domain", "unknown", found=self.domain, allowed=", ".join(DOMAINS)
            )
        if self.weights is not None and np.ndim(self.weights) != 4:
            raise input_error(
                "weights",
                "wrong shape",
                found=np.shape(self.weights),
                allowed="(K, C/groups, R, S)",
            )

    @classmethod
    def of_weights(
        cls, weights: NDArray[np.generic], layer: Layer, *, label: str = "weights"
    ) -> Sparsity:
        """Take the pattern of ``weights``, which must have the layer's weight shape.

        Of the shape (t, t, K, C / groups) they are of the Winograd domain; no shape is of both.

        Raises
        ------
        InputError
            Wrong shape, not numbers, NaN or infinite values.
        """
        where = f"{label}: {layer.name}"
        try:
            array = np.asarray(weights)
        except (ValueError, TypeError, OverflowError) as error:  # rows of different lengths
            raise input_error(where, f"weights must be an array ({reason(error)})") from None
        if array.dtype.kind not in "fiub":
            raise input_error(where, "weights must be numbers", found=str(array.dtype))
        shape = layer.weight_shape
        if layer.type == "fc" and array.shape == shape[:2]:
            array = array.reshape(shape)
        domain: Domain = "spatial"
        if array.shape != shape and array.shape in weight_shapes(layer, "winograd"):
            domain = "winograd"
        elif array.shape != shape:
            raise input_error(where, "wrong shape", found=array.shape, allowed=str(shape))
        with np.errstate(over="ignore"):  # a copy: the caller's array stays writable
            array = np.array(array, dtype=np.float32, order="C")
        if not np.isfinite(array).all():
            raise input_error(where, "weights hold NaN or infinite values")
        array.setflags(write=False)
        return cls(np.count_nonzero(array) / array.size, array, domain, label)

    def draw(self, layer: Layer, seed: int = 0, shape: tuple[int, ...] | None = None) -> Sparsity:
        """Return this sparsity with a pattern: itself, or uniformly random weights of ``seed``.

        They have the given ``shape`` (default: the domain's usual one).

        The number of nonzeros is ``round(density * weights)``; values are of one magnitude
        (0.5 to 1.5 over the root of the row length), with random sign.
        """
        if self.weights is not None:
            return self
        shape = shape or weight_shapes(layer, self.domain)[0]
        digest = hashlib.sha256(f"{layer.network}/{layer.name}/{shape}".encode())
        rng = np.random.default_rng([seed, int.from_bytes(digest.digest()[:8], "little")])
        size = math.prod(shape)
        array = np.zeros(size, dtype=np.float32)
        places = rng.choice(size, size=round(self.density * size), replace=False, shuffle=False)
        scale = 1.0 / math.sqrt(max(1, size // layer.K))
        magnitude = rng.uniform(0.5, 1.5, places.size) * scale
        array[places] = magnitude * rng.choice((-1.0, 1.0), places.size)
        array = array.reshape(shape)
        array.setflags(write=False)
        return Sparsity(self.density, array, self.domain, f"{self.label} seed {seed}")

    def in_domain(self, domain: Domain) -> Sparsity:
        """Return the same share of zeros, counted in ``domain``."""
        return Sparsity(self.density, self.weights, domain, self.label)

    @classmethod
    def structured(
        cls, layer: Layer, structure: Structure, *, density: float = 1.0, stride: int = 1,
        seed: int = 0,
    ) -> Sparsity:  # fmt: skip
        """Draw weights of a structured pattern; values as in :meth:`draw`.

        Parameters
        ----------
        layer : Layer
        structure : {"output-map", "input-map", "kernel", "intra-kernel-strided"}
            What goes as a whole: filters, input maps (of all filters), kernels (one output map's of
            one input map), or kernel positions.
        density : float
            Share of maps or kernels that stay, to the nearest whole number.
        stride : int
            intra-kernel-strided: of the R * S positions of a kernel, offset, offset + stride, ...
            stay; the offset, 0 to stride - 1, is drawn once for each input map.
        seed : int

        Raises
        ------
        InputError
            Unknown structure, density outside 0..1, stride outside 1..R * S.
        """
        if structure not in STRUCTURES:
            raise input_error(
                "structure", "unknown", found=structure, allowed=", ".join(STRUCTURES)
            )
        density = cls(density).density  # refuses what is none
        kernel = layer.R * layer.S
        if not 1 <= stride <= kernel:
            raise input_error("stride", f"must lie in 1..{kernel}", found=stride)
        values = np.asarray(cls(1.0).draw(layer, seed).weights)
        rng = np.random.default_rng([seed, STRUCTURES.index(structure)])
        stays = _structure(values.shape, structure, density, stride, rng)
        return cls.of_weights(values * stays, layer, label=f"{structure} seed {seed}")

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1.0 - self.density

    def csr_bytes(self, layer: Layer) -> float:
        """Bytes of a layer's weights as CSR, in the domain where they are sparse.

        A density of the Winograd domain is one of its usual variant, as :meth:`draw` has it.
        """
        shape = weight_shapes(layer, self.domain)[0] if self.weights is None else self.weights.shape
        in_tiles = shape != layer.weight_shape
        return layer.sparse_bytes(self.density, shape[0] * shape[1] if in_tiles else 0)

    @cached_property
    def pattern_key(self) -> str:
        """Digest of the pattern (and density), for caches."""
        if self.weights is None:
            return f"{self.density!r}/{self.domain}"
        return hashlib.sha256(np.packbits(self.weights != 0).tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Densities:
    """Several densities, shape (densities, 1), each of uniformly random weights: a sweep's."""

    density: NDArray[np.float64]
    domain: Domain = "spatial"
    weights: None = None

    @property
    def pattern_key(self) -> str:
        """As of a sparsity."""
        return f"{self.density.ravel().tolist()}/{self.domain}"


def _structure(
    shape: tuple[int, ...], structure: Structure, density: float, stride: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:  # fmt: skip
    """Return which weights stay; broadcasts to ``shape``."""
    outputs, inputs, height, width = shape
    if structure == "intra-kernel-strided":
        offset = rng.integers(0, stride, (inputs, 1))
        place = np.arange(height * width) - offset
        inside: NDArray[np.bool_] = (place >= 0) & (place % stride == 0)
        return inside.reshape(1, inputs, height, width)
    sides = {
        "output-map": (outputs, 1, 1, 1),
        "input-map": (1, inputs, 1, 1),
        "kernel": (outputs, inputs, 1, 1),
    }[structure]
    count = math.prod(sides)
    stays = np.zeros(count, dtype=np.bool_)
    stays[rng.choice(count, round(density * count), replace=False)] = True
    return stays.reshape(sides)


@dataclass(frozen=True)
class LayerSparsities:
    """Sparsity of each layer of a network, by name; a layer not named is dense.

    ``ways``: how targets of ``archsim targets`` have the layers run (:mod:`archsim.choice`).
    """

    layers: Mapping[str, Sparsity] = field(default_factory=dict)
    default: Sparsity | None = None
    label: str = "dense"
    ways: Ways | None = None

    def __getitem__(self, layer: str) -> Sparsity:
        return self.layers.get(layer) or self.default or Sparsity(1.0, label="dense")

    def __contains__(self, layer: str) -> bool:
        return layer in self.layers or self.default is not None

    def in_domain(self, domain: Domain | None, layers: Iterable[Layer]) -> LayerSparsities:
        """Return the same shares of zeros, counted in a domain; None: as they are.

        Fully connected layers have the spatial domain alone: theirs stays.
        """
        if domain is None:
            return self
        moved = {
            layer.name: self[layer.name].in_domain(domain)
            for layer in layers
            if layer.type != "fc" and layer.name in self
        }
        label = self.label if domain == "spatial" else f"{self.label} ({domain})"
        return LayerSparsities({**self.layers, **moved}, self.default, label)


def load_sparsity(spec: str | float | Path | None, network: Network) -> LayerSparsities:
    """Read a ``--sparsity`` argument for a network.

    Parameters
    ----------
    spec : str, float, Path or None
        A number (sparsity of every layer); the name of one of the network's maps; an ``.npz``
        with an array a layer (``conv2`` or ``conv2.weight``); a folder of Matrix Market files
        (``conv2.mtx``, ``conv2.mtx.gz``); a ``.yaml`` or ``.json`` map of layer to sparsity, or
        the targets that ``archsim targets`` wrote; or ``layer=VALUE,...`` where VALUE is a number
        or a ``.mtx`` file.  None: the network's default map, or dense.

    Raises
    ------
    InputError
        Anything that is none of these, or doesn't fit the network.

    Warns
    -----
    UserWarning
        An ``.npz`` without an array for some layers, which count as dense, or with arrays of two
        dimensions and more that belong to none.
    """
    if spec is None:
        if network.default_sparsity is None:
            return LayerSparsities()
        spec = network.default_sparsity
    if isinstance(spec, Path):
        spec = str(spec)
    if not isinstance(spec, (str, int, float)):
        raise input_error("sparsity", "wrong type", found=spec, allowed="a number, text or a path")
    if isinstance(spec, (int, float)) or _is_number(spec):
        value = _fraction("sparsity", spec if isinstance(spec, int) else float(spec))
        return LayerSparsities(default=Sparsity(1.0 - value), label=f"{value:g}")
    if spec in network.sparsities:
        chosen = network.sparsities[spec]
        return LayerSparsities(
            {
                name: Sparsity(1.0 - value, domain=chosen.domain, label=spec)
                for name, value in chosen.layers.items()
            },
            label=spec,
        )
    path = Path(spec)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return LayerSparsities(_read_npz(path, network), label=path.name)
    if exists(path) and path.is_dir():
        return LayerSparsities(_read_mtx_folder(path, network), label=path.name)
    if suffix in (".yaml", ".yml", ".json"):
        return _read_map(path, network)
    if "=" in spec:
        return LayerSparsities(_read_pairs(spec, network), label=spec)
    raise input_error(
        "sparsity",
        "neither a number, nor a map of this network, nor a file",
        found=spec,
        allowed=", ".join(["0..1", *network.sparsities, "FILE.npz", "FOLDER of .mtx", "FILE.yaml",
                           "layer=VALUE,..."]),
        near=(spec, network.sparsities),
    )  # fmt: skip


def _is_number(text: str) -> bool:
    if not text.isascii() or "_" in text:  # Python's float() takes more than people mean
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fraction(where: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:  # nor is NaN
        raise input_error(where, "must lie in 0..1", found=value)
    return value


def _read_npz(path: Path, network: Network) -> dict[str, Sparsity]:
    shapes = {y.name: [y.weight_shape, *weight_shapes(y, "winograd")] for y in network}
    arrays, others = read_npz(path, shapes)
    if not arrays:
        raise input_error(
            str(path),
            f"no array belongs to a layer of {network.name}",
            found=", ".join(list(others)[:8]),
            allowed=", ".join(layer.name for layer in network.layers[:8]) + ", ...",
        )
    missing = [name for name in shapes if name not in arrays]
    # one dimension: a bias, a batch norm; LAYER.mask stands beside its layer
    unused = [
        key
        for key, shape in others.items()
        if len(shape) > 1 and key.rpartition(".")[0] not in arrays
    ]
    found = {
        layer.name: Sparsity.of_weights(arrays.pop(layer.name), layer, label=path.name)
        for layer in network
        if layer.name in arrays
    }
    _warn_of_rest(path, missing, unused)
    return found


def _warn_of_rest(path: Path, missing: list[str], unused: list[str]) -> None:
    """Warn of layers without an array and arrays without a layer: a misspelt name is both."""
    texts = [
        f"{what}: {', '.join(names[:_NAMED])}"
        + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        for what, names in (
            ("layers without an array count as dense", missing), ("arrays of no layer", unused),
        )
        if names
    ]  # fmt: skip
    if texts:
        warnings.warn(f"{path}: {'; '.join(texts)}", stacklevel=4)  # who called load_sparsity


def _read_mtx_folder(path: Path, network: Network) -> dict[str, Sparsity]:
    found = {}
    for layer in network:
        stem = layer.name.replace("/", "_")
        files = [f for f in (path / f"{stem}.mtx", path / f"{stem}.mtx.gz") if f.exists()]
        if len(files) > 1:
            raise input_error(str(files[0]), f"stands beside {files[1].name}")
        for file in files:
            found[layer.name] = _read_mtx(file, layer)
    if not found:
        raise input_error(
            str(path),
            f"no Matrix Market file belongs to a layer of {network.name}",
            allowed=f"{network.layers[0].name.replace('/', '_')}.mtx, ...",
        )
    return found


def _read_mtx(path: Path, layer: Layer) -> Sparsity:
    """Read a K x (C/groups R S) matrix."""
    array = read_mtx(path, layer.name, (layer.K, layer.weights // layer.K))
    return Sparsity.of_weights(array.reshape(layer.weight_shape), layer, label=path.name)


def _read_map(path: Path, network: Network) -> LayerSparsities:
    node = parse_yaml(read_text(path, _MAX_BYTES), shown_path(path))
    if not isinstance(node.value, dict):
        raise input_error(str(node.mark), "a map of layer to sparsity is due")
    kind = node.value.get("kind")
    if kind is not None and kind.value == TARGETS_KIND:
        return _read_targets(node, path.name, network)
    found = {}
    for name, entry in node.value.items():
        layer = _layer(f"{entry.mark}", name, network)
        found[layer.name] = Sparsity(1.0 - _share(name, entry), label=path.name)
    return LayerSparsities(found, label=path.name)


def _read_targets(node: Node, label: str, network: Network) -> LayerSparsities:
    """Take what a document of ``archsim targets`` says: sparsities, and how layers are run."""
    found = {}
    for entry in read_layers(node, DOMAINS):
        layer = _layer(entry.where, entry.name, network)
        share = _share(entry.name, entry.share)
        domain: Domain = "winograd" if entry.domain == "winograd" else "spatial"
        found[layer.name] = Sparsity(1.0 - share, domain=domain, label=label)
    return LayerSparsities(found, label=label, ways=read_ways(node, label))


def _share(name: str, entry: Node) -> float:
    if isinstance(entry.value, bool) or not isinstance(entry.value, (int, float)):
        raise input_error(
            f"{entry.mark}: {name}", "wrong type", found=entry.plain(), allowed="0..1"
        )
    return _fraction(f"{entry.mark}: {name}", float(entry.value))


def _read_pairs(spec: str, network: Network) -> dict[str, Sparsity]:
    found = {}
    for part in spec.split(","):
        name, _, text = part.partition("=")
        layer, text = _layer("sparsity", name.strip(), network), text.strip()
        if layer.name in found:
            raise input_error("sparsity", "layer is given twice", found=layer.name)
        if _is_number(text):
            value = _fraction(f"sparsity of {layer.name}", float(text))
            found[layer.name] = Sparsity(1.0 - value, label=spec)
        elif text.endswith((".mtx", ".mtx.gz")):
            found[layer.name] = _read_mtx(Path(text), layer)
        else:
            raise input_error(
                f"sparsity of {layer.name}", "neither a number nor a .mtx file", found=text
            )
    return found


def _layer(where: str, name: str, network: Network) -> Layer:
    try:
        return network[name]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
