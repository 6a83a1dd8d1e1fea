"""The generated part of docs/benchmarks.md, and the table of rows for terminals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks.figures import Figure

BEGIN: Final = "<!-- measured: begin (python -m benchmarks summary) -->"
END: Final = "<!-- measured: end -->"
_WORDS: Final = {True: "yes", False: "**no**", None: "not measured"}
_HEADINGS: Final = ("row", "at", "goal", "found", "reached", "kernel's share of its roof")


def _at(figure: Figure) -> str:
    line = figure.line
    words = ", ".join(at for at in line.at if at) or "all"
    if figure.row.figure == "crossover":
        words = "each layer"
    elif line.how == "each":
        words += ", each"
    return words + (f" ({', '.join(line.layers)})" if line.layers else "")


def _number(figure: Figure, value: float | None) -> str:
    if value is None:
        return "-"
    if math.isnan(value):
        return "never"
    if figure.row.figure == "roof-share":
        return f"{value:.0%}"
    return f"{value:.2f}"


def _cells(figure: Figure) -> tuple[str, ...]:
    line = figure.line
    sign, goal = ("at least", line.least) if line.least is not None else ("at most", line.most)
    share = "" if figure.share is None else f"{figure.share:.0%}"
    return (
        figure.row.title, _at(figure), f"{sign} {_number(figure, goal)}",
        _number(figure, figure.value), _WORDS[figure.reached], share,
    )  # fmt: skip


def rows_table(figures: Sequence[Figure]) -> Table:
    """Return the rows for a terminal."""
    table = Table(*_HEADINGS)
    for figure in figures:
        table.add_row(*(cell.replace("**", "") for cell in _cells(figure)))
    return table


def write(path: Path, document: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Put the generated part between the markers of the page.

    Raises
    ------
    ValueError
        The page has no markers.
    """
    text = path.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path}: the markers {BEGIN} and {END} are missing")
    path.write_text(f"{head}{BEGIN}\n\n{generated(document, figures)}\n{END}{tail}", "utf-8")


def generated(document: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """Return the generated part: host, rows, layers, times, who is missing."""
    parts = [_host(document), _markdown(_HEADINGS, [_cells(figure) for figure in figures])]
    parts += ["### Layer by layer", *_details(figures)]
    parts += ["### Times", *_times(document)]
    parts += ["### Left out", _left_out(document)]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _host(document: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    return (
        f"{document['date']}; {document['machine']}; "
        f"{document['system']}; Python {document['python']}; {versions}; seed {document['seed']}."
    )


def _details(figures: Sequence[Figure]) -> list[str]:
    """One table a row: layers down, lines and patterns across."""
    found, seen = [], set()
    for figure in figures:
        row = figure.row
        values = {k: v for other in figures if other.row is row for k, v in other.details.items()}
        if row.title in seen or len(values) < 2:
            continue
        seen.add(row.title)
        patterns = list(dict.fromkeys(pattern for _, pattern in values))
        cells = list(dict.fromkeys(cell for cell, _ in values))
        body = [
            [cell.partition("/")[2], cell.partition("/")[0]]
            + [_number(figure, values.get((cell, pattern))) for pattern in patterns]
            for cell in cells
        ]
        headings = ["layer", "suite", *(pattern or "value" for pattern in patterns)]
        found.append(f"**{row.title}**\n\n{_markdown(headings, body)}")
    return found


def _times(document: Mapping[str, Any]) -> list[str]:
    """One table a suite: milliseconds, medians."""
    suites: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, cell in document["cells"].items():
        if "entries" in cell:
            suites.setdefault(cell["suite"], []).append((name, cell))
    return [_suite_times(suite, cells) for suite, cells in suites.items()]


def _suite_times(suite: str, cells: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Contestants down, layers across; dense ones first, then pattern by pattern."""
    entries = [{_key(entry): entry for entry in cell["entries"]} for _, cell in cells]
    patterns = list(dict.fromkeys(pattern for each in entries for pattern, _ in each))
    keys = sorted(dict.fromkeys(key for each in entries for key in each),
                  key=lambda key: patterns.index(key[0]))  # fmt: skip
    body = [["shape", "", *(cell["shape"] for _, cell in cells)]]
    for roof in ("aligned", "unaligned", "registers"):
        rates = (cell["roofs_flop_per_s"][roof] / 1e9 for _, cell in cells)
        body.append([f"roof, {roof}, GFLOP/s", "", *(f"{rate:.0f}" for rate in rates)])
    for pattern, who in keys:
        found = (each.get((pattern, who)) for each in entries)
        times = ("-" if e is None else f"{e['median_s'] * 1e3:.3f}" for e in found)
        body.append([who, pattern, *times])
    first = cells[0][1]
    headings = ["who", "weights", *(cell["layer"] for _, cell in cells)]
    return (
        f"**{suite}** (batch {first['batch']}, {first['isa']}), medians in ms"
        f"\n\n{_markdown(headings, body)}"
    )


def _key(entry: Mapping[str, Any]) -> tuple[str, str]:
    threads = f", {entry['threads']} threads" if entry["threads"] > 1 else ""
    return str(entry["pattern"]), f"{entry['name']}{threads}"


def _left_out(document: Mapping[str, Any]) -> str:
    """Who did not take part, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, cell in document["cells"].items():
        if "failed" in cell:
            reasons.setdefault(cell["failed"], []).append(name)
        for who, why in cell.get("missing", {}).items():
            reasons.setdefault(why, []).append(f"{who} on {name}")
    lines = []
    for why, who in reasons.items():
        shown = ", ".join(who[:4]) + (f" and {len(who) - 4} more" if len(who) > 4 else "")
        lines.append(f"- {shown}: {why}")
    return "\n".join(lines) or "Nobody."
