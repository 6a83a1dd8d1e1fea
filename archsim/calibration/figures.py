"""Numbers on their way into a machine file: value, range, unit and a word on each."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.calibration.sampling import Figure


@dataclass(frozen=True, slots=True)
class Entry:
    """A number of a machine file, in base units.

    ``path`` is its dotted path in the file (``caches.L2.latency``); ``unit`` is "" for a plain
    number.  ``figure`` is the measurement behind it, where it is one alone.
    """

    path: str
    value: float | bool | str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""
    figure: Figure | None = None


def cycles(path: str, figure: Figure, note: str = "") -> Entry:
    """Return a latency or a busy time."""
    return Entry(path, figure.value, "cycles", figure.low, figure.high, note, figure)


def per_cycle(path: str, figure: Figure, note: str = "") -> Entry:
    """Return a rate, one over the figure's cycles."""
    return Entry(path, 1 / figure.value, "/cycle", 1 / figure.high, 1 / figure.low, note, figure)
