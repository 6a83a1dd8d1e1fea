"""Laws that hold for any layer, machine and schedule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.api import make_plan
from archsim.errors import InputError, NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.simulation import simulate_network
from archsim.simulator.engine import simulate, simulate_all
from archsim.simulator.outcome import Simulation
from archsim.simulator.timeline import Recorder

MACHINES = [load_machine(n) for n in ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")]
CONV3 = load_network("alexnet")["conv3"]
ATOM, XEON, PHI = MACHINES


@st.composite
def cases(draw: Any) -> Any:
    """A plan on a machine, and settings."""
    machine = draw(st.sampled_from(MACHINES))
    side = draw(st.integers(1, 20))
    kernel = draw(st.sampled_from([1, 3, 5]))
    layer = Layer(
        "drawn", C=draw(st.integers(1, 40)), K=draw(st.integers(1, 70)), H=side, W=side,
        R=kernel, S=kernel, pad=(kernel // 2,) * 2,
    )  # fmt: skip
    name = draw(st.sampled_from(["direct_sparse", "lowered_sparse", "dense_direct", "dense_gemm"]))
    density = 1.0 if METHODS[name].dense else draw(st.sampled_from([0.02, 0.2, 1.0]))
    threads = draw(st.integers(1, machine.total_threads))
    batch = draw(st.integers(1, 40))
    partition = draw(st.sampled_from(["nnz", "rows", "dynamic"]))
    plan = make_plan(layer, machine, method=name, density=density, batch=batch, threads=threads,
                     partition=partition)  # fmt: skip
    chosen = {
        "start": draw(st.sampled_from(["warm", "chained", "cold"])),
        "take": draw(st.sampled_from(["plan", "dynamic", "stealing"])),
        "chunk": draw(st.integers(1, 9)),
        "events": draw(st.sampled_from([None, 64, 4096])),
    }
    return plan, machine, chosen


def _check(found: Simulation, tiles: int) -> None:
    assert found.tiles == tiles
    assert 0.0 < found.seconds < float("inf")
    levels = found.levels
    for outer, inner in zip(levels[1:], levels, strict=False):
        assert inner.hits is None or 0.0 <= inner.hits <= 1.0
        # what a level asks for outside is what it did not have
        asked = inner.asked_bytes * (1.0 - (inner.hits or 0.0)) if inner.asked_bytes else 0.0
        assert outer.read_bytes == pytest.approx(asked, rel=1e-6, abs=1e-6)
        if inner is not levels[0]:  # what is written out came in
            assert outer.written_bytes <= inner.written_bytes * (1 + 1e-9)
    # what tiles drew, the memories served
    drawn = levels[-1].read_bytes + levels[-1].written_bytes
    assert sum(m.served_bytes for m in found.memories) == pytest.approx(drawn, rel=1e-6, abs=1e-3)
    assert all(m.utilisation <= 1.0 + 1e-9 for m in found.memories)
    assert max(found.core_busy) <= 1.0 + 1e-9
    for use in found.cores:
        parts = use.working + use.memory + use.waiting + use.idle
        assert parts == pytest.approx(found.seconds, rel=1e-6)
        assert use.queued <= use.working * (1 + 1e-9)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_bytes_and_time_add_up(case: Any) -> None:
    plan, machine, chosen = case
    total = sum(int(phase.tiles.total.sum()) for phase in plan.phases)
    _check(simulate(plan, machine, **chosen), total)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_the_same_again_is_the_same_to_the_bit(case: Any) -> None:
    plan, machine, chosen = case
    first, second = (simulate(plan, machine, **chosen) for _ in range(2))
    assert first == second
    assert first.runs == second.runs


def test_a_timeline_changes_nothing() -> None:
    plan = make_plan(CONV3, PHI, method="direct_sparse", density=0.1, batch=20)
    recorder = Recorder()
    assert simulate(plan, PHI) == simulate(plan, PHI, recorder=recorder)
    assert recorder.complete
    assert recorder.slices


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_runs_on_every_machine(method: str) -> None:
    layer = load_network("alexnet")["fc8" if method.startswith("fc") else "conv5"]
    domain: Any = "winograd" if method == "sparse_winograd" else "spatial"
    for machine in MACHINES:
        try:
            plan = make_plan(layer, machine, method=method, batch=5, density_domain=domain,
                             density=1.0 if METHODS[method].dense else 0.2)  # fmt: skip
        except NotApplicableError:
            continue
        _check(simulate(plan, machine), sum(int(p.tiles.total.sum()) for p in plan.phases))


def test_cold_caches_fetch_more() -> None:
    plan = make_plan(CONV3, ATOM, method="direct_sparse", density=0.1, batch=8)
    warm, chained, cold = (
        simulate(plan, ATOM, start=start) for start in ("warm", "chained", "cold")
    )
    read = [found.levels[-1].read_bytes for found in (warm, chained, cold)]
    assert read[0] <= read[1] <= read[2]
    assert cold.seconds >= warm.seconds
    weights = 8 * plan.nonzeros / 4  # each of four caches fetches them once
    assert read[1] - read[0] <= 2 * 8 * weights


def test_a_thread_alone_has_the_cache_for_itself() -> None:
    layer = Layer("one", C=64, K=64, H=28, W=28, R=3, S=3, pad=(1, 1))
    common: dict[str, Any] = {"method": "direct_sparse", "density": 0.1, "schedule": "row"}
    one = simulate(make_plan(layer, PHI, batch=1, threads=1, **common), PHI)
    all_ = simulate(make_plan(layer, PHI, batch=272, threads=272, **common), PHI)
    assert one.levels[2].read_bytes <= all_.levels[2].read_bytes / 272


def test_a_shared_memory_slows_all_down_alike() -> None:
    plan = make_plan(CONV3, XEON, method="dense_gemm", batch=72)
    found = simulate(plan, XEON)
    assert found.memories[0].crowding > 1.0
    assert found.memories[0].slow_seconds > 0.0
    stalled = [use.memory for use in found.cores]
    assert min(stalled) > 0.5 * max(stalled)


@pytest.mark.parametrize("take", ["dynamic", "stealing"])
def test_taking_parts_evens_out_what_the_plan_does_not(take: str) -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    weights = np.zeros(CONV3.weight_shape, dtype=np.float32)
    weights[:192] = rng.random(weights[:192].shape) < 0.2
    weights[192:] = rng.random(weights[192:].shape) < 0.02
    plan = make_plan(CONV3, XEON, method="direct_sparse", schedule="row", pattern=weights, batch=1,
                     threads=8, partition="rows")  # fmt: skip
    fixed, taken = simulate(plan, XEON), simulate(plan, XEON, take=take)
    assert taken.seconds < fixed.seconds
    assert taken.tiles == fixed.tiles


def test_layers_follow_each_other() -> None:
    net = load_network("lenet5")
    run = simulate_network(net, "atom-c2750", sparsity=0.8, batch=8)
    assert len(run.results) == len(list(net))
    assert run.seconds == pytest.approx(sum(r.seconds or 0.0 for r in run.results))
    starts = [d.start_seconds for d in run.details]
    assert starts == sorted(starts)
    assert starts[1] == pytest.approx(run.details[0].seconds)
    assert all(result.model == "simulator" for result in run.results)


def test_plans_in_a_row_are_warmer_than_apart() -> None:
    plans = [make_plan(CONV3, ATOM, method="direct_sparse", density=0.1, batch=8)] * 2
    first, second = simulate_all(plans, ATOM, start="cold")
    assert second.levels[-1].read_bytes <= first.levels[-1].read_bytes


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"start": "tepid"}, "start: unknown state"),
        ({"take": "some"}, "take: unknown rule"),
        ({"chunk": 0}, "chunk: must be at least 1"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], text: str) -> None:
    plan = make_plan(CONV3, ATOM, method="direct_sparse", density=0.1)
    with pytest.raises(InputError, match=text):
        simulate(plan, ATOM, **wrong)


def test_nothing_to_simulate() -> None:
    from dataclasses import replace

    plan = make_plan(CONV3, ATOM, method="direct_sparse", density=0.1, threads=1)
    empty = tuple(replace(p, tiles=replace(p.tiles, count=0 * p.tiles.count)) for p in plan.phases)
    with pytest.raises(InputError, match="conv3: has no tiles"):
        simulate(replace(plan, phases=empty), ATOM)
    with pytest.raises(InputError, match="plans: there is none"):
        simulate_all([], ATOM)


def test_too_much_to_simulate() -> None:
    plan = make_plan(CONV3, ATOM, method="direct_sparse", density=0.1, batch=10**8)
    with pytest.raises(InputError, match="too many tiles"):
        simulate(plan, ATOM)
