"""The HTML page: one file that needs nothing else, neither network nor Python."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from archsim.errors import ArchsimError, input_error
from archsim.report.bars import time_figure
from archsim.report.contents import MachineFacts, Row, StudyContents, Totals, read_study, reasons
from archsim.report.course import course_figure, read_courses
from archsim.report.curves import speedup_figure
from archsim.report.numbers import number, percent, ratio, size, sparsity_text, time_unit
from archsim.report.roofline import roofline_figure

#: what the models are, in a few words
MODEL_NAMES: Final[Mapping[str, str]] = {
    "ecm": "ecm (white box)",
    "simulator": "simulator",
    "park": "park (published)",
    "native": "measured",
}


@dataclass(frozen=True, slots=True)
class _Card:
    """A machine as the page introduces it."""

    machine: MachineFacts
    hardware: str
    headline: Totals | None
    how: str  # the headline is known
    totals: list[tuple[str, Totals]]


def write_html(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write a study's document as one self-contained page; return its path.

    Parameters
    ----------
    document : mapping
        As read from ``results.json`` (schema 1).
    path : str or Path
        A file there is replaced, once the new one is whole.

    Raises
    ------
    ArchsimError
        jinja2 or plotly is not installed.
    InputError
        The document is not a study's, a field is wrong, or the file cannot be written.
    """
    return write_page(render(document), path)


def write_page(page: str, path: str | Path) -> Path:
    """Write a page, once it is whole; return its path.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    path = Path(path)
    partial = path.parent / f"{path.name}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    return path


def render(document: Mapping[str, Any]) -> str:
    """Return the page; arguments and errors as in :func:`write_html`."""
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ArchsimError(
            "the HTML page needs jinja2 and plotly: pip install 'archsim[report]'"
        ) from error
    study = read_study(document)
    source = resources.files("archsim.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters.update(
        number=number, percent=percent, ratio=ratio, size=size, sparsity_text=sparsity_text
    )
    figures = {
        "curves": speedup_figure(study),
        "times": time_figure(study),
        "roofline": roofline_figure(study),
    }
    courses = [(c, course_figure(c)) for c in read_courses(document)]
    figures |= {f"course{n}": figure for n, (_, figure) in enumerate(courses)}
    return environment.from_string(source).render(
        study=study,
        courses=[course for course, figure in courses if figure is not None],
        figures={name: figure for name, figure in figures.items() if figure is not None},
        cards=[_card(study, machine) for machine in study.machines],
        unit=time_unit(r.seconds for r in study.rows),
        total_unit=time_unit(_total_seconds(study)),
        reasons=reasons(study.rows),
        measured=any(r.model == "native" for r in study.rows),
        model_name=model_name,
        why=_why,
        plotly_js=get_plotlyjs(),
    )


def model_name(model: str) -> str:
    """Return what a model is called on the page."""
    return MODEL_NAMES.get(model, model)


def _card(study: StudyContents, machine: MachineFacts) -> _Card:
    totals = study.totals.get(machine.name, {})
    # what was measured leads where there is something measured
    order = [m for m in ("native", study.leading_model(machine.name)) if m in totals]
    headline = order[0] if order else None
    return _Card(
        machine=machine,
        hardware=_hardware(machine),
        headline=totals[headline] if headline else None,
        how="measured" if headline == "native" else f"predicted by {model_name(headline or '')}",
        totals=[(model_name(model), totals[model]) for model in totals],
    )


def _hardware(machine: MachineFacts) -> str:
    """Return a sentence or two: description, cores, instruction set and roofs."""
    parts = []
    if machine.cores:
        parts.append(f"{machine.cores:.0f} cores")
    if machine.threads and machine.threads != machine.cores:
        parts.append(f"{machine.threads:.0f} threads")
    if machine.isa:
        parts.append(machine.isa)
    if machine.peak_gflops:
        parts.append(f"peak {number(machine.peak_gflops)} GFLOP/s")
    if machine.memory_gb_per_s:
        parts.append(f"{machine.memory or 'memory'} {number(machine.memory_gb_per_s)} GB/s")
    description = machine.description.strip()
    if description and not description.endswith("."):
        description += "."
    return f"{description} {', '.join(parts)}{'.' if parts else ''}".strip()


def _total_seconds(study: StudyContents) -> list[float | None]:
    return [
        seconds
        for models in study.totals.values()
        for total in models.values()
        for seconds in (total.seconds, total.dense_seconds)
    ]


def _why(row: Row) -> str:
    """Return what bounds a result, or why there is none, and what was assumed for it."""
    main = row.reason or "" if row.seconds is None else ", ".join(row.bound_by)
    return "; ".join(part for part in (main, *row.notes) if part)
