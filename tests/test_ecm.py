"""The closed form: hand-worked cases, limits, and laws that must hold."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.analytic import ecm
from archsim.analytic.demand import traffic
from archsim.analytic.seats import placement
from archsim.api import make_plan, predict
from archsim.explanation import explain
from archsim.grid import predict_grid
from archsim.incore import incore
from archsim.machine import Machine
from archsim.machinefile import load_machine, machine_names
from archsim.methods import METHODS, winograd_blocking, winograd_plan
from archsim.network import Layer, load_network
from archsim.plan import Phase, Plan, Tiles, Work
from archsim.sparsity import Sparsity
from archsim.variation import vary

CONV3 = load_network("alexnet")["conv3"]
XEON = load_machine("xeon-e5-2697v4-2s")
ATOM = load_machine("atom-c2750")
MACHINES = [load_machine(name) for name in machine_names()]


def changed(machine: Machine, **paths: Any) -> Machine:
    """Return a copy with fields replaced; ``core__issue_width=8`` reaches inside."""
    for path, value in paths.items():
        machine = _replace(machine, path.split("__"), value)
    return machine


def _replace(part: Any, path: list[str], value: Any) -> Any:
    if len(path) == 1:
        return part.model_copy(update={path[0]: value})
    inside = getattr(part, path[0])
    if isinstance(inside, tuple):
        place = int(path[1])
        entries = list(inside)
        entries[place] = _replace(entries[place], path[2:], value)
        return part.model_copy(update={path[0]: tuple(entries)})
    if isinstance(inside, dict):
        entry = _replace(inside[path[1]], path[2:], value)
        return part.model_copy(update={path[0]: {**inside, path[1]: entry}})
    return part.model_copy(update={path[0]: _replace(inside, path[1:], value)})


def test_incore_of_the_published_avx2_loop() -> None:
    """14 accumulators on Broadwell: 14 loads, a broadcast, an index, 14 multiply-adds."""
    work = Work.of(
        multiply_adds=14, loads_unaligned=14, loads_folded=14, loads_line_crossing=14 * 0.4375,
        broadcasts=1, scalar_loads=1, scalar_ops=2, branches=1, chain_multiply_adds=1,
    )  # fmt: skip
    found = incore(work, XEON, "avx2")
    assert found.arithmetic[0] == pytest.approx(7.0)
    crossing = XEON.core.isa["avx2"].line_crossing_cycles
    assert found.load[0] == pytest.approx((14 * 0.5625 + 2) / 2 + 14 * 0.4375 * crossing)
    assert found.issue[0] == pytest.approx((14 + 1 + 1 + 2 + 1) / 4)
    assert found.cycles[0] == pytest.approx(found.load[0])


def test_incore_of_the_published_sse_loop() -> None:
    """Silvermont multiplies every second cycle and adds on a port of its own."""
    work = Work.of(multiply_adds=12, loads_unaligned=12, loads_folded=12, broadcasts=1)
    found = incore(work, ATOM, "sse42")
    assert found.arithmetic[0] == pytest.approx(12 * 2 + 1)  # and the shuffle of the broadcast
    assert found.load[0] == pytest.approx(13.0)
    assert found.issue[0] == pytest.approx((12 * 2 + 12 + 2) / 2)


def test_broadcasts_and_folded_loads_have_rates_of_their_own() -> None:
    """Folded loads inside a line take longer than others; those across lines already do."""
    work = Work.of(loads_unaligned=20, loads_folded=20, loads_line_crossing=5, broadcasts=6)
    assert work.folded_in_line[0] == 15
    plain = incore(work, XEON, "avx2").load[0]
    loads = XEON.core.isa["avx2"].loads
    machine = changed(XEON, core__isa__avx2__broadcasts=1.5 * loads)
    assert incore(work, machine, "avx2").load[0] == pytest.approx(plain - 6 / 3 / loads)
    slower = changed(XEON, core__isa__avx2__folded_loads=0.8 * loads)
    assert incore(work, slower, "avx2").load[0] == pytest.approx(plain + 15 * 0.25 / loads)
    never_faster = changed(XEON, core__isa__avx2__folded_loads=2.0 * loads)
    assert incore(work, never_faster, "avx2").load[0] == pytest.approx(plain)
    twice = changed(slower, core__isa__avx2__loads=2.0 * loads)  # nor are more ports slower
    assert incore(work, twice, "avx2").load[0] < incore(work, slower, "avx2").load[0]


def test_loads_after_a_restart_wait_for_each_other() -> None:
    work = Work.of(mispredicts=2, waiting_loads=6)
    lost = 2 * XEON.core.mispredict_cycles + 6 * XEON.caches[0].latency_cycles
    assert incore(work, XEON, "avx2").stalls[0] == pytest.approx(lost)


def test_lines_asked_for_early_take_slots_where_the_machine_says_so() -> None:
    work = Work.of(loads_aligned=4, early_lines=6)
    plain = incore(work, XEON, "avx2").load[0]
    assert plain == pytest.approx(4 / XEON.core.isa["avx2"].loads)
    machine = changed(XEON, core__early_lines=3.0)
    assert incore(work, machine, "avx2").load[0] == pytest.approx(plain + 2.0)


def test_a_long_chain_costs_latency() -> None:
    work = Work.of(multiply_adds=10, chain_multiply_adds=10)
    found = incore(work, XEON, "avx2")
    assert found.cycles[0] == pytest.approx(10 * XEON.core.isa["avx2"].multiply_latency_cycles)


def test_pairs_of_a_multiply_and_an_addition_are_a_rate_of_their_own() -> None:
    """Two ports each and three together: neither shared ports nor separate ones."""
    work = Work.of(multiply_adds=30)
    for pairs, cycles in ((None, 45.0), (1.5, 20.0)):
        machine = changed(ATOM, core__isa__sse42__pairs=pairs)
        machine = changed(machine, core__isa__sse42__multiply=1.0, core__isa__sse42__add=2.0)
        machine = changed(machine, core__isa__sse42__shared_arithmetic=True)
        assert incore(work, machine, "sse42").arithmetic[0] == pytest.approx(cycles)
        lanes = machine.core.isa["sse42"].lanes
        rate = 2 * lanes * 30 / cycles * machine.clock_for("sse42") * machine.total_cores
        assert machine.peak_flops_per_s("sse42") == pytest.approx(rate)


def test_lines_written_back_to_memory_have_a_rate_of_their_own() -> None:
    layer = Layer("big", C=64, K=64, H=224, W=224, R=3, S=3, pad=(1, 1))
    plan = make_plan(layer, XEON, method="dense_direct", batch=8, threads=1)
    as_read = XEON.memory[0].core_bandwidth_bytes_per_s
    seconds = [
        ecm.estimate(plan, changed(XEON, memory__0__core_write_bytes_per_s=rate)).seconds
        for rate in (None, as_read, 1e8)
    ]
    if as_read is not None:
        assert seconds[0] == pytest.approx(seconds[1])
    assert seconds[2] > 1.01 * seconds[0]


def test_dense_never_beats_the_peak() -> None:
    for machine in MACHINES:
        for layer in load_network("alexnet"):
            found = predict(layer, machine, method="dense_gemm", batch=machine.total_threads)
            assert found.actual_gflops is not None
            assert found.actual_gflops * 1e9 <= machine.peak_flops_per_s() * (1 + 1e-9)


def test_phases_and_barrier_add_up() -> None:
    found = predict(CONV3, XEON, method="direct_sparse", density=0.1, batch=72, schedule="row")
    assert found.seconds is not None
    join = XEON.barrier_cycles / XEON.clock_for()
    assert found.seconds == pytest.approx(sum(p.seconds for p in found.phases) + join)
    assert [p.name for p in found.phases] == ["input", "products"]
    assert found.bound_by
    assert list(found.bytes) == ["L1", "L2", "L3", "DDR"]


def test_without_memory_only_the_core_counts() -> None:
    plan = make_plan(CONV3, XEON, method="direct_sparse", density=0.1, batch=72)
    bare = ecm.estimate(plan, XEON, memory=False)
    assert bare.seconds < ecm.estimate(plan, XEON).seconds
    assert set(bare.bytes) == {"L1"}


def test_memory_bound_layers_reach_the_bandwidth() -> None:
    layer = Layer("fc", C=20000, K=20000, type="fc")
    found = predict(layer, XEON, method="dense_gemm", batch=1)
    assert found.seconds is not None
    rate = layer.dense_bytes / found.seconds
    assert rate <= XEON.memory[0].bandwidth_bytes_per_s * XEON.sockets * (1 + 1e-9)
    assert found.bound_by[0] == "DDR"


@pytest.mark.parametrize("method", ["dense_gemm", "lowered_sparse", "direct_sparse"])
def test_pictures_that_do_not_fit_come_from_memory(method: str) -> None:
    """A batch far larger than the caches moves at least its pictures, whatever the method.

    (At a density at which direct_sparse looks at every input channel.)
    """
    for name in ("inception_3a/5x5_reduce", "inception_3a/5x5"):
        layer = load_network("googlenet")[name]
        found = predict(layer, XEON, method=method, density=0.9, batch=2304)
        assert found.bytes["DDR"] >= 2304 * (layer.input_bytes + layer.output_bytes)


def test_the_dense_baseline_is_near_the_published_sgemm() -> None:
    """Products alone against SGEMM of Park et al., ICLR 2017, Table 1: no coefficient is fitted."""
    layer = load_network("vgg16")["conv3_2"]
    for machine, published in ((ATOM, 62e9), (XEON, 2150e9)):
        found = predict(layer, machine, method="dense_gemm", batch=machine.total_threads)
        products = next(p for p in found.phases if p.name == "products")
        assert found.batch * layer.flop / products.seconds == pytest.approx(published, rel=0.2)


def test_threads_spread_over_the_cores() -> None:
    common: dict[str, Any] = {"method": "direct_sparse", "schedule": "row", "density": 0.1}
    one = predict(CONV3, XEON, batch=36, threads=36, **common)
    more = predict(CONV3, XEON, batch=36, threads=37, **common)
    assert one.seconds is not None
    assert more.seconds is not None
    assert more.seconds <= 2 * one.seconds


def test_clock_choice() -> None:
    slow = predict(CONV3, XEON, method="direct_sparse", density=0.1, batch=72)
    fast = predict(CONV3, XEON, method="direct_sparse", density=0.1, batch=72, clock="nominal")
    assert slow.seconds is not None
    assert fast.seconds is not None
    assert fast.seconds < slow.seconds


def test_same_input_same_answer() -> None:
    first = predict(CONV3, XEON, method="direct_sparse", density=0.1, batch=72)
    again = predict(CONV3, XEON, method="direct_sparse", density=0.1, batch=72)
    assert first.as_dict() == again.as_dict()


# what may grow without making anything slower, at a fixed plan
LAWS = [
    ("clock", lambda m, f: changed(m, clock_hz=m.clock_hz * f)),
    ("issue", lambda m, f: changed(m, core__issue_width=m.core.issue_width * f)),
    ("scalar loads", lambda m, f: changed(m, core__scalar_loads=m.core.scalar_loads * f)),
    ("vector ports", lambda m, f: _ports(m, f)),
    ("memory", lambda m, f: changed(
        m, memory__0__bandwidth_bytes_per_s=m.memory[0].bandwidth_bytes_per_s * f)),
    ("last cache's size", lambda m, f: _size(m, f, len(m.caches) - 1)),
    ("first cache's size", lambda m, f: _size(m, f, 0)),
    ("outstanding misses", lambda m, f: changed(
        m, **{f"caches__{len(m.caches) - 1}__outstanding": round(m.caches[-1].outstanding * f)})),
    ("L2 bandwidth", lambda m, f: changed(
        m, caches__1__bandwidth_bytes_per_cycle=m.caches[1].bandwidth_bytes_per_cycle * f)),
]  # fmt: skip


def _size(machine: Machine, factor: float, level: int) -> Machine:
    grown = machine.caches[level].size_bytes * factor
    return changed(machine, **{f"caches__{level}__size_bytes": grown})


def _ports(machine: Machine, factor: float) -> Machine:
    isa = machine.default_isa
    unit = machine.core.isa[isa]
    return changed(
        machine,
        **{
            f"core__isa__{isa}__multiply": unit.multiply * factor,
            f"core__isa__{isa}__add": unit.add * factor,
            f"core__isa__{isa}__loads": unit.loads * factor,
        },
    )


@st.composite
def layers(draw: Any) -> Layer:
    groups = draw(st.sampled_from([1, 2]))
    size = draw(st.integers(1, 40))
    kernel = draw(st.sampled_from([k for k in (1, 3, 5) if k <= size + 2 * (k // 2)]))
    return Layer(
        "random",
        C=groups * draw(st.integers(1, 64)),
        K=groups * draw(st.integers(1, 64)),
        H=size,
        W=draw(st.integers(kernel, 40)),
        R=kernel,
        S=kernel,
        pad=(kernel // 2, kernel // 2),
        groups=groups,
    )


def _sparsity(layer: Layer, method: str, density: float) -> Sparsity:
    """Return a density in the method's domain, for a layer that the method computes."""
    sparsity = Sparsity(density, domain="winograd" if method == "sparse_winograd" else "spatial")
    assume(METHODS[method].reason(layer, sparsity) is None)
    return sparsity


