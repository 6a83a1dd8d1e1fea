"""What all kinds of packed weights share: pack once, run often."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_part_ptr, check_threads, check_values
from archsim.kernels.shapes import ConvShape

_FLOAT32 = np.dtype(np.float32)


class _Runnable(Protocol):
    def run(self, x: FloatArray, out: FloatArray) -> tuple[float, float, float]: ...


class PackedLayer(ABC):
    """One layer's weights, packed for one method, with all buffers that its runs need.

    Runs of one object from several Python threads follow one another. Objects pickle; they are
    packed anew where they are loaded, for the same instruction set.
    """

    _native: _Runnable

    def __init__(
        self,
        weights: FloatArray,
        shape: ConvShape,
        *,
        blocking: dict[str, int | str],
        part_ptr: Sequence[int],
        units: int,
        threads: int,
        isa: str,
        bias: FloatArray | None,
        relu: bool,
    ) -> None:
        per_image = int(blocking["threads_per_image"])
        self.shape = shape
        self.threads = check_threads(threads, per_image)
        self.isa = isa
        """Name of the instruction set that runs."""
        self.blocking: Mapping[str, int | str] = MappingProxyType(blocking)
        self.nnz = int(np.count_nonzero(weights))
        """Weights that are not zero."""
        self.relu = bool(relu)
        self.bias = (
            None if bias is None else check_values("bias", bias, (shape.out_channels,)).copy()
        )
        self._part_ptr = check_part_ptr(part_ptr, per_image, units)
        self._team = _native.Team(self.threads, per_image, self._part_ptr, units)
        self._lock = Lock()
        self._seconds = (0.0, 0.0, 0.0)
        self._x_shape = (shape.channels, shape.height, shape.width)
        self._out_shape = (shape.out_channels, shape.out_h, shape.out_w)

    @property
    @abstractmethod
    def weights(self) -> FloatArray:
        """The dense weights, (K, C / groups, R, S)."""

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Seconds of the last run in each phase, the most of any thread; no waiting in it."""
        return dict(zip(("input", "products", "output"), self._seconds, strict=True))

    def run(self, x: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return the convolution of a batch.

        Parameters
        ----------
        x : ndarray of shape (N, C, H, W), float32, C-contiguous
            NaN propagates. A zero weight does not look at its input: where a dense product makes
            0 * NaN = NaN, the sparse methods make nothing.
        out : ndarray of shape (N, K, P, Q), float32, C-contiguous, optional
            Where to write; must not share memory with x. None: a new array.

        Returns
        -------
        ndarray of shape (N, K, P, Q), float32
            *out*, if it was given.
        """
        self._check_x(x)
        if out is None:
            out = np.empty((x.shape[0], *self._out_shape), dtype=np.float32)
        else:
            self._check_out(out, x)
        with self._lock:
            self._seconds = self._native.run(x, out)
        return out

    def _check_x(self, x: FloatArray) -> None:
        _check_array("x", x)
        if x.ndim != 4 or x.shape[1:] != self._x_shape or x.shape[0] < 1:
            raise ValueError(f"x: must have shape (N >= 1, {_words(self._x_shape)}); got {x.shape}")

    def _check_out(self, out: FloatArray, x: FloatArray) -> None:
        _check_array("out", out)
        right = (x.shape[0], *self._out_shape)
        if out.shape != right:
            raise ValueError(f"out: must have shape {right}; got {out.shape}")
        if not out.flags.writeable:
            raise ValueError("out: must be writeable; got a read-only array")
        if np.may_share_memory(x, out):
            raise ValueError("out: must not share memory with x")

    def _keywords(self) -> dict[str, Any]:
        """Keyword arguments that make this object again."""
        return {
            "blocking": dict(self.blocking),
            "part_ptr": self._part_ptr.tolist(),
            "threads": self.threads,
            "isa": self.isa,
            "bias": self.bias,
            "relu": self.relu,
        }

    def __reduce__(self) -> tuple[Callable[..., PackedLayer], tuple[FloatArray, ConvShape]]:
        return partial(type(self), **self._keywords()), (self.weights, self.shape)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.shape}: {self.nnz} nonzeros, isa {self.isa}, "
            f"threads {self.threads}, blocking {dict(self.blocking)}>"
        )


class PackedSparseLayer(PackedLayer):
    """A packed layer that keeps the nonzeros only."""

    def __init__(self, weights: FloatArray, shape: ConvShape, **keywords: Any) -> None:
        super().__init__(weights, shape, **keywords)
        self._where = np.flatnonzero(weights)
        self._values = weights.reshape(-1)[self._where]

    @property
    def weights(self) -> FloatArray:
        """The dense weights, (K, C / groups, R, S), made anew."""
        dense = np.zeros(self.shape.weight_shape, dtype=np.float32)
        dense.reshape(-1)[self._where] = self._values
        return dense

    def _bias_or_zeros(self) -> FloatArray:
        return (
            np.zeros(self.shape.out_channels, dtype=np.float32) if self.bias is None else self.bias
        )


def _check_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: must be an ndarray; got {type(array).__name__}")
    if array.dtype != _FLOAT32:
        raise TypeError(f"{name}: must be float32; got {array.dtype}")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name}: must be C-contiguous and aligned; got strides {array.strides}")


def _words(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
