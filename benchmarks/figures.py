"""Figures of rows.yaml from a document. A kind of figure is one function here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from math import exp, log, nan
from typing import Any, Final

from archsim.yamlfile import read_yaml
from benchmarks.suites import FOLDER

BEST_DENSE: Final = "best-dense"
#: calls of one thread that are shorter are not asked to scale
_LONG_SECONDS: Final = 0.3e-3

Entry = Mapping[str, Any]
#: (layer, pattern) -> value; the layer is ``suite/layer``
Values = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Line:
    """One goal of a row."""

    at: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    how: str = "geomean"
    least: float | None = None
    most: float | None = None

    def takes(self, layer: str, pattern: str) -> bool:
        """Whether this line counts a value; one without a pattern is of all that are named."""
        here = not self.layers or layer in self.layers
        return here and (not self.at or not pattern or pattern in self.at)


@dataclass(frozen=True)
class Row:
    """What is asked for, as rows.yaml says it."""

    title: str
    figure: str
    suites: tuple[str, ...]
    of: str
    lines: tuple[Line, ...]
    over: tuple[str, ...] = ()
    roof: str = ""


@dataclass(frozen=True)
class Figure:
    """A line and what was found.

    Attributes
    ----------
    value : float or None
        None: not measured.
    share : float or None
        Of the aligned-load roof, by the products of the row's method alone (geometric mean).
    details : dict
        What the value is made of.
    """

    row: Row
    line: Line
    value: float | None
    share: float | None = None
    details: Values = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is met; None: not measured."""
        if self.value is None:
            return None
        if self.line.least is not None:
            return self.value >= self.line.least
        return self.line.most is not None and self.value <= self.line.most


def _pattern(given: Any) -> str:
    return given if isinstance(given, str) else f"{given:g}"


@cache
def wanted() -> tuple[Row, ...]:
    """Return the rows of rows.yaml."""
    found = []
    for given in read_yaml(FOLDER / "rows.yaml").plain()["rows"]:
        lines = tuple(
            Line(
                **line
                | {
                    "at": tuple(_pattern(at) for at in line.get("at", ())),
                    "layers": tuple(line.get("layers", ())),
                }
            )
            for line in given["lines"]
        )
        over = given.get("over", ())
        values = dict(given)
        values["over"] = (over,) if isinstance(over, str) else tuple(over)
        values["suites"], values["lines"] = tuple(given["suites"]), lines
        if values["figure"] not in KINDS:
            raise ValueError(f"row {given['title']}: unknown figure {values['figure']}")
        found.append(Row(**values))
    return tuple(found)


def geomean(values: Sequence[float]) -> float:
    """Return the geometric mean.

    >>> round(geomean([2.0, 8.0]), 9)
    4.0
    """
    return exp(sum(map(log, values)) / len(values))


def rows(document: Mapping[str, Any], schedule: str = "") -> list[Figure]:
    """Return every figure of every row.

    With a ``schedule``, those rows that are about a method's own choice are about it instead.
    """
    found = []
    for row in wanted():
        if schedule and "=" not in row.of:
            row = replace(row, of=f"{row.of}={schedule}")
        values = KINDS[row.figure](row, document)
        shares = {} if row.figure in ("call", "crossover") else _shares(row, document, "aligned")
        for line in row.lines:
            chosen = _taken(line, values)
            share = list(_taken(line, shares).values())
            found.append(
                Figure(
                    row=row,
                    line=line,
                    value=_together(line, list(chosen.values())),
                    share=geomean(share) if share else None,
                    details=chosen,
                )
            )
    return found


def _taken(line: Line, values: Values) -> Values:
    return {
        (cell, pattern): value
        for (cell, pattern), value in values.items()
        if line.takes(cell.partition("/")[2], pattern)
    }


def _together(line: Line, values: list[float]) -> float | None:
    if not values:
        return None
    if line.how == "each":
        return min(values) if line.least is not None else max(values)
    return geomean(values)


