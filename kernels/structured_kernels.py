"""Convolution with the kernels that are left: a sparse K x C matrix of whole kernels."""

from __future__ import annotations

from typing import ClassVar

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray
from archsim.kernels.lowered import AHEAD, LoweredSparse
from archsim.kernels.pack import pack_kernels
from archsim.kernels.packed import PARTITIONS


class StructuredKernels(LoweredSparse):
    """Convolution as a sparse K x C matrix of whole R x S kernels times the lowered image.

    A kernel of zeros alone is dropped; zeros inside of others are multiplied like any other weight.
    An entry of a list is a kernel: one offset, and R * S weights that meet as many rows of a panel,
    one behind the other. Loops: group -> block of pixels -> block of input channels, lowered by
    each thread for itself -> output channel -> kernel -> weight, all loads aligned. Sums wait
    between two blocks of input channels.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite.
    shape : ConvShape
    blocking : mapping
        granularity : "kernel"
        lanes, pixel_vectors, threads_per_image, partition : as in `LoweredSparse`
        channel_block : input channels of a group that are lowered together
    part_ptr, threads, isa, bias, relu
        As in `LoweredSparse`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {**LoweredSparse._LEAST, "channel_block": 1}
    _WORDS: ClassVar = {"partition": PARTITIONS, "granularity": ("kernel",)}

    def _pack(self, weights: FloatArray) -> _native.Lowered:
        shape, number = self.shape, self._number
        block = min(number["channel_block"], shape.group_channels)
        pitch, taps = number["pixel_vectors"] * number["lanes"], shape.kernel_h * shape.kernel_w
        packed = pack_kernels(weights, shape, pitch=pitch, channel_block=block, ahead=AHEAD)
        sizes = {"lowered_size": block * taps * pitch, "sums_size": shape.out_channels * pitch}
        return _native.Lowered(
            *self._parts(packed, ahead=AHEAD, each=taps),
            {**number, "channel_block": block, **sizes},
            self.relu,
        )
