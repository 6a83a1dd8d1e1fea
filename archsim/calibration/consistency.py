"""Whether figures contradict each other, and which were disturbed: reasons not to write a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from archsim.calibration.sampling import Figure

#: of the time measured on one core, others may take so much
MOST_STOLEN: Final = 0.20
_SLACK: Final = 0.03
#: cycles of an integer multiplication on any core of the last twenty years
_INTEGER_MULTIPLY: Final = range(3, 16)
_MOST_PER_CYCLE: Final = 16
_SHOWN: Final = 6


def disturbed(figures: Mapping[str, Figure], stolen: float) -> list[str]:
    """Return what was disturbed, one line each: the figure, its rounds, what others took."""
    found = []
    if stolen > MOST_STOLEN:
        found.append(
            f"others took {stolen:.0%} of the time measured on one core; allowed {MOST_STOLEN:.0%}"
        )
    for key, figure in figures.items():
        if not figure.settled:
            shown = " ".join(f"{value:.4g}" for value in figure.values[:_SHOWN]) or "none"
            found.append(
                f"{key}: {figure.agreeing} of {figure.rounds} rounds within "
                f"{figure.tolerance:.0%} of the fastest, two are due; steady rounds: {shown}; "
                f"{figure.clean:.0%} of the samples were undisturbed, others took "
                f"{figure.stolen:.0%}"
            )
    return found


def ordered(what: str, names: Sequence[str], values: Sequence[float]) -> list[str]:
    """Return a line for each level that is faster than the one inside it."""
    return [
        f"{what}: {outer} ({there:.4g}) is faster than {inner} ({here:.4g}), inside it"
        for inner, outer, here, there in zip(names, names[1:], values, values[1:], strict=False)
        if there < here * (1.0 - _SLACK)
    ]


def yardstick(multiply_chain: float) -> list[str]:
    """Check the cycle: an integer multiplication takes a whole number of them."""
    nearest = round(multiply_chain)
    if nearest in _INTEGER_MULTIPLY and abs(multiply_chain - nearest) <= _SLACK * nearest:
        return []
    return [
        f"clock: an integer multiplication takes {multiply_chain:.3f} additions, which is no "
        f"whole number of cycles from {_INTEGER_MULTIPLY[0]} to {_INTEGER_MULTIPLY[-1]}"
    ]


def within_issue(rates: Mapping[str, float], issue_width: float) -> list[str]:
    """Return a line for each rate that is above what a core issues."""
    most = min(issue_width * (1.0 + _SLACK), _MOST_PER_CYCLE)
    return [
        f"{path}: {rate:.3g} per cycle, but the core issues {issue_width:.3g}"
        for path, rate in rates.items()
        if rate > most
    ]


def peak(lanes: int, ports: float, clock_hz: float, flops_per_s: float) -> list[str]:
    """Check a measured rate of multiply-adds against lanes x ports x clock."""
    most = 2 * lanes * ports * clock_hz
    if flops_per_s <= most * (1.0 + _SLACK):
        return []
    return [f"peak: {flops_per_s:.4g} FLOP/s is above lanes x ports x clock, {most:.4g}"]


def clocks(clock_hz: float, stated_hz: float | None, vector: Mapping[str, float]) -> list[str]:
    """Check the clock against the system's greatest one, and vector clocks against the clock."""
    found = []
    if stated_hz is not None and clock_hz > stated_hz * (1.0 + _SLACK):
        found.append(
            f"clock: {clock_hz / 1e9:.3f} GHz is above the greatest that the system states, "
            f"{stated_hz / 1e9:.3f} GHz"
        )
    found += [
        f"{path}: {hertz / 1e9:.3f} GHz is above the clock of scalar code, {clock_hz / 1e9:.3f} GHz"
        for path, hertz in vector.items()
        if hertz > clock_hz * 1.10
    ]
    return found


def together(level: str, cores: int, one: float, all_of_them: float) -> list[str]:
    """Check bytes per second of several cores against those of one."""
    if all_of_them > cores * one * (1.0 + 5 * _SLACK):
        return [
            f"{level}: {cores} cores read {all_of_them / 1e9:.4g} GB/s, more than {cores} times "
            f"one core's {one / 1e9:.4g} GB/s"
        ]
    if all_of_them < 0.8 * one:
        return [
            f"{level}: {cores} cores read {all_of_them / 1e9:.4g} GB/s, less than one alone, "
            f"{one / 1e9:.4g} GB/s"
        ]
    return []
