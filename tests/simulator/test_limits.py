"""Limits in which the simulator must be what a line of arithmetic or the closed form says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.analytic import ecm
from archsim.api import make_plan, predict, simulate
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.network import Layer, load_network
from archsim.plan import Plan
from archsim.simulator.engine import simulate as run

ALEXNET = load_network("alexnet")
CONV3 = ALEXNET["conv3"]
ATOM = load_machine("atom-c2750")
XEON = load_machine("xeon-e5-2697v4-2s")
PHI = load_machine("xeon-phi-7250")


MUCH = 1e12  # rates of machines that exist for a limit only


def _vary(machine: Machine, **changes: Any) -> Machine:
    """Return a machine with other top-level fields."""
    return machine.model_copy(update=changes)


def _infinite_bandwidth(machine: Machine) -> Machine:
    """All transfers take no time."""
    caches = tuple(
        c.model_copy(
            update={
                "bandwidth_bytes_per_cycle": MUCH, "write_bytes_per_cycle": None,
                "overlap": "serial",
            }
        )
        for c in machine.caches
    )  # fmt: skip
    memory = tuple(
        m.model_copy(
            update={"bandwidth_bytes_per_s": MUCH * 1e9, "core_bandwidth_bytes_per_s": MUCH * 1e9}
        )
        for m in machine.memory
    )
    return _vary(machine, caches=caches, memory=memory)


def _infinite_compute(machine: Machine) -> Machine:
    """Cores take no time for anything."""
    rates = dict.fromkeys(("multiply", "add", "loads", "stores", "gathers"), MUCH)
    waits = dict.fromkeys(
        ("multiply_latency_cycles", "add_latency_cycles", "line_crossing_cycles",
         "page_crossing_cycles"), 1 / MUCH
    )  # fmt: skip
    isa = {name: unit.model_copy(update=rates | waits) for name, unit in machine.core.isa.items()}
    core = machine.core.model_copy(
        update={"isa": isa, "issue_width": MUCH, "scalar": MUCH, "scalar_loads": MUCH,
                "mispredict_cycles": 0.0}
    )  # fmt: skip
    first = machine.caches[0].model_copy(update={"latency_cycles": 1 / MUCH})
    return _vary(machine, core=core, caches=(first, *machine.caches[1:]))


def _bandwidth(machine: Machine, factor: float) -> Machine:
    """Memory of another bandwidth."""
    memory = tuple(
        m.model_copy(update={"bandwidth_bytes_per_s": m.bandwidth_bytes_per_s * factor})
        for m in machine.memory
    )
    return _vary(machine, memory=memory)


@pytest.mark.parametrize("machine", [ATOM, XEON, PHI], ids=lambda m: m.name)
@pytest.mark.parametrize("method", ["direct_sparse", "lowered_sparse", "dense_direct"])
def test_one_core_with_infinite_bandwidth_is_its_tiles(machine: Machine, method: str) -> None:
    density = 1.0 if method == "dense_direct" else 0.1
    plan = make_plan(CONV3, machine, method=method, density=density, batch=2, threads=1)
    found = run(plan, _infinite_bandwidth(machine))
    assert found.seconds == pytest.approx(ecm.estimate(plan, machine, memory=False).seconds)
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)


@pytest.mark.parametrize("method", ["direct_sparse", "lowered_sparse", "dense_gemm"])
def test_one_core_with_infinite_compute_is_its_transfers(method: str) -> None:
    plan = make_plan(CONV3, XEON, method=method, density=0.1, batch=2, threads=1)
    found = run(plan, _infinite_compute(XEON))
    hertz, home = XEON.clock_for(), XEON.memory[0]
    seconds = 0.0
    for level, cache in zip(found.levels[1:], XEON.caches[1:], strict=False):
        rate = cache.bandwidth_bytes_per_cycle
        seconds += level.read_bytes / rate / hertz
        seconds += level.written_bytes / (cache.write_bytes_per_cycle or rate) / hertz
    rate = home.core_bandwidth_bytes_per_s or (
        XEON.caches[-1].outstanding * XEON.caches[-1].line_bytes / home.latency_s
    )
    drawn = found.levels[-1].read_bytes + found.levels[-1].written_bytes
    assert found.seconds == pytest.approx(seconds + drawn / rate, rel=1e-6)
    assert found.seconds > 0


@pytest.mark.parametrize("machine", [ATOM, XEON, PHI], ids=lambda m: m.name)
@pytest.mark.parametrize("method", ["direct_sparse", "lowered_sparse", "dense_direct"])
def test_equal_work_on_all_cores_is_the_closed_form(machine: Machine, method: str) -> None:
    density = 1.0 if method == "dense_direct" else 0.1
    n = machine.total_cores
    plan = make_plan(CONV3, machine, method=method, density=density, batch=n, threads=n)
    found, closed = run(plan, machine), ecm.estimate(plan, machine)
    assert found.seconds == pytest.approx(closed.seconds, rel=0.02)
    for level, count in closed.bytes.items():
        assert found.bytes[level] == pytest.approx(count, rel=0.02, abs=1.0)


def test_a_memory_that_all_wait_for_gives_its_bandwidth() -> None:
    slow = _bandwidth(ATOM, 0.02)
    plan = make_plan(CONV3, slow, method="lowered_sparse", density=0.1, batch=16)
    found = run(plan, slow)
    drawn = found.levels[-1].read_bytes + found.levels[-1].written_bytes
    busy = [p.seconds for p in found.phases]
    assert found.memories[0].utilisation > 0.8
    assert found.memories[0].utilisation <= 1.0
    assert found.seconds >= drawn / slow.memory[0].bandwidth_bytes_per_s
    assert found.bound_by[0] == slow.memory[0].name
    assert sum(busy) == pytest.approx(found.seconds)


def test_hardware_threads_share_their_core() -> None:
    layer = Layer("small", C=16, K=64, H=8, W=8, R=3, S=3, pad=(1, 1))
    fast = _infinite_bandwidth(XEON).model_copy(update={"barrier_cycles": 0.0})
    common: dict[str, Any] = {"method": "direct_sparse", "density": 0.6}
    one = run(make_plan(layer, XEON, batch=36, threads=36, **common), fast)
    two = run(make_plan(layer, XEON, batch=72, threads=72, **common), fast)
    # ports that one thread leaves idle between phases the other may use, no more than that
    assert 2 * one.seconds >= two.seconds >= 1.9 * one.seconds
    assert min(two.core_busy) > 0.9
    assert all(use.queued > 0.4 * use.working for use in two.cores)


def _two_blocks(threads: int) -> tuple[Plan, Machine]:
    layer = Layer("two blocks", C=8, K=32, H=8, W=8, R=3, S=3, pad=(1, 1))
    weights = np.zeros(layer.weight_shape, dtype=np.float32)
    weights[:16] = 1.0  # all the work is in the first output-channel block
    quiet = _infinite_bandwidth(ATOM).model_copy(update={"barrier_cycles": 0.0})
    plan = make_plan(layer, quiet, batch=1, threads=threads, method="direct_sparse",
                     schedule="row", partition="rows", pattern=weights)  # fmt: skip
    return plan, quiet


def test_threads_of_an_image_wait_for_the_slowest() -> None:
    (both, machine), (alone, _) = _two_blocks(2), _two_blocks(1)
    found = run(both, machine)
    assert found.seconds > 0.8 * run(alone, machine).seconds
    assert max(found.core_busy) == pytest.approx(1.0, abs=0.05)
    assert min(found.core_busy) < 0.5
    last = found.critical_path[-1]
    assert (last.thread, last.phase) == (0, "products")
    assert last.end_seconds == pytest.approx(found.seconds, rel=0.01)
    assert "imbalance" in found.bound_by


def test_a_barrier_costs_what_the_machine_says() -> None:
    plan, machine = _two_blocks(2)
    slow = machine.model_copy(update={"barrier_cycles": 2.4e6})
    meetings = plan.phases[-1].barriers
    share = np.log2(2) / np.log2(ATOM.total_threads)
    expected = 2.4e6 / ATOM.clock_for() * (1 + meetings * share)
    assert run(plan, slow).seconds - run(plan, machine).seconds == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("events", [None, 512])
def test_runs_of_tiles_take_as_long_as_the_tiles(events: int | None) -> None:
    plan = make_plan(CONV3, PHI, method="direct_sparse", density=0.1, batch=68, threads=68)
    found = run(plan, PHI, events=events)
    assert found.seconds == pytest.approx(run(plan, PHI).seconds, rel=0.02)
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)
    assert (found.runs == found.tiles) == (events is None)


@pytest.mark.parametrize("batch", [1, 9, 72])
@pytest.mark.parametrize("name", ["fc8", "conv5"])
def test_every_tile_runs(name: str, batch: int) -> None:
    plan = make_plan(ALEXNET[name], XEON, method="dense_gemm", batch=batch)
    found = run(plan, XEON)
    assert found.tiles == sum(int(phase.tiles.total.sum()) for phase in plan.phases)
    assert found.seconds > 0


def test_a_verb_gives_the_one_result() -> None:
    results = [
        simulate(CONV3, ATOM, method="direct_sparse", density=0.1, batch=3) for _ in range(2)
    ]
    assert results[0].as_dict() == results[1].as_dict()
    assert results[0].model == "simulator"
    assert set(results[0].bytes) == {"L1", "L2", ATOM.memory[0].name}
    assert results[0].bound_by


def test_dense_baseline_is_of_the_same_model() -> None:
    found = predict(CONV3, ATOM, method="direct_sparse", density=0.1, batch=8, model="simulator")
    assert found.dense_method in ("dense_gemm", "dense_direct", "winograd")
    assert found.speedup_over_dense is not None
    assert found.speedup_over_dense > 1


def test_a_short_phase_is_not_charged_for_the_long_one_beside_it() -> None:
    """Threads of a core wait for each other's tiles, some of them much longer."""
    layer = load_network("alexnet")["conv4"]
    given: dict[str, Any] = {
        "method": "direct_sparse", "schedule": "row", "density": 0.3, "batch": 144,
        "clock": "nominal",
    }  # fmt: skip
    closed = predict(layer, "xeon-e5-2697v4-2s", **given)
    events = predict(layer, "xeon-e5-2697v4-2s", model="simulator", **given)
    for phase, other in zip(events.phases, closed.phases, strict=True):
        assert phase.seconds == pytest.approx(other.seconds, abs=0.02 * (closed.seconds or 0.0))
