"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.style import Style
from rich.table import Table
from rich.text import Text

from archsim.report.contents import (
    MachineFacts,  # fmt: skip
    Row,
    StudyContents,
    Totals,
    best,
    layer_density,
    read_rows,
    read_study,
    reasons,
)
from archsim.report.numbers import NONE, TimeUnit, number, percent, ratio, sparsity_text, time_unit
from archsim.result import Result

_MEASURED: Final = "native"
#: how a model is called in a narrow column
MODEL_NAMES: Final[Mapping[str, str]] = {_MEASURED: "measured"}
_DIM: Final = Style(dim=True)
#: behind a sparsity in a narrow column
_WINOGRAD: Final = " W"


def study_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return one table per machine of a study: a row per layer, and the whole network.

    Where this host was measured, each layer has a second row, under the predicted one, so that
    the two stand in the same columns.

    Raises
    ------
    InputError
        The document is not a study's, or a field is missing or of a wrong type.
    """
    study = read_study(document)
    return [
        _machine_table(study, machine, model)
        for machine in study.machines
        if (model := study.leading_model(machine.name)) is not None
    ]


@dataclass(frozen=True)
class _Layout:
    """What the rows of one machine's table need to know."""

    unit: TimeUnit
    methods: tuple[str, ...]  # sparse, that run on one layer at least
    measured: bool
    published: bool  # a column of the published model beside another predictor


def _machine_table(study: StudyContents, machine: MachineFacts, model: str) -> Table:
    native = study.select(machine.name, _MEASURED) if model != _MEASURED else []
    park = study.select(machine.name, "park") if model != "park" else []
    rows = study.select(machine.name, model)
    layout = _Layout(
        unit=time_unit(r.seconds for r in (*rows, *native)),
        methods=tuple(
            dict.fromkeys(r.method for r in (*rows, *native) if not r.dense and r.seconds)
        ),
        measured=bool(native),
        published=bool(park),
    )
    table = _empty_table(study, machine, rows[0], layout)
    for layer in dict.fromkeys(r.layer for r in rows):
        here = [r for r in rows if r.layer == layer]
        published = best((r for r in park if r.layer == layer), dense=False)
        density = layer_density(rows, layer)
        measured = [r for r in native if r.layer == layer]
        share = percent(None if density is None else 1.0 - density)
        head = [layer, share + (_WINOGRAD if _in_winograd(here) else "")]
        _add(table, layout, [*head, *_layer_cells(here, layout, published)], _name(model))
        if measured:
            cells = [*_layer_cells(measured, layout, None), _agreement(here, measured)]
            _add(table, layout, ["", "", *cells], _name(_MEASURED), dim=True)
    table.add_section()
    totals = study.totals.get(machine.name, {})
    published_total = totals.get("park") if layout.published else None
    _add_totals(table, layout, model, totals.get(model), published_total)
    if native:
        _add_totals(table, layout, _MEASURED, totals.get(_MEASURED), None)
    table.caption = _caption(rows, layout)
    return table


def _empty_table(study: StudyContents, machine: MachineFacts, first: Row, layout: _Layout) -> Table:
    title = Text.assemble(
        (f"{study.network} on {machine.name}", "bold"),
        f" · sparsity {study.sparsity} · {_name(first.model)}",
        f" · batch {first.batch} · {first.threads} threads",
    )
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    unit = layout.unit.name
    table.add_column("layer", overflow="fold")
    if layout.measured:
        table.add_column("", no_wrap=True)
    table.add_column("sparsity", justify="right", no_wrap=True)
    for name in ("dense", *(_short(m) for m in layout.methods)):
        table.add_column(Text(f"{name}\n{unit}"), justify="right", no_wrap=True)
    table.add_column("best", overflow="fold")
    table.add_column("speedup", justify="right", no_wrap=True)
    if layout.published:
        table.add_column("park\nspeedup", justify="right", no_wrap=True)
    table.add_column("bound by", overflow="fold")
    if layout.measured:
        table.add_column("predicted/\nmeasured", justify="right", no_wrap=True)
    return table


def _add(
    table: Table, layout: _Layout, cells: Sequence[str], model: str, *, dim: bool = False
) -> None:
    """Add a row; the column of the model stands in tables with measurements only."""
    shown = [cells[0], *([model] if layout.measured else []), *cells[1:]]
    table.add_row(*(Text(cell) for cell in shown), style=_DIM if dim else None)


def _layer_cells(rows: Sequence[Row], layout: _Layout, park: Row | None) -> list[str]:
    """Return times of the best dense and each sparse method, best method, speedups, limits."""
    dense, fastest = best(rows, dense=True), best(rows)
    times = {r.method: r.seconds for r in rows if not r.dense}
    cells = [layout.unit.text(dense.seconds if dense else None)]
    cells += [layout.unit.text(times.get(method)) for method in layout.methods]
    cells += [_short(fastest.method) if fastest else NONE]
    cells += [ratio(fastest.speedup_over_dense if fastest else None)]
    if layout.published:
        measured = bool(rows) and rows[0].model == _MEASURED
        cells += ["" if measured else ratio(park.speedup_over_dense if park else None)]
    return [*cells, ", ".join(fastest.bound_by[:2]) if fastest else ""]


def _agreement(predicted: Sequence[Row], measured: Sequence[Row]) -> str:
    """Return predicted over measured time of the sparse method that is best when measured."""
    fastest = best(measured, dense=False)
    if fastest is None or not fastest.seconds:
        return NONE
    same = best((r for r in predicted if r.method == fastest.method), dense=False)
    return ratio(same.seconds / fastest.seconds) if same and same.seconds else NONE


