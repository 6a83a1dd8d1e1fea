"""Direct sparse convolution by the row schedule of Park et al., "Faster CNNs with Direct Sparse
Convolutions and Guided Pruning" (ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_accumulators, check_lanes
from archsim.kernels.isa import IsaInfo, find_isa
from archsim.kernels.pack import pack_direct_row
from archsim.kernels.packed import PARTITIONS, PackedSparseLayer
from archsim.kernels.shapes import ConvShape

AHEAD: Final = 4  # entries that the kernels read behind the last list: AS_ROW_AHEAD


class DirectSparseRow(PackedSparseLayer):
    """Sparse convolution straight from a padded copy of the image; no lowering, no gather.

    The copy's rows share their padding, and one offset per nonzero serves every output pixel: each
    nonzero adds shifted, unaligned rows of the input to a register block of output rows. Loops:
    block of output channels -> block of input channels -> output channel -> register block ->
    nonzero. Between blocks of input channels the partial sums are spilled.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. The zeros are dropped.
    shape : ConvShape
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        oc_block : output channels that take turns on one block of input channels
        channel_block : input channels (of one group) in a block
        reg_rows, reg_vectors : register block, output rows x vectors of columns; less at the edges
        row_pitch : floats from one row of the padded copy to the next, at least W + pad
        spill : where partial sums wait, "scratch" (aligned, one of each thread) or "output"
        vectorised : 1, or 0 for one pixel at a time, which strides above 1 need
        prefetch : 1 asks for the input of a nonzero during the one before it, which pays if a
            block of input channels is mostly beyond the first level of the caches; else 0
        threads_per_image : threads that share an image
        own_input : optional; 1: each of them makes all of the input's copy, for itself
        partition : "nnz" or "rows", two ways to choose part_ptr: rank r of an image's threads
            computes part r. "dynamic": there may be any number of parts, and a thread that is
            free takes the next one
    part_ptr : sequence of int
        Blocks of output channels, counted through all groups (ceil(K / groups / oc_block) in
        each): part r is [part_ptr[r], part_ptr[r + 1]).
    threads : int
        threads // threads_per_image images are in work at once; left-over threads idle.
    isa : str, optional
        Instruction set; None: the active one.
    bias : ndarray of shape (K,), float32, optional
    relu : bool

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _OWN_INPUT: ClassVar = True
    _LEAST: ClassVar = {
        "lanes": 1,
        "oc_block": 1,
        "channel_block": 1,
        "reg_rows": 1,
        "reg_vectors": 1,
        "row_pitch": 1,
        "vectorised": 0,
        "prefetch": 0,
        "threads_per_image": 1,
    }
    _WORDS: ClassVar = {"spill": ("scratch", "output"), "partition": PARTITIONS}

    def _check_blocking(self) -> None:
        _check_plan(self._number, self.shape, find_isa(self.isa))

    @property
    def _oc_block(self) -> int:
        return min(self._number["oc_block"], self.shape.group_out_channels)

    def _units(self) -> int:
        return self.shape.groups * -(-self.shape.group_out_channels // self._oc_block)

    def _pack(self, weights: FloatArray) -> _native.DirectRow:
        number = {**self._number, "oc_block": self._oc_block}
        packed = pack_direct_row(
            weights,
            self.shape,
            oc_block=number["oc_block"],
            channel_block=number["channel_block"],
            row_pitch=number["row_pitch"],
            ahead=AHEAD,
        )
        sizes = _sizes(number, self._word["spill"], self.shape)
        return _native.DirectRow(
            *self._parts(packed, ahead=AHEAD), {**number, **self._word, **sizes}, self.relu
        )


def _check_plan(number: Mapping[str, int], shape: ConvShape, isa: IsaInfo) -> None:
    check_lanes(number["lanes"], isa)
    if number["channel_block"] > shape.group_channels:
        raise ValueError(
            f"blocking['channel_block']: must be at most the channels of a group "
            f"({shape.group_channels}); got {number['channel_block']}"
        )
    if number["row_pitch"] < shape.width + shape.pad[1]:
        raise ValueError(
            f"blocking['row_pitch']: must be at least width + pad ({shape.width + shape.pad[1]}); "
            f"got {number['row_pitch']}"
        )
    for name in ("vectorised", "prefetch"):
        if number[name] > 1:
            raise ValueError(f"blocking['{name}']: must be 0 or 1; got {number[name]}")
    if number["vectorised"]:
        if shape.stride != (1, 1):
            raise ValueError(
                "blocking['vectorised']: must be 0 when a stride is above 1; "
                f"got stride {shape.stride}"
            )
        block = number["reg_rows"] * number["reg_vectors"]
        check_accumulators(block, "blocking['reg_rows'] x blocking['reg_vectors']", isa)


def _sizes(number: Mapping[str, int], spill: str, shape: ConvShape) -> dict[str, int]:
    """Return the sizes of the buffers, in floats, and the number of column blocks."""
    rows = shape.channels * (shape.height + shape.pad[0]) + shape.pad[0]
    # Behind the last row: its right pad, and what the last vector reads beyond its columns.
    slack = shape.pad[1] + number["lanes"] - 1
    needs_scratch = number["vectorised"] and spill == "scratch"
    scratch = number["oc_block"] * shape.out_h * (-(-shape.out_w // 16) * 16)
    return {
        "column_blocks": -(-shape.group_channels // number["channel_block"]),
        "padded_size": rows * number["row_pitch"] + slack,
        "scratch_size": scratch if needs_scratch else 1,
    }
