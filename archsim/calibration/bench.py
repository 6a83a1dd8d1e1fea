"""Runs loops in rounds until their figures agree or the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from archsim.calibration.sampling import AGREEING, Figure, Round, round_of, settle
from archsim.kernels import probes

Progress = Callable[[str], None]

#: figures of the core and of caches, and of memory: rounds that differ by more do not agree
CORE_TOLERANCE: Final = 0.02
CACHE_TOLERANCE: Final = 0.03
MEMORY_TOLERANCE: Final = 0.08
_SAMPLE_SECONDS: Final = 30e-6
_PAUSE_SECONDS: Final = 0.05
_WARM_SAMPLES: Final = 60
_WARM_WALKS: Final = 4
_LARGE_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Task:
    """One loop on one working set."""

    key: str
    loop: str
    isa: str | None = None
    size_bytes: int = probes.LEAST_BYTES
    offset_bytes: int = 0
    chases: int = 0
    """Pointer chases side by side that memory is linked for; 0: it is walked."""
    tolerance: float = CORE_TOLERANCE
    sample_seconds: float = _SAMPLE_SECONDS


@dataclass
class Bench:
    """This host's memory and time for measuring.

    Attributes
    ----------
    probe : Probe
        Memory that all loops of one thread work on.
    deadline : float
        When to stop asking for more rounds, of `time.monotonic`.
    rounds : dict
        Task key -> its rounds so far.
    """

    probe: probes.Probe
    deadline: float
    samples: int
    least_rounds: int
    progress: Progress
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    _steps: dict[str, int] = field(default_factory=dict)
    _linked: tuple[int, int] = (0, 0)

    def run(self, task: Task) -> Round:
        """Measure one round of a task."""
        isa, loop = task.isa, task.loop
        if task.chases:
            self._link(task)
        else:
            self.probe.walk(task.size_bytes, task.offset_bytes)
            if loop in probes.WRITING:
                self._linked = (0, 0)
        if task.key not in self._steps:
            self._steps[task.key] = self.probe.steps_for(loop, isa, task.sample_seconds)
        steps = self._steps[task.key]
        if not task.chases and probes.LEAST_BYTES < task.size_bytes < self.probe.size_bytes:
            # bring it where it belongs
            self.probe.time(loop, isa, task.size_bytes // probes.BLOCK_BYTES, _WARM_WALKS)
        if isa is not None:  # wide units wake up, and the clock settles, in a few milliseconds
            self.probe.time(loop, isa, steps, _WARM_SAMPLES)
        times = self.probe.time(loop, isa, steps, self.samples)
        operations = steps * probes.loops(isa)[loop]
        yardstick = probes.YARDSTICK_ADDITIONS, probes.YARDSTICK_MULTIPLICATIONS
        return round_of(times, operations, yardstick, probes.clock_tick_seconds())

    def _link(self, task: Task) -> None:
        """Link memory for a task; chases on a large working set go on where the last ones were.

        There they stay so far apart that none comes where another has been.
        """
        large = task.size_bytes >= _LARGE_BYTES
        chases = probes.MOST_CHASES if large else task.chases
        if not large or self._linked != (task.size_bytes, chases):
            self.probe.link(task.size_bytes, chases)
            self._linked = (task.size_bytes, chases)
        if task.size_bytes < self.probe.size_bytes:
            # lines that were only written once may leave the caches past the last level
            self.probe.walk(task.size_bytes)
            blocks = task.size_bytes // probes.BLOCK_BYTES
            self.probe.time("read", "baseline", blocks, _WARM_WALKS)

    def measure(self, what: str, tasks: Sequence[Task], *, most: int = 60) -> dict[str, Figure]:
        """Measure tasks in turns: some rounds of all, then more of those that do not agree."""
        least = self.least_rounds
        for number in range(most):
            pending = [
                task for task in tasks if number < least or not self.figure(task.key).settled
            ]
            if not pending or (number >= AGREEING and self.late):
                break
            if number >= least:
                time.sleep(_PAUSE_SECONDS * min(number - least + 1, 10))
            for index, task in enumerate(pending):
                if number >= AGREEING and self.late:
                    break
                self.progress(f"{what}: round {number + 1}, {index + 1} of {len(pending)}")
                self.rounds.setdefault(task.key, []).append(self.run(task))
                self.tolerances[task.key] = task.tolerance
        return {task.key: self.figure(task.key) for task in tasks}

    @property
    def late(self) -> bool:
        """Whether the time for more rounds is over."""
        return time.monotonic() > self.deadline

    def figure(self, key: str, *, seconds: bool = False) -> Figure:
        """Return what the rounds of a task give so far, cycles or seconds of an operation."""
        return settle(self.rounds[key], self.tolerances[key], seconds=seconds)

    def clocks_hz(self, keys: Iterable[str]) -> list[float]:
        """Return the clock that the yardsticks gave in each round of these tasks."""
        found = [(key, r) for key in keys for r in self.rounds.get(key, ())]
        counted = [r.clock_hz for key, r in found if r.counts(self.tolerances[key])]
        return counted or [r.clock_hz for _, r in found]

    @property
    def stolen(self) -> float:
        """Share of all the wall time that went to others."""
        shares = [r.stolen for rounds in self.rounds.values() for r in rounds]
        return sum(shares) / len(shares) if shares else 0.0
