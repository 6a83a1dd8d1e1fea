"""How direct dense convolution cuts a layer: vectors, register block, bands, channel blocks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import Final

from archsim.network import FLOAT_BYTES, Layer
from archsim.plan import Target

_MOST_VECTORS: Final = 2  # vectors of a register block in kernels/csrc/f32_dense_direct.c
# Of pixels where these are one long row: three against 8 channels need 11 loads for 24
# multiply-adds, two against 14 need 16 for 28. With few products that shows: 64 -> 256 at 56x56
# took 0.75 instead of 0.83 ms on a Sapphire Rapids core (suite `pointwise`).
_FLAT_VECTORS: Final = 3
# Share of L2 for a panel (assumed): the next one, asked for ahead, and the weights want room too.
_PANEL_IN_L2: Final = 1 / 8
# Multiply-adds in flight that keep the units of most cores busy: a latency of 4 cycles, 2 units
# (Intel since Skylake: Optimization Reference Manual; uops.info, VFMADD231PS).
_IN_FLIGHT: Final = 8


# Share of L1 for the weights of a block, and products between two visits of the sums. Best calls
# on a Xeon of the Emerald Rapids generation (48 KiB of L1), suite `dense` of benchmarks/: with 3/8
# and 256 they took 1 to 3 % less than with 1/2 and no least number (VGG 128@112, AlexNet conv1),
# and with 128 instead of 256 the 1x1 layers 2 to 10 % less (SqueezeNet fire8, GoogLeNet 4a): 256
# channels are 32 KiB of weights, beside which the input's lines do not stay in L1.
_WEIGHTS_IN_L1: Final = 3 / 8
_LEAST_PRODUCTS: Final = 128


@dataclass(frozen=True, slots=True)
class Geometry:
    """The input as the kernel reads it: the image, or a padded copy; sizes in floats."""

    source: str
    flat: bool
    rows: int  # of output, as the loops see it
    columns: int
    row_pitch: int
    channel_pitch: int


@dataclass(frozen=True, slots=True)
class Blocking:
    """What the kernel is told, and the numbers that follow from it."""

    geometry: Geometry
    in_lanes: str
    lanes: int
    vectors: int
    reg_rows: int
    reg_count: int
    channel_block: int
    band_rows: int
    band_columns: int
    panels: bool = False  # a band's first output channels copy its input for the others

    @property
    def unit(self) -> int:
        """Output channels that `part_ptr` counts as one."""
        return self.lanes if self.in_lanes == "channels" else self.reg_count

    @property
    def bands(self) -> int:
        """Bands of output pixels of an image."""
        grid = self.geometry
        return ceil(grid.rows / self.band_rows) * ceil(grid.columns / self.band_columns)

    @property
    def tile_rows(self) -> list[tuple[int, int]]:
        """First row and height of the register blocks that stand above each other."""
        rows, band, step = self.geometry.rows, self.band_rows, self.reg_rows
        return [
            (p, min(step, start + band - p, rows - p))
            for start in range(0, rows, band)
            for p in range(start, min(start + band, rows), step)
        ]

    @property
    def tiles_in_row(self) -> int:
        """Register blocks beside each other."""
        pixels = self.reg_count if self.in_lanes == "channels" else self.vectors * self.lanes
        return _cuts(self.geometry.columns, self.band_columns, pixels)

    @property
    def tiles(self) -> int:
        """Register blocks that cover the output once, for one run of output channels."""
        return len(self.tile_rows) * self.tiles_in_row

    def numbers(self) -> dict[str, int | str]:
        """Return the blocking under the kernel's names."""
        return {
            "lanes": self.lanes,
            "in_lanes": self.in_lanes,
            "source": "panels" if self.panels else self.geometry.source,
            "flat": int(self.geometry.flat),
            "reg_vectors": self.vectors,
            "reg_rows": self.reg_rows,
            "reg_count": self.reg_count,
            "channel_block": self.channel_block,
            "band_rows": self.band_rows,
            "band_columns": self.band_columns,
            "row_pitch": self.geometry.row_pitch,
            "channel_pitch": self.geometry.channel_pitch,
        }


def _cuts(length: int, band: int, piece: int) -> int:
    """Count the pieces of each band of a length.

    >>> _cuts(13, 5, 2)
    8
    """
    whole, rest = divmod(length, band)
    return whole * ceil(band / piece) + ceil(rest / piece)


def _even(length: int, most: int) -> int:
    """Return the piece, at most ``most``, that cuts a length into pieces of nearly one size.

    >>> _even(27, 14), _even(13, 14), _even(15, 14)
    (14, 13, 8)
    """
    return ceil(length / ceil(length / max(1, most)))


