"""Sweeps: tables for the terminal, figures and the page, from the document alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from archsim.errors import ArchsimError
from archsim.report.html import write_page
from archsim.report.numbers import NONE, TimeUnit, number, percent, ratio, time_unit
from archsim.report.panels import (
    DASHES,
    MACHINE_COLOURS,
    Figure,
    Panels,
    escape,
    log_ticks,
    rounded,
)
from archsim.report.record import clean

_LOG: Final = 8.0  # ends of an axis that are further apart stand on a logarithmic one
_ROWS: Final = 24  # values of an axis that a table shows, at most
_MAP_HEIGHT: Final = 420  # pixels


def sweep_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return the best points, all points where they are few, and a table for each axis."""
    summary = document["summary"]
    best = [each["best"] for each in summary["machines"]]
    unit = time_unit(each["seconds_per_image"] for each in best)
    tables = [_points(document, "best point of each machine" if len(best) > 1 else "best point",
                      best, unit, by_machine=True)]  # fmt: skip
    tables += [_axis(summary, name, unit) for name in _moving(summary)]
    if summary["points"] and sum(len(axis["values"]) > 1 for axis in document["axes"]) > 1:
        tables.append(_points(document, "all points", summary["points"], unit))
    return tables


def _table(title: str) -> Table:
    return Table(
        title=_plain(title), title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip


def _plain(text: object) -> Text:
    return Text(clean(str(text)))


def _head(document: Mapping[str, Any]) -> str:
    layers = document["layers"]
    which = ", ".join(layers) if len(layers) <= 4 else f"{len(layers)} layers"
    count = document["points"]
    points = f"{count} point{'s' * (count > 1)}"
    return f"{document['network']} ({which}), {points}, {document['model']}"


def _points(
    document: Mapping[str, Any], what: str, points: Sequence[Mapping[str, Any]], unit: TimeUnit, *,
    by_machine: bool = False,
) -> Table:  # fmt: skip
    """Return a row for each point: what tells it from others, then its times."""
    fastest = document["summary"]["best"]["seconds_per_image"]
    table = _table(f"{_head(document)}: {what}" if by_machine else what)
    names = [axis["name"] for axis in document["axes"] if by_machine or len(axis["values"]) > 1]
    for name in names:
        table.add_column(_plain(name), overflow="fold")
    for name in (f"{unit.name} an image", "over best", "images/s", "GFLOP/s"):
        table.add_column(name, justify="right")
    table.add_column("bound by", overflow="fold")
    for point in points:
        table.add_row(
            *(_plain(point["texts"][name]) for name in names),
            unit.text(point["seconds_per_image"]), ratio(point["seconds_per_image"] / fastest),
            number(point["images_per_s"]), number(point["effective_gflops"]), _bound(point),
        )  # fmt: skip
    if by_machine:
        table.caption = _plain(_methods(document["summary"]["best"]))
    return table


def _bound(point: Mapping[str, Any]) -> Text:
    """Return the commonest limit, with its share of the time where others count, too."""
    share = point["bound_share"]
    return _plain(f"{point['bound_by']} {percent(share)}" if share < 1.0 else point["bound_by"])


def _methods(best: Mapping[str, Any]) -> str:
    """Return the methods of the best point, with their layers."""
    found: dict[str, list[str]] = {}
    for row in best["by_layer"]:
        found.setdefault(f"{row['method']} {row['schedule']}", []).append(row["layer"])
    told = [
        f"{method}: {', '.join(layers) if len(layers) <= 6 else f'{len(layers)} layers'}"
        for method, layers in found.items()
    ]
    return f"at the best point {'; '.join(told)}"


def _moving(summary: Mapping[str, Any]) -> list[str]:
    """Return the names of the axes that have more than one value."""
    return list(dict.fromkeys(a["name"] for each in summary["machines"] for a in each["axes"]))


def _axis(summary: Mapping[str, Any], name: str, unit: TimeUnit) -> Table:
    """Return one axis: its values, and of each machine time, its ratio to the best, the limit."""
    machines = summary["machines"]
    axes = [next(axis for axis in each["axes"] if axis["name"] == name) for each in machines]
    table = _table(f"{name}, all else as at the best point")
    table.add_column(_plain(name), justify="right")
    for each in machines:
        head = f"{each['machine']}\n" if len(machines) > 1 else ""
        table.add_column(Text(f"{clean(head)}{unit.name} an image"), justify="right")
        table.add_column("over best", justify="right")
        table.add_column("bound by")
    count = len(axes[0]["steps"])
    shown = [round(n * (count - 1) / (_ROWS - 1)) for n in range(_ROWS)]
    for place in shown if count > _ROWS else range(count):
        cells: list[Text | str] = []
        for axis in axes:
            step = axis["steps"][place]
            cells += [unit.text(step["seconds_per_image"]), ratio(step["over_best"]), _bound(step)]
        table.add_row(_plain(axes[0]["steps"][place]["text"]), *cells)
    table.caption = _plain(_remarks(machines, axes, count))
    return table


def _remarks(
    machines: Sequence[Mapping[str, Any]], axes: Sequence[Mapping[str, Any]], count: int
) -> str:
    said = [f"{_ROWS} of {count} values"] if count > _ROWS else []
    for each, axis in zip(machines, axes, strict=True):
        if axis["close_from"] is not None:
            where = f"{each['machine']}: " if len(machines) > 1 else ""
            said.append(f"{where}within 5 % of the best from {axis['close_from']} on")
    return "; ".join(said)


def axes_figure(document: Mapping[str, Any]) -> Figure | None:
    """Return a panel for each axis that moves, a line for each machine; None where none does."""
    summary = document["summary"]
    names = _moving(summary)
    if not names:
        return None
    machines = summary["machines"]
    found = {
        name: [next(a for a in each["axes"] if a["name"] == name)["steps"] for each in machines]
        for name in names
    }
    seconds = [s["seconds_per_image"] for lines in found.values() for ln in lines for s in ln]
    unit = time_unit(seconds)
    panels = Panels(
        titles=[f"<b>{escape(name)}</b>" for name in names],
        columns=min(3, len(names)),
        panel_height=260,
        x_axis={},
        y_axis={**_y_axis(seconds, unit), "title": {"text": f"{unit.name} an image"}},
        x_each=True,
        gap=(40, 84),
    )
    for panel, name in enumerate(names):
        inner = {**panels.y_axis, "title": {"text": ""}}
        panels.own_axes[panel] = (
            _x_axis(found[name][0]),
            inner if panel % panels.columns else panels.y_axis,
        )
        for index, (each, steps) in enumerate(zip(machines, found[name], strict=True)):
            panels.trace(panel, _line(index, steps, unit), legend=each["machine"])
    return panels.figure()


def _y_axis(seconds: Sequence[float], unit: TimeUnit) -> Figure:
    """Return the axis of all panels: from zero on, or logarithmic where times are far apart."""
    if max(seconds) < _LOG * min(seconds):
        return {"range": [0, rounded(1.06 * max(seconds) * unit.per_second)]}
    return log_ticks([value * unit.per_second for value in seconds])


def _x_axis(steps: Sequence[Mapping[str, Any]]) -> Figure:
    texts = [escape(clean(step["text"])) for step in steps]
    if not _numeric(steps):
        return {"type": "category", "categoryorder": "array", "categoryarray": texts}
    values = [step["value"] for step in steps]
    ticks = list(dict.fromkeys(round(n * (len(steps) - 1) / 5) for n in range(6)))
    wide = min(values) > 0 and max(values) / min(values) > _LOG
    return {
        "type": "log" if wide else "linear",
        "tickvals": [rounded(values[n]) for n in ticks], "ticktext": [texts[n] for n in ticks],
    }  # fmt: skip


def _numeric(steps: Sequence[Mapping[str, Any]]) -> bool:
    return all(
        isinstance(step["value"], (int, float)) and not isinstance(step["value"], bool)
        for step in steps
    )


def _line(index: int, steps: Sequence[Mapping[str, Any]], unit: TimeUnit) -> Figure:
    texts = [escape(clean(step["text"])) for step in steps]
    xs = [rounded(step["value"]) for step in steps] if _numeric(steps) else texts
    ys = [rounded(step["seconds_per_image"] * unit.per_second) for step in steps]
    told = [
        [text, f"{unit.text(step['seconds_per_image'])} {unit.name}", ratio(step["over_best"]),
         escape(clean(step["bound_by"]))]
        for text, step in zip(texts, steps, strict=True)
    ]  # fmt: skip
    colour = MACHINE_COLOURS[index % len(MACHINE_COLOURS)]
    return {
        "type": "scatter", "mode": "lines+markers" if _numeric(steps) else "markers",
        "x": xs, "y": ys, "customdata": told,
        "line": {"color": colour, "width": 2, "dash": DASHES[index // 4 % len(DASHES)]},
        "marker": {"color": colour, "size": 5 if _numeric(steps) else 9},
        "hovertemplate": "%{customdata[0]}: %{customdata[1]} an image, %{customdata[2]} the best"
        "<br>bound by %{customdata[3]}<extra></extra>",
    }  # fmt: skip


def map_figure(document: Mapping[str, Any]) -> Figure | None:
    """Return the two axes that move the total most as a map; None where fewer than two do."""
    found = document["summary"]["map"]
    if found is None:
        return None
    seconds = [value for row in found["seconds_per_image"] for value in row]
    unit = time_unit(seconds)
    texts = [[unit.text(value) for value in row] for row in found["seconds_per_image"]]
    least = min(seconds)
    heat = {
        "type": "heatmap", "x": [escape(clean(t)) for t in found["x"]["texts"]],
        "y": [escape(clean(t)) for t in found["y"]["texts"]],
        "z": [[rounded(value / least) for value in row] for row in found["seconds_per_image"]],
        "customdata": texts, "colorscale": "Cividis", "reversescale": True,
        "colorbar": {"title": {"text": "over best"}, "thickness": 12},
        "hovertemplate": f"%{{y}}, %{{x}}: %{{customdata}} {unit.name} an image, "
        "%{z:.3g}×<extra></extra>",
    }  # fmt: skip
    axis = {"type": "category", "zeroline": False}
    layout = {
        "height": _MAP_HEIGHT, "margin": {"l": 110, "r": 12, "t": 20, "b": 70},
        "xaxis": {**axis, "title": {"text": escape(clean(found["x"]["name"]))}},
        "yaxis": {**axis, "title": {"text": escape(clean(found["y"]["name"]))}},
    }  # fmt: skip
    return {"data": [heat], "layout": layout}


def write_sweep_page(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write a sweep's document as one self-contained page; return its path.

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
    source = resources.files("archsim.report").joinpath("sweep.html.j2").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters.update(percent=percent, number=number, ratio=ratio)
    figures = {"axes": axes_figure(document), "map": map_figure(document)}
    summary = document["summary"]
    page = environment.from_string(source).render(
        document=document, summary=summary, head=_head(document), none=NONE,
        unit=time_unit(each["best"]["seconds_per_image"] for each in summary["machines"]),
        figures={name: figure for name, figure in figures.items() if figure is not None},
        plotly_js=get_plotlyjs(),
    )  # fmt: skip
    return write_page(page, path)
