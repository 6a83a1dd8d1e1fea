"""Lane layout of a layer: which pixels share a vector, and what a slab of input looks like.

Modes: ``flat``, equal chunks of the padded plane, row after row; ``tiles``, a grid of
sub-images; ``images``, pictures of the batch; ``shifts``, neighbouring pixels of a padded row;
``pointwise``, neighbouring pixels of a 1x1 layer.
A stride takes the padded picture apart into residue planes (rows a, a + stride, ... and columns
b, b + stride, ...), inside which every weight moves by whole positions; one plane of one input
channel is a *slab*.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.methods.crossing import row_shares
from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Target

Mode = Literal["flat", "tiles", "images", "shifts", "pointwise"]
MODES: Final[tuple[Mode, ...]] = ("flat", "tiles", "images", "shifts", "pointwise")

# A cache of 4 KiB ways (any x86 first level: sets x line is a page) repeats its sets every 4 KiB.
_WAY_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Geometry:
    """One lane layout; sizes in positions (a position is a vector)."""

    mode: Mode
    lanes: int
    grid: tuple[int, int]
    tile: tuple[int, int]  # output positions of a lane
    pitch: int  # positions from a row of a padded plane to the next
    reach: tuple[int, int]  # positions that the kernel looks beyond, down and right
    planes: int  # slabs of an input channel

    @property
    def images(self) -> int:
        """Pictures of a turn."""
        return self.lanes if self.mode == "images" else 1

    @property
    def positions(self) -> int:
        """Output positions of a lane, or vectors of output."""
        return self.tiles * self.tile[0] * self.tile[1]

    @property
    def tiles(self) -> int:
        """Tiles that one vector after the other walks through: those of "shifts"."""
        return self.grid[1] if self.mode == "shifts" else 1

    @property
    def of_pixels(self) -> bool:
        """Whether a vector is neighbouring pixels, which leave it as they are."""
        return self.mode in ("pointwise", "shifts")

    @property
    def slides(self) -> int:
        """Lanes by which the sums move while the nonzeros of a list are added."""
        return self.reach[1] if self.mode == "shifts" else 0

    @property
    def in_rows(self) -> int:
        """Rows of a slab."""
        return 1 if self.mode == "flat" else self.tiles * (self.tile[0] + self.reach[0])

    @property
    def in_columns(self) -> int:
        """Positions of a row of a slab."""
        columns = self.tile[1] + self.reach[1] - self.slides
        return columns + self.reach[0] * self.pitch if self.mode == "flat" else columns

    def window(self, rows: int, vectors: int) -> int:
        """Return the positions of a slab that a register block looks at."""
        if self.mode == "flat":
            return vectors + self.reach[0] * self.pitch + self.reach[1]
        return (rows + self.reach[0]) * (vectors + self.reach[1] - self.slides)

    def slab_pitch(self, rows: int, vectors: int) -> int:
        """Return the vectors from a slab to the next.

        The windows of neighbouring slabs then fill the sets of a cache one behind the other; at
        a pitch of a whole way they would all fall into the same ones.
        """
        size = self.in_rows * self.in_columns
        if self.mode == "pointwise":
            return size
        if self.mode == "shifts":
            return self.window(rows, vectors)
        way = max(1, _WAY_BYTES // (FLOAT_BYTES * self.lanes))  # a vector may be wider than a way
        return size + (self.window(rows, vectors) - size) % way


def geometries(layer: Layer, lanes: int, mode: Mode) -> Iterator[Geometry]:
    """Yield the layouts of a mode that a layer has; none where it does not apply."""
    reach, residues = _reach(layer)
    planes = len(residues[0]) * len(residues[1])
    if mode == "pointwise":
        if is_pointwise(layer):
            vectors = ceil(layer.H * layer.W / lanes)
            yield Geometry(mode, lanes, (1, 1), (1, vectors), 1, (0, 0), 1)
    elif mode == "shifts":
        for tiles, vectors in _column_tiles(layer.Q, reach[1], lanes):
            yield Geometry(mode, lanes, (1, tiles), (layer.P, vectors), 1, reach, planes)
    elif mode == "flat":
        pitch = _flat_pitch(layer, residues[1], reach[1])
        chunk = ceil(((layer.P - 1) * pitch + layer.Q) / lanes)
        yield Geometry(mode, lanes, (1, lanes), (1, chunk), pitch, reach, planes)
    else:
        grids = [(1, 1)]
        if mode == "tiles":
            grids = [(rows, lanes // rows) for rows in range(1, lanes + 1) if lanes % rows == 0]
        for grid in grids:
            tile = ceil(layer.P / grid[0]), ceil(layer.Q / grid[1])
            pitch = grid[1] * tile[1] + reach[1]
            yield Geometry(mode, lanes, grid, tile, pitch, reach, planes)


def _column_tiles(columns: int, reach: int, lanes: int) -> Iterator[tuple[int, int]]:
    """Yield tiles x vectors for rows of output; a tile also holds what the kernel reaches."""
    least = reach // lanes + 1
    found = {}
    for vectors in range(ceil((columns + reach) / lanes), least - 1, -1):
        found[ceil(columns / (vectors * lanes - reach))] = vectors
    yield from found.items()


def is_pointwise(layer: Layer) -> bool:
    """Return whether outputs lie where their inputs do."""
    return (layer.R, layer.S, *layer.stride, *layer.pad) == (1, 1, 1, 1, 0, 0)


def windowed(layer: Layer, geometry: Geometry) -> bool:
    """Return whether each thread copies what a register block looks at, before its products."""
    copied = layer.H * layer.W % geometry.lanes != 0
    return geometry.mode == "shifts" or (geometry.mode == "pointwise" and copied)


def past_caches(layer: Layer, geometry: Geometry, target: Target) -> bool:
    """Whether an output is written that no cache would keep for its reader.

    A plain store first fetches the line that it is about to overwrite, so a call alone is quicker
    past the caches as soon as its output leaves L2; but then its reader waits for memory
    (docs/benchmarks.md: 185 for 329 us alone, 673 for 459 us with a reader).
    """
    aligned = layer.H * layer.W % geometry.lanes == 0
    return geometry.mode == "pointwise" and aligned and layer.output_bytes > target.last_bytes


def out_shares(layer: Layer, geometry: Geometry, target: Target) -> tuple[float, float]:
    """Return the line and page shares of the stores of sums, where they are outputs already."""
    if geometry.mode == "pointwise":
        return row_shares(1, layer.P * layer.Q, layer.K, target)
    if geometry.of_pixels:
        return row_shares(layer.P, layer.Q, layer.K, target)
    return 0.0, 0.0


def _reach(layer: Layer) -> tuple[tuple[int, int], tuple[list[int], list[int]]]:
    """Return how far the kernel reaches, in positions, and the residues that it looks at."""
    down = [r * layer.dilation[0] for r in range(layer.R)]
    right = [s * layer.dilation[1] for s in range(layer.S)]
    stride = layer.stride
    return (
        (down[-1] // stride[0], right[-1] // stride[1]),
        (sorted({y % stride[0] for y in down}), sorted({x % stride[1] for x in right})),
    )


def _flat_pitch(layer: Layer, residues: list[int], reach: int) -> int:
    """Return the least pitch at which a row's right pad may be the next row's left one."""
    width, pitch = layer.Q + reach, layer.Q
    for residue in residues:
        begin = max(0, ceil((layer.pad[1] - residue) / layer.stride[1]))
        end = min(ceil((layer.pad[1] + layer.W - residue) / layer.stride[1]), width)
        if begin < end:
            pitch = max(pitch, end, width - begin)
    return pitch


def slab_of_weight(layer: Layer) -> NDArray[np.int64]:
    """Return the residue plane of each weight, shape (R, S)."""
    row = np.arange(layer.R) * layer.dilation[0] % layer.stride[0]
    column = np.arange(layer.S) * layer.dilation[1] % layer.stride[1]
    _, row_index = np.unique(row, return_inverse=True)
    columns, column_index = np.unique(column, return_inverse=True)
    planes: NDArray[np.int64] = row_index[:, None] * len(columns) + column_index[None, :]
    return planes


def window_rows(layer: Layer, geometry: Geometry, reg: tuple[int, int]) -> tuple[float, float]:
    """Return the vectors of a channel that all windows read, and that they write with zeros."""
    if geometry.mode == "pointwise":
        return float(geometry.positions), float(geometry.positions)
    residues = {r * layer.dilation[0] % layer.stride[0] for r in range(layer.R)}
    read = written = 0
    for top in range(0, layer.P, reg[0]):
        depth = min(reg[0], layer.P - top) + geometry.reach[0]
        written += depth * len(residues)
        for residue in residues:
            row = np.arange(top, top + depth) * layer.stride[0] + residue - layer.pad[0]
            read += int(((row >= 0) & (row < layer.H)).sum())
    vectors = geometry.planes // len(residues) * geometry.tiles * geometry.tile[1]
    return float(read * vectors), float(written * vectors)
