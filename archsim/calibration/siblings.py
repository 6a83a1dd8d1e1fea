"""Two CPUs at once: whether they are cores of their own, and what hardware threads share."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from archsim.calibration.figures import Entry
from archsim.kernels import probes

_SAMPLE_SECONDS: Final = 100e-6
_SAMPLES: Final = 150  # 15 ms: both threads run at the same time but for the ends
_ROUNDS: Final = 3
#: two threads on the ports of one core take about twice as long; two cores do not
_ONE_CORE: Final = 1.6
#: hidden: both threads together get through random branches so much faster than one after the other
_HIDDEN: Final = 0.75


@dataclass(frozen=True, slots=True)
class Pair:
    """Two CPUs, and how much longer a loop takes on each while the other runs it as well."""

    cpus: tuple[int, int]
    arithmetic: float
    branches: float

    @property
    def one_core(self) -> bool:
        """Whether they share the arithmetic ports."""
        return self.arithmetic > _ONE_CORE


def sibling_of(cpu: int, cpus: Sequence[int], text: str) -> int | None:
    """Return another usable CPU of the same core, from the system's list of its siblings."""
    from archsim.hostfacts import cpu_list

    others = sorted((cpu_list(text) - {cpu}) & set(cpus))
    return others[0] if others else None


def measure_pair(cpus: tuple[int, int], isa: str) -> Pair:
    """Run loops on one CPU alone, then on both."""
    arithmetic = "fma" if "fma" in probes.loops(isa) else "multiply"
    return Pair(
        cpus, _slowdown(cpus, arithmetic, isa), _slowdown(cpus, "branch_random", None)
    )  # fmt: skip


def _slowdown(cpus: tuple[int, int], loop: str, isa: str | None) -> float:
    """Return the least of some rounds: other load only adds to it."""
    return min(
        max(_seconds(cpus, loop, isa)) / _seconds(cpus[:1], loop, isa)[0] for _ in range(_ROUNDS)
    )


def _seconds(cpus: Sequence[int], loop: str, isa: str | None) -> list[float]:
    """Return the median seconds of a sample on each CPU, all at once."""
    found = [0.0] * len(cpus)
    start = threading.Barrier(len(cpus))

    def run(index: int) -> None:
        os.sched_setaffinity(0, {cpus[index]})  # of this thread alone
        probe = probes.Probe(probes.LEAST_BYTES)
        steps = probe.steps_for(loop, isa, _SAMPLE_SECONDS)
        start.wait()
        times = probe.time(loop, isa, steps, _SAMPLES)[_SAMPLES // 4 : _SAMPLES * 3 // 4]
        found[index] = float(np.median(times[:, 2])) / steps

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(cpus))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def hides_stalls(pair: Pair) -> Entry:
    """Return whether another hardware thread works while one waits for a mispredicted branch."""
    share = pair.branches / 2
    return Entry(
        "core.threads_hide_stalls", share < _HIDDEN,
        note=f"two threads of a core took {share:.0%} of the time of one after the other for "
        f"random branches, {pair.arithmetic / 2:.0%} for arithmetic",
    )  # fmt: skip


def contradictions(pair: Pair, *, stated_one_core: bool) -> list[str]:
    """Compare what was seen with what the system says of the two CPUs."""
    if pair.one_core == stated_one_core:
        return []
    seen, said = ("one core", "two") if pair.one_core else ("two cores", "one")
    return [
        f"topology: CPUs {pair.cpus[0]} and {pair.cpus[1]} share arithmetic as {seen} would "
        f"(each {pair.arithmetic:.2f} times as long beside the other), the system says {said}"
    ]