@settings(max_examples=60, deadline=None)
@given(
    layer=layers(),
    machine=st.sampled_from(MACHINES),
    method=st.sampled_from(list(METHODS)),
    density=st.floats(0.01, 1.0),
    batch=st.integers(1, 9),
    law=st.sampled_from(LAWS),
    factor=st.floats(1.01, 8.0),
)
def test_more_is_never_slower(
    layer: Layer, machine: Machine, method: str, density: float, batch: int, law: Any,
    factor: float,
) -> None:  # fmt: skip
    """At a fixed plan more of anything that the machine has is never slower."""
    threads, sparsity = min(8, machine.total_threads), _sparsity(layer, method, density)
    plan = make_plan(layer, machine, method=method, pattern=sparsity, batch=batch, threads=threads)
    _, grow = law
    before, after = ecm.estimate(plan, machine), ecm.estimate(plan, grow(machine, factor))
    assert after.seconds <= before.seconds * (1 + 1e-9)


def test_removing_winograd_s_nonzeros_is_never_slower() -> None:
    """At a fixed plan: the blocking of one density, the nonzeros of several."""
    layer = load_network("vgg16")["conv3_2"]
    for machine in MACHINES:
        cut = winograd_blocking.choose(
            layer, "f4x4_3x3", 0.2, batch=1, threads=1, target=machine.target()
        )
        times = []
        for density in (0.01, 0.05, 0.2, 0.5, 1.0):
            plan = winograd_plan.make_plan(
                "sparse_winograd", layer, Sparsity(density, domain="winograd"), cut,
                36 * 256 * 256 * density, batch=1, threads=1, target=machine.target(),
            )  # fmt: skip
            times.append(ecm.estimate(plan, machine, memory=False).seconds)
        assert times == sorted(times)


