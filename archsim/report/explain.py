"""Explanations as a table, as bars for the terminal, and as a page with a stacked bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.style import Style
from rich.table import Table
from rich.text import Text

from archsim.errors import ArchsimError
from archsim.report.html import write_page
from archsim.report.numbers import TimeUnit, number, percent, size, time_unit
from archsim.report.panels import Figure, Panels, escape, rounded

_CELLS: Final = 60  # characters of a bar
# Okabe and Ito's palette again, greys for what is no work
_COLOURS: Final[Mapping[str, str]] = {
    "load": "#0072B2", "arithmetic": "#009E73", "issue": "#CC79A7", "store": "#56B4E9",
    "scalar": "#B0B0B0", "latency": "#999933", "mispredict": "#AA4499", "L2": "#E69F00",
    "L3": "#D55E00", "imbalance": "#6A6A6A", "barrier": "#8A8A8A",
}  # fmt: skip
_MEMORY: Final = "#882255"
_DIM: Final = Style(dim=True)


@dataclass(frozen=True, slots=True)
class _Column:
    """One explanation: a machine, or a method on it."""

    title: str
    seconds: float
    phases: Mapping[str, Mapping[str, Any]]


def explain_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return the table of terms, the bars, and what was assumed, of an explanation document."""
    columns = _columns(document)
    unit = time_unit(column.seconds for column in columns)
    tables = [_terms(document, columns, unit), _bars(columns, unit)]
    assumed = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for each in document["explanations"]:
        for text in each["assumed"]:
            assumed.add_row(Text(each["result"]["machine"]), Text(f"assumed: {text}"), style=_DIM)
    return [*tables, assumed] if assumed.row_count else tables


def _columns(document: Mapping[str, Any]) -> list[_Column]:
    return [
        _Column(
            f"{each['result']['machine']}\n{each['result']['method']} {each['result']['schedule']}",
            each["result"]["seconds"],
            {phase["name"]: phase for phase in each["phases"]},
        )
        for each in document["explanations"]
    ]


def _terms(document: Mapping[str, Any], columns: Sequence[_Column], unit: TimeUnit) -> Table:
    first = document["explanations"][0]["result"]
    table = Table(
        title=Text.assemble(
            (f"{first['layer']} of {first['network'] or 'no network'}", "bold"),
            f" · density {number(first['density'])} · batch {first['batch']}",
        ),
        title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
        pad_edge=False,
        caption=f"{unit.name} of the batch that show, their share, and in brackets how long the "
        "resource of the slowest core is busy, shown or hidden",
    )  # fmt: skip
    table.add_column("phase", no_wrap=True)
    table.add_column("term", overflow="fold")
    for column in columns:
        table.add_column(Text(column.title), justify="right")
    phases = list(dict.fromkeys(name for column in columns for name in column.phases))
    for phase in phases:
        _phase_rows(table, phase, columns, unit)
    table.add_section()
    totals = [f"{unit.text(c.seconds)} {unit.name}" for c in columns]
    table.add_row("total", "", *totals, style="bold")
    return table


def _phase_rows(table: Table, phase: str, columns: Sequence[_Column], unit: TimeUnit) -> None:
    here = [column.phases.get(phase) for column in columns]
    found = [{term["name"]: term for term in each["terms"]} if each else {} for each in here]
    names = list(dict.fromkeys(name for terms in found for name in terms))
    # what shows anywhere comes first, the largest first
    names.sort(key=lambda name: -max(t[name]["shown_seconds"] for t in found if name in t))
    head = [
        f"{unit.text(each['seconds'])} {percent(each['seconds'] / column.seconds)}" if each else ""
        for each, column in zip(here, columns, strict=True)
    ]
    table.add_row(phase, "", *head, style="bold", end_section=not names)
    for name in names:
        cells = [
            _cell(terms.get(name), column.seconds, unit)
            for terms, column in zip(found, columns, strict=True)
        ]
        hidden = all(t[name]["shown_seconds"] == 0 for t in found if name in t)
        what = next(t[name]["what"] for t in found if name in t)
        table.add_row("", f"{name}: {what}", *cells, style=_DIM if hidden else None)
        for part in dict.fromkeys(p for t in found for p in _parts(t, name)):
            parts = [
                f"({unit.text(t[name]['parts'][part])})" if part in _parts(t, name) else ""
                for t in found
            ]
            table.add_row("", f"  {part}", *parts, style=_DIM)
    moved = [
        ", ".join(f"{level} {size(count)}" for level, count in list(each["bytes"].items())[1:])
        if each
        else ""
        for each in here
    ]
    if any(moved):
        table.add_row("", "bytes inwards", *moved, style=_DIM)


