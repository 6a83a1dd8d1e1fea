"""Rates that others published: which points, what is scored, how they sum up."""

from __future__ import annotations

import json

import pytest

from archsim.cli import run
from archsim.errors import InputError
from archsim.validate import Suite, published
from archsim.validate.published import rate_on_line
from archsim.validate.ranking import rank_correlation

# real patterns are of convolutions alone
pytestmark = pytest.mark.filterwarnings("ignore:.*layers without an array")


@pytest.fixture(scope="module")
def suite() -> Suite:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ARCHSIM_DATA", raising=False)
        return published()


def test_every_published_point_is_there(suite: Suite) -> None:
    points = suite.points
    scored = [p.machine for p in points if p.scored]
    assert {machine: scored.count(machine) for machine in scored} == {
        "atom-c2750": 18, "xeon-e5-2697v4-2s": 18, "xeon-phi-7250": 1,
    }  # fmt: skip
    assert [p.method for p in points if not p.scored] == ["direct_sparse"] * 4 + ["sparse_winograd"]
    assert all(p.predicted > 0 and p.split == "unseen" for p in points)


def test_the_published_schedule_ran(suite: Suite) -> None:
    schedules = {p.machine: p.schedule for p in suite.points if p.method == "direct_sparse"}
    assert schedules == {
        "atom-c2750": "row:fixed32-output", "xeon-e5-2697v4-2s": "row:fixed32",
        "xeon-phi-7250": "row:dyn32-shared",
    }  # fmt: skip


def test_the_summary_is_by_machine(suite: Suite) -> None:
    summary = suite.as_document()["summary"]
    assert summary["points"] == 37
    assert summary["by_machine"]["atom-c2750"]["rank_correlation"] > 0.9
    assert summary["ratio_error"] > 0


def test_without_real_weights_it_says_so(suite: Suite) -> None:
    assert any("real patterns skipped" in note for note in suite.notes)


def test_the_line_between_points() -> None:
    points = [[0.1, 100.0], [0.2, 50.0]]
    assert rate_on_line(points, 0.1) == pytest.approx(100.0)
    assert rate_on_line(points, 0.15) == pytest.approx(100.0 / 1.5)
    assert rate_on_line(points, 0.3) is None
    assert rate_on_line(points, 0.0) is None


def test_rank_correlation() -> None:
    assert rank_correlation([1.0, 2.0, 9.0], [10.0, 20.0, 21.0]) == pytest.approx(1.0)
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "published", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "published"
    assert run(["validate", "published"]) == 0
    assert "errors by machine" in capsys.readouterr().out


def test_unknown_model() -> None:
    with pytest.raises(InputError, match="unknown model"):
        published(model="park")
