"""Figure: time per layer, one panel per machine, predicted bars beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Final

from archsim.report.contents import Row, StudyContents, best
from archsim.report.numbers import TimeUnit, number, time_unit
from archsim.report.panels import (
    DENSE_COLOURS, METHOD_COLOURS, Figure, Panels, escape, log_ticks, rounded,
)  # fmt: skip

_FEW: Final = 12  # layers up to which two panels go side by side


@dataclass(frozen=True, slots=True)
class _Series:
    """The bars of one colour: a sparse method, or (None) the best dense one."""

    method: str | None
    model: str
    colour: str

    def pick(self, rows: list[Row], layer: str) -> Row | None:
        here = [r for r in rows if r.layer == layer and r.model == self.model]
        if self.method is None:
            return best(here, dense=True)
        return best((r for r in here if r.method == self.method), dense=False)

    @property
    def label(self) -> str:
        name = "best dense" if self.method is None else self.method.replace("_", " ")
        return f"{name}, measured" if self.model == "native" else name


def time_figure(study: StudyContents) -> Figure | None:
    """Return the figure, or None where no result has a time."""
    machines = [m.name for m in study.machines if study.leading_model(m.name) is not None]
    timed = [r for r in study.rows if r.seconds and r.machine in machines]
    if not timed:
        return None
    colours = method_colours(study)
    series = {machine: _series(study, machine, colours) for machine in machines}
    shown = [
        row
        for machine in machines
        for one in series[machine]
        for layer in study.layers
        if (row := one.pick(study.select(machine, one.model), layer)) is not None
    ]
    unit = time_unit(_per_image(r) for r in shown)
    values = [_per_image(r) * unit.per_second for r in shown]
    few = len(study.layers) <= _FEW
    axis = log_ticks(values)
    panels = Panels(
        titles=[_title(study, machine) for machine in machines],
        columns=2 if few else 1,
        panel_height=240,
        x_axis=_layer_axis(study, few=few),
        y_axis={**axis, "title": {"text": f"{unit.name} per image"}},
        gap=(34, 76 if few else 150),
        x_each=True,
        bottom=52 if few else 130,
    )
    floor = 10.0 ** axis["range"][0]
    for panel, machine in enumerate(machines):
        for position, one in enumerate(series[machine]):
            place = (position + 0.5) / len(series[machine]) - 0.5
            _add_bars(panels, panel, study, machine, one, unit, place, len(series[machine]), floor)
    return panels.figure()


def method_colours(study: StudyContents) -> dict[str, str]:
    """Return the colour of every method: greys for dense ones."""
    names = list(dict.fromkeys(r.method for r in (*study.rows, *study.curves) if r.seconds))
    dense = {r.method for r in study.rows if r.dense}
    greys = [name for name in names if name in dense]
    # direct sparse first, whatever the order of the document: it is what studies are about
    sparse = sorted((n for n in names if n not in dense), key=lambda n: (n != "direct_sparse", n))
    return {
        **{n: DENSE_COLOURS[i % len(DENSE_COLOURS)] for i, n in enumerate(greys)},
        **{n: METHOD_COLOURS[i % len(METHOD_COLOURS)] for i, n in enumerate(sparse)},
    }
