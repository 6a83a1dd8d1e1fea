"""Quantities as people write them (``32 KiB``, ``2.3 GHz``, ``122 GB/s``), read into base units.

The list of units is closed on purpose.  A general unit library reads ``cycle`` as an angle and
accepts any spelling that it can reduce; here each field allows one kind of quantity, and an
error can name every unit that would have been right.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_DECIMAL: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY: Final = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

#: kind of quantity -> {unit: factor to the base unit}; the first unit is the base unit.
UNITS: Final[dict[str, dict[str, float]]] = {
    "frequency": {f"{p}Hz": f for p, f in _DECIMAL.items()},
    "size": {f"{p}B": f for p, f in (_DECIMAL | _BINARY).items()},
    "bandwidth": {f"{p}B/s": f for p, f in (_DECIMAL | _BINARY).items()},
    "bandwidth per cycle": {"B/cycle": 1.0},
    "cycles": {"cycles": 1.0, "cycle": 1.0},
    "rate per cycle": {"/cycle": 1.0, "per cycle": 1.0},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "flop rate": {f"{p}FLOP/s": f for p, f in _DECIMAL.items()},
}

#: kind of quantity -> least and greatest value in base units: wide enough for any machine that
#: could be meant, narrow enough that no model overflows or divides by zero
RANGES: Final[dict[str, tuple[float, float]]] = {
    "frequency": (1e3, 1e15),
    "size": (1.0, 1e18),
    "bandwidth": (1.0, 1e18),
    "bandwidth per cycle": (1e-6, 1e9),
    "cycles": (1e-6, 1e9),
    "rate per cycle": (1e-6, 1e6),
    "time": (1e-15, 1e6),
    "flop rate": (1.0, 1e24),
}

_NUMBER: Final = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_QUANTITY: Final = re.compile(rf"\s*({_NUMBER})\s*(\S.*?)\s*")
_BARE: Final = re.compile(rf"\s*{_NUMBER}\s*")


def format_quantity(value: float, kind: str) -> str:
    """Write ``value`` (base units) of ``kind`` with the unit that keeps the number readable.

    >>> format_quantity(2.4e9, "frequency"), format_quantity(32768.0, "size")
    ('2.4 GHz', '32 KiB')
    """
    table = UNITS[kind]
    if kind == "size":  # binary or decimal, whichever is exact and shorter
        texts = {u: f"{value / f:.6g}" for u, f in table.items() if value >= f}
        exact = [u for u, text in texts.items() if float(text) * table[u] == value]
        if exact:
            unit = min(exact, key=lambda u: (len(texts[u]), -table[u]))
            return f"{texts[unit]} {unit}"
    fits = [u for u, f in table.items() if "i" not in u and abs(value) >= f]
    unit = max(fits, key=table.__getitem__) if fits else min(table, key=table.__getitem__)
    if kind == "cycles" or not fits:
        unit = next(iter(table)) if kind != "time" else unit
    return f"{value / table[unit]:.6g} {unit}"


def parse_quantity(text: object, kind: str) -> float:
    """Read ``text`` as a quantity of ``kind``; return it in base units.

    Parameters
    ----------
    text : object
        A string with a number and a unit; anything else is refused with what to write.
    kind : str
        A key of :data:`UNITS`.

    Raises
    ------
    ValueError
        No unit, unknown unit, not a number, not finite.

    >>> parse_quantity("122 GB/s", "bandwidth"), parse_quantity("32 KiB", "size")
    (122000000000.0, 32768.0)
    """
    table = UNITS[kind]
    allowed = ", ".join(table)
    bare = float(text) if isinstance(text, str) and _BARE.fullmatch(text) else text
    if isinstance(bare, (int, float)) and not isinstance(bare, bool):
        if not math.isfinite(bare):
            raise ValueError(f"a {kind} must be finite; found {text!r}")
        hint = format_quantity(float(bare), kind)
        raise ValueError(
            f"a {kind} needs its unit; found {text!r}; write '{hint}' (allowed units: {allowed})"
        )
    if not isinstance(text, str):
        raise ValueError(f"a {kind} is due, a number and a unit; found {text!r}")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"a {kind} is due, a number and a unit ({allowed}); found {text!r}")
    number, unit = float(match[1]), match[2]
    if unit not in table:
        raise ValueError(f"unknown unit {unit!r} for a {kind}; found {text!r}; allowed: {allowed}")
    value = number * table[unit]
    if not math.isfinite(value):
        raise ValueError(f"a {kind} must be finite; found {text!r}")
    return value


@dataclass(frozen=True, slots=True)
class Unit:
    """Annotation for a pydantic field: a quantity of ``kind`` inside its range, or zero."""

    kind: str
    allow_zero: bool = False

    def parse(self, text: object) -> float:
        """Read one quantity and check its sign and its range."""
        value = parse_quantity(text, self.kind)
        if value < 0 or (value == 0 and not self.allow_zero):
            rule = "not be negative" if self.allow_zero else "be above zero"
            raise ValueError(f"a {self.kind} must {rule}; found {text!r}")
        least, greatest = RANGES[self.kind]
        if value != 0 and not least <= value <= greatest:
            shown = "..".join(format_quantity(end, self.kind) for end in (least, greatest))
            raise ValueError(f"a {self.kind} must lie in {shown}; found {text!r}")
        return value

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        units = "|".join(UNITS[self.kind])  # none holds a character special to patterns
        return {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({units})\s*$"}