@settings(max_examples=40, deadline=None)
@given(
    inputs=st.integers(1, 5000),
    outputs=st.integers(1, 5000),
    machine=st.sampled_from(MACHINES),
    method=st.sampled_from(["dense_gemm", "fc_dense", "fc_sparse"]),
    density=st.floats(0.0, 1.0),
    batch=st.integers(1, 70),
    law=st.sampled_from(LAWS),
    factor=st.floats(1.01, 8.0),
)
def test_more_is_never_slower_for_fully_connected_layers(
    inputs: int, outputs: int, machine: Machine, method: str, density: float, batch: int,
    law: Any, factor: float,
) -> None:  # fmt: skip
    threads = min(8, machine.total_threads)
    layer = Layer("random", C=inputs, K=outputs, type="fc")
    plan = make_plan(layer, machine, method=method, density=density, batch=batch, threads=threads)
    _, grow = law
    before, after = ecm.estimate(plan, machine), ecm.estimate(plan, grow(machine, factor))
    assert 0 < after.seconds <= before.seconds * (1 + 1e-9)
    outer = list(before.bytes.values())[1:]
    assert all(a >= b * (1 - 1e-9) for a, b in pairwise(outer))


@settings(max_examples=40, deadline=None)
@given(
    layer=layers(),
    machine=st.sampled_from(MACHINES),
    density=st.floats(0.02, 1.0),
    share=st.floats(0.1, 0.99),
)
def test_removing_nonzeros_is_never_slower(
    layer: Layer, machine: Machine, density: float, share: float
) -> None:
    """At fixed blocking (row:fixed32) fewer nonzeros never cost more in the core."""
    plans = [
        make_plan(
            layer, machine, method="direct_sparse", density=x, schedule="row:fixed32", threads=1
        )
        for x in (density, density * share)
    ]
    times = [ecm.estimate(plan, machine, memory=False).seconds for plan in plans]
    assert times[1] <= times[0] * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(
    layer=layers(),
    machine=st.sampled_from(MACHINES),
    method=st.sampled_from(list(METHODS)),
    density=st.floats(0.0, 1.0),
)
def test_predictions_are_finite_and_bytes_shrink_outwards(
    layer: Layer, machine: Machine, method: str, density: float
) -> None:
    sparsity = _sparsity(layer, method, density)
    found = predict(layer, machine, method=method, pattern=sparsity, batch=2, threads=2)
    assert found.seconds is not None
    assert np.isfinite(found.seconds)
    assert found.seconds > 0
    outer = list(found.bytes.values())[1:]
    assert all(a >= b * (1 - 1e-9) for a, b in pairwise(outer))


