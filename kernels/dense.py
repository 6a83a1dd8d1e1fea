"""Dense convolution by lowering and BLAS: what the sparse methods are compared to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from archsim.kernels import _native, blas
from archsim.kernels.checks import FloatArray
from archsim.kernels.packed import PackedDenseLayer
from archsim.kernels.shapes import ConvShape

_LARGEST_INT = 2**31 - 1


class DenseGemm(PackedDenseLayer):
    """Dense convolution: im2col and single-precision matrix products by the BLAS that SciPy brings.

    Where the kernel is 1x1 with stride 1 and no padding, BLAS reads the image itself. A fully
    connected layer (height = width = kernel = 1, no padding) is one product over the whole batch,
    shared by all threads. Threads are ours: each makes its part of the output channels with a BLAS
    that is limited to one thread.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. Zeros are multiplied like any other weight.
    shape : ConvShape
    blocking : mapping
        threads_per_image : threads that share an image; for a fully connected layer all of them
        own_input : optional; 1: each of them makes all of the input's copy, for itself
    part_ptr : sequence of int
        Output channels: rank r of an image's threads computes [part_ptr[r], part_ptr[r + 1]).
    threads, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here, and for sizes beyond the 32-bit integers of BLAS.
    """

    _OWN_INPUT: ClassVar = True
    _LEAST: ClassVar = {"threads_per_image": 1}

    def __init__(
        self,
        weights: FloatArray,
        shape: ConvShape,
        *,
        blocking: Mapping[str, int | str],
        part_ptr: Sequence[int],
        threads: int = 1,
        bias: FloatArray | None = None,
        relu: bool = False,
    ) -> None:
        super().__init__(
            weights,
            shape,
            blocking=blocking,
            part_ptr=part_ptr,
            threads=threads,
            bias=bias,
            relu=relu,
        )
        self._single_thread = blas.single_thread()

    def _find_isa(self, isa: str | None) -> str:
        del isa  # the library chooses
        return blas.isa_name()

    def _check_blocking(self) -> None:
        pass  # what a fully connected layer needs depends on the threads: below

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.Dense:
        del weights  # BLAS reads the copy that is kept
        shape, per_image = self.shape, self._number["threads_per_image"]
        connected = _is_fully_connected(shape)
        if connected and per_image != self.threads:
            raise ValueError(
                f"blocking['threads_per_image']: must be threads ({self.threads}) for a fully "
                f"connected layer; got {per_image}"
            )
        depth = shape.group_channels * shape.kernel_h * shape.kernel_w
        pitch = -(-shape.out_h * shape.out_w // 16) * 16
        check_blas_sizes(depth, pitch, shape.channels, shape.out_channels)
        return _native.Dense(
            shape,
            self._team,
            self._weights,
            self.bias,
            blas.load_sgemm(),
            pitch,
            0 if connected or _is_pointwise(shape) else depth * shape.groups * pitch,
            connected,
            self.relu,
        )

    def run(self, x: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return the convolution of a batch; see `PackedLayer.run`."""
        with self._single_thread:
            return super().run(x, out)

    def _keywords(self) -> dict[str, Any]:
        keywords = super()._keywords()
        del keywords["isa"]
        return keywords


def _is_pointwise(shape: ConvShape) -> bool:
    return (shape.kernel_h, shape.kernel_w, shape.stride, shape.pad) == (1, 1, (1, 1), (0, 0))


def _is_fully_connected(shape: ConvShape) -> bool:
    sizes = (shape.height, shape.width, shape.kernel_h, shape.kernel_w, shape.pad)
    return sizes == (1, 1, 1, 1, (0, 0))


def check_blas_sizes(*sizes: int) -> None:
    """Raise ValueError where a size is beyond the 32-bit integers of BLAS."""
    if max(sizes) > _LARGEST_INT:
        raise ValueError(
            f"a matrix of this layer has {max(sizes)} rows or columns; "
            f"BLAS takes at most {_LARGEST_INT}"
        )
