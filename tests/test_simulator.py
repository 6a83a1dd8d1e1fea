"""The seed of the simulator: it must be the closed form without memory, tile by tile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.analytic import ecm
from archsim.api import make_plan, predict, simulate
from archsim.machinefile import load_machine
from archsim.network import Layer, load_network
from archsim.simulator import engine
from archsim.simulator.engine import simulate as run

CONV3 = load_network("alexnet")["conv3"]
ATOM = load_machine("atom-c2750")
XEON = load_machine("xeon-e5-2697v4-2s")


@pytest.mark.parametrize("method", ["direct_sparse", "lowered_sparse"])
def test_one_core_is_the_sum_of_its_tiles(method: str) -> None:
    plan = make_plan(CONV3, ATOM, method=method, density=0.1, batch=2, threads=1)
    found = run(plan, ATOM)
    closed = ecm.estimate(plan, ATOM, memory=False)
    assert found.seconds == pytest.approx(closed.seconds, rel=0.02)
    assert found.core_busy == pytest.approx((1.0,))
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)


def test_uniform_tiles_on_all_cores_equal_the_closed_form() -> None:
    plan = make_plan(CONV3, ATOM, method="direct_sparse", density=0.1, batch=16)
    found = run(plan, ATOM)
    closed = ecm.estimate(plan, ATOM, memory=False)
    join = ATOM.barrier_cycles / ATOM.clock_for()
    assert found.seconds == pytest.approx(closed.seconds - join, rel=0.02)


def test_hardware_threads_share_their_core() -> None:
    layer = Layer("small", C=16, K=64, H=8, W=8, R=3, S=3, pad=(1, 1))
    one = make_plan(layer, XEON, method="direct_sparse", density=0.3, batch=36, threads=36)
    two = make_plan(layer, XEON, method="direct_sparse", density=0.3, batch=72, threads=72)
    assert run(two, XEON).seconds == pytest.approx(2 * run(one, XEON).seconds, rel=0.01)


def test_threads_of_an_image_wait_for_the_slowest() -> None:
    layer = Layer("two blocks", C=8, K=32, H=8, W=8, R=3, S=3, pad=(1, 1))
    weights = np.zeros(layer.weight_shape, dtype=np.float32)
    weights[:16] = 1.0  # all the work is in the first output-channel block
    common: dict[str, Any] = {"method": "direct_sparse", "schedule": "row", "pattern": weights}
    plan = make_plan(layer, ATOM, batch=1, threads=2, **common)
    alone = make_plan(layer, ATOM, batch=1, threads=1, **common)
    found = run(plan, ATOM)
    assert found.seconds > 0.8 * run(alone, ATOM).seconds
    assert max(found.core_busy) == pytest.approx(1.0, abs=0.05)
    assert min(found.core_busy) < 0.5


@pytest.mark.parametrize("batch", [1, 9, 72])
@pytest.mark.parametrize("name", ["fc8", "conv5"])
def test_every_tile_runs(name: str, batch: int) -> None:
    layer = load_network("alexnet")[name]
    plan = make_plan(layer, XEON, method="dense_gemm", batch=batch)
    found = run(plan, XEON)
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)
    assert found.seconds > 0


def test_repeats_to_the_bit() -> None:
    results = [
        simulate(CONV3, ATOM, method="direct_sparse", density=0.1, batch=3) for _ in range(2)
    ]
    assert results[0].as_dict() == results[1].as_dict()
    assert results[0].model == "simulator"


def test_utilisation_is_at_most_one() -> None:
    plan = make_plan(CONV3, XEON, method="direct_sparse", density=0.1, batch=72)
    assert max(run(plan, XEON).core_busy) <= 1.0 + 1e-9


def test_dense_baseline_is_of_the_same_model() -> None:
    found = predict(CONV3, ATOM, method="direct_sparse", density=0.1, batch=8, model="simulator")
    assert found.dense_method in ("dense_gemm", "dense_direct", "winograd")
    assert found.speedup_over_dense is not None
    assert found.speedup_over_dense > 1


def test_islands_of_one_timeline_run_once() -> None:
    """On the Xeon Phi the four threads of a core share an image: 68 cores, one timeline."""
    plan = make_plan(
        load_network("alexnet")["conv3"], "xeon-phi-7250", method="direct_sparse", density=0.1,
        batch=272, schedule="row",
    )  # fmt: skip
    (island,) = engine._islands(plan, plan.core_of_thread(68))
    assert island.copies == 68
    found = engine.simulate(plan, load_machine("xeon-phi-7250"))
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)
    assert len(found.core_busy) == 68
    assert len(set(found.core_busy)) == 1


def test_groups_that_share_a_core_are_one_island() -> None:
    assert engine._connected({0: [0, 1], 1: [1, 2], 2: [3], 3: [2]}) == [[0, 1, 3], [2]]
