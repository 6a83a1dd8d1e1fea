"""Suites: what they score, and how they sum up."""

from __future__ import annotations

import pytest

from archsim.errors import InputError
from archsim.validate import Point, Suite, run_suite


def test_projections_hold() -> None:
    suite = run_suite("projections")
    curves = [p for p in suite.points if p.quantity == "speedup_over_dense"]
    edges = [p for p in suite.points if p.quantity == "useful_density_low" and p.scored]
    assert len(curves) == 90
    assert len(edges) == 25
    summary = suite.as_document()["summary"]
    assert summary["points"] == 115
    assert summary["failed"] == 0
    assert all(abs(p.predicted - p.measured) <= 0.02 or abs(p.error or 0) <= 0.01 for p in curves)
    assert all(abs(p.predicted - p.measured) <= 0.002 for p in edges)


def test_the_paper_s_constant_is_shown_not_scored() -> None:
    upper = [p for p in run_suite("projections").points if p.quantity == "useful_density_high"]
    assert upper
    assert not any(p.scored for p in upper)
    assert all(p.passed is None for p in upper)


def _point(predicted: float, measured: float = 1.0, *, scored: bool = True, **more: str) -> Point:
    return Point(
        figure="f", machine="m", network="n", layer="l", method=more.get("method", "a"),
        sparsity=0.5, quantity="q", predicted=predicted, measured=measured, unit="x",
        tolerance=0.1, tolerance_kind="relative", scored=scored, variant="v",
        split=more.get("split", "seen"),  # type: ignore[arg-type]
    )  # fmt: skip


def test_summary_counts_scored_points_only() -> None:
    points = (
        _point(1.05), _point(0.8, split="unseen", method="b"), _point(9.0, scored=False),
    )  # fmt: skip
    summary = Suite("s", points).as_document()["summary"]
    assert summary["points"] == 2
    assert summary["failed"] == 1
    assert summary["max_abs_error"] == pytest.approx(0.2)
    assert summary["median_abs_error"] == pytest.approx(0.125)
    assert summary["mean_signed_error"] == pytest.approx(-0.075)
    assert summary["by_split"]["unseen"]["points"] == 1
    assert summary["by_split"]["seen"]["failed"] == 0
    assert set(summary["by_method"]) == {"a", "b"}


def test_a_witness_of_zero_has_no_relative_error() -> None:
    assert _point(1.0, 0.0).error is None


def test_unknown_suite() -> None:
    with pytest.raises(InputError, match="did you mean 'projections'"):
        run_suite("projection")
