"""Laws that ecm must hold on any machine and layer, drawn at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import archsim
from archsim.analytic import ecm
from archsim.api import make_plan
from archsim.machine import Machine
from archsim.machinefile import load_machine, machine_names
from archsim.machinepath import value_at
from archsim.methods import METHODS, get_method
from archsim.network import Layer
from archsim.sparsity import Densities, Sparsity
from archsim.variation import vary

MACHINES = [load_machine(name) for name in machine_names()]
# and one that says what lines cost that cores hand to each other
HANDING = load_machine("xeon-skylake-sp-2s")
HANDED = {"handed_read_cycles": 11.0, "handed_write_cycles": 9.0, "handed_size_bytes": 192e3}
MACHINES.append(HANDING.model_copy(update={"core": HANDING.core.model_copy(update=HANDED)}))
EDGE = 1 + 1e-9

# paths of a machine file: more of the first is never slower, less of the second is neither
MORE = (
    "clock", "core.issue_width", "core.scalar", "core.scalar_loads", "core.isa.*.multiply",
    "core.isa.*.add", "core.isa.*.loads", "core.isa.*.stores", "core.isa.*.vector_clock",
    "caches.*.size", "caches.*.bandwidth", "caches.*.write_bandwidth", "caches.*.outstanding",
    "memory.*.bandwidth", "memory.*.core_bandwidth",
)  # fmt: skip
LESS = (
    "core.handed_read", "core.handed_write",
    "core.mispredict", "core.isa.*.multiply_latency", "core.isa.*.add_latency",
    "core.isa.*.line_crossing", "core.isa.*.page_crossing", "caches.*.latency", "memory.*.latency",
    "barrier",
)  # fmt: skip
LAWS = [*((path, True) for path in MORE), *((path, False) for path in LESS)]


def _paths(machine: Machine, pattern: str) -> list[str]:
    """Return the paths that a pattern means, of those that the machine states."""
    before, star, after = pattern.partition(".*.")
    if not star:
        return [pattern] if value_at(machine, pattern) is not None else []
    names = list(machine.core.isa) if before == "core.isa" else [
        entry.name for entry in getattr(machine, before)
    ]  # fmt: skip
    paths = [f"{before}.{name}.{after}" for name in names]
    return [path for path in paths if value_at(machine, path) is not None]


@st.composite
def machines(draw: Any) -> Machine:
    """A shipped machine with a few numbers several times as large or small."""
    machine: Machine = draw(st.sampled_from(MACHINES))
    for pattern in draw(st.lists(st.sampled_from((*MORE, *LESS)), max_size=4)):
        for path in _paths(machine, pattern):
            machine = _scaled(machine, path, draw(st.sampled_from([0.25, 0.5, 2.0, 4.0])))
    return machine


def _scaled(machine: Machine, path: str, factor: float) -> Machine:
    value = value_at(machine, path)
    scaled = round(value * factor) or 1 if isinstance(value, int) else value * factor
    try:
        (made,) = vary(machine, {path: [scaled]})
    except archsim.InputError:  # a rule between fields: this machine cannot be
        assume(False)
        raise
    return made.model_copy(update={"name": machine.name})


@st.composite
def layers(draw: Any) -> Layer:
    if draw(st.integers(0, 5)) == 0:
        return Layer("fc", C=draw(st.integers(1, 600)), K=draw(st.integers(1, 600)), type="fc")
    groups, kernel = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 3, 5]))
    return Layer(
        "random", C=groups * draw(st.integers(1, 96)), K=groups * draw(st.integers(1, 96)),
        H=draw(st.integers(kernel, 40)), W=draw(st.integers(kernel, 40)), R=kernel, S=kernel,
        pad=(kernel // 2, kernel // 2), groups=groups,
        stride=draw(st.sampled_from([(1, 1), (1, 1), (2, 2)])),
    )  # fmt: skip


METHOD = st.sampled_from(list(METHODS))


def _sparsity(layer: Layer, method: str, density: float) -> Sparsity:
    sparsity = Sparsity(density, domain="winograd" if method == "sparse_winograd" else "spatial")
    assume(METHODS[method].reason(layer, sparsity) is None)
    return sparsity


@settings(max_examples=120, deadline=None)
@given(
    layer=layers(), machine=machines(), method=METHOD, density=st.floats(0.0, 1.0),
    batch=st.integers(1, 20), law=st.sampled_from(LAWS),
    factor=st.sampled_from([1.1, 2.0, 8.0]), drawn=st.booleans(),
)  # fmt: skip
def test_more_is_never_slower(
    layer: Layer, machine: Machine, method: str, density: float, batch: int, law: Any,
    factor: float, drawn: bool,
) -> None:  # fmt: skip
    """At a fixed plan: threads, partition, schedule and blocking do not change."""
    sparsity = _sparsity(layer, method, density)
    if drawn and METHODS[method].name != "structured":
        sparsity = sparsity.draw(layer)
    threads = min(8, machine.total_threads)
    plan = make_plan(layer, machine, method=method, pattern=sparsity, batch=batch, threads=threads)
    pattern, more = law
    better = machine
    for path in _paths(machine, pattern):
        value = value_at(better, path)
        if isinstance(value, int):
            factor = max(2, round(factor))
        better = _scaled(better, path, factor if more else 1 / factor)
    before, after = ecm.estimate(plan, machine), ecm.estimate(plan, better)
    assert after.seconds <= before.seconds * EDGE


@pytest.mark.parametrize("model", ["ecm", "simulator"])
def test_a_cache_that_answers_sooner_than_the_one_inside_gives_no_time_back(model: Any) -> None:
    layer = Layer("1x1", C=1, K=2, H=18, W=38, R=1, S=1)
    even, sooner = (
        archsim.predict(layer, machine, method="dense_gemm", batch=17, model=model).seconds
        for machine in vary(
            load_machine("atom-c2750"), {"caches.L1.latency": [14], "caches.L2.latency": [14, 3]}
        )
    )
    assert even == sooner


@settings(max_examples=80, deadline=None)
@given(layer=layers(), machine=machines(), method=METHOD, density=st.floats(0.0, 1.0),
       batch=st.integers(1, 20))  # fmt: skip
def test_no_resource_is_busier_than_the_time(
    layer: Layer, machine: Machine, method: str, density: float, batch: int
) -> None:
    sparsity = _sparsity(layer, method, density)
    found = archsim.explain(layer, machine, method=method, pattern=sparsity, batch=batch)
    for phase in found.phases:
        assert all(term.busy_seconds <= phase.seconds * EDGE for term in phase.terms)
    seconds = found.result.seconds
    assert seconds is not None
    home = list(found.result.bytes.items())[-1]
    memory = next(m for m in machine.memory if m.name == home[0])
    assert home[1] / seconds <= memory.bandwidth_bytes_per_s * machine.sockets * EDGE
    unit = machine.instruction_set()
    peak = machine.peak_flops_per_s()
    if unit.fma:  # what a random machine says of additions alone is of no use to it
        peak = 2 * unit.multiply * unit.lanes * machine.clock_for() * machine.total_cores
    assert found.result.actual_flop / seconds <= peak * EDGE


@settings(max_examples=80, deadline=None)
@given(
    layer=layers(), machine=machines(),
    case=st.sampled_from([
        ("direct_sparse", "row:fixed32"), ("direct_sparse", "row:dyn32-shared"),
        ("direct_sparse", "lanes:tiles"), ("direct_sparse", "lanes:shifts"),
        ("direct_sparse", "pointwise"), ("lowered_sparse", "auto"), ("fc_sparse", "auto"),
        ("sparse_winograd", "auto"),
    ]),
    densities=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6), batch=st.integers(1, 9),
)  # fmt: skip
def test_removing_nonzeros_is_never_slower(
    layer: Layer, machine: Machine, case: Any, densities: list[float], batch: int
) -> None:
    """At a fixed plan: one blocking for all densities, that of the largest."""
    method, schedule = case
    _sparsity(layer, method, 1.0)
    ordered = np.sort(densities)[::-1]
    domain: Any = "winograd" if method == "sparse_winograd" else "spatial"
    given_plan: dict[str, Any] = {
        "batch": batch, "threads": min(4, machine.total_threads), "schedule": schedule,
        "target": machine.target(), "partition": "nnz",
    }  # fmt: skip
    try:
        plan = get_method(method)._plan(layer, Densities(ordered[:, None], domain), **given_plan)
    except archsim.NotApplicableError:
        assume(False)
        raise
    from archsim.analytic.grid import estimates

    (points,) = estimates(plan, [machine], machine.default_isa, "sustained")
    assert (np.diff(points.seconds[0]) <= points.seconds[0, 1:] * 1e-9).all()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
@pytest.mark.parametrize("method", list(METHODS))
def test_edges_are_finite_and_sensible(machine: Machine, method: str) -> None:
    """Nothing to do, one pixel, and more threads than tiles."""
    dot = Layer("dot", C=1, K=1, type="fc") if method.startswith("fc") else Layer("dot", C=1, K=1)
    tiny = Layer("tiny", C=2, K=3, H=4, W=4, R=3, S=3, pad=(1, 1))
    for layer in (dot, tiny):
        for density in (0.0, 1.0):
            domain: Any = "winograd" if method == "sparse_winograd" else "spatial"
            sparsity = Sparsity(density, domain=domain)
            if METHODS[method].reason(layer, sparsity) is not None:
                continue
            for batch in (1, 2):
                found = archsim.predict(
                    layer, machine, method=method, pattern=sparsity, batch=batch
                )
                assert found.seconds is not None
                # less than a second, no less than a cycle
                assert 1 / machine.clock_hz <= found.seconds < 1
                assert found.bound_by
                assert all(np.isfinite(count) and count >= 0 for count in found.bytes.values())