def _add_totals(
    table: Table, layout: _Layout, model: str, total: Totals | None, park: Totals | None
) -> None:
    """Add the whole network's time, and the images per second that it means."""
    if total is None:
        return
    gap = [""] * len(layout.methods)
    published = [ratio(park.speedup_over_dense) if park else ""] if layout.published else []
    dim = model == _MEASURED
    seconds = layout.unit.text(total.seconds)
    best_time = f"{seconds} {layout.unit.name}" if total.seconds else NONE
    dense_time = layout.unit.text(total.dense_seconds)
    speedup = ratio(total.speedup_over_dense)
    cells = ["" if dim else "total", "", dense_time, *gap, best_time, speedup, *published]
    _add(table, layout, cells, _name(model), dim=dim)
    rates = [number(total.dense_images_per_s), *gap, number(total.images_per_s)]
    _add(table, layout, ["images/s", "", *rates], "", dim=dim)


def _in_winograd(rows: Sequence[Row]) -> bool:
    """Whether a sparse method's density is of the Winograd domain."""
    return any(r.density_domain == "winograd" for r in rows if not r.dense)


def _caption(rows: Sequence[Row], layout: _Layout) -> Text:
    lines = [f"times in {layout.unit.name} per batch; speedup: best method over best dense method"]
    if layout.published:
        lines[0] += "; park speedup: best sparse method in the published model"
    if _in_winograd(rows):
        lines.append(
            f"{_WINOGRAD.strip()}: sparsity of the Winograd domain, not of spatial weights"
        )
    lines += [
        f"{', '.join(_short(m) for m in methods)}: not for {', '.join(layers)}: {reason}"
        for methods, layers, reason in reasons(rows)
    ]
    return Text("\n".join(lines))


def _short(method: str) -> str:
    return method.removesuffix("_sparse")


def _name(model: str) -> str:
    return MODEL_NAMES.get(model, model)


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    cell: Callable[[Row], str]
    right: bool = True
    title: str | None = None  # how the title says it where all rows agree; None: never there


def total_line(total: Mapping[str, Any]) -> str:
    """Return what the layers of a machine and model sum up to, each by its fastest method."""
    seconds, dense = total["seconds"], total["dense_seconds"]
    unit = time_unit([seconds, dense])

    def text(value: float | None) -> str:
        return NONE if value is None else f"{unit.text(value)} {unit.name}"

    return (
        f"total of the layers, each by its fastest method: {text(seconds)}; dense: {text(dense)}; "
        f"speedup: {ratio(total['speedup_over_dense'])}"
    )


def results_table(
    results: Iterable[Result | Mapping[str, Any]], totals: Mapping[str, Any] | None = None
) -> Table:
    """Return a table of any results, one a row; what all have in common stands in the title.

    With ``totals``, those of each machine and model, sums of the layers stand below.

    Raises
    ------
    InputError
        A field is missing or of a wrong type.
    """
    rows = read_rows(results)
    table = Table(title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown: list[list[str]] = []
    common: list[str] = []
    for column in _result_columns(time_unit(r.seconds for r in rows)):
        cells = [column.cell(r) for r in rows]
        if column.title is not None and len(set(cells)) == 1:
            common.append(column.title.format(cells[0]))
        elif any(cell not in ("", NONE) for cell in cells):
            table.add_column(
                column.header, justify="right" if column.right else "left",
                no_wrap=column.right, overflow="fold",
            )  # fmt: skip
            shown.append(cells)
    for line in zip(*shown, strict=True):
        table.add_row(*(Text(cell) for cell in line))
    table.title = Text(" · ".join(common)) if common else None
    sums = [(machine, model, total) for machine, models in (totals or {}).items()
            for model, total in models.items()]  # fmt: skip
    lines = [total_line(total) if len(sums) == 1
             else f"{machine}, {_name(model)}: {total_line(total)}"
             for machine, model, total in sums]  # fmt: skip
    table.caption, table.caption_justify = Text("\n".join(lines)), "left"
    return table


def _result_columns(unit: TimeUnit) -> list[_Column]:
    def interval(row: Row) -> str:
        if row.seconds_low is None or row.seconds_high is None:
            return ""
        return f"{unit.text(row.seconds_low)}..{unit.text(row.seconds_high)}"

    return [
        _Column("network", lambda r: r.network, right=False, title="{}"),
        _Column("layer", lambda r: r.layer, right=False),
        _Column("method", lambda r: r.method, right=False),
        _Column("schedule", lambda r: r.schedule, right=False),
        _Column("machine", lambda r: r.machine, right=False, title="{}"),
        _Column("model", lambda r: _name(r.model), right=False, title="{}"),
        _Column("batch", lambda r: str(r.batch), title="batch {}"),
        _Column("threads", lambda r: str(r.threads), title="{} threads"),
        _Column("sparsity", lambda r: sparsity_text(r.sparsity, r.density_domain)),
        _Column(unit.name, lambda r: unit.text(r.seconds)),
        _Column("low..high", interval),
        _Column("GFLOP/s\neffective", lambda r: number(r.effective_gflops)),
        _Column("GFLOP/s\nactual", lambda r: number(r.actual_gflops)),
        _Column("speedup", lambda r: ratio(r.speedup_over_dense)),
        _Column(
            "bound by, or why not",
            lambda r: r.reason if r.reason and not r.seconds else ", ".join(r.bound_by[:2]),
            right=False,
        ),
    ]