def _parts(terms: Mapping[str, Any], name: str) -> Mapping[str, float]:
    return terms[name]["parts"] if name in terms else {}


def _cell(term: Mapping[str, Any] | None, seconds: float, unit: TimeUnit) -> str:
    if term is None:
        return ""
    busy = f"({unit.text(term['busy_seconds'])})"
    if not term["shown_seconds"]:
        return f"hidden {busy}"
    return f"{unit.text(term['shown_seconds'])} {percent(term['shown_seconds'] / seconds)} {busy}"


def _shares(column: _Column) -> dict[str, float]:
    """Return the seconds of each term that shows, over all phases, the largest first."""
    found: dict[str, float] = {}
    for phase in column.phases.values():
        for term in phase["terms"]:
            name = term["name"]
            found[name] = found.get(name, 0.0) + term["shown_seconds"]
    return {name: found[name] for name in sorted(found, key=lambda n: -found[n]) if found[name] > 0}


def _bars(columns: Sequence[_Column], unit: TimeUnit) -> Table:
    """Return a bar for each column, cut by the shares of the terms in its time."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    for column in columns:
        bar, filled, so_far = Text(no_wrap=True), 0, 0.0
        for name, seconds in _shares(column).items():
            so_far += seconds
            end = round(_CELLS * so_far / column.seconds)
            cells, filled = end - filled, end
            # the term's name where there is room for it, so that no colour is needed
            label = f" {name} " if len(name) + 2 < cells else ""
            bar.append(label.center(cells, "▇"), _colour(name))
        text = f"{unit.text(column.seconds)} {unit.name}"
        table.add_row(Text(column.title.replace("\n", " · ")), bar, Text(text))
    return table


def _colour(name: str) -> str:
    return _COLOURS.get(name, _MEMORY)


def explain_figure(document: Mapping[str, Any]) -> Figure:
    """Return a stacked bar for each phase of each explanation."""
    columns = _columns(document)
    unit = time_unit(column.seconds for column in columns)
    panels = Panels(
        titles=[f"<b>{escape(column.title.replace(chr(10), ' · '))}</b>" for column in columns],
        columns=2 if len(columns) > 1 else 1,
        panel_height=280,
        x_axis={"type": "category", "showgrid": False},
        y_axis={"title": {"text": f"{unit.name} of the batch"}, "rangemode": "tozero"},
        x_each=True,
        gap=(34, 76),
    )
    names = list(dict.fromkeys(name for column in columns for name in _shares(column)))
    for panel, column in enumerate(columns):
        below = dict.fromkeys(column.phases, 0.0)
        for name in names:
            _stack(panels, panel, column, name, below, unit)
    return panels.figure()


def _stack(
    panels: Panels, panel: int, column: _Column, name: str, below: dict[str, float], unit: TimeUnit
) -> None:
    """Add one term of all phases of a column on top of what is there."""
    terms = {
        phase: term
        for phase, found in column.phases.items()
        for term in found["terms"]
        if term["name"] == name and term["shown_seconds"] > 0
    }
    if not terms:
        return
    heights = [term["shown_seconds"] * unit.per_second for term in terms.values()]
    texts = [
        [
            escape(f"{name}: {term['what']}"),
            f"{number(height)} {unit.name}, busy {unit.text(term['busy_seconds'])} {unit.name}",
        ]
        for term, height in zip(terms.values(), heights, strict=True)
    ]
    panels.trace(
        panel,
        {
            "type": "bar", "x": list(terms), "y": [rounded(height) for height in heights],
            "base": [rounded(below[phase]) for phase in terms], "marker": {"color": _colour(name)},
            "customdata": texts,
            "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<extra></extra>", "width": 0.6,
        },
        legend=name,
    )  # fmt: skip
    for phase, height in zip(terms, heights, strict=True):
        below[phase] += height


def write_explanation(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write an explanation document as one self-contained page; return its path.

    Raises
    ------
    ArchsimError
        jinja2 or plotly is not installed.
    InputError
        The file cannot be written.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ArchsimError(
            "the HTML page needs jinja2 and plotly: pip install 'archsim[report]'"
        ) from error
    source = resources.files("archsim.report").joinpath("explain.html.j2").read_text("utf-8")
    columns = _columns(document)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters.update(percent=percent, size=size)
    page = environment.from_string(source).render(
        explanations=document["explanations"],
        first=document["explanations"][0]["result"],
        unit=time_unit(column.seconds for column in columns),
        figure=explain_figure(document),
        plotly_js=get_plotlyjs(),
    )
    return write_page(page, path)