def _row(machine: Machine, **more: Any) -> Any:
    return predict(
        CONV3, machine, method="direct_sparse", schedule="row", density=0.1, batch=72, **more
    )


def test_fork_join_and_call_overhead_are_paid_once() -> None:
    (machine,) = vary(XEON, {"fork_join": [5e-6], "call_overhead": ["2 us"]})
    before, after = _row(XEON), _row(machine)
    barrier = XEON.barrier_cycles / XEON.clock_for()
    assert after.seconds == pytest.approx(before.seconds - barrier + 7e-6, rel=1e-12)
    alone = _row(machine, threads=1)  # nobody to fork
    assert alone.seconds == pytest.approx(_row(XEON, threads=1).seconds + 2e-6, rel=1e-12)
    grid = predict_grid(
        CONV3, machine, densities=[0.1], batches=[72], method="direct_sparse", schedule="row"
    )
    assert grid.seconds[0, 0, 0, 0] == pytest.approx(after.seconds, rel=1e-12)
    explained = explain(CONV3, machine, method="direct_sparse", density=0.1, batch=72)
    assert [phase.name for phase in explained.phases][-2:] == ["join", "call"]


def test_cores_share_what_a_cache_hands_out() -> None:
    (machine,) = vary(XEON, {"caches.L3.shared_bandwidth": [40.0]})
    assert _row(machine).seconds > _row(XEON).seconds
    assert _row(machine, threads=1).seconds == _row(XEON, threads=1).seconds


