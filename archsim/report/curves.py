"""Figure: speedup over dense against sparsity, one panel per layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log10

from archsim.report.contents import Row, StudyContents, best, layer_density
from archsim.report.numbers import number, percent, time_unit
from archsim.report.panels import (
    DASHES,
    MACHINE_COLOURS,
    Figure,
    Panels,
    escape,
    log_ticks,
    rounded,
)  # fmt: skip

_TICKS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TITLE = 26  # characters of a layer's name that fit over a panel
_HOVER = (
    "<br>%{customdata[0]}<br>sparsity %{customdata[1]} %: %{y:.3g}×"
    "<br>%{customdata[2]} per batch of BATCH%{customdata[3]}<extra></extra>"
)


def speedup_figure(study: StudyContents) -> Figure | None:
    """Return the figure, or None where the study has no curves."""
    curves = {machine.name: _predicted(study, machine.name) for machine in study.machines}
    measured = _best_points(r for r in study.curves if r.model == "native")
    drawn = {layer for found in (*curves.values(), measured) for layer in found}
    layers = [layer for layer in study.layers if layer in drawn]
    if not layers:
        return None
    own = {m.name: _own(study.select(m.name, study.leading_model(m.name))) for m in study.machines}
    everything = [
        point
        for found in (*curves.values(), measured)
        for points in found.values()
        for point in points
    ]
    speedups = [r.speedup_over_dense or 0.0 for r in everything]
    panels = Panels(
        titles=[_title(study, layer) for layer in layers],
        columns=3 if len(layers) <= 6 else 4,
        panel_height=210 if len(layers) <= 12 else 150,
        x_axis=_sparsity_axis([r.density for r in everything]),
        y_axis={**log_ticks([*speedups, 1.0], "×"), "title": {"text": "speedup"}},
    )
    for panel, layer in enumerate(layers):
        panels.line(panel, y0=1, y1=1, line={"width": 1.5})
        density = layer_density(study.rows, layer)
        if density and _in_range(density, panels.x_axis):
            panels.line(panel, x0=density, x1=density, line={"dash": "dot"})
        for index, (machine, found) in enumerate(curves.items()):
            _add_curve(panels, panel, index, machine, found.get(layer, []))
        for index, machine in enumerate(own):
            point = own[machine].get(layer)
            if point is not None and _in_range(point.density, panels.x_axis):
                _add_own(panels, panel, index, point)
        if measured.get(layer):
            _add_measured(panels, panel, list(curves), measured[layer])
    return panels.figure()


def _predicted(study: StudyContents, machine: str) -> dict[str, list[Row]]:
    """Return the best sparse method at each sparsity, by layer."""
    model = study.leading_model(machine)
    rows = (r for r in study.curves if r.machine == machine and r.model == model != "native")
    return _best_points(rows)


def _best_points(rows: Iterable[Row]) -> dict[str, list[Row]]:
    points: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        if row.density > 0 and row.speedup_over_dense and not row.dense:
            points.setdefault((row.layer, round(row.density, 4)), []).append(row)
    found: dict[str, list[Row]] = {}
    for layer, density in sorted(points, key=lambda key: -key[1]):
        fastest = best(points[layer, density], dense=False)
        if fastest is not None:
            found.setdefault(layer, []).append(fastest)
    return found


def _own(rows: Sequence[Row]) -> dict[str, Row]:
    """Return the best sparse method at the study's own sparsity, by layer."""
    layers = dict.fromkeys(r.layer for r in rows)
    found = {layer: best((r for r in rows if r.layer == layer), dense=False) for layer in layers}
    return {layer: row for layer, row in found.items() if row and row.speedup_over_dense}


