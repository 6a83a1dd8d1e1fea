"""Figure: a simulation's course, what each core is at and how much of the machine is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from archsim.errors import input_error
from archsim.report.numbers import time_unit
from archsim.report.panels import Figure, escape, rounded
from archsim.report.record import Record, clean

#: Okabe and Ito's palette, distinct for colour-blind readers
_COLOURS: Final = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F",
)  # fmt: skip
_ROW: Final = 9.0  # pixels of a core
_MOST: Final = 4096  # cores, time steps and labels that a page shows at most


@dataclass(frozen=True, slots=True)
class Course:
    """One machine's timeline, as :meth:`archsim.simulator.timeline.Recorder.as_dict` gives it."""

    machine: str
    step_seconds: float
    labels: tuple[str, ...]
    cores: tuple[int, ...]
    gantt: tuple[tuple[int, ...], ...]
    working: tuple[float, ...]
    memories: Mapping[str, tuple[float, ...]]
    note: str


def read_courses(document: Mapping[str, Any]) -> list[Course]:
    """Check the timelines of a document.

    Raises
    ------
    InputError
        A field is missing or of a wrong type; the text names it.
    """
    found = []
    for number, item in enumerate(Record(document, "document").records("simulations")):
        where = f"simulations[{number}].timeline"
        inner = item.record("timeline")
        if not list(inner):
            continue
        raw = document["simulations"][number]["timeline"]
        labels = inner.texts("labels")
        steps = len(_shares(raw, "working", where))
        gantt = tuple(
            _whole(row, f"{where}.gantt[{n}]", -1, len(labels) - 1, steps)
            for n, row in enumerate(_list(raw, "gantt", where))
        )
        cores = _whole(_list(raw, "cores", where), f"{where}.cores", 0, 2**20, len(gantt))
        step = inner.number("step_seconds", needed=True)
        if not step:
            raise input_error(f"{where}.step_seconds", "must be above zero", found=step)
        memories = inner.record("memories")
        dropped = inner.number("dropped_slices") or 0.0
        found.append(
            Course(
                item.text("machine"), step, labels, cores, gantt, _shares(raw, "working", where),
                {clean(str(name)): _shares(raw["memories"], name, f"{where}.memories")
                 for name in memories},
                f"{dropped:.0f} slices are not in the trace" if dropped else "",
            )
        )  # fmt: skip
    return found


def _list(raw: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = raw.get(key)
    if not isinstance(value, list) or len(value) > _MOST:
        raise input_error(f"{where}.{key}", "must be a list", allowed=f"at most {_MOST} entries")
    return value


def _shares(raw: Mapping[str, Any], key: str, where: str) -> tuple[float, ...]:
    value = _list(raw, key, where)
    if not all(isinstance(x, int | float) and 0.0 <= x <= 1.0 + 1e-6 for x in value):
        raise input_error(f"{where}.{key}", "must be shares in 0..1")
    return tuple(min(1.0, float(x)) for x in value)


def _whole(value: object, where: str, least: int, most: int, length: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise input_error(where, f"must be a list of {length} whole numbers")
    if not all(isinstance(x, int) and least <= x <= most for x in value):
        raise input_error(where, "must be whole numbers", allowed=f"{least}..{most}")
    return tuple(value)


def course_figure(course: Course) -> Figure | None:
    """Return the figure: cores over time, and shares in use below; None where nothing ran."""
    steps = len(course.working)
    if not course.gantt or not steps:
        return None
    unit = time_unit([course.step_seconds * steps])
    times = [rounded((i + 0.5) * course.step_seconds * unit.per_second) for i in range(steps)]
    rows = max(120.0, _ROW * len(course.cores))
    share = 170.0 / (rows + 230.0)
    lines = [("cores at work", course.working, _COLOURS[0]), *(
        (name, values, _COLOURS[1 + index % (len(_COLOURS) - 1)])
        for index, (name, values) in enumerate(course.memories.items()) if any(values)
    )]  # fmt: skip
    data: list[Figure] = [_heatmap(course, times)]
    data += [
        {
            "type": "scatter", "mode": "lines", "x": times, "y": [rounded(v) for v in values],
            "name": escape(name), "line": {"color": colour, "width": 1.5, "shape": "hvh"},
            "yaxis": "y2", "hovertemplate": "%{y:.0%} " + escape(name) + "<extra></extra>",
        }
        for name, values, colour in lines
    ]  # fmt: skip
    layout = {
        "height": int(rows + 230), "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "legend": {"orientation": "h", "x": 0, "y": round(share + 0.02, 4), "yanchor": "bottom"},
        "xaxis": {"title": {"text": f"time, {unit.name}"}, "anchor": "y2", "zeroline": False},
        "yaxis": {"domain": [round(share + 0.09, 4), 1], "autorange": "reversed",
                  "title": {"text": "core"}, "zeroline": False},
        "yaxis2": {"domain": [0, round(share, 4)], "range": [0, 1.05], "tickformat": ".0%",
                   "title": {"text": "in use"}, "zeroline": False},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _heatmap(course: Course, times: list[float]) -> Figure:
    """Return the cores' rows: a colour for each phase of each layer."""
    count = max(1, len(course.labels))
    scale: list[list[Any]] = []
    for index in range(count):
        colour = _COLOURS[index % len(_COLOURS)]
        scale += [[index / count, colour], [(index + 1) / count, colour]]
    return {
        "type": "heatmap", "x": times, "y": list(course.cores),
        "z": [[None if label < 0 else label for label in row] for row in course.gantt],
        "text": [
            ["" if label < 0 else escape(course.labels[label]) for label in row]
            for row in course.gantt
        ],
        "zmin": -0.5, "zmax": count - 0.5, "colorscale": scale, "showscale": False,
        "hoverongaps": False, "hovertemplate": "core %{y}: %{text}<extra></extra>",
        "xgap": 0, "ygap": 1 if len(course.cores) <= 40 else 0,
    }  # fmt: skip
