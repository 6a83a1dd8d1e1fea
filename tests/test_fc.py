"""Plans of fully connected layers: counts against a walk over the kernel's loops; native runs."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import kernels, native
from archsim.api import make_plan, predict
from archsim.errors import NotApplicableError
from archsim.machinefile import load_machine
from archsim.network import Layer, load_network
from archsim.sparsity import Sparsity

ATOM = load_machine("atom-c2750")
XEON = load_machine("xeon-e5-2697v4-2s")
PHI = load_machine("xeon-phi-7250")
SKYLAKE = load_machine("xeon-skylake-sp-2s")
HOST = archsim.load_machine("host")
FC7 = load_network("alexnet")["fc7"]
LAYERS = [
    Layer("one weight", C=1, K=1, type="fc"),
    Layer("one output", C=500, K=1, type="fc"),
    Layer("one input", C=1, K=90, type="fc"),
    Layer("odd", C=131, K=257, type="fc"),
    Layer("wide", C=70_001, K=5, type="fc"),
]
METHODS = ("fc_dense", "fc_sparse")


def total(plan: Any, operation: str) -> float:
    return float(sum(np.sum(getattr(phase.work, operation) * phase.tiles.total)
                     for phase in plan.phases if phase.name == "products"))  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 100])
def test_sparse_counts_are_a_walk_over_the_lists(layer: Layer, batch: int) -> None:
    pattern = Sparsity(0.2).draw(layer)
    assert pattern.weights is not None
    nonzeros = np.count_nonzero(pattern.weights)
    for machine, threads in ((ATOM, 1), (XEON, 3), (SKYLAKE, 2)):
        plan = make_plan(
            layer, machine, method="fc_sparse", pattern=pattern, batch=batch, threads=threads,
            schedule="gather" if batch == 1 else "lanes",
        )  # fmt: skip
        lanes, vectors = plan.target.lanes, plan.blocking["vectors"]
        assert isinstance(vectors, int)
        assert plan.nonzeros == nonzeros
        assert plan.part_ptr[-1] == layer.K
        if vectors == 0:
            assert batch == 1
            assert total(plan, "gathered") == nonzeros * batch
            continue
        turns = ceil(batch / (vectors * lanes))
        assert plan.turns == turns
        assert total(plan, "gathered") == 0
        assert total(plan, "broadcasts") == turns * (nonzeros + layer.K)
        blocks = ceil(layer.C / int(plan.blocking["input_block"]))
        sums = turns * layer.K * blocks * vectors
        assert total(plan, "multiply_adds") == turns * nonzeros * vectors
        assert total(plan, "stores") == sums


def test_a_block_of_inputs_stays_in_the_first_level() -> None:
    for machine in (ATOM, XEON, PHI, SKYLAKE):
        plan = make_plan(FC7, machine, method="fc_sparse", density=0.2, batch=16)
        images = int(plan.blocking["vectors"]) * plan.target.lanes
        assert int(plan.blocking["input_block"]) * images * 4 <= plan.target.l1_bytes
        assert int(plan.blocking["input_block"]) * images // 2 <= 2**16
    few = make_plan(FC7, PHI, method="fc_sparse", density=1e-4, batch=16)
    assert int(few.blocking["input_block"]) == FC7.C  # lists of few nonzeros are not cut


@pytest.mark.parametrize("batch", [1, 3, 17, 300])
def test_dense_counts_are_the_products(batch: int) -> None:
    for machine in (ATOM, XEON, SKYLAKE):
        for layer in (*LAYERS, FC7):
            plan = make_plan(layer, machine, method="fc_dense", batch=batch, threads=2)
            wide = int(plan.blocking["reg_vectors"])
            units = ceil(layer.K / (wide * plan.target.lanes))
            turned = plan.turns * int(plan.blocking["images"])  # the last turn counts as full
            assert batch <= turned < batch + plan.turns
            assert total(plan, "multiply_adds") == units * wide * layer.C * turned
            assert plan.actual_flop == plan.effective_flop


def test_schedules() -> None:
    one = make_plan(FC7, SKYLAKE, method="fc_sparse", density=0.1)
    many = make_plan(FC7, SKYLAKE, method="fc_sparse", density=0.1, batch=16)
    assert (one.schedule, many.schedule) == ("gather", "lanes")
    assert [phase.name for phase in one.phases] == ["products"]
    assert [phase.name for phase in many.phases] == ["input", "products", "output"]
    forced = make_plan(FC7, SKYLAKE, method="fc_sparse", density=0.1, batch=16, schedule="gather")
    assert total(forced, "gathered") == pytest.approx(16 * 0.1 * FC7.weights)


def test_a_stated_gather_rate_counts() -> None:
    isa = SKYLAKE.core.isa["avx512"]
    sets = {**SKYLAKE.core.isa, "avx512": isa.model_copy(update={"gathers": 0.1})}
    core = SKYLAKE.core.model_copy(update={"isa": sets})
    slow = SKYLAKE.model_copy(update={"core": core})
    times = [predict(FC7, machine, method="fc_sparse", schedule="gather", density=0.1,
                     threads=1).seconds
             for machine in (SKYLAKE, slow)]  # fmt: skip
    assert times[0] is not None
    assert times[1] is not None
    least = 0.1 * FC7.weights / 0.1 / SKYLAKE.clock_for("avx512")
    assert times[0] < least <= times[1]


@pytest.mark.parametrize("method", METHODS)
def test_convolutions_say_why_not(method: str) -> None:
    with pytest.raises(NotApplicableError, match="for fully connected layers"):
        make_plan(load_network("alexnet")["conv3"], XEON, method=method, density=0.1)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS[:4], ids=lambda layer: layer.name)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (2, 1), (17, 2)])
def test_plans_run_and_are_right(
    layer: Layer, method: str, isa: str, batch: int, threads: int
) -> None:
    if threads > HOST.total_threads:
        pytest.skip("this host has one thread")
    weights = Sparsity(0.3).draw(layer, seed=1).weights
    assert weights is not None
    plan = make_plan(
        layer, HOST, method=method, pattern=weights, batch=batch, threads=threads, isa=isa
    )
    found = native.run(plan, weights, min_seconds=0.0, check=True)
    assert found.max_error is not None
    assert found.max_error < 1e-5
    assert found.isa == isa


def test_sparse_forced_to_gather_runs_a_batch() -> None:
    weights = Sparsity(0.3).draw(LAYERS[3]).weights
    assert weights is not None
    plan = make_plan(LAYERS[3], HOST, method="fc_sparse", pattern=weights, batch=5, threads=1,
                     schedule="gather")  # fmt: skip
    found = native.run(plan, weights, min_seconds=0.0, check=True)
    assert found.max_error is not None
    assert found.max_error < 1e-5
