"""Whether the cores are ours alone at this moment, told by short samples of a loop of known speed.

On a shared host somebody else may use the other hardware thread of a core for seconds at a time:
loops then take up to twice as long, and neither CPU time nor any counter of the guest tells. What
does is a loop that keeps the load ports busy, the first that two threads of a core quarrel about:
undisturbed its cycles a load are a constant of the core. Others on the same CPU show themselves as
involuntary context switches, of any of our threads.
"""

from __future__ import annotations

import resource
from typing import Final

from archsim.kernels import probes, supported_isas
from archsim.machine import Machine

_LOOP: Final = "load"
_SECONDS: Final = 12e-6
#: cycles of a load may be so far above those of the calibration, whose rounds agree within 2 %;
#: a neighbour adds 10 to 60 % (docs/validation.md)
TOLERANCE: Final = 0.04
#: of several cores seconds are compared; for some milliseconds after wide multiply-adds the clock
#: is lower than a loop of loads alone would have it
TEAM_TOLERANCE: Final = 0.12
#: CPU time of a sample may be so far below its wall time, and its yardsticks apart
_STOLEN: Final = 0.05
_APART: Final = 0.02


class Watch:
    """Looks at the core of the calling thread, or at as many cores as a kernel has threads.

    Parameters
    ----------
    machine : Machine
        This host. If its file does not have the rate of loads from a measurement, the fewest
        cycles seen so far stand in for it, and a neighbour who never rests is not seen.
    threads : int
        Of the kernels between which it looks.
    """

    def __init__(self, machine: Machine, threads: int = 1) -> None:
        self._isa = supported_isas()[-1]
        self._probes = [probes.Probe(probes.LEAST_BYTES) for _ in range(threads)]
        self._steps = self._probes[0].steps_for(_LOOP, self._isa, _SECONDS)
        self._loads = self._steps * probes.loops(self._isa)[_LOOP]
        self._hertz = machine.clock_for(self._isa, "nominal")
        path = f"core.isa.{self._isa}.loads"
        self._switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        known = path in machine.provenance and machine.provenance[path].kind == "measured"
        self._known = known
        self._least = 1.0 / machine.instruction_set(self._isa).loads if known else float("inf")

    def quiet(self) -> bool:
        """Return whether a sample right now is as fast as on an undisturbed core.

        And whether no thread of ours lost its CPU to somebody else since the last look.
        """
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        lost, self._switches = switches > self._switches, switches
        if lost:
            return False
        took, kept = self._alone() if len(self._probes) == 1 else self._team()
        if not kept:
            return False
        if not self._known:
            self._least = min(self._least, took)
        slack = TOLERANCE if len(self._probes) == 1 else TEAM_TOLERANCE
        return took <= self._least * (1.0 + slack)

    def _alone(self) -> tuple[float, bool]:
        """Return cycles of a load, and whether the sample can be believed."""
        times = self._probes[0].time(_LOOP, self._isa, self._steps, 1)[0]
        before, behind = times[0], times[3]
        kept = times[5] >= (1.0 - _STOLEN) * times[:5].sum()
        kept &= abs(before - behind) <= _APART * min(before, behind)
        cycle = (before + behind) / (2 * probes.YARDSTICK_ADDITIONS)
        return float(times[2] / cycle / self._loads), bool(kept)

    def _team(self) -> tuple[float, bool]:
        """Return cycles of a load of the slowest thread, at the machine's clock; and as above."""
        times = probes.time_team(self._probes, _LOOP, self._isa, self._steps, 1)[0]
        own = times[:, 1] - times[:, 0]
        kept = (times[:, 2] >= (1.0 - _STOLEN) * own).all()
        return float(own.max()) * self._hertz / self._loads, bool(kept)