def test_pairs_of_multiplies_and_additions() -> None:
    work = Work.of(multiply_adds=12)
    (machine,) = vary(ATOM, {"core.isa.sse42.pairs": [0.75]})
    assert incore(work, machine, "sse42").arithmetic[0] == pytest.approx(12 / 0.75)


def test_stores_past_the_caches_cross_the_last_boundary_only() -> None:
    plan = make_plan(CONV3, XEON, method="direct_sparse", schedule="row", density=0.1, batch=72)
    products = plan.phases[1]
    output = next(s for s in products.streams if s.array == "output")
    past = replace(products, streams=(replace(output, access="past"),))
    place = placement(plan.threads, XEON)
    read, written = traffic(past, plan, XEON, place)
    assert not read.any()
    assert not written[:-1].any()
    assert written[-1].tolist() == output.bytes[0].tolist()
    counted = {"products": (read, written)}
    assert (
        ecm.estimate(plan, XEON, counted=counted).bytes["L3"] < ecm.estimate(plan, XEON).bytes["L3"]
    )


def _two_loops(loops: tuple[int, ...]) -> Plan:
    """Two kinds of tiles on one thread: 600 multiply-adds, and 600 stores."""
    plan = make_plan(CONV3, ATOM, method="dense_gemm", threads=1)
    tiles = Tiles(np.array([[1, 1]]), np.array([0]))
    work = Work.of(2, multiply_adds=[600.0, 0.0], stores=[0.0, 600.0])
    return replace(plan, phases=(Phase("products", tiles, work, (), loops=loops),))


