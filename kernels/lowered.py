"""Sparse convolution by lowering: im2col, then sparse matrix times dense matrix."""

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
from archsim.kernels.isa import find_isa, isa_index
from archsim.kernels.pack import pack_lowered
from archsim.kernels.packed import PackedSparseLayer
from archsim.kernels.shapes import ConvShape

_LEAST = {"lanes": 1, "pixel_vectors": 1, "pitch": 1, "threads_per_image": 1}


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
    part_ptr : sequence of int
        Output channels: rank r of an image's threads computes [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

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
        clean = check_blocking(blocking, _LEAST)
        number = {name: int(clean[name]) for name in _LEAST}
        check_lanes(number["lanes"], info)
        check_accumulators(number["pixel_vectors"], "blocking['pixel_vectors']", info)
        pixels = shape.out_h * shape.out_w
        if number["pitch"] % 16 or number["pitch"] < pixels:
            raise ValueError(
                f"blocking['pitch']: must be a multiple of 16 and at least P * Q ({pixels}); "
                f"got {number['pitch']}"
            )
        weights = check_values("weights", weights, shape.weight_shape)
        super().__init__(
            weights,
            shape,
            blocking=clean,
            part_ptr=part_ptr,
            units=shape.out_channels,
            threads=threads,
            isa=info.name,
            bias=bias,
            relu=relu,
        )
        packed = pack_lowered(weights, shape, pitch=number["pitch"])
        rows = shape.channels * shape.kernel_h * shape.kernel_w
        self._native = _native.Lowered(
            shape,
            self._team,
            _native.Streams(packed.ptr, packed.off, packed.val, packed.lists, packed.last_offset),
            self._bias_or_zeros(),
            isa_index(info),
            clean | {"lowered_size": rows * number["pitch"]},
            self.relu,
        )
