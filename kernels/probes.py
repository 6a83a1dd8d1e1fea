"""Micro-benchmarks of this host: loops that each do one thing, timed in many short samples.

What the loops do stands in csrc/probe.h, how a machine file is made of them in docs/calibration.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from archsim.kernels import _native
from archsim.kernels.isa import find_isa, isa_index

LINE_BYTES: int = _native.PROBE_LINE
BLOCK_BYTES: int = _native.PROBE_BLOCK
"""A walk's step; working sets are multiples of it."""
LEAST_BYTES: int = _native.PROBE_LEAST
MOST_CHASES: int = _native.PROBE_CHASES
WRITING = frozenset(name.decode() for name in _native.PROBE_WRITING)
"""Loops that write over the links of chases."""
BRANCHES = 8192
"""Steps of the loops of branches: more than a predictor learns by heart in one go."""
_YARDSTICK_STEPS = 150
YARDSTICK_ADDITIONS = 64 * _YARDSTICK_STEPS
"""Dependent additions of one cycle that are timed before and behind each sample."""
YARDSTICK_MULTIPLICATIONS = 64 * (_YARDSTICK_STEPS // 3)
"""Dependent integer multiplications that are timed there, too."""
_MOST_STEPS = 2**30

Times = NDArray[np.float64]


@cache
def loops(isa: str | None = None) -> dict[str, int]:
    """Return name -> operations of a step, of a set's loops or (None) of those without vectors."""
    return dict(_native.probe_loops(_index(isa)))


def _index(isa: str | None) -> int:
    return -1 if isa is None else isa_index(find_isa(isa))


def _number(loop: str, isa: str | None) -> int:
    names = list(loops(isa))
    if loop not in names:
        raise ValueError(f"loop: {loop!r}: unknown; those of {isa or 'no set'}: {', '.join(names)}")
    return names.index(loop)


@cache
def clock_tick_seconds() -> float:
    """Return the seconds that one reading of the clock takes."""
    return _native.probe_tick()


class Probe:
    """Memory of *size_bytes*, in large pages where the system gives them, for loops to work on.

    Raise MemoryError if there is none.
    """

    def __init__(self, size_bytes: int) -> None:
        self._native = _native.Probe(size_bytes)

    @property
    def size_bytes(self) -> int:
        """Bytes of the memory."""
        return self._native.size

    def walk(self, size_bytes: int, offset_bytes: int = 0) -> None:
        """Let walks stay inside the first bytes, and loads begin so far behind a line."""
        self._native.walk(size_bytes, offset_bytes)

    def link(self, size_bytes: int, chases: int = 1) -> None:
        """Link the lines of the first bytes into one cycle, for so many chases side by side."""
        self._native.link(size_bytes // LINE_BYTES, chases)

    def time(self, loop: str, isa: str | None, steps: int, samples: int) -> Times:
        """Time a loop on this thread.

        Returns
        -------
        ndarray of shape (samples, 6), seconds
            Additions and multiplications before, the loop, additions and multiplications behind,
            and CPU time of all five.
        """
        times = np.empty((samples, 6))
        number = _number(loop, isa)
        self._native.time(_index(isa), number, steps, _YARDSTICK_STEPS, times)
        return times

    def steps_for(self, loop: str, isa: str | None, seconds: float) -> int:
        """Return how many steps of a loop take about so long."""
        if loop.startswith("branch"):
            return BRANCHES
        steps, took = 1, 0.0
        while steps < _MOST_STEPS:
            took = float(self.time(loop, isa, steps, 3)[:, 2].min())
            if took > seconds / 4:
                break
            steps *= 4
        return max(1, round(steps * seconds / took))


def time_team(probes: list[Probe], loop: str, isa: str | None, steps: int, samples: int) -> Times:
    """Time a loop on as many threads as there are probes, who meet before each sample.

    Returns
    -------
    ndarray of shape (samples, threads, 3), seconds
        Clock at the begin and at the end, CPU time.
    """
    times = np.empty((samples, len(probes), 3))
    natives = [probe._native for probe in probes]
    _native.probe_team(natives, _index(isa), _number(loop, isa), steps, times)
    return times


def hand_over(probe: Probe, isa: str, write: str, *, samples: int = 100) -> Times:
    """Time one thread that writes all that *probe* walks, and then another one that reads it.

    Parameters
    ----------
    write : {"write", "write_across"}

    Returns
    -------
    ndarray of shape (samples, 2), seconds
        Of writing, and of reading.
    """
    times = np.empty((samples, 2))
    places = _number(write, isa), _number("read", isa)
    _native.probe_hand(probe._native, _index(isa), *places, times)
    return times


def barrier_seconds(threads: int, *, steps: int = 20, samples: int = 100) -> Times:
    """Return the seconds of a barrier in each sample of *steps* barriers, shape (samples,)."""
    seconds = np.empty(samples)
    _native.probe_barriers(threads, steps, seconds)
    return seconds
