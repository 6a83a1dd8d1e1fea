"""The scoreboard of validation suites as a Markdown page, from their JSON documents alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from archsim.report.record import clean

_WORST: Final = 5


@dataclass(frozen=True, slots=True)
class Goal:
    """A number of a suite's summary, and how far it should be."""

    label: str
    path: tuple[str, ...]
    sense: Literal["most", "least"]
    value: float

    def found(self, summary: Mapping[str, Any]) -> float | None:
        """Return the number, or None where the suite does not have it."""
        value: Any = summary
        for key in self.path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    def reached(self, value: float) -> bool:
        """Whether the number is as far as it should be."""
        return value <= self.value if self.sense == "most" else value >= self.value


def _most(label: str, value: float, *path: str) -> Goal:
    return Goal(label, path, "most", value)


def _least(label: str, value: float, *path: str) -> Goal:
    return Goal(label, path, "least", value)


def _machine(label: str, name: str, median: float, p90: float, worst: float | None) -> list[Goal]:
    place = ("by_machine", name)
    goals = [
        _most(f"{label}, median", median, *place, "median_abs_error"),
        _most(f"{label}, 90 % of the points", p90, *place, "p90_abs_error"),
        _least(f"{label}, rank correlation", 0.99, *place, "rank_correlation"),
    ]
    if worst is not None:
        goals.insert(2, _most(f"{label}, worst point", worst, *place, "max_abs_error"))
    return goals


#: What each suite should reach.
GOALS: Final[Mapping[str, Sequence[Goal]]] = {
    "projections": [_most("points that fail", 0, "failed")],
    "published": [
        *_machine("Atom C2750", "atom-c2750", 0.05, 0.09, 0.12),
        *_machine("two Xeon E5-2697 v4", "xeon-e5-2697v4-2s", 0.06, 0.15, None),
        _most("Xeons over Atom at the same point, median", 0.04, "ratio_error"),
        _most("Xeon Phi 7250, one point", 0.15, "by_machine", "xeon-phi-7250", "max_abs_error"),
    ],
    "incore": [_most("median", 0.08, "median_abs_error")],
    "traffic": [_most("misses above 1 % of the loads, median", 0.10, "median_abs_error")],
    "native": [
        _most("unseen layers, median", 0.05, "by_split", "unseen", "median_abs_error"),
        _most("unseen layers, 90 % of the points", 0.12, "by_split", "unseen", "p90_abs_error"),
        _most("sums over a network, median", 0.04, "network_total_error"),
        _least("the faster of two methods, more than 10 % apart", 0.98, "ranking_accuracy"),
        _most("regret of the chosen method, mean", 0.01, "regret"),
        _least("measurements inside the 90 % interval", 0.85, "by_split", "unseen", "coverage"),
        _most("measurements inside the 90 % interval", 0.95, "by_split", "unseen", "coverage"),
    ],
}


#: Numbers of a suite's summary that have no goal: what the others are to be read with.
TOLD: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "native": {
        "noise floor: a second measurement against the first, median": ("noise_floor",),
        "the same, 90 % of the points": ("noise_p90",),
        "drift of the anchor kernel": ("anchor_drift",),
        "points without enough undisturbed calls": ("disturbed_share",),
        "undisturbed points, median": ("undisturbed_unseen", "median_abs_error"),
        "undisturbed points, 90 % of them": ("undisturbed_unseen", "p90_abs_error"),
        "regret of the chosen method, worst": ("regret_max",),
    },
}


def scoreboard(
    documents: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, str],
    *,
    about: str,
) -> str:
    """Return the page.

    Parameters
    ----------
    documents : mapping
        Suite -> its JSON document (schema 1).
    skipped : mapping
        Suite -> why it did not run.
    about : str
        Date, machine and versions of the run.
    """
    lines = [
        about,
        "",
        "| suite | what | goal | found | reached |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, document in documents.items():
        for goal in GOALS.get(name, ()):
            lines.append(_goal_row(name, goal, document["summary"]))
        for label, path in TOLD.get(name, {}).items():
            found = Goal(label, path, "most", 0.0).found(document["summary"])
            lines.append(f"| {name} | {label} | | {_percent(found)} | |")
    lines += [f"| {name} | skipped: {_cell(reason)} | | | |" for name, reason in skipped.items()]
    for name, document in documents.items():
        lines += ["", f"### {name}", "", *_errors(document), "", *_worst(document)]
        lines += [f"* {_cell(str(note))}" for note in document.get("notes", ())]
    return "\n".join(lines) + "\n"


def _goal_row(suite: str, goal: Goal, summary: Mapping[str, Any]) -> str:
    found = goal.found(summary)
    word = "at most" if goal.sense == "most" else "at least"
    wanted = f"{word} {_number(goal.value, goal)}"
    if found is None:
        return f"| {suite} | {goal.label} | {wanted} | - | |"
    mark = "yes" if goal.reached(found) else "**no**"
    return f"| {suite} | {goal.label} | {wanted} | {_number(found, goal)} | {mark} |"


def _number(value: float, goal: Goal) -> str:
    if goal.path[-1] == "failed":
        return f"{value:.0f}"
    return f"{value:.4f}" if goal.path[-1] == "rank_correlation" else f"{value:.1%}"


_COLUMNS: Final = {
    "points": "points", "median": "median_abs_error", "90 %": "p90_abs_error",
    "worst": "max_abs_error", "bias": "mean_signed_error", "in interval": "coverage",
}  # fmt: skip


def _errors(document: Mapping[str, Any]) -> list[str]:
    """Errors of all points, and by whatever the suite tells apart."""
    summary = document["summary"]
    rows = {"all scored": summary}
    for key in ("by_split", "by_machine", "by_schedule"):
        rows |= {name: found for name, found in summary.get(key, {}).items() if found["points"]}
    lines = _head("of", *_COLUMNS)
    for name, found in rows.items():
        cells = [str(found["points"])]
        cells += [_percent(found.get(key)) for key in list(_COLUMNS.values())[1:]]
        lines.append(f"| {_cell(name)} | " + " | ".join(cells) + " |")
    return lines


def _worst(document: Mapping[str, Any]) -> list[str]:
    """The scored points that are farthest off."""
    points = [p for p in document["points"] if p["scored"] and p["error"] is not None]
    far = sorted(points, key=lambda p: -abs(p["error"]))[:_WORST]
    if not far or not far[0]["error"]:
        return []
    lines = _head("worst points", "method", "predicted", "measured", "error")
    for p in far:
        where = " ".join(filter(None, (p["machine"], p["network"], p["layer"], p["figure"])))
        method = f"{p['method']} {p.get('schedule') or ''}".strip()
        unit = p["unit"]
        lines.append(
            f"| {_cell(where)} | {_cell(method)} | {p['predicted']:.4g} {unit} | "
            f"{p['measured']:.4g} {unit} | {p['error']:+.1%} |"
        )
    return [*lines, ""]


def _head(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _cell(text: str) -> str:
    return clean(" ".join(text.splitlines())).replace("|", "\\|")
