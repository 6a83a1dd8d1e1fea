"""The page of all validation suites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from archsim.cli import run
from archsim.errors import InputError
from archsim.report.page import write_between
from archsim.report.scoreboard import GOALS, scoreboard


def _document(**summary: Any) -> dict[str, Any]:
    point = {
        "machine": "m", "network": "n", "layer": "a|b", "figure": "f", "method": "x",
        "schedule": "row", "predicted": 2.0, "measured": 1.0, "unit": "s", "error": 1.0,
        "scored": True,
    }  # fmt: skip
    known = {
        "points": 1, "failed": 0, "median_abs_error": 0.03, "p90_abs_error": 0.2,
        "max_abs_error": 0.2, "mean_signed_error": 0.0, "coverage": None,
    }  # fmt: skip
    return {"summary": known | summary, "points": [point], "notes": ["said"]}


def test_goals_are_held_against_the_summary() -> None:
    page = scoreboard({"incore": _document()}, {"traffic": "no valgrind"}, about="today")
    assert "| incore | median | at most 8.0% | 3.0% | yes |" in page
    assert "skipped: no valgrind" in page
    assert "a\\|b" in page
    assert "* said" in page
    worse = scoreboard({"incore": _document(median_abs_error=0.09)}, {}, about="today")
    assert "**no**" in worse


def test_every_goal_can_be_found() -> None:
    by = {"atom-c2750": 1, "xeon-e5-2697v4-2s": 1, "xeon-phi-7250": 1}
    kinds = {"median_abs_error", "p90_abs_error", "max_abs_error", "rank_correlation"}
    summary = {
        "failed": 0, "ratio_error": 0.1, "median_abs_error": 0.1, "network_total_error": 0.1,
        "ranking_accuracy": 0.9, "regret": 0.1,
        "by_machine": {name: dict.fromkeys(kinds, 0.1) for name in by},
        "by_split": {"unseen": dict.fromkeys(kinds | {"coverage"}, 0.1)},
    }  # fmt: skip
    assert all(goal.found(summary) is not None for goals in GOALS.values() for goal in goals)


def test_native_tells_what_its_figures_rest_on() -> None:
    page = scoreboard({"native": _document(noise_floor=0.012, regret_max=None)}, {}, about="today")
    assert (
        "| native | noise floor: a second measurement against the first, median | | 1.2% | |"
        in page
    )
    assert "| native | regret of the chosen method, worst | | - | |" in page


def test_a_page_keeps_what_is_around_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scores: begin -->\nold\n<!-- scores: end -->\nafter\n", "utf-8")
    write_between(page, "scores", "new\n")
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "new" in text
    assert "old" not in text
    with pytest.raises(InputError, match="no marks"):
        write_between(page, "other", "x")


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "scoreboard", "--suites", "projections"]) == 0
    assert "| projections | points that fail | at most 0 | 0 | yes |" in capsys.readouterr().out
    assert run(["validate", "scoreboard", "--suites", "nothing"]) == 2
