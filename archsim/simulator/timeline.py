"""What a simulation leaves of its course: slices of tiles up to a cap, and shares per time step.

Nothing here runs unless somebody asks for a timeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from archsim.simulator.layer import LayerRun, ThreadState

MOST_SLICES: Final = 150_000  # a trace of about 10 MB
_STEPS: Final = 240  # time steps are doubled when there are twice as many


@dataclass(frozen=True, slots=True)
class LayerSpan:
    """A layer in the timeline: when it ran, its phases, and where its threads sat."""

    name: str
    phases: tuple[str, ...]
    start_seconds: float
    core_of_thread: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slice:
    """A run of equal tiles on a hardware thread; ``layer`` and ``phase`` are indices."""

    layer: int
    phase: int
    kind: int
    tiles: float
    thread: int
    start_seconds: float
    end_seconds: float


class Recorder:
    """Collects a timeline while a simulation runs.

    Parameters
    ----------
    slices : int
        Slices beyond so many are counted, not kept.

    Attributes
    ----------
    slices : list of Slice
    dropped : int
        Slices that were not kept; shares per time step have them all the same.
    step_seconds : float
        Length of a time step.
    bytes_served : dict
        Memory name -> time step -> bytes.
    """

    def __init__(self, slices: int = MOST_SLICES) -> None:
        self.most, self.dropped = slices, 0
        self.slices: list[Slice] = []
        self.layers: list[LayerSpan] = []
        self.step_seconds = 1e-7
        self.end_seconds = 0.0
        self.complete = False
        self.bytes_served: dict[str, dict[int, float]] = {}
        self.bandwidths: dict[str, float] = {}
        self._worked: dict[tuple[int, int, int], dict[int, float]] = {}

    def begin(self, layer: LayerRun, now: float) -> None:
        """Note that a layer begins."""
        phases = tuple(phase.name for phase in layer.plan.phases)
        cores = tuple(int(core) for core in layer.seats.core)
        self.layers.append(LayerSpan(layer.plan.layer.name, phases, now, cores))

    def run(
        self, me: ThreadState, phase: int, kind: int, tiles: float, start: float, end: float
    ) -> None:
        """Note a run of tiles."""
        layer = len(self.layers) - 1
        if len(self.slices) < self.most:
            self.slices.append(Slice(layer, phase, kind, tiles, me.thread, start, end))
        else:
            self.dropped += 1
        key = (me.core, layer, phase)
        steps = self._worked.get(key)
        if steps is None:
            steps = self._worked[key] = {}
        self._spread(steps, start, end, end - start)

    def memory(self, name: str, start: float, end: float, served: float) -> None:
        """Note what a memory served."""
        self._spread(self.bytes_served.setdefault(name, {}), start, end, served)

    def end(self, now: float, *, complete: bool) -> None:
        """Note the end; ``complete`` unless the simulation was broken off."""
        self.end_seconds, self.complete = now, complete

    def _spread(self, steps: dict[int, float], start: float, end: float, amount: float) -> None:
        while end >= 2 * _STEPS * self.step_seconds:
            self._double()
        width = self.step_seconds
        first, last = int(start / width), int(end / width)
        if first == last or end <= start:
            steps[first] = steps.get(first, 0.0) + amount
            return
        rate = amount / (end - start)
        for step in range(first, last + 1):
            inside = min(end, (step + 1) * width) - max(start, step * width)
            if inside > 0.0:
                steps[step] = steps.get(step, 0.0) + rate * inside

    def _double(self) -> None:
        self.step_seconds *= 2
        for steps in (*self._worked.values(), *self.bytes_served.values()):
            old = dict(steps)
            steps.clear()
            for step, amount in old.items():
                steps[step // 2] = steps.get(step // 2, 0.0) + amount

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return int(self.end_seconds / self.step_seconds) + 1 if self.end_seconds else 0

    def worked(self) -> dict[int, list[float]]:
        """Return seconds that each core's threads were on tiles, core -> one for each step."""
        found: dict[int, list[float]] = {}
        for (core, _, _), steps in self._worked.items():
            row = found.setdefault(core, [0.0] * self.steps)
            for step, seconds in steps.items():
                row[min(step, self.steps - 1)] += seconds
        return dict(sorted(found.items()))

    def as_dict(self) -> dict[str, Any]:
        """Return the pictures' data: what each core is at in each step, and shares in use.

        ``gantt[core][step]`` is an index into ``labels``, or -1 where the core rests for more
        than half of the step; ``working`` and each of ``memories`` are shares per step.
        """
        labels = [f"{span.name} {phase}" for span in self.layers for phase in span.phases]
        first = [sum(len(s.phases) for s in self.layers[:i]) for i in range(len(self.layers))]
        best: dict[int, list[tuple[float, int]]] = {}
        for (core, layer, phase), steps in sorted(self._worked.items()):
            row = best.setdefault(core, [(0.0, -1)] * self.steps)
            for step, seconds in steps.items():
                at = min(step, self.steps - 1)
                row[at] = max(row[at], (seconds, first[layer] + phase))
        threads = self._threads_of_core()
        room = {core: self.step_seconds * threads.get(core, 1) for core in best}
        worked = self.worked()
        total = sum(room.values()) or 1.0
        return {
            "step_seconds": self.step_seconds,
            "labels": labels,
            "cores": sorted(best),
            "gantt": [
                [-1 if worked[core][i] < 0.5 * room[core] else label
                 for i, (_, label) in enumerate(row)]
                for core, row in sorted(best.items())
            ],
            "working": [
                min(1.0, sum(row[i] for row in worked.values()) / total) for i in range(self.steps)
            ],
            "memories": {
                name: [
                    served.get(i, 0.0) / (self.bandwidths[name] * self.step_seconds)
                    for i in range(self.steps)
                ]
                for name, served in self.bytes_served.items()
            },
            "dropped_slices": self.dropped,
            "complete": self.complete,
        }  # fmt: skip

    def _threads_of_core(self) -> dict[int, int]:
        most: dict[int, int] = {}
        for span in self.layers:
            count: dict[int, int] = {}
            for core in span.core_of_thread:
                count[core] = count.get(core, 0) + 1
            for core, threads in count.items():
                most[core] = max(most.get(core, 0), threads)
        return most
