"""Sparse convolution by lowering: im2col, then sparse matrix times dense matrix."""

from __future__ import annotations

from typing import ClassVar

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_accumulators, check_lanes
from archsim.kernels.isa import find_isa
from archsim.kernels.pack import pack_lowered
from archsim.kernels.packed import PARTITIONS, PackedSparseLayer


class LoweredSparse(PackedSparseLayer):
    """Sparse convolution as a sparse matrix (K x C R S) times the lowered image (C R S x P Q).

    Each image is lowered first, also where the kernel is 1x1 (then it is a copy with aligned rows).
    Loops: block of pixels -> output channel -> nonzero, all loads aligned.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. The zeros are dropped.
    shape : ConvShape
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        pixel_vectors : register block, vectors of neighbouring output pixels; less at the end
        pitch : floats from one lowered row to the next, a multiple of 16, at least P * Q
        threads_per_image : threads that share an image
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

    _LEAST: ClassVar = {"lanes": 1, "pixel_vectors": 1, "pitch": 1, "threads_per_image": 1}
    _WORDS: ClassVar = {"partition": PARTITIONS}

    def _check_blocking(self) -> None:
        number, info = self._number, find_isa(self.isa)
        check_lanes(number["lanes"], info)
        check_accumulators(number["pixel_vectors"], "blocking['pixel_vectors']", info)
        pixels = self.shape.out_h * self.shape.out_w
        if number["pitch"] % 16 or number["pitch"] < pixels:
            raise ValueError(
                f"blocking['pitch']: must be a multiple of 16 and at least P * Q ({pixels}); "
                f"got {number['pitch']}"
            )

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.Lowered:
        packed = pack_lowered(weights, self.shape, pitch=self._number["pitch"])
        rows = self.shape.channels * self.shape.kernel_h * self.shape.kernel_w
        return _native.Lowered(
            *self._parts(packed),
            {**self._number, "lowered_size": rows * self._number["pitch"]},
            self.relu,
        )
