"""Fully connected layers: sparse (gather, or images in lanes) and dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_lanes
from archsim.kernels.isa import find_isa, isa_index
from archsim.kernels.pack import Weights, list_ptr
from archsim.kernels.packed import PackedDenseLayer, PackedSparseLayer
from archsim.kernels.shapes import ConvShape

MOST_VECTORS = 4
"""Vectors of images that a sparse kernel holds in registers."""
_OFFSETS = 2**16  # offsets are 16-bit


class FcSparse(PackedSparseLayer):
    """Sparse fully connected layer: out[n, k] = bias[k] + sum of weights[k, c] * x[n, c].

    Loops: turn of images -> block of inputs -> output -> nonzero. A nonzero is a 16-bit offset and
    a weight, 6 bytes. With `vectors` 0 a turn is one image, whose inputs are gathered; else it is
    vectors * lanes images, turned to [input][image] first: a nonzero then meets all of them.

    Parameters
    ----------
    weights : ndarray of shape (K, C, 1, 1), float32
        Finite. The zeros are dropped.
    shape : ConvShape
        height = width = kernel = groups = 1, no padding.
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        vectors : of images, 1 to 4; 0: gather
        lists : outputs side by side, as many as the set's kernel takes; 1 to gather
        input_block : inputs whose products are summed before an output's sum is put back; so few
            that 16 bits hold their offsets: 65536 to gather, 131072 / images else
        threads_per_image : threads that share a turn
    part_ptr : sequence of int
        Outputs: rank r of a turn's threads computes [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {
        "lanes": 1,
        "vectors": 0,
        "lists": 1,
        "input_block": 1,
        "threads_per_image": 1,
    }

    def _check_blocking(self) -> None:
        number, info = self._number, find_isa(self.isa)
        check_lanes(number["lanes"], info)
        check_connected(self.shape)
        vectors = number["vectors"]
        if vectors > MOST_VECTORS:
            raise ValueError(f"blocking['vectors']: must be 0 to {MOST_VECTORS}; got {vectors}")
        lists = _native.fc_lists(isa_index(info), vectors) if vectors else 1
        if number["lists"] != lists:
            raise ValueError(
                f"blocking['lists']: must be {lists} for {vectors} vectors with {info.name}; "
                f"got {number['lists']}"
            )
        most = _OFFSETS // self._unit()
        if number["input_block"] > most:
            raise ValueError(
                f"blocking['input_block']: must be at most {most}, so that 16 bits hold its "
                f"offsets; got {number['input_block']}"
            )

    def _unit(self) -> int:
        """Offset of the second input of a block: floats to gather, else pairs of floats."""
        return max(1, self._number["vectors"] * self._number["lanes"] // 2)

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.FcSparse:
        number = self._number
        packed = pack_fc(
            weights,
            input_block=number["input_block"],
            unit=self._unit(),
            lists=number["lists"],
            part_ptr=self._part_ptr if number["vectors"] else None,
        )
        bias = self.bias
        if bias is None:
            bias = np.zeros(self.shape.out_channels, dtype=np.float32)
        return _native.FcSparse(
            self.shape,
            self._team,
            packed.ptr,
            packed.row,
            packed.off,
            packed.val,
            bias,
            isa_index(find_isa(self.isa)),
            number["vectors"],
            number["input_block"],
            self.relu,
        )


class FcDense(PackedDenseLayer):
    """Dense fully connected layer: out[n, k] = bias[k] + sum over c of weights[k, c] * x[n, c].

    Loops: turn of images -> vectors of outputs -> block of images -> input. Outputs lie in lanes,
    so that weights are read in one stream of whole vectors; an image alone is bound by that.

    Parameters
    ----------
    weights : ndarray of shape (K, C, 1, 1), float32
        Finite. Zeros are multiplied like any other weight.
    shape : ConvShape
        height = width = kernel = groups = 1, no padding.
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        images : of a turn; weights come from memory once for all of them
        reg_images, reg_vectors : register block, images x vectors of outputs; reg_vectors 1, 2, 4
            or 8, and what the registers hold
        threads_per_image : threads that share a turn
    part_ptr : sequence of int
        Units of reg_vectors * lanes outputs: rank r computes [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {
        "lanes": 1,
        "images": 1,
        "reg_images": 1,
        "reg_vectors": 1,
        "threads_per_image": 1,
    }

    def _check_blocking(self) -> None:
        number, info = self._number, find_isa(self.isa)
        check_lanes(number["lanes"], info)
        check_connected(self.shape)
        if number["reg_images"] > number["images"]:
            raise ValueError(
                f"blocking['reg_images']: must be at most images ({number['images']}); "
                f"got {number['reg_images']}"
            )
        sides = min(number["reg_images"], 2**15), min(number["reg_vectors"], 2**15)
        if not _native.fc_tile_exists(isa_index(info), *sides):
            raise ValueError(
                f"blocking['reg_images'], blocking['reg_vectors']: {info.name} has no block of "
                f"{number['reg_images']} x {number['reg_vectors']}"
            )

    def _units(self) -> int:
        return -(-self.shape.out_channels // (self._number["reg_vectors"] * self._number["lanes"]))

    def _pack(self, weights: FloatArray) -> _native.FcDense:
        number = self._number
        wide, outputs = number["reg_vectors"] * number["lanes"], self.shape.out_channels
        packed = np.zeros((self._units() * wide, self.shape.channels), dtype=np.float32)
        packed[:outputs] = weights[:, :, 0, 0]
        bias = np.zeros(len(packed), dtype=np.float32)
        if self.bias is not None:
            bias[:outputs] = self.bias
        by_input = packed.reshape(-1, wide, self.shape.channels).swapaxes(1, 2)
        return _native.FcDense(
            self.shape,
            self._team,
            np.ascontiguousarray(by_input).reshape(-1),
            bias,
            isa_index(find_isa(self.isa)),
            number["images"],
            number["reg_images"],
            number["reg_vectors"],
            self.relu,
        )


@dataclass(frozen=True, eq=False)
class FcStreams:
    """Nonzeros in lists, one for each block of inputs and output; groups: as_fc_rows in fc.h."""

    ptr: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    """Output of each list."""
    off: npt.NDArray[np.uint16]
    val: npt.NDArray[np.float32]


def pack_fc(
    weights: Weights,
    *,
    input_block: int,
    unit: int,
    lists: int,
    part_ptr: npt.NDArray[np.int64] | None,
) -> FcStreams:
    """Order the nonzeros of a fully connected layer: block of inputs, list, input.

    Parameters
    ----------
    weights : ndarray of shape (K, C, 1, 1), float32
    input_block : int
        Inputs of a block; the last block has what is left.
    unit : int
        Offset of a block's second input.
    lists : int
        Of a group.
    part_ptr : ndarray of int64, optional
        Inside each of these ranges of outputs a block's lists are sorted by length, so that the
        end of a list is where the processor expects it. None: in the order of outputs.
    """
    outputs, inputs = weights.shape[:2]
    k, c = np.nonzero(weights.reshape(outputs, inputs))
    values = weights.reshape(outputs, inputs)[k, c]
    block, place = np.divmod(c, input_block)
    blocks = -(-inputs // input_block)
    row = np.tile(np.arange(outputs), (blocks, 1))
    if part_ptr is not None:
        counts = np.bincount(block * outputs + k, minlength=blocks * outputs)
        part = np.searchsorted(part_ptr[1:], row[0], side="right")
        for b, count in enumerate(counts.reshape(blocks, outputs)):
            row[b] = np.lexsort((count, part))
    position = np.argsort(row, axis=1)
    of = block * outputs + position[block, k]
    ptr = list_ptr(of, blocks * outputs)
    order = np.argsort(of, kind="stable")
    if part_ptr is not None:
        order = order[_side_by_side(ptr, of[order], np.tile(part_ptr, (blocks, 1))
                                    + outputs * np.arange(blocks)[:, None], lists)]  # fmt: skip
    return FcStreams(
        ptr=ptr,
        row=row.reshape(-1).astype(np.int32),
        off=(place * unit)[order].astype(np.uint16),
        val=values[order],
    )


def _side_by_side(
    ptr: npt.NDArray[np.int64],
    of: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    lists: int,
) -> npt.NDArray[np.int64]:
    """Return the order in which nonzeros, sorted by list, stand in groups of lists.

    Parameters
    ----------
    of : ndarray of int64
        The list of each nonzero.
    bounds : ndarray of shape (blocks, parts + 1), int64
        First list of each part of a block.
    """
    count = len(ptr) - 1
    group = np.arange(count)  # the first list of each list's group
    for first, last in zip(bounds[:, :-1].reshape(-1), bounds[:, 1:].reshape(-1), strict=True):
        place, size = int(first), lists
        while size:
            stop = place + (int(last) - place) // size * size
            group[place:stop] -= np.arange(stop - place) % size
            place, size = stop, size // 2
    turn = np.arange(len(of)) - ptr[of]
    together = turn < np.diff(ptr)[group][of]
    # group; in turn before what is left; round or list; list or place in it
    return np.lexsort(
        (np.where(together, of, turn), np.where(together, turn, of), ~together, group[of])
    )


def check_connected(shape: ConvShape) -> None:
    """Raise ValueError for a layer that is not fully connected."""
    sizes = (shape.height, shape.width, shape.kernel_h, shape.kernel_w, shape.groups)
    if sizes != (1, 1, 1, 1, 1) or shape.pad != (0, 0):
        raise ValueError(
            "shape: a fully connected layer has height = width = kernel = groups = 1 and no "
            f"padding; got {shape}"
        )
