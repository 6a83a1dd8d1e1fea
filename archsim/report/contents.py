"""The results document, checked and typed.

Documents are read from files that may come from anybody: every field that a report uses is
checked here, once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archsim.errors import input_error
from archsim.methods import METHODS
from archsim.report.record import TOP, Record, clean
from archsim.result import SCHEMA, Result

#: models, the one that reports follow first
MODELS: Final = ("ecm", "simulator", "park", "native")


@dataclass(frozen=True, slots=True)
class Row:
    """One result; fields as in :class:`archsim.result.Result`."""

    network: str
    layer: str
    method: str
    schedule: str
    machine: str
    model: str
    batch: int
    threads: int
    density: float
    density_domain: str
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    effective_gflops: float | None
    actual_gflops: float | None
    dense_method: str | None
    speedup_over_dense: float | None
    bound_by: tuple[str, ...]
    bytes: Mapping[str, float]
    isa: str | None
    reason: str | None
    notes: tuple[str, ...]

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1.0 - self.density

    @property
    def dense(self) -> bool:
        """Whether the method computes the zeros too."""
        known = METHODS.get(self.method)
        return known.dense if known is not None else self.method.startswith("dense")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """A machine in one line, and its roofs."""

    name: str
    description: str = ""
    isa: str | None = None
    peak_gflops: float | None = None
    memory: str | None = None
    memory_gb_per_s: float | None = None
    cores: float | None = None
    threads: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Totals:
    """The whole network on one machine by one model."""

    batch: float | None
    seconds: float | None
    dense_seconds: float | None
    images_per_s: float | None
    dense_images_per_s: float | None
    speedup_over_dense: float | None


@dataclass(frozen=True)
class StudyContents:
    """A study's results, ready to be drawn."""

    version: str
    network: str
    sparsity: str
    date: str | None
    python: str | None
    command: str | None
    machines: tuple[MachineFacts, ...]
    totals: Mapping[str, Mapping[str, Totals]]
    rows: tuple[Row, ...]
    curves: tuple[Row, ...]
    weights: Mapping[str, float]
    native_max_error: Mapping[str, float]
    layers: tuple[str, ...]

    def select(self, machine: str, model: str | None) -> list[Row]:
        """Return the rows of one machine and model, in the order of the document."""
        return [r for r in self.rows if r.machine == machine and r.model == model]

    def leading_model(self, machine: str) -> str | None:
        """Return the model that reports of this machine follow: ecm where it is there."""
        found = {r.model for r in self.rows if r.machine == machine}
        return next((model for model in MODELS if model in found), None)


def best(rows: Iterable[Row], *, dense: bool | None = None) -> Row | None:
    """Return the fastest row that has a time; ``dense`` keeps only (not) dense methods."""
    possible = [r for r in rows if r.seconds and (dense is None or r.dense == dense)]
    return min(possible, key=lambda r: r.seconds or math.inf, default=None)


def layer_density(rows: Iterable[Row], layer: str) -> float | None:
    """Return the density that the sparse methods of a layer ran with."""
    return next((r.density for r in rows if r.layer == layer and not r.dense), None)


def reasons(rows: Iterable[Row]) -> list[tuple[list[str], list[str], str]]:
    """Return which methods do not apply to which layers, and why: (methods, layers, reason)."""
    layers: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.seconds is None and row.reason:
            known = layers.setdefault((row.reason, row.method), [])
            known += [row.layer] if row.layer not in known else []
    methods: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (reason, method), names in layers.items():
        methods.setdefault((reason, tuple(names)), []).append(method)
    return [(found, list(names), reason) for (reason, names), found in methods.items()]


def read_rows(results: Iterable[Result | Mapping[str, Any]]) -> list[Row]:
    """Check results in their machine-readable form.

    Raises
    ------
    InputError
        A needed field is missing or of a wrong type.
    """
    found = [r.as_dict() if isinstance(r, Result) else r for r in results]
    return [_row(Record(item, f"results[{n}]")) for n, item in enumerate(found)]


def read_study(document: Mapping[str, Any]) -> StudyContents:
    """Check a study's document (schema 1).

    Raises
    ------
    InputError
        A needed field is missing or of a wrong type; the text names it.
    """
    top = Record(document, TOP)
    if document.get("schema") != SCHEMA:
        raise input_error(TOP, "unknown schema", found=document.get("schema"),
                          allowed=str(SCHEMA))  # fmt: skip
    if "machines" not in document:
        raise input_error(TOP, "has no 'machines'", allowed="what `archsim study` writes")
    totals = top.record("totals", needed=True)
    machines = tuple(_machine(record) for record in top.records("machines", needed=True))
    rows = tuple(_row(record) for record in top.records("results", needed=True))
    curves = tuple(_row(record) for record in top.records("curves"))
    _check_machines(machines, {r.machine for r in (*rows, *curves)})
    by_machine = totals.record("machines")
    return StudyContents(
        version=top.text("archsim"),
        network=totals.text("network"),
        sparsity=totals.text("sparsity"),
        date=totals.text_or_none("date"),
        python=totals.text_or_none("python"),
        command=totals.text_or_none("command"),
        machines=machines,
        totals={clean(name): _totals(by_machine.record(name)) for name in by_machine},
        rows=rows,
        curves=curves,
        weights=totals.numbers("weights"),
        native_max_error=totals.numbers("native_max_error"),
        layers=tuple(dict.fromkeys(r.layer for r in rows)),
    )


def _row(record: Record) -> Row:
    return Row(
        network=record.text("network"), layer=record.text("layer"), method=record.text("method"),
        schedule=record.text_or_none("schedule") or "", machine=record.text("machine"),
        model=record.text("model"), batch=record.count("batch"), threads=record.count("threads"),
        density=record.share("density"),
        density_domain=record.text_or_none("density_domain") or "spatial",
        seconds=record.number("seconds", needed=True), seconds_low=record.number("seconds_low"),
        seconds_high=record.number("seconds_high"),
        effective_gflops=record.number("effective_gflops"),
        actual_gflops=record.number("actual_gflops"),
        dense_method=record.text_or_none("dense_method"),
        speedup_over_dense=record.number("speedup_over_dense"),
        bound_by=record.texts("bound_by"), bytes=record.numbers("bytes"),
        isa=record.text_or_none("isa"), reason=record.text_or_none("reason"),
        notes=record.texts("notes"),
    )  # fmt: skip


def _machine(record: Record) -> MachineFacts:
    return MachineFacts(
        name=record.text("name"), description=record.text_or_none("description") or "",
        isa=record.text_or_none("isa"), peak_gflops=record.number("peak_gflops"),
        memory=record.text_or_none("memory"), memory_gb_per_s=record.number("memory_gb_per_s"),
        cores=record.number("cores"), threads=record.number("threads"),
        notes=record.texts("notes"),
    )  # fmt: skip


def _totals(record: Record) -> dict[str, Totals]:
    found = {}
    for model in record:
        inner = record.record(model)
        found[clean(model)] = Totals(
            **{name: inner.number(name) for name in Totals.__dataclass_fields__}
        )
    return found


def _check_machines(machines: Sequence[MachineFacts], used: set[str]) -> None:
    names = [machine.name for machine in machines]
    for name in sorted(used - set(names)):
        raise input_error("machines", "results of a machine that is not there",
                          found=name, allowed=", ".join(names), near=(name, names))  # fmt: skip
