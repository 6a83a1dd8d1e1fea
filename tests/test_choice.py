"""What ``auto`` is: the fastest candidate, whoever asks, and never slower with fewer nonzeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim import load_machine, load_network, make_plan, predict, predict_grid
from archsim.methods import METHODS, get_method
from archsim.plan import Candidate

ALEXNET = load_network("alexnet")
MACHINES = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")


def times(layer: str, machine: str, schedule: str, **given: Any) -> float | None:
    return predict(
        ALEXNET[layer], machine, schedule=schedule, intervals=False, batch=16, **given
    ).seconds


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("layer", "method"), [
    ("conv3", "direct_sparse"), ("conv3", "winograd"), ("fc7", "fc_sparse"),
])  # fmt: skip
def test_auto_is_the_fastest_schedule(layer: str, method: str, machine: str) -> None:
    known = {"method": method, "density": 0.1}
    names = [n for n in METHODS[method].schedules[1:] if ":fixed" not in n and ":dyn" not in n]
    every = [found for n in names if (found := times(layer, machine, n, **known)) is not None]
    assert len(every) > 1
    assert times(layer, machine, "auto", **known) == min(every)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("schedule", ["auto", "lanes", "lanes:shifts"])
def test_fewer_nonzeros_are_never_slower_whatever_auto_is(machine: str, schedule: str) -> None:
    found = predict_grid(
        ALEXNET["conv3"], machine, densities=np.linspace(0.01, 1.0, 50), method="direct_sparse",
        schedule=schedule,
    ).seconds[0, :, 0, 0]  # fmt: skip
    assert (found[:-1] <= found[1:] * (1 + 1e-12)).all()


def test_grids_and_plans_speak_of_the_same_schedule() -> None:
    layer, machine = ALEXNET["conv5"], "xeon-phi-7250"
    for density in (0.03, 0.2):
        given = {"method": "direct_sparse", "threads": 16}
        one = predict(layer, machine, density=density, batch=4, **given)  # type: ignore[arg-type]
        grid = predict_grid(layer, machine, densities=[density], batches=[4], **given)  # type: ignore[arg-type]
        assert one.seconds == pytest.approx(grid.seconds.item(), rel=1e-12)
        plan = make_plan(layer, machine, density=density, batch=4, **given)  # type: ignore[arg-type]
        assert plan.schedule == one.schedule


def test_candidates_do_not_repeat_and_know_their_kind() -> None:
    layer, direct = ALEXNET["conv3"], get_method("direct_sparse")
    given: dict[str, Any] = {"batch": 1, "threads": 1}
    given["target"] = load_machine("xeon-phi-7250").target(None)
    found = direct.candidates(layer, "auto", **given)
    assert len(set(found)) == len(found) > 4
    assert found[0] == Candidate("row")
    assert not any(c.schedule == "pointwise" for c in found)  # a 3x3 layer
    shifts = direct.candidates(layer, "lanes:shifts", **given)
    assert {c.schedule for c in shifts} == {"lanes:shifts"}
    assert direct.candidates(layer, "row:dyn8", **given) == (Candidate("row:dyn8"),)


def test_a_schedule_that_cannot_be_says_why() -> None:
    found = predict(ALEXNET["conv3"], "atom-c2750", method="direct_sparse", schedule="pointwise")
    assert found.seconds is None
    assert "pointwise is for 1x1" in (found.reason or "")
