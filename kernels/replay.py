"""Caches as numbers: an address stream is replayed, and the lines that move are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from archsim.kernels import _native

#: One walk, as replay.h describes it: sizes and places in bytes.
SEGMENT: Final = np.dtype(
    [
        ("offset", np.int64), ("pitch", np.int64), ("first", np.int64), ("last", np.int64),
        ("side_offset", np.int64), ("rows", np.int32), ("width", np.int32),
        ("side_step", np.int32), ("array", np.int16), ("side", np.int16), ("sides", np.int16),
        ("phase", np.int16), ("touch", np.int32),
    ]
)  # fmt: skip
READ, WRITE, UPDATE, PAST, ELSEWHERE = range(5)

MOST_LEVELS: Final = _native.REPLAY_LEVELS
MOST_THREADS: Final = _native.REPLAY_THREADS
MOST_ARRAYS: Final = _native.REPLAY_ARRAYS
_WHOLE: Final = 65536

Segments = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Level:
    """One cache level of the replayed threads.

    Attributes
    ----------
    sets, ways : int
        Of one instance.
    instance : sequence of int
        Which instance each thread uses.
    share : sequence of float, of each array
        Part of its lines that this level must hold itself; the rest is always found here.
    """

    sets: int
    ways: int
    instance: Sequence[int]
    share: Sequence[float]


class Steps(_native.ReplaySteps):
    """Bytes that the steps of walks add to their begin; not empty, int64."""


@dataclass(frozen=True, slots=True)
class Walk:
    """What one thread does: segments, the steps that they walk, and where its arrays begin."""

    segments: Segments
    steps: Steps
    base: Ints


@dataclass(frozen=True, slots=True)
class Moved:
    """Lines over the boundary outside each level: int64 of shape (levels, phases, arrays).

    ``touched`` counts the lines that each thread touched, shape (threads,).
    """

    fetched: Ints
    written: Ints
    touched: Ints

    def since(self, before: Moved) -> Moved:
        """Return what has moved since ``before``."""
        return Moved(
            self.fetched - before.fetched,
            self.written - before.written,
            self.touched - before.touched,
        )


class Caches:
    """Levels of caches, the inner ones first: set-associative, least recently used goes first.

    Every miss allocates, writes wait until their line is driven out, and a line that one level
    loses stays in the others.  Threads take turns step by step.

    Parameters
    ----------
    levels : sequence of Level
    line_bytes : int
        A power of two, 16 to 4096.
    write_allocate : bool
        Whether memory hands out a line that is about to be overwritten.
    first_shared : int, optional
        First level that threads beyond the replayed ones share (default: none).
    together : sequence of int
        Arrays that several of the threads write.

    Raises
    ------
    ValueError
        A size or an index is out of range.
    MemoryError
        The levels are larger than memory allows.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        line_bytes: int = 64,
        write_allocate: bool = True,
        first_shared: int | None = None,
        together: Sequence[int] = (),
    ) -> None:
        bits = line_bytes.bit_length() - 1
        if line_bytes != 1 << bits:
            raise ValueError(f"line_bytes: must be a power of two; got {line_bytes}")
        sizes = [(level.sets, level.ways, max(level.instance) + 1) for level in levels]
        share = [[round(_WHOLE * min(1.0, part)) for part in level.share] for level in levels]
        self._native = _native.Replay(
            np.array(sizes, dtype=np.int64).reshape(-1, 3),
            np.array([level.instance for level in levels], dtype=np.int64),
            np.array(share, dtype=np.int64),
            bits,
            write_allocate,
            len(levels) if first_shared is None else first_shared,
            sum(1 << array for array in set(together)),
        )

    def run(self, walks: Sequence[Walk]) -> None:
        """Replay one walk a thread, to the end.

        Raises
        ------
        ValueError
            A segment names an array, a step or a place that there is not.
        """
        self._native.run(
            [
                np.ascontiguousarray(w.segments).view(np.int64).reshape(-1, _native.SEGMENT_WORDS)
                for w in walks
            ],
            [w.steps for w in walks],
            [w.base for w in walks],
        )

    def moved(self) -> Moved:
        """Return what has moved since the beginning."""
        fetched, written, touched = self._native.counts()
        return Moved(np.array(fetched), np.array(written), np.array(touched))
