"""From timed samples to a figure with a range, and whether it can be believed.

A sample is a loop of some tens of microseconds between two runs of yardsticks: a chain of
additions that take one cycle each, and a chain of integer multiplications.  The additions give
the clock at that moment, so a loop's time in cycles needs no counter.  A sample counts (is
*clean*) if the yardsticks before and behind agree, if a multiplication takes a whole number of
additions (a neighbour on the same core holds the two up differently), and if the thread's CPU
time equals the wall time.  A round's value is a low quantile of its clean samples.  A figure
needs rounds, some time apart, that agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: yardsticks before and behind a sample may differ so much
YARDSTICK_TOLERANCE: Final = 0.02
#: a multiplication may be so far from a whole number of additions
RATIO_TOLERANCE: Final = 0.015
#: a sample may have lost so much of its wall time to others
STOLEN_TOLERANCE: Final = 0.02
#: of the clean samples, the one that a round's value is
QUANTILE: Final = 0.10
#: a round with a smaller share of clean samples does not count
LEAST_CLEAN: Final = 0.05
#: a tolerance from here on is one of levels that others use too, whose samples vary by nature
_SHARED_TOLERANCE: Final = 0.05
_SHARED_SPREAD: Final = 2.5
#: rounds that must agree
AGREEING: Final = 2


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of samples says of one operation."""

    cycles: float
    seconds: float
    median_cycles: float
    median_seconds: float
    clock_hz: float
    clean: float
    """Share of samples that count."""
    stolen: float
    """Share of the wall time in which the thread did not run."""

    def counts(self, tolerance: float) -> bool:
        """Whether enough of it is clean, and of one speed: a neighbour may share the core."""
        spread = self.median_cycles / self.cycles - 1.0
        return self.clean >= LEAST_CLEAN and spread <= most_spread(tolerance)


def most_spread(tolerance: float) -> float:
    """Return by how much the median of a round's samples may be above its value."""
    return tolerance * (_SHARED_SPREAD if tolerance >= _SHARED_TOLERANCE else 1.0)


def round_of(
    times: NDArray[np.float64], operations: float, yardstick: tuple[int, int], tick: float
) -> Round:
    """Return what the samples of a round say.

    Parameters
    ----------
    times : ndarray of shape (samples, 6)
        Seconds of additions, multiplications, the loop, additions, multiplications; CPU seconds.
    operations : float
        Operations of the loop in one sample.
    yardstick : (int, int)
        Additions, each one cycle, and multiplications of one yardstick.
    tick : float
        Seconds that reading the clock takes.
    """
    wall, cpu = times[:, :5].sum(axis=1), times[:, 5]
    seconds = times[:, :5] - tick
    clean = cpu >= (1.0 - STOLEN_TOLERANCE) * wall
    for first, last in ((seconds[:, 0], seconds[:, 3]), (seconds[:, 1], seconds[:, 4])):
        clean &= np.abs(first - last) <= YARDSTICK_TOLERANCE * np.minimum(first, last)
    additions, multiplications = yardstick
    adding, multiplying = seconds[:, 0] + seconds[:, 3], seconds[:, 1] + seconds[:, 4]
    ratio = multiplying / adding * additions / multiplications
    clean &= np.abs(ratio - np.round(ratio)) <= RATIO_TOLERANCE * ratio
    share = float(clean.mean())
    chosen = clean if clean.any() else np.ones_like(clean)
    hertz = 2 * additions / adding[chosen]
    spent = seconds[chosen, 2] / operations
    cycles = spent * hertz
    return Round(
        cycles=float(np.quantile(cycles, QUANTILE)),
        seconds=float(np.quantile(spent, QUANTILE)),
        median_cycles=float(np.median(cycles)),
        median_seconds=float(np.median(spent)),
        clock_hz=float(np.median(hertz)),
        clean=share,
        stolen=max(0.0, 1.0 - float(cpu.sum() / wall.sum())),
    )


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number of one operation; ``low <= value <= high``."""

    value: float
    low: float
    high: float
    rounds: int
    agreeing: int
    clean: float
    stolen: float
    tolerance: float
    values: tuple[float, ...] = ()
    """Of each round that counts, the fastest first."""
    clock_hz: float = 0.0
    """Median of the rounds; 0: not measured."""

    @property
    def settled(self) -> bool:
        """Whether enough rounds agree."""
        return self.agreeing >= AGREEING


def settle(rounds: Sequence[Round], tolerance: float, *, seconds: bool = False) -> Figure:
    """Return the figure that rounds give: the fastest, if others come within ``tolerance``.

    Other load makes a loop slower, never faster: rounds are compared with the fastest one.
    Without a round that counts, all are used and none agrees.
    """
    counted = [r for r in rounds if r.counts(tolerance)]
    used = counted or list(rounds)
    values = [r.seconds if seconds else r.cycles for r in used]
    medians = [r.median_seconds if seconds else r.median_cycles for r in used]
    best = min(values)
    near = [i for i, value in enumerate(values) if value <= best * (1.0 + tolerance)]
    return Figure(
        value=best,
        low=best,
        high=max(best, *(medians[i] for i in near)),
        rounds=len(rounds),
        agreeing=len(near) if counted else 0,
        clean=float(np.mean([r.clean for r in rounds])),
        stolen=float(np.mean([r.stolen for r in rounds])),
        tolerance=tolerance,
        values=tuple(sorted(values)) if counted else (),
        clock_hz=float(np.median([r.clock_hz for r in used])),
    )
