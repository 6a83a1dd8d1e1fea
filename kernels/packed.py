"""What all kinds of packed weights share: pack once, run often."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

import numpy as np

from archsim.kernels import _native
from archsim.kernels.aligned import aligned_empty
from archsim.kernels.checks import (
    FloatArray,
    check_blocking,
    check_part_ptr,
    check_plain,
    check_shape,
    check_threads,
    check_values,
)
from archsim.kernels.isa import find_isa, isa_index
from archsim.kernels.pack import PackedStreams
from archsim.kernels.shapes import ConvShape

#: How output channels are cut among the threads of an image, for the methods that have a choice.
PARTITIONS = ("nnz", "rows", "dynamic")

_FLOAT32 = np.dtype(np.float32)


class PackedLayer(ABC):
    """One layer's weights, packed for one method, with all buffers that its runs need.

    Runs of one object from several Python threads follow one another: a second one waits, with the
    interpreter free for others, for the object's lock. Objects pickle; they are packed anew where
    they are loaded, for the same instruction set. They survive a fork, also one during a run of
    another thread, and a child's runs start threads of its own.

    A method's class says what its blocking has (`_LEAST`, `_WORDS`), checks it, counts the units
    that part_ptr cuts, and packs.
    """

    _LEAST: ClassVar[Mapping[str, int]]
    """The blocking's integers, with the least that each may be."""
    _WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The blocking's words, with all that each may be."""
    _OWN_INPUT: ClassVar[bool] = False
    """Whether the blocking may have ``own_input``: 1, each thread fills a buffer of its own."""

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
        self.shape = check_shape(shape)
        self.isa = self._find_isa(isa)
        """Name of the instruction set that runs."""
        own = self._OWN_INPUT and isinstance(blocking, Mapping) and "own_input" in blocking
        least = {**self._LEAST, "own_input": 0} if own else self._LEAST
        self._number, self._word = check_blocking(blocking, least, self._WORDS)
        self.blocking: Mapping[str, int | str] = MappingProxyType({**self._number, **self._word})
        self._check_blocking()
        weights = self._check_weights(weights)
        self.nnz = int(np.count_nonzero(weights))
        """Weights that are not zero."""
        self.relu = bool(relu)
        self.bias = (
            None if bias is None else check_values("bias", bias, (shape.out_channels,)).copy()
        )
        if self.bias is not None:
            self.bias.flags.writeable = False
        per_image, units = self._number["threads_per_image"], self._units()
        self.threads = check_threads(threads, per_image)
        dynamic = self._word.get("partition") == "dynamic"
        self._part_ptr = check_part_ptr(part_ptr, None if dynamic else per_image, units)
        self._team = _native.Team(
            self.threads, per_image, self._part_ptr, units, dynamic,
            own_input=bool(self._number.get("own_input", 0)),
        )  # fmt: skip
        self._lock = Lock()
        renew_lock_in_child(self)
        self._x_shape = (shape.channels, shape.height, shape.width)
        self._out_shape = (shape.out_channels, shape.out_h, shape.out_w)
        self._keep(weights)
        self._native = self._pack(weights)

    def _find_isa(self, isa: str | None) -> str:
        return find_isa(isa).name

    def _check_weights(self, weights: FloatArray) -> FloatArray:
        """Return the weights as this method takes them; raise ValueError for others."""
        return check_values("weights", weights, self.shape.weight_shape)

    @abstractmethod
    def _check_blocking(self) -> None:
        """Raise ValueError for a blocking that does not suit the layer or the instruction set."""

    @abstractmethod
    def _units(self) -> int:
        """Return how many units of output there are."""

    @abstractmethod
    def _keep(self, weights: FloatArray) -> None:
        """Keep what `weights` returns."""

    @abstractmethod
    def _pack(self, weights: FloatArray) -> _native.Layer:
        """Return what runs."""

    @property
    @abstractmethod
    def weights(self) -> FloatArray:
        """The dense weights, (K, C / groups, R, S)."""

    @property
    def phase_seconds(self) -> dict[str, float]:
        """Seconds of the last run in each phase, the most of any thread; no waiting in it."""
        return dict(zip(("input", "products", "output"), self._native.seconds, strict=True))

    def run(self, x: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return the convolution of a batch.

        Parameters
        ----------
        x : ndarray of shape (N, C, H, W), float32, C-contiguous
            Any alignment will do; some layers save a copy where it begins at a multiple of 64
            bytes, see `aligned_empty`.
            NaN propagates. A zero weight does not look at its input: where a dense product makes
            0 * NaN = NaN, the sparse methods make nothing.
        out : ndarray of shape (N, K, P, Q), float32, C-contiguous, optional
            Where to write; must not share memory with x. None: a new one of `aligned_empty`.
            Nothing else is allocated, but for the process's threads when they are first needed.

        Returns
        -------
        ndarray of shape (N, K, P, Q), float32
            *out*, if it was given.
        """
        if out is None:
            self._check_x(x)
            out = aligned_empty((x.shape[0], *self._out_shape))
        if not self._run(x, out):
            self._check_x(x)
            check_out(out, x, self._out_shape)
            # allowed subclasses, and dtypes that equal float32 under a name of their own
            if not self._run(np.asarray(x).view(_FLOAT32), np.asarray(out).view(_FLOAT32)):
                raise ValueError("x, out: must be plain arrays")
        return out

    def _run(self, x: FloatArray, out: FloatArray) -> bool:
        with self._lock:
            return self._native.run(x, out)

    def _check_x(self, x: FloatArray) -> None:
        check_x(x, self._x_shape)

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


class _Locked(Protocol):
    _lock: Lock


_locked: WeakSet[_Locked] = WeakSet()


def renew_lock_in_child(owner: _Locked) -> None:
    """Have a forked child give *owner* a new lock: a thread that held it is not there."""
    _locked.add(owner)


def _renew_locks() -> None:
    """Free what threads hold that a forked child does not have."""
    for owner in _locked:
        owner._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


class PackedSparseLayer(PackedLayer):
    """A packed layer that keeps the nonzeros only."""

    @property
    def weights(self) -> FloatArray:
        """The dense weights, (K, C / groups, R, S), made anew."""
        dense = np.zeros(self.shape.weight_shape, dtype=np.float32)
        dense.reshape(-1)[self._where] = self._values
        return dense

    def _keep(self, weights: FloatArray) -> None:
        self._where = np.flatnonzero(weights)
        self._values = weights.reshape(-1)[self._where]

    def _parts(
        self, packed: PackedStreams, ahead: int = 0, each: int = 1
    ) -> tuple[ConvShape, _native.Team, _native.Streams, FloatArray, int]:
        """Return what every sparse kernel's binding takes first."""
        bias = self.bias
        if bias is None:
            bias = np.zeros(self.shape.out_channels, dtype=np.float32)
        streams = _native.Streams(
            packed.ptr, packed.off, packed.val, packed.lists, packed.last_offset, ahead, each
        )
        return self.shape, self._team, streams, bias, isa_index(find_isa(self.isa))


class PackedDenseLayer(PackedLayer):
    """A packed layer that keeps all weights."""

    @property
    def weights(self) -> FloatArray:
        """The weights, (K, C / groups, R, S), read-only."""
        return self._weights

    def _keep(self, weights: FloatArray) -> None:
        self._weights = weights.copy()
        self._weights.flags.writeable = False


def check_x(x: FloatArray, right: tuple[int, int, int]) -> None:
    """Raise TypeError or ValueError for what is no batch of inputs of shape (C, H, W)."""
    _check_array("x", x)
    if x.ndim != 4 or x.shape[1:] != right or x.shape[0] < 1:
        raise ValueError(f"x: must have shape (N >= 1, {_words(right)}); got {x.shape}")
    if x.shape[0] > _native.MOST_IMAGES:
        raise ValueError(f"x: at most {_native.MOST_IMAGES} images; got {x.shape[0]}")


def check_out(out: FloatArray, x: FloatArray, image: tuple[int, int, int]) -> None:
    """Raise TypeError or ValueError where outputs (K, P, Q) of the batch x cannot be written."""
    _check_array("out", out)
    right = (x.shape[0], *image)
    if out.shape != right:
        raise ValueError(f"out: must have shape {right}; got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out: must be writeable; got a read-only array")
    if np.may_share_memory(x, out):
        raise ValueError("out: must not share memory with x")


def _check_array(name: str, array: FloatArray) -> None:
    if type(array) is not np.ndarray:
        check_plain(name, array)
    if array.dtype != _FLOAT32:
        raise TypeError(f"{name}: must be float32; got {array.dtype}")
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name}: must be C-contiguous and aligned; got strides {array.strides}")


def _words(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
