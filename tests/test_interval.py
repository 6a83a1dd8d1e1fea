"""Intervals of predictions."""

from __future__ import annotations

import pytest

import archsim
from archsim.analytic import interval as module
from archsim.analytic.interval import interval, variants
from archsim.network import load_network

LAYER = load_network("alexnet")["conv3"]


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "model_errors", dict)


def _predict(machine: archsim.Machine) -> archsim.Result:
    return archsim.predict(LAYER, machine, method="direct_sparse", density=0.1, schedule="row")


@pytest.mark.usefixtures("perfect")
def test_a_machine_without_ranges_has_no_spread() -> None:
    machine = archsim.load_machine("xeon-phi-7250-1024bit")
    if not variants(machine, machine.default_isa):
        found = _predict(machine)
        assert found.seconds_low == found.seconds == found.seconds_high


@pytest.mark.usefixtures("perfect")
@pytest.mark.parametrize("name", ["atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250"])
def test_ranges_move_the_time_both_ways(name: str) -> None:
    found = _predict(archsim.load_machine(name))
    assert found.seconds is not None
    assert found.seconds_low is not None
    assert found.seconds_high is not None
    assert 0.5 * found.seconds < found.seconds_low <= found.seconds <= found.seconds_high
    assert found.seconds_high < 2.0 * found.seconds
    assert found.seconds_low < found.seconds_high


def test_the_model_s_error_adds_in_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = archsim.load_machine("atom-c2750")
    plan = archsim.make_plan(LAYER, machine, method="direct_sparse", density=0.1, schedule="row")

    def ends(errors: dict[str, tuple[float, float]]) -> tuple[float, float]:
        monkeypatch.setattr(module, "model_errors", lambda: errors)
        return interval(plan, machine, 1.0, isa=plan.target.isa, clock="sustained")

    alone = ends({})
    wider = ends({"direct_sparse": (-0.3, 0.4)})
    assert wider[0] < alone[0]
    assert wider[1] > alone[1]
    assert ends({"all": (-0.3, 0.4)}) == wider
    assert ends({"dense_gemm": (-0.3, 0.4)}) == alone


def test_intervals_can_be_left_out() -> None:
    found = archsim.predict(LAYER, "atom-c2750", method="dense_gemm", intervals=False)
    assert found.seconds_low is None
    assert found.seconds_high is None
