"""Figure: the roofline of each machine, with every layer and method under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Final

from archsim.report.bars import method_colours
from archsim.report.contents import MachineFacts, Row, StudyContents
from archsim.report.labels import place_labels
from archsim.report.numbers import number, time_unit
from archsim.report.panels import NEUTRAL, SYMBOLS, Figure, Panels, escape, log_ticks, rounded

_PANEL: Final = (490.0, 300.0)  # width and height, pixels
#: above so many times the intensity where the roofs meet, memory plays no part
_FAR: Final = 100.0
_GAP, _BAND = 3.0, 8.0  # the band of such results: how far right of the others, how wide (factors)


@dataclass(frozen=True, slots=True)
class _Point:
    """A result, and where it stands: at its FLOP per byte of memory traffic, if it has any."""

    row: Row
    intensity: float | None
    x: float

    @property
    def rate(self) -> float:
        return self.row.actual_gflops or 0.0


def roofline_figure(study: StudyContents) -> Figure | None:
    """Return the figure, or None where no machine has roofs and points."""
    machines = [m for m in study.machines if m.peak_gflops and m.memory_gb_per_s]
    points = {m.name: _points(study, m) for m in machines}
    machines = [m for m in machines if points[m.name]]
    if not machines:
        return None
    panels = Panels(
        titles=[_title(m) for m in machines],
        columns=2,
        panel_height=int(_PANEL[1]),
        x_axis={},
        y_axis={},
        gap=(64, 86),
        own_axes={panel: _axes(m, points[m.name]) for panel, m in enumerate(machines)},
    )
    colours = method_colours(study)
    for panel, machine in enumerate(machines):
        _add_roof(panels, panel, machine, points[machine.name])
        labels = _labels(points[machine.name], panels.own_axes[panel])
        for index, method in enumerate(colours):
            for measured in (False, True):
                some = [
                    n for n, point in enumerate(points[machine.name])
                    if point.row.method == method and (point.row.model == "native") == measured
                ]  # fmt: skip
                if some:
                    marker = _marker(colours[method], index, measured=measured)
                    here = [points[machine.name][n] for n in some]
                    _add_points(panels, panel, here, [labels[n] for n in some], marker)
    return panels.figure()


def _points(study: StudyContents, machine: MachineFacts) -> list[_Point]:
    """Return the predicted results and then the measured ones, at the predicted traffic."""
    leading = study.leading_model(machine.name)
    predicted = [r for r in study.select(machine.name, leading) if r.seconds]
    measured = study.select(machine.name, "native") if leading != "native" else []
    traffic = {(r.layer, r.method): _memory_bytes(r, machine) for r in predicted}
    found: list[tuple[Row, float | None]] = []
    for row in [*predicted, *measured]:
        moved = traffic.get((row.layer, row.method))
        if moved is not None and row.seconds and row.actual_gflops:
            intensity = row.actual_gflops * 1e9 * row.seconds / moved if moved else None
            far = intensity is None or intensity > _FAR * _ridge(machine)
            found.append((row, None if far else intensity))
    edge = _GAP * max([_ridge(machine), *(x for _, x in found if x is not None)])
    # without traffic the place says nothing: it only keeps the layers apart
    steps = max(1, len(study.layers) - 1)
    bands = {y: edge * _BAND ** (n / steps) for n, y in enumerate(study.layers)}
    return [_Point(row, x, bands[row.layer] if x is None else x) for row, x in found]


def _ridge(machine: MachineFacts) -> float:
    """Return the FLOP per byte at which the two roofs of a machine meet."""
    return (machine.peak_gflops or 0.0) / (machine.memory_gb_per_s or 1.0)


def _memory_bytes(row: Row, machine: MachineFacts) -> float | None:
    """Return the bytes of the machine's main memory: of the last level where it is not used."""
    if machine.memory is not None and machine.memory in row.bytes:
        return row.bytes[machine.memory]
    return list(row.bytes.values())[-1] if row.bytes else None


