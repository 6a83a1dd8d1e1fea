"""Numbers as readers want them: three significant digits, one unit a column."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: stands where there is no number
NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class TimeUnit:
    """Unit of all the times that a reader compares with each other."""

    name: str
    per_second: float

    def text(self, seconds: float | None) -> str:
        """Return ``seconds`` in this unit, without its name."""
        return number(None if seconds is None else seconds * self.per_second)


_UNITS: Final = (TimeUnit("s", 1.0), TimeUnit("ms", 1e3), TimeUnit("µs", 1e6))


def time_unit(seconds: Iterable[float | None]) -> TimeUnit:
    """Choose the unit in which the middle one of ``seconds`` reads best (ms when there is none)."""
    known = [value for value in seconds if value]
    if not known:
        return _UNITS[1]
    middle = statistics.median(known)
    # milliseconds are what the field speaks in: they serve from 0.1 ms to 10 s
    return _UNITS[0] if middle >= 10.0 else _UNITS[1] if middle >= 1e-4 else _UNITS[2]


def number(value: float | None, digits: int = 3) -> str:
    """Return ``value`` with so many significant digits, plainly written from 0.0001 on."""
    if value is None:
        return NONE
    if value == 0.0:
        return "0"
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific.partition("e")[2])
    if exponent < -4:
        return scientific
    return f"{float(scientific):.{max(0, digits - 1 - exponent)}f}"


def ratio(value: float | None) -> str:
    """Return a ratio as ``3.15×``."""
    return NONE if value is None else f"{number(value)}×"


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, as ``88.5 %``."""
    return NONE if share is None else f"{100.0 * share:.1f} %"


def sparsity_text(share: float | None, domain: str) -> str:
    """Return a share of zeros as ``88.5 %``, marked where it is not of spatial weights."""
    marked = share is not None and domain != "spatial"
    return f"{percent(share)} ({domain})" if marked else percent(share)


def size(count: float | None) -> str:
    """Return bytes as ``243 MB`` (powers of ten)."""
    if count is None:
        return NONE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{number(count / factor)} {unit}"
    return f"{count:.0f} B"
