"""Sparse convolution by lowering: im2col, then sparse matrix times dense matrix."""

from __future__ import annotations

from typing import ClassVar, Final

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_accumulators, check_lanes
from archsim.kernels.isa import find_isa
from archsim.kernels.pack import offset_limit, pack_lowered
from archsim.kernels.packed import PARTITIONS, PackedSparseLayer

AHEAD: Final = 4  # entries that the kernels read behind the last list: AS_LOWERED_AHEAD


class LoweredSparse(PackedSparseLayer):
    """Sparse convolution as a sparse matrix (K x C R S) times the lowered image (C R S x P Q).

    Panel by panel: a block of output pixels is lowered, also where the kernel is 1x1 (then it is a
    copy with aligned rows), and multiplied while it is near. A thread that has an image for itself
    takes one group after the other; threads that share an image lower all groups together, and meet
    once a block. Loops: group -> block of pixels -> output channel -> nonzero, all loads aligned.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. The zeros are dropped.
    shape : ConvShape
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        pixel_vectors : block, vectors of neighbouring output pixels, all of them in registers;
            less at the end
        threads_per_image : threads that share an image
        own_input : optional; 1: each of them makes all of the input's copy, for itself
        partition : as in `DirectSparseRow`
    part_ptr : sequence of int
        Output channels: part r is [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _OWN_INPUT: ClassVar = True
    _LEAST: ClassVar = {"lanes": 1, "pixel_vectors": 1, "threads_per_image": 1}
    _WORDS: ClassVar = {"partition": PARTITIONS}

    def _check_blocking(self) -> None:
        number, info = self._number, find_isa(self.isa)
        check_lanes(number["lanes"], info)
        check_accumulators(number["pixel_vectors"], "blocking['pixel_vectors']", info)
        (pad_h, pad_w), shape = self.shape.pad, self.shape
        offset_limit((shape.height + 2 * pad_h) * (shape.width + 2 * pad_w))  # places in a picture

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.Lowered:
        shape, number = self.shape, self._number
        pitch = number["pixel_vectors"] * number["lanes"]
        packed = pack_lowered(weights, shape, pitch=pitch, ahead=AHEAD)
        shared = number["threads_per_image"] > 1
        channels = 2 * shape.channels if shared else shape.group_channels  # two sets, or one panel
        size = channels * shape.kernel_h * shape.kernel_w * pitch
        return _native.Lowered(
            *self._parts(packed, ahead=AHEAD), {**number, "lowered_size": size}, self.relu
        )
