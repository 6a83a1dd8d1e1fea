"""Direct sparse convolution by the row schedule of Park et al., "Faster CNNs with Direct Sparse
Convolutions and Guided Pruning" (ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim.kernels import _native
from archsim.kernels.checks import (
    FloatArray,
    check_accumulators,
    check_blocking,
    check_lanes,
    check_shape,
    check_values,
)
from archsim.kernels.isa import IsaInfo, find_isa, isa_index
from archsim.kernels.pack import pack_direct_row
from archsim.kernels.packed import PackedSparseLayer
from archsim.kernels.shapes import ConvShape

_LEAST = {
    "lanes": 1,
    "oc_block": 1,
    "channel_block": 1,
    "reg_rows": 1,
    "reg_vectors": 1,
    "row_pitch": 1,
    "vectorised": 0,
    "threads_per_image": 1,
}
_WORDS = {"spill": ("scratch", "output")}


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
        threads_per_image : threads that share an image
    part_ptr : sequence of int
        Blocks of output channels, counted through all groups (ceil(K / groups / oc_block) in
        each): rank r of an image's threads computes [part_ptr[r], part_ptr[r + 1]).
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

    def __init__(
        self,
        weights: FloatArray,
        shape: ConvShape,
        *,
        blocking: Mapping[str, int | str],
        part_ptr: Sequence[int],
        threads: int = 1,
        isa: str | None = None,
        bias: FloatArray | None = None,
        relu: bool = False,
    ) -> None:
        check_shape(shape)
        info = find_isa(isa)
        clean = check_blocking(blocking, _LEAST, _WORDS)
        number = {name: int(clean[name]) for name in _LEAST}
        _check_plan(number, shape, info)
        weights = check_values("weights", weights, shape.weight_shape)
        number["oc_block"] = min(number["oc_block"], shape.group_out_channels)
        blocks = shape.groups * -(-shape.group_out_channels // number["oc_block"])
        super().__init__(
            weights,
            shape,
            blocking=clean,
            part_ptr=part_ptr,
            units=blocks,
            threads=threads,
            isa=info.name,
            bias=bias,
            relu=relu,
        )
        packed = pack_direct_row(
            weights,
            shape,
            oc_block=number["oc_block"],
            channel_block=number["channel_block"],
            row_pitch=number["row_pitch"],
        )
        self._native = _native.DirectRow(
            shape,
            self._team,
            _native.Streams(packed.ptr, packed.off, packed.val, packed.lists, packed.last_offset),
            self._bias_or_zeros(),
            isa_index(info),
            clean | number | _sizes(number, str(clean["spill"]), shape),
            self.relu,
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
    if number["vectorised"] > 1:
        raise ValueError(f"blocking['vectorised']: must be 0 or 1; got {number['vectorised']}")
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