def _cells(row: Row, document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, cell in document["cells"].items():
        if name.partition("/")[0] in row.suites and "entries" in cell:
            yield name, cell


def _named(cell: Mapping[str, Any], name: str, threads: int | None = None) -> dict[str, Entry]:
    """Entries of one contestant by pattern, of the most threads (or so many)."""
    found: dict[str, Entry] = {}
    for entry in sorted(cell["entries"], key=lambda e: e["threads"]):
        if entry["name"] == name and threads in (None, entry["threads"]):
            found[entry["pattern"]] = entry
    return found


def best_dense(cell: Mapping[str, Any]) -> Entry | None:
    """Return the fastest dense peer of a cell."""
    peers = [entry for entry in cell["entries"] if entry["kind"] == "dense"]
    return min(peers, key=lambda entry: entry["median_s"]) if peers else None


def share_of_roof(cell: Mapping[str, Any], entry: Entry, roof: str = "aligned") -> float | None:
    """Return FLOP on nonzeros over those that the roof allows, in the products phase alone.

    Dense methods are held against multiply-adds in registers. FLOP of Winograd are those of its
    domain. None for peers.
    """
    if entry["kind"] != "ours":
        return None
    flop = entry["flop"]
    if not entry["pattern"]:
        roof = "registers"
    seconds = entry["phases_s"]["products"]
    allowed = cell["roofs_flop_per_s"][roof] * entry["threads"]
    return float(flop / seconds / allowed) if seconds > 0 else None


def _shares(row: Row, document: Mapping[str, Any], roof: str) -> Values:
    found = {}
    for name, cell in _cells(row, document):
        for pattern, entry in _named(cell, row.of).items():
            share = share_of_roof(cell, entry, roof)
            if share is not None:
                found[name, pattern] = share
    return found


def _ratio(row: Row, document: Mapping[str, Any]) -> Values:
    """Time of the fastest of ``over``, with the same pattern or dense, by the time of ``of``."""
    found = {}
    for name, cell in _cells(row, document):
        dense = best_dense(cell)
        for pattern, entry in _named(cell, row.of).items():
            named = (_named(cell, other) for other in row.over)
            others = [each.get(pattern, each.get("")) for each in named]
            if row.over == (BEST_DENSE,):
                others = [dense]
            rivals = [other for other in others if other is not None]
            if not rivals:
                continue
            rival = min(rivals, key=lambda other: other["median_s"])
            same = rival.get("schedule") is not None and rival["schedule"] == entry["schedule"]
            # the same schedule is the same code: what differs is noise
            found[name, pattern] = 1.0 if same else rival["median_s"] / entry["median_s"]
    return found


def _roof_share(row: Row, document: Mapping[str, Any]) -> Values:
    """Share of a roof by the products phase alone."""
    return _shares(row, document, row.roof)


def _crossover(row: Row, document: Mapping[str, Any]) -> Values:
    """Sparsity at which ``of`` takes as long as the best dense, between measured ones."""
    found = {}
    (line,) = row.lines
    for name, cell in _cells(row, document):
        dense = best_dense(cell)
        times = [
            (float(pattern), entry["median_s"])
            for pattern, entry in _named(cell, row.of).items()
            if pattern in line.at
        ]
        if dense is not None and times:
            found[name, ""] = crossing(sorted(times), dense["median_s"])
    return found


def crossing(times: Sequence[tuple[float, float]], level: float) -> float:
    """Return where a line through (sparsity, seconds) comes down to ``level`` for good.

    The first sparsity if it is below from there on; not a number if it never is.

    >>> crossing([(0.2, 4.0), (0.4, 2.0)], 3.0)
    0.3
    """
    if times[-1][1] > level:
        return nan
    for (left, slow), (right, quick) in reversed(list(pairwise(times))):
        if slow > level:
            return round(left + (right - left) * (slow - level) / (slow - quick), 4)
    return times[0][0]


def _scaling(row: Row, document: Mapping[str, Any]) -> Values:
    """Time of one thread by the time of the suite's threads, long calls only."""
    found = {}
    for name, cell in _cells(row, document):
        alone = _named(cell, row.of, threads=1)
        for pattern, entry in _named(cell, row.of).items():
            one = alone.get(pattern)
            if entry["threads"] > 1 and one is not None and one["median_s"] > _LONG_SECONDS:
                found[name, pattern] = one["median_s"] / entry["median_s"]
    return found


def _call(row: Row, document: Mapping[str, Any]) -> Values:
    """Microseconds of a call that has nothing to compute."""
    del row
    return (
        {("call/one weight", ""): document["call"]["median_s"] * 1e6} if "call" in document else {}
    )


KINDS: Final[dict[str, Callable[[Row, Mapping[str, Any]], Values]]] = {
    "ratio": _ratio,
    "crossover": _crossover,
    "roof-share": _roof_share,
    "scaling": _scaling,
    "call": _call,
}