def geometry(layer: Layer, target: Target) -> Geometry:
    """Return where the kernel reads: the image itself where nothing must be put around it."""
    if layer.pad == (0, 0) and layer.stride[1] == 1:
        flat = layer.stride[0] * layer.W == layer.Q
        rows, columns = (1, layer.P * layer.Q) if flat else (layer.P, layer.Q)
        return Geometry("image", flat, rows, columns, layer.W, layer.H * layer.W)
    row_pitch = ceil((layer.W + 2 * layer.pad[1]) / layer.stride[1]) * layer.stride[1]
    # an odd number of lines from a channel to the next: channels spread over all sets of a cache
    line = max(1, target.line_bytes // FLOAT_BYTES)
    lines = ceil((layer.H + 2 * layer.pad[0]) * row_pitch / line)
    return Geometry("padded", False, layer.P, layer.Q, row_pitch, (lines | 1) * line)


def blocking(layer: Layer, target: Target) -> Blocking:
    """Return the blocking for a layer: of the two forms the one with less to issue."""
    return min(
        (_with_channels(layer, target), _with_pixels(layer, target)),
        key=lambda b: _issued(b, layer),
    )


def _issued(b: Blocking, layer: Layer) -> float:
    """Vector operations of one group: multiply-adds, empty lanes too, loads, turning the sums."""
    per_group = layer.K // layer.groups
    depth = (layer.C // layer.groups) * layer.R * layer.S
    grid = b.geometry
    if b.in_lanes == "channels":
        vectors, splatted = ceil(per_group / b.lanes), b.reg_rows * b.reg_count
        loads = 1.0 / splatted
        # each vector is stored, loaded, goes through log2(lanes) shuffles, and is stored
        outputs, turning = grid.rows * grid.columns * vectors, 3.0 + log2(b.lanes)
    else:
        vectors, splatted = ceil(grid.columns / b.lanes), min(b.reg_count, per_group)
        # rows that are not made of whole vectors: a load may take two lines
        crossing = layer.R * layer.S > 1 or grid.columns % b.lanes > 0
        loads = (2.0 if crossing else 1.0) / splatted
        outputs, turning = grid.rows * vectors * per_group, 1.0
    at_once = min(b.vectors, vectors)
    waits = max(1.0, _IN_FLIGHT / (splatted * at_once))
    return outputs * (depth * (waits + loads + 1.0 / at_once) + turning)


def _most_splatted(target: Target, vectors: int = _MOST_VECTORS) -> int:
    """Numbers splatted against vectors: those, one splatted, and the sums fill the registers.

    AS_DENSE_MOST_OF of kernels/csrc/microkernels.h, whose tables end at 14.
    """
    return max(1, min(14, (target.registers - 1 - vectors) // vectors))


def _channel_block(layer: Layer, target: Target, vector_floats: int) -> int:
    """Input channels whose weights, for one register block, leave most of L1 to input and sums.

    But so many that a visit of the sums, which loads and stores each, is one of many products.
    """
    room = int(_WEIGHTS_IN_L1 * target.l1_bytes) // target.l1_sharers
    taps = layer.R * layer.S
    most = max(room // (FLOAT_BYTES * vector_floats * taps), ceil(_LEAST_PRODUCTS / taps))
    return _even(layer.C // layer.groups, most)


def _with_channels(layer: Layer, target: Target) -> Blocking:
    grid, most = geometry(layer, target), _most_splatted(target)
    count = _even(grid.columns, most)
    rows = _even(grid.rows, most // count)
    # sums of a band are walked through once per block of input channels: as many as L1 has room
    # for, that the weights' way from farther levels is shared by many pixels
    sums = FLOAT_BYTES * _MOST_VECTORS * target.lanes
    pixels = max(count, target.l1_bytes // target.l1_sharers // sums)
    band_rows, band_columns = _band(layer, target, grid, pixels, (rows, count), 1 / 2)
    return Blocking(
        geometry=grid, in_lanes="channels", lanes=target.lanes, vectors=_MOST_VECTORS,
        reg_rows=rows, reg_count=count,
        channel_block=_channel_block(layer, target, _MOST_VECTORS * target.lanes),
        band_rows=band_rows, band_columns=band_columns,
    )  # fmt: skip


def _with_pixels(layer: Layer, target: Target) -> Blocking:
    grid = geometry(layer, target)
    in_one_row = grid.flat and layer.R == 1
    vectors = _FLAT_VECTORS if in_one_row else _MOST_VECTORS
    per_group = layer.K // layer.groups
    count = _even(per_group, _most_splatted(target, vectors))
    piece = (1, vectors * target.lanes)
    # what a register block looks at, if it is not in L1 when the next output channels come, is
    # found again page by page: planes are far apart
    looked_at = FLOAT_BYTES * (layer.C // layer.groups) * piece[1]
    near = looked_at <= target.l1_bytes // target.l1_sharers // 2
    panels = in_one_row and not near and per_group > count
    share = _PANEL_IN_L2 if panels else 1 / 2
    band_rows, band_columns = _band(layer, target, grid, grid.rows * grid.columns, piece, share)
    return Blocking(
        geometry=grid, in_lanes="pixels", lanes=target.lanes, vectors=vectors,
        reg_rows=1, reg_count=count,
        channel_block=_channel_block(layer, target, count),
        band_rows=band_rows, band_columns=band_columns, panels=panels,
    )  # fmt: skip


def _band(
    layer: Layer, target: Target, grid: Geometry, pixels: int, piece: tuple[int, int], share: float
) -> tuple[int, int]:
    """Return rows and columns of a band of at most ``pixels``, made of whole pieces.

    Its input, all channels of a group, fills at most ``share`` of a thread's part of L2; if not
    even one row fits, one piece of a row is a band.
    """
    room = int(target.l2_bytes // target.l2_sharers * share) // FLOAT_BYTES
    channels = layer.C // layer.groups
    reach = layer.dilation[0] * (layer.R - 1)
    tall = (room // (channels * grid.row_pitch) - reach - 1) // layer.stride[0] + 1
    if grid.rows > 1 and grid.columns <= pixels and tall >= 1:
        rows = min(grid.rows, pixels // grid.columns, tall)
        return max(1, rows // piece[0]) * piece[0] if rows >= piece[0] else rows, grid.columns
    wide = room // channels if grid.rows == 1 else grid.columns
    columns = min(grid.columns, pixels, wide)
    if columns < grid.columns:
        columns = max(1, columns // piece[1]) * piece[1]
    return 1, min(grid.columns, columns)
