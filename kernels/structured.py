"""Structured sparsity as the smaller dense problem that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from archsim.kernels import _native, blas
from archsim.kernels.checks import FloatArray
from archsim.kernels.dense import check_blas_sizes
from archsim.kernels.packed import PackedDenseLayer
from archsim.kernels.shapes import ConvShape

GRANULARITIES = ("feature-map", "intra-kernel")


class Structured(PackedDenseLayer):
    """Convolution by lowering and BLAS, less all that the weights leave out as a whole.

    An output channel without any weight is bias alone. A row of the lowered matrix that no weight
    of the group looks at is neither made nor multiplied: the rows of a whole input map (granularity
    feature-map), or of one position in the kernels of an input map (intra-kernel).

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S), float32
        Finite. Zeros inside of what is kept are multiplied like any other weight.
    shape : ConvShape
    blocking : mapping
        granularity : "feature-map" or "intra-kernel"
        kept_rows : rows of the lowered matrix that are left, all groups
        kept_channels : output channels that are left
        threads_per_image : threads that share an image
    part_ptr : sequence of int
        Output channels, kept or not: rank r of an image's threads computes
        [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`; the library chooses the instruction set, *isa* is not looked at.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here, for numbers that are not those of the weights,
        and for sizes beyond the 32-bit integers of BLAS.
    """

    _LEAST: ClassVar = {"kept_rows": 0, "kept_channels": 0, "threads_per_image": 1}
    _WORDS: ClassVar = {"granularity": GRANULARITIES}

    def _find_isa(self, isa: str | None) -> str:
        del isa  # the library chooses
        return blas.isa_name()

    def _check_blocking(self) -> None:
        pass  # what is left depends on the weights: below

    def _units(self) -> int:
        return self.shape.out_channels

    def _pack(self, weights: FloatArray) -> _native.Structured:
        shape = self.shape
        self._single_thread = blas.single_thread()
        channels, rows = kept(weights, shape, self._word["granularity"])
        for name, found in (("kept_rows", rows.sum()), ("kept_channels", channels.sum())):
            if self._number[name] != found:
                raise ValueError(
                    f"blocking[{name!r}]: the weights leave {found}; got {self._number[name]}"
                )
        pitch = -(-shape.out_h * shape.out_w // 16) * 16
        check_blas_sizes(rows.shape[1], pitch, shape.out_channels)
        grouped = weights.reshape(shape.groups, shape.group_out_channels, -1)
        by_group = channels.reshape(shape.groups, -1)
        matrices = [w[k][:, r] for w, k, r in zip(grouped, by_group, rows, strict=True)]
        return _native.Structured(
            shape,
            self._team,
            np.flatnonzero(rows),
            _ptr(rows.sum(axis=1)),
            _ptr(channels),
            _ptr(np.array([matrix.size for matrix in matrices])),
            np.concatenate([matrix.reshape(-1) for matrix in matrices]),
            self.bias,
            blas.load_sgemm(),
            pitch,
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


def _ptr(counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    ptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=ptr[1:])
    return ptr


def kept(
    weights: FloatArray, shape: ConvShape, granularity: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which output channels, and which rows of the lowered matrix, any weight belongs to.

    Returns
    -------
    channels : ndarray of shape (K,), bool
    rows : ndarray of shape (groups, C / groups * R * S), bool
        With granularity feature-map all rows of an input map go together.
    """
    there = (weights != 0).reshape(shape.groups, shape.group_out_channels, -1)
    rows = there.any(axis=1)
    if granularity == "feature-map":
        maps = rows.reshape(shape.groups, shape.group_channels, -1)
        rows = np.repeat(maps.any(axis=2), shape.kernel_h * shape.kernel_w, axis=1)
    return there.any(axis=2).reshape(-1), rows


@dataclass(frozen=True, eq=False)
class WithoutMaps:
    """Two layers that follow each other, without the feature maps that nothing needs."""

    maps: npt.NDArray[np.int64]
    """The maps that stay, of the first layer's."""
    weights: FloatArray
    """Of the first layer, (maps, C, R, S)."""
    bias: FloatArray | None
    next_weights: FloatArray
    """Of the second layer, (K, maps, R, S), or (K, maps * pixels, 1, 1)."""


def remove_maps(
    weights: FloatArray,
    bias: FloatArray | None,
    next_weights: FloatArray,
    *,
    relu: bool,
    pixels: int = 1,
) -> WithoutMaps:
    """Remove feature maps that are zero, or that nobody reads, from a layer and the one behind it.

    What the second layer puts out stays the same (up to the order of its sums). A map whose weights
    are all zero is its bias everywhere; it goes where that is 0, or negative and clipped by ReLU.
    At least one map stays. What lies between the layers (ReLU, pooling) must turn zeros to zeros.

    Parameters
    ----------
    weights : ndarray of shape (K, C, R, S), float32
        Of the first layer, which has no groups.
    bias : ndarray of shape (K,), float32, optional
    next_weights : ndarray of shape (K2, K, R2, S2) or (K2, K * pixels, 1, 1), float32
        Of the second layer, which has no groups.
    relu : bool
        Whether a ReLU follows the first layer.
    pixels : int
        Inputs of the second layer that a map has: above 1 for a fully connected one.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    """
    maps = len(weights)
    if weights.ndim != 4 or next_weights.ndim != 4 or pixels < 1:
        raise ValueError(
            f"weights: must have 4 axes, pixels be at least 1; got {weights.shape}, "
            f"{next_weights.shape}, {pixels}"
        )
    if next_weights.shape[1] != maps * pixels or (bias is not None and bias.shape != (maps,)):
        raise ValueError(
            f"next_weights, bias: the first layer has {maps} maps of {pixels} pixels; got "
            f"{next_weights.shape}, {None if bias is None else bias.shape}"
        )
    constant = np.zeros(maps, dtype=np.float32) if bias is None else bias
    silent = (constant <= 0.0) if relu else (constant == 0.0)
    readers = next_weights.reshape(len(next_weights), maps, -1)
    needed = (weights.reshape(maps, -1).any(axis=1) | ~silent) & readers.any(axis=(0, 2))
    if not needed.any():
        needed[0] = True
    left = np.flatnonzero(needed)
    inputs = (left[:, None] * pixels + np.arange(pixels)).reshape(-1)
    return WithoutMaps(
        maps=left,
        weights=weights[left],
        bias=None if bias is None else bias[left],
        next_weights=next_weights[:, inputs],
    )