def _axes(machine: MachineFacts, points: Sequence[_Point]) -> tuple[Figure, Figure]:
    """Return x and y axis of a machine: its points and the edge of its roof are inside."""
    peak = machine.peak_gflops or 0.0
    places = [_ridge(machine), *(p.x for p in points)]
    x_axis = log_ticks(value for x in places for value in (x / 1.3, x * 1.8))
    y_axis = log_ticks(
        value for y in (peak, *(p.rate for p in points)) for value in (y / 1.2, y * 1.3)
    )
    cached = [p.x for p in points if p.intensity is None]
    if cached:
        kept = [n for n, tick in enumerate(x_axis["tickvals"]) if tick < _edge(points)]
        x_axis["tickvals"] = [x_axis["tickvals"][n] for n in kept] + [
            rounded(sqrt(min(cached) * max(cached)))
        ]
        x_axis["ticktext"] = [x_axis["ticktext"][n] for n in kept] + ["cached"]
    return (
        {**x_axis, "title": {"text": "actual FLOP per byte of memory traffic", "standoff": 8}},
        {**y_axis, "title": {"text": "actual GFLOP/s"}},
    )


def _edge(points: Sequence[_Point]) -> float:
    """Return where the band of results without memory traffic begins."""
    return min((p.x for p in points if p.intensity is None), default=inf) / sqrt(_GAP)


def _add_roof(panels: Panels, panel: int, machine: MachineFacts, points: Sequence[_Point]) -> None:
    peak, slope = machine.peak_gflops or 0.0, machine.memory_gb_per_s or 0.0
    low, high = (10.0**end for end in panels.own_axes[panel][0]["range"])
    ridge = _ridge(machine)
    left, right = min(low, ridge), max(high, ridge)
    trace = {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip",
        "x": [rounded(x) for x in (left, ridge, right)],
        "y": [rounded(min(peak, slope * x)) for x in (left, ridge, right)],
        "line": {"color": NEUTRAL, "width": 2},
    }  # fmt: skip
    panels.trace(panel, trace)
    if _edge(points) < inf:
        panels.line(panel, x0=_edge(points), x1=_edge(points), line={"dash": "dot"})


def _marker(colour: str, index: int, *, measured: bool) -> Figure:
    fill = "rgba(0,0,0,0)" if measured else colour
    line = {"color": colour, "width": 2 if measured else 0}
    return {"color": fill, "size": 9, "symbol": SYMBOLS[index % len(SYMBOLS)], "line": line}


def _labels(points: Sequence[_Point], axes: tuple[Figure, Figure]) -> list[tuple[str, str]]:
    """Return text and position of the label of each point; measured ones (the last) have none."""
    predicted = [p.row.layer for p in points if p.row.model != "native"]
    places = [(p.x, p.rate) for p in points]
    found = place_labels(places, predicted, axes, _PANEL)
    return found + [("", "middle right")] * (len(points) - len(found))


def _add_points(
    panels: Panels,
    panel: int,
    points: Sequence[_Point],
    labels: Sequence[tuple[str, str]],
    marker: Figure,
) -> None:
    first = points[0].row
    measured = first.model == "native"
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [rounded(p.x) for p in points],
        "y": [rounded(p.rate) for p in points],
        "text": [escape(text) for text, _ in labels],
        "textposition": [position for _, position in labels],
        "textfont": {"size": 10},
        "marker": marker,
        "cliponaxis": False,
        "customdata": [_hover(p) for p in points],
        "hovertemplate": (
            "%{customdata[0]}<br>%{customdata[1]}, %{y:.3g} GFLOP/s<br>"
            "%{customdata[2]}<extra></extra>"
        ),
    }
    name = first.method.replace("_", " ")
    panels.trace(panel, trace, legend=f"{name}, measured" if measured else name)


def _hover(point: _Point) -> list[str]:
    row, x = point.row, point.intensity
    unit = time_unit([row.seconds])
    how = "measured" if row.model == "native" else row.model
    limits = f", bound by {', '.join(row.bound_by[:2])}" if row.bound_by else ""
    return [
        escape(f"{row.layer}, {row.method}, {how}"),
        "hardly any memory traffic" if x is None else f"{number(x)} FLOP/byte",
        escape(f"{unit.text(row.seconds)} {unit.name} per batch of {row.batch}{limits}"),
    ]


def _title(machine: MachineFacts) -> str:
    memory = escape(machine.memory or "memory")
    return (
        f"<b>{escape(machine.name)}</b> · peak {number(machine.peak_gflops)} GFLOP/s, "
        f"{memory} {number(machine.memory_gb_per_s)} GB/s"
    )