def _sparsity_axis(densities: Sequence[float]) -> Figure:
    """Return an axis that is logarithmic in density and labelled with sparsity."""
    low, high = min(densities), max(densities)
    ticks = [t for t in _TICKS if low * 0.99 <= 1.0 - t <= high * 1.01]
    return {
        "type": "log", "range": [rounded(log10(high * 1.08)), rounded(log10(low / 1.15))],
        "tickvals": [rounded(1.0 - tick) for tick in ticks],
        "ticktext": [f"{100 * tick:.4g}" for tick in ticks],
        "tickangle": 0, "title": {"text": "sparsity, %", "standoff": 6},
    }  # fmt: skip


def _in_range(density: float, axis: Figure) -> bool:
    left, right = axis["range"]
    return density > 0 and bool(right <= log10(density) <= left)


def _title(study: StudyContents, layer: str) -> str:
    density = layer_density(study.rows, layer)
    here = "" if density is None else f" · {percent(1.0 - density)}"
    short = layer if len(layer) <= _TITLE else layer[: _TITLE - 1] + "…"
    return f"<b>{escape(short)}</b>{here}"


def _point(row: Row) -> list[str]:
    unit = time_unit([row.seconds])
    limits = f"<br>bound by {escape(', '.join(row.bound_by[:2]))}" if row.bound_by else ""
    time = f"{unit.text(row.seconds)} {unit.name}"
    return [escape(row.method), number(100.0 * row.sparsity), time, limits]


def _hover(who: str, row: Row) -> str:
    return escape(who) + _HOVER.replace("BATCH", str(row.batch))


def _xy(rows: Sequence[Row]) -> Figure:
    return {
        "type": "scatter",
        "x": [rounded(r.density) for r in rows],
        "y": [rounded(r.speedup_over_dense or 0.0) for r in rows],
        "customdata": [_point(r) for r in rows],
    }


def _add_curve(panels: Panels, panel: int, index: int, machine: str, rows: list[Row]) -> None:
    style = {
        "color": MACHINE_COLOURS[index % 4], "width": 2,
        "dash": DASHES[index // 4 % 4],
    }  # fmt: skip
    if rows:
        trace = {**_xy(rows), "mode": "lines", "line": style,
                 "hovertemplate": _hover(machine, rows[0])}  # fmt: skip
        panels.trace(panel, trace, legend=machine)


def _add_own(panels: Panels, panel: int, index: int, row: Row) -> None:
    trace = {
        **_xy([row]), "mode": "markers", "legendgroup": escape(row.machine),
        "marker": {"color": MACHINE_COLOURS[index % 4], "size": 8, "symbol": "diamond"},
        "hovertemplate": _hover(f"{row.machine}, this study", row),
    }  # fmt: skip
    panels.trace(panel, trace)


def _add_measured(panels: Panels, panel: int, machines: Sequence[str], rows: Sequence[Row]) -> None:
    """Add what was measured, hollow; the bar is the 5th to 95th percentile of the calls."""
    index = machines.index(rows[0].machine)
    colour = MACHINE_COLOURS[index % 4]
    high, low = zip(*(_spread(r) for r in rows), strict=True)
    trace = {
        **_xy(rows), "mode": "markers",
        "marker": {
            "color": "rgba(0,0,0,0)", "size": 9, "symbol": "circle",
            "line": {"color": colour, "width": 2},
        },
        "error_y": {
            "type": "data", "symmetric": False, "array": list(high), "arrayminus": list(low),
            "color": colour, "thickness": 1.5, "width": 3,
        },
        "hovertemplate": _hover(f"{rows[0].machine}, measured", rows[0]),
    }  # fmt: skip
    panels.trace(panel, trace, legend=f"measured on {rows[0].machine}")


def _spread(row: Row) -> tuple[float, float]:
    """Return how far the interval of the time reaches above and below the speedup."""
    speedup, seconds = row.speedup_over_dense or 0.0, row.seconds or 0.0
    above = speedup * (seconds / row.seconds_low - 1.0) if row.seconds_low else 0.0
    below = speedup * (1.0 - seconds / row.seconds_high) if row.seconds_high else 0.0
    return rounded(max(0.0, above)), rounded(max(0.0, below))
