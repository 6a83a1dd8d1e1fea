"""Direct dense convolution: register blocks of output channels x output pixels, no lowering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_lanes
from archsim.kernels.isa import IsaInfo, find_isa, isa_index
from archsim.kernels.packed import PackedDenseLayer
from archsim.kernels.shapes import ConvShape

_MOST_VECTORS = 2  # AS_DENSE_VECTORS
_MOST_PIXEL_VECTORS = 4  # AS_DENSE_PIXEL_VECTORS
_MOST_OFFSET = 2**31 - 1


class DenseDirect(PackedDenseLayer):
    """Dense convolution straight from the image, or from a padded copy of it.

    A register block holds the sums of some output channels at some output pixels; one of the two
    lies in vectors, the other is splatted. With channels in lanes every lane works at any image
    size, and the sums are turned to planes band by band; with pixels in lanes nothing is turned,
    which pays for kernels of few products (1x1), and groups of few channels waste no lanes.
    Loops: band of output pixels -> output channels -> block of input channels -> register block ->
    input channel -> tap.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. Zeros are multiplied like any other weight.
    shape : ConvShape
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        in_lanes : what lies in vectors, output "channels" or "pixels" of a row
        source : "padded", a copy with its padding and with columns sorted by their rest modulo the
            stride; "image" itself, for layers without padding and with a column stride of 1; or
            "panels", the image too, for 1x1 kernels with flat = 1 and pixels in lanes: a band's
            first products copy its input to where the others find it side by side
        flat : 1 to see all output pixels as one row, where S = 1 and rows follow each other; else 0
        reg_vectors, reg_rows, reg_count : register block. Channels in lanes: reg_vectors vectors of
            channels x reg_rows rows x reg_count pixels; pixels in lanes: reg_count channels x
            reg_vectors vectors of pixels (reg_rows is 1). At most 2 vectors of channels or 4 of
            pixels, and of rows x count at most (registers - 1 - v) // v with v = max(2,
            reg_vectors). Less at the edges
        channel_block : input channels (of one group) between two visits of the sums
        band_rows, band_columns : output pixels of a band: whole rows, or a part of one row
        row_pitch, channel_pitch : floats from a row of *source* to the next, and from a channel
        threads_per_image : threads that share an image
        own_input : optional; 1: each of them makes all of the input's copy, for itself
    part_ptr : sequence of int
        Vectors of output channels or, with pixels in lanes, blocks of reg_count output channels,
        counted through all groups: rank r of an image's threads computes
        [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _OWN_INPUT: ClassVar = True
    _LEAST: ClassVar = {
        "lanes": 1,
        "flat": 0,
        "reg_vectors": 1,
        "reg_rows": 1,
        "reg_count": 1,
        "channel_block": 1,
        "band_rows": 1,
        "band_columns": 1,
        "row_pitch": 1,
        "channel_pitch": 1,
        "threads_per_image": 1,
    }
    _WORDS: ClassVar = {
        "in_lanes": ("channels", "pixels"),
        "source": ("padded", "image", "panels"),
    }

    def _check_blocking(self) -> None:
        _check_register_block(self._number, self._in_channels, find_isa(self.isa))
        _check_source(self._number, self._word["source"], self._in_channels, self.shape)
        _check_loops(self._number, self.shape)

    @property
    def _in_channels(self) -> bool:
        return self._word["in_lanes"] == "channels"

    @property
    def _unit(self) -> int:
        """Output channels of a unit."""
        return self._number["lanes" if self._in_channels else "reg_count"]

    def _units(self) -> int:
        return self.shape.groups * -(-self.shape.group_out_channels // self._unit)

    def _pack(self, weights: FloatArray) -> _native.DenseDirect:
        shape, number, channels = self.shape, self._number, self._in_channels
        pack = _pack_lanes if channels else _pack_blocks
        sizes = _sizes(number, channels, self._word["source"], shape)
        return _native.DenseDirect(
            shape,
            self._team,
            pack(weights, shape, self._unit),
            self._padded_bias(self._unit if channels else 1),
            _taps(shape, number["row_pitch"]),
            isa_index(find_isa(self.isa)),
            {**number, **self._word, **sizes},
            self.relu,
        )

    def _padded_bias(self, unit: int) -> FloatArray:
        """Return the bias, each group filled up with zeros to whole units."""
        shape = self.shape
        in_group = shape.group_out_channels
        padded = np.zeros((shape.groups, -(-in_group // unit) * unit), dtype=np.float32)
        if self.bias is not None:
            padded[:, :in_group] = self.bias.reshape(shape.groups, in_group)
        return padded.reshape(-1)


def _check_register_block(number: Mapping[str, int], channels: bool, isa: IsaInfo) -> None:
    check_lanes(number["lanes"], isa)
    vectors = number["reg_vectors"]
    most = _MOST_VECTORS if channels else _MOST_PIXEL_VECTORS
    if vectors > most:
        raise ValueError(f"blocking['reg_vectors']: must be 1 to {most}; got {vectors}")
    if not channels and number["reg_rows"] != 1:
        raise ValueError(
            f"blocking['reg_rows']: must be 1 with pixels in lanes; got {number['reg_rows']}"
        )
    block, against = number["reg_rows"] * number["reg_count"], max(2, vectors)
    most = (isa.registers - 1 - against) // against
    if block > most:
        raise ValueError(
            f"blocking['reg_rows'] x blocking['reg_count']: must be at most {most} with the "
            f"registers of {isa.name}; got {block}"
        )


def _check_source(number: Mapping[str, int], source: str, channels: bool, shape: ConvShape) -> None:
    row, channel = number["row_pitch"], number["channel_pitch"]
    kernel = (shape.kernel_h, shape.kernel_w)
    if source == "panels" and (channels or not number["flat"] or kernel != (1, 1)):
        raise ValueError(
            "blocking['source']: 'panels' needs pixels in lanes, a 1x1 kernel and flat = 1; got "
            f"{'channels' if channels else 'pixels'}, kernel {kernel}, flat {number['flat']}"
        )
    if source != "padded":
        if shape.pad != (0, 0) or shape.stride[1] != 1:
            raise ValueError(
                "blocking['source']: must be 'padded' for a layer with padding or with a column "
                f"stride above 1; got pad {shape.pad}, stride {shape.stride}"
            )
        right = (shape.width, shape.height * shape.width)
        if (row, channel) != right:
            raise ValueError(
                f"blocking['row_pitch'], blocking['channel_pitch']: must be {right} where the "
                f"source is the image; got {(row, channel)}"
            )
        return
    least = _phase_pitch(shape) * shape.stride[1]
    if row < least:
        raise ValueError(f"blocking['row_pitch']: must be at least {least}; got {row}")
    least = (shape.height + 2 * shape.pad[0]) * row
    if channel < least:
        raise ValueError(f"blocking['channel_pitch']: must be at least {least}; got {channel}")


def _check_loops(number: Mapping[str, int], shape: ConvShape) -> None:
    if number["flat"] > 1:
        raise ValueError(f"blocking['flat']: must be 0 or 1; got {number['flat']}")
    if number["flat"] and shape.stride[0] * number["row_pitch"] != shape.out_w:
        raise ValueError(
            "blocking['flat']: must be 0 where an output row does not begin behind the last one; "
            f"got stride {shape.stride[0]} x row_pitch {number['row_pitch']} for {shape.out_w}"
        )
    columns = shape.out_h * shape.out_w if number["flat"] else shape.out_w
    if number["band_rows"] > 1 and number["band_columns"] < columns:
        raise ValueError(
            f"blocking['band_columns']: must be at least {columns} for a band of several rows; "
            f"got {number['band_columns']}"
        )


def _phase_pitch(shape: ConvShape) -> int:
    """Return the columns of a padded row that have the same rest modulo the stride, at most."""
    return -(-(shape.width + 2 * shape.pad[1]) // shape.stride[1])


def _taps(shape: ConvShape, row_pitch: int) -> npt.NDArray[np.int32]:
    """Return how far from the corner each tap (r, s) looks, in floats, shape (R * S,)."""
    y = np.arange(shape.kernel_h, dtype=np.int64) * shape.dilation[0]
    x = np.arange(shape.kernel_w, dtype=np.int64) * shape.dilation[1]
    phase, column = x % shape.stride[1], x // shape.stride[1]
    taps = y[:, None] * row_pitch + phase * _phase_pitch(shape) + column
    if taps.max() > _MOST_OFFSET:
        raise ValueError(
            f"this layer needs offsets up to {taps.max()} floats; "
            f"they are 32-bit, at most {_MOST_OFFSET}"
        )
    return taps.astype(np.int32).reshape(-1)


def _pack_lanes(weights: FloatArray, shape: ConvShape, lanes: int) -> FloatArray:
    """Return the weights as [group, vector of output channels][c][tap][lane], flat."""
    units = -(-shape.group_out_channels // lanes)
    taps = shape.kernel_h * shape.kernel_w
    padded = np.zeros((shape.groups, units * lanes, shape.group_channels, taps), dtype=np.float32)
    padded[:, : shape.group_out_channels] = weights.reshape(
        shape.groups, shape.group_out_channels, shape.group_channels, taps
    )
    by_unit = padded.reshape(shape.groups, units, lanes, shape.group_channels, taps)
    return np.ascontiguousarray(by_unit.transpose(0, 1, 3, 4, 2)).reshape(-1)


def _pack_blocks(weights: FloatArray, shape: ConvShape, block: int) -> FloatArray:
    """Return the weights as [group, block][c][tap][channel of the block], flat."""
    in_group = shape.group_out_channels
    grouped = weights.reshape(shape.groups, in_group, -1)
    return np.concatenate(
        [
            grouped[g, k : k + block].T.reshape(-1)
            for g in range(shape.groups)
            for k in range(0, in_group, block)
        ]
    )


def _sizes(
    number: Mapping[str, int], channels: bool, source: str, shape: ConvShape
) -> dict[str, int]:
    """Return what C needs beside the blocking: the output's form and the buffers, in floats."""
    rows, columns = shape.out_h, shape.out_w
    if number["flat"]:
        rows, columns = 1, rows * columns
    band_rows = min(number["band_rows"], rows)
    band_columns = min(number["band_columns"], columns)
    band = band_rows * band_columns * number["reg_vectors"] * number["lanes"]
    tile = number["reg_vectors"] * number["lanes"]
    panel = -(-band_columns // tile) * tile * shape.group_channels
    return {
        "rows": rows,
        "columns": columns,
        "band_rows": band_rows,
        "band_columns": band_columns,
        "phase_pitch": _phase_pitch(shape),
        "row_step": shape.stride[0] * number["row_pitch"],
        "padded_size": shape.channels * number["channel_pitch"] if source == "padded" else 0,
        "panel_size": panel if source == "panels" else 0,
        "sums_size": band if channels else 1,
    }
