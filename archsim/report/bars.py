"""Figure: time per layer, one panel per machine, predicted bars beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from archsim.report.contents import Row, StudyContents, best
from archsim.report.numbers import TimeUnit, number, ratio, time_unit
from archsim.report.panels import (
    DENSE_COLOURS,
    METHOD_COLOURS,
    Figure,
    Panels,
    escape,
    log_ticks,
    rounded,
)

_FEW: Final = 12  # layers up to which two panels go side by side
_GROUP: Final = 0.82  # of the room of a layer is filled by its bars


@dataclass(frozen=True, slots=True)
class _Series:
    """Bars of one kind on one machine: of a sparse method, or (None) of the best dense one."""

    method: str | None
    colour: str
    rows: tuple[Row, ...]

    @property
    def measured(self) -> bool:
        return self.rows[0].model == "native"

    @property
    def label(self) -> str:
        name = "best dense" if self.method is None else self.method.replace("_", " ")
        return f"{name}, measured" if self.measured else name


def time_figure(study: StudyContents) -> Figure | None:
    """Return the figure, or None where no result has a time."""
    series = {machine.name: _all_series(study, machine.name) for machine in study.machines}
    series = {name: found for name, found in series.items() if found}
    seconds = [_per_image(r) for found in series.values() for one in found for r in one.rows]
    if not seconds:
        return None
    unit = time_unit(seconds)
    few = len(study.layers) <= _FEW
    # bars must be seen: the shortest one stands well above the floor
    highest = max(
        (r.seconds_high or 0) / r.batch for f in series.values() for one in f for r in one.rows
    )
    ends = (*seconds, min(seconds) / 2, highest)
    y_axis = log_ticks(value * unit.per_second for value in ends)
    panels = Panels(
        titles=[_title(name, found) for name, found in series.items()],
        columns=2 if few else 1,
        panel_height=240,
        x_axis=_layer_axis(study, few=few),
        y_axis={**y_axis, "title": {"text": f"{unit.name} per image"}},
        gap=(34, 76 if few else 40),
        # names of many layers stand upright, under the last panel only
        bottom=40 if few else 24 + 7 * max(len(layer) for layer in study.layers),
        x_each=few,
    )
    for panel, found in enumerate(series.values()):
        for position, one in enumerate(found):
            width = _GROUP / len(found)
            shift = (position + 0.5) * width - _GROUP / 2
            bars = _bars(one, [study.layers.index(r.layer) + shift for r in one.rows], unit)
            panels.trace(panel, {**bars, "width": 0.92 * width}, legend=one.label)
    return panels.figure()


def method_colours(study: StudyContents) -> dict[str, str]:
    """Return the colour of every method, greys for dense ones."""
    rows = [r for r in (*study.rows, *study.curves) if r.seconds]
    dense = list(dict.fromkeys(r.method for r in rows if r.dense))
    # direct sparse first, whatever the order of the document: it is what studies are about
    sparse = sorted({r.method for r in rows} - set(dense), key=lambda m: (m != "direct_sparse", m))
    return {
        **{m: DENSE_COLOURS[i % len(DENSE_COLOURS)] for i, m in enumerate(dense)},
        **{m: METHOD_COLOURS[i % len(METHOD_COLOURS)] for i, m in enumerate(sparse)},
    }


def _all_series(study: StudyContents, machine: str) -> list[_Series]:
    """Return the series of a machine: each method predicted, then measured."""
    colours = method_colours(study)
    leading = study.leading_model(machine)
    models = dict.fromkeys(model for model in (leading, "native") if model)
    rows = {model: study.select(machine, model) for model in models}
    sparse = [m for m in colours if any(r.method == m and not r.dense for r in study.rows)]
    found = []
    for method in (None, *sparse):
        for model in models:
            picked = [_pick(rows[model], layer, method) for layer in study.layers]
            timed = tuple(row for row in picked if row is not None)
            if timed:
                found.append(_Series(method, colours.get(method or "", DENSE_COLOURS[0]), timed))
    return found


def _pick(rows: list[Row], layer: str, method: str | None) -> Row | None:
    here = (r for r in rows if r.layer == layer and method in (None, r.method))
    return best(here, dense=method is None)


def _bars(series: _Series, places: list[float], unit: TimeUnit) -> Figure:
    fill = {"color": series.colour, "line": {"color": series.colour, "width": 0}}
    hollow = {"color": "rgba(0,0,0,0)", "line": {"color": series.colour, "width": 1.8}}
    bars: Figure = {
        "type": "bar",
        "x": [rounded(place) for place in places],
        "y": [rounded(_per_image(r) * unit.per_second) for r in series.rows],
        "marker": hollow if series.measured else fill,
        "customdata": [_hover(r, unit) for r in series.rows],
        "hovertemplate": "%{customdata[0]}<br>%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    }
    if series.measured:
        scale = unit.per_second
        above = [((r.seconds_high or 0) / r.batch - _per_image(r)) * scale for r in series.rows]
        below = [(_per_image(r) - (r.seconds_low or r.seconds or 0) / r.batch) * scale
                 for r in series.rows]  # fmt: skip
        bars["error_y"] = {
            "type": "data", "symmetric": False, "thickness": 1.2, "width": 2,
            "color": series.colour, "array": [rounded(max(0.0, value)) for value in above],
            "arrayminus": [rounded(max(0.0, value)) for value in below],
        }  # fmt: skip
    return bars


def _hover(row: Row, unit: TimeUnit) -> list[str]:
    batch = time_unit([row.seconds])
    how = "measured" if row.model == "native" else row.model
    limits = f", bound by {', '.join(row.bound_by[:2])}" if row.bound_by else ""
    rates = f"{number(row.effective_gflops)} effective, {number(row.actual_gflops)} actual GFLOP/s"
    return [
        escape(f"{row.layer}, {row.method}, {how}"),
        escape(
            f"{unit.text(_per_image(row))} {unit.name} per image, "
            f"{batch.text(row.seconds)} {batch.name} per batch of {row.batch}"
        ),
        escape(f"{ratio(row.speedup_over_dense)} over dense; {rates}{limits}"),
    ]


def _per_image(row: Row) -> float:
    return (row.seconds or 0.0) / row.batch


def _title(machine: str, series: list[_Series]) -> str:
    models = dict.fromkeys(one.rows[0].model for one in series)
    how = " and ".join("measured" if model == "native" else model for model in models)
    return f"<b>{escape(machine)}</b> · {escape(how)}, batch {series[0].rows[0].batch}"


def _layer_axis(study: StudyContents, *, few: bool) -> Figure:
    return {
        "tickvals": list(range(len(study.layers))),
        "ticktext": [escape(layer) for layer in study.layers],
        "tickangle": 0 if few else -90,
        "range": [-0.55, len(study.layers) - 0.45],
        "showgrid": False,
    }