def test_loops_that_follow_each_other_hide_nothing_of_each_other() -> None:
    xeon = changed(XEON, fork_join_s=0.0)
    beside, after = (
        ecm.estimate(_two_loops(loops), xeon, isa="avx2", memory=False).seconds
        for loops in ((), (0, 1))
    )
    hertz = xeon.clock_for("avx2")
    unit = xeon.instruction_set("avx2")
    products, stores = 600 / unit.multiply / hertz, 600 / unit.stores / hertz
    assert beside == pytest.approx(max(products, stores))
    assert after == pytest.approx(products + stores)


def test_threads_of_one_core_fill_each_other_s_loops() -> None:
    plan = replace(
        _two_loops((0, 1)),
        threads=XEON.total_threads,
        batch=XEON.total_threads,
        phases=(
            replace(
                _two_loops((0, 1)).phases[0],
                tiles=Tiles(np.array([[1, 1]]), np.zeros(XEON.total_threads, dtype=np.int64)),
            ),
        ),
    )
    one, both = (
        ecm.estimate(replace(plan, phases=(replace(plan.phases[0], loops=loops),)), XEON,
                     isa="avx2", memory=False).seconds
        for loops in ((), (0, 1))
    )  # fmt: skip
    assert both == one


@pytest.mark.parametrize("method", ["lowered_sparse", "dense_gemm", "dense_direct"])
def test_what_threads_hand_to_each_other_comes_from_a_level_they_share(method: str) -> None:
    """Two cores with an L2 each that holds all: no byte from L3 but what changes hands."""
    layer = Layer("l", C=16, K=32, H=14, W=14, R=3, S=3, pad=(1, 1))
    halves = replace(layer, groups=2)
    levels = {}
    for what, shape in (("whole", layer), ("halves", halves)):
        plan = make_plan(shape, XEON, method=method, density=0.5, threads=2, isa="avx2")
        wide = XEON.model_copy(
            update={"caches": [c.model_copy(update={"size_bytes": 1e9}) for c in XEON.caches]}
        )
        levels[what] = ecm.estimate(plan, wide, isa="avx2").bytes["L3"]
    assert levels["halves"] == 0.0  # each thread reads the group that it made itself
    assert levels["whole"] > 0.0
    alone = make_plan(layer, XEON, method=method, density=0.5, threads=1, isa="avx2")
    assert ecm.estimate(alone, wide, isa="avx2").bytes["L3"] == 0.0


def test_shuffles_have_a_port_of_their_own() -> None:
    work = Work.of(1, shuffles=12.0)
    assert incore(work, XEON, "avx2").cycles[0] == pytest.approx(12.0)  # one a cycle where not told
    isa = XEON.instruction_set("avx2").model_copy(update={"shuffles": 2.0})
    sets = {**XEON.core.isa, "avx2": isa}
    fast = XEON.model_copy(update={"core": XEON.core.model_copy(update={"isa": sets})})
    assert incore(work, fast, "avx2").cycles[0] == pytest.approx(6.0)
