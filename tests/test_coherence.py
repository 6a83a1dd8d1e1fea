"""Lines that cores hand to each other: counts by hand, prices, and the probe behind them."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from archsim.analytic import ecm
from archsim.analytic.assumed import assumptions
from archsim.api import make_plan, predict
from archsim.calibration import caches, handing
from archsim.calibration.bench import Bench
from archsim.calibration.run import Calibration
from archsim.calibration.sampling import Round
from archsim.coherence import handed_lines, with_handed
from archsim.hostfacts import read_facts
from archsim.kernels import probes, supported_isas
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.network import Layer
from archsim.plan import Phase, Plan

BASE = load_machine("xeon-skylake-sp-2s")
LAYER = Layer("a", C=32, K=32, H=16, W=16, R=3, S=3, pad=(1, 1))
GROUPED = Layer("g", C=32, K=32, H=16, W=16, R=3, S=3, pad=(1, 1), groups=2)
PRICED = {"handed_read_cycles": 10.0, "handed_write_cycles": 20.0}


def _machine(**core: object) -> Machine:
    return BASE.model_copy(update={"core": BASE.core.model_copy(update={**PRICED, **core})})


def _plan(machine: Machine, layer: Layer = LAYER, *, threads: int = 2, batch: int = 1) -> Plan:
    return make_plan(
        layer, machine, method="lowered_sparse", density=0.5, threads=threads, batch=batch
    )


def _phase(plan: Plan, name: str) -> Phase:
    return next(phase for phase in plan.phases if phase.name == name)


def _lines(plan: Plan, name: str, machine: Machine, place: int) -> float:
    """Return the lines of all tiles of one thread: read (0) or written (1)."""
    phase = _phase(plan, name)
    found = handed_lines(phase, plan, machine)
    return 0.0 if found is None else float((found[place] @ phase.tiles.count.T).max())


def test_both_threads_write_half_of_the_matrix_and_read_the_other_half() -> None:
    machine = _machine()
    plan = _plan(machine)
    matrix = LAYER.C * 9 * LAYER.P * LAYER.Q * 4 / 64
    assert _lines(plan, "input", machine, 1) == pytest.approx(matrix / 2)
    assert _lines(plan, "input", machine, 0) == 0.0
    read = next(s for s in _phase(plan, "products").streams if s.handed)
    tiles = _phase(plan, "products").tiles.count
    whole = float((read.bytes.sum(axis=0) @ tiles.T).max()) / 64
    assert _lines(plan, "products", machine, 0) == pytest.approx(whole / 2)


def test_nothing_changes_hands() -> None:
    machine = _machine()
    for plan in (
        _plan(machine, threads=1),
        _plan(machine, threads=2, batch=2),  # an image each
        _plan(machine, GROUPED),  # a group each
    ):
        for phase in plan.phases:
            found = handed_lines(phase, plan, machine)
            assert found is None or not any(each.any() for each in found)
    silent = _machine(handed_read_cycles=None, handed_write_cycles=None)
    plan = _plan(silent)
    for phase in plan.phases:
        assert handed_lines(phase, plan, silent) is None
        assert with_handed(phase, plan, silent) is phase.work.counts


def test_a_thread_alone_on_its_core_pays_a_line_each() -> None:
    machine, silent = _machine(), _machine(handed_read_cycles=None, handed_write_cycles=None)
    plan = _plan(machine)
    dear, cheap = (ecm.evaluate(plan, each) for each in (machine, silent))
    names = [phase.name for phase in plan.phases]
    loads = dear.cost.terms.index("load")
    stores = dear.cost.terms.index("store")
    extra = dear.busy - cheap.busy
    at = names.index("products")
    assert extra[loads, at] == pytest.approx(10.0 * _lines(plan, "products", machine, 0))
    at = names.index("input")
    assert extra[stores, at] == pytest.approx(20.0 * _lines(plan, "input", machine, 1))
    assert dear.seconds.sum() > cheap.seconds.sum()


def test_stores_across_lines_have_a_price_of_their_own() -> None:
    machine = _machine(handed_split_write_cycles=50.0)
    plan = make_plan(LAYER, machine, method="direct_sparse", schedule="row", density=0.5, threads=2)
    phase = _phase(plan, "input")
    found = handed_lines(phase, plan, machine)
    assert found is not None
    lines = float((found[1] @ phase.tiles.count.T).max())
    share = float(phase.work.stores_line_crossing[0] / phase.work.stores[0])
    assert 0.0 < share < 1.0
    at = [each.name for each in plan.phases].index("input")
    silent = _machine(handed_read_cycles=None, handed_write_cycles=None)
    dear, cheap = (ecm.evaluate(plan, each) for each in (machine, silent))
    stores = dear.cost.terms.index("store")
    paid = dear.busy[stores, at] - cheap.busy[stores, at]
    assert paid == pytest.approx(lines * (share * 50.0 + (1.0 - share) * 20.0))


def test_what_is_written_at_once_may_be_too_much_for_it() -> None:
    plan = _plan(_machine())
    at_once = next(s for s in _phase(plan, "input").streams if s.handed).handed_bytes
    assert 0 < at_once < LAYER.C * 9 * LAYER.P * LAYER.Q * 4 / 2  # a block of pixels, not all
    fits, too_much = (_machine(handed_size_bytes=at_once * f) for f in (1.0, 0.99))
    assert _lines(plan, "input", fits, 1) > 0.0
    assert _lines(plan, "input", too_much, 1) == 0.0
    assert _lines(plan, "products", too_much, 0) > 0.0


def test_threads_of_one_core_find_each_others_lines() -> None:
    machine = _machine().model_copy(update={"threads_per_core": 2, "cores": 1, "sockets": 1})
    plan = _plan(machine)
    assert all(handed_lines(phase, plan, machine) is None for phase in plan.phases)


def test_the_simulator_pays_the_same() -> None:
    machine, silent = _machine(), _machine(handed_read_cycles=None, handed_write_cycles=None)
    seconds = {
        model: [
            predict(
                LAYER, each, method="lowered_sparse", density=0.5, threads=2, model=model
            ).seconds
            or 0.0
            for each in (machine, silent)
        ]
        for model in ("ecm", "simulator")
    }
    for dear, cheap in seconds.values():
        assert dear > cheap
    differ = {model: dear - cheap for model, (dear, cheap) in seconds.items()}
    assert differ["simulator"] == pytest.approx(differ["ecm"], rel=0.1)


def test_what_a_file_leaves_out_is_said() -> None:
    said = " ".join(assumptions(BASE))
    assert "core.handed_read, for load" in said
    assert "core.handed_write, for store" in said
    assert "handed" not in " ".join(assumptions(_machine()))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
@pytest.mark.parametrize("write", ["write", "write_across"])
def test_a_pair_of_threads_is_measured(write: str) -> None:
    bench = Bench(probes.Probe(2**20), 0.0, 5, 2, lambda _: None)
    found = handing.measure(bench, supported_isas()[-1], write, 64 * 1024)
    assert found.write.value > 0.0
    assert found.read.value > 0.0


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        ([5.0, 5.2, 4.9, 1.0, 1.0], 4.9),  # two rounds of CPUs that shared a core
        ([5.0, 5.0, 9.0], 5.0),
        ([1.0, 1.0, 3.0, 5.0, 9.0], None),  # no usual one, though the fastest two agree
    ],
)
def test_the_usual_rounds_count(seconds: list[float], value: float | None) -> None:
    figure = handing._usual([Round(s, s, s, s, 0.0, 1.0, 0.0) for s in seconds])
    assert figure.settled == (value is not None)
    assert figure.value == (min(seconds) if value is None else value)


def test_two_cpus_that_shared_a_core_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of another core cannot be nearer than the cache that both share."""
    found = Calibration(read_facts(), quick=True)
    bench = Bench(probes.Probe(2**20), 0.0, 5, 2, lambda _: None)
    levels = caches.places({"L1": 32 << 10, "L2": 256 << 10}, 2**20)[:2]
    tasks = [t for t in caches.tasks(levels, supported_isas()[-1], quick=True)
             if t.key in ("L2.read", "L2.write")]  # fmt: skip
    bench.measure("caches", tasks)
    there = bench.figure("L2.read", seconds=True)
    for factor, told in ((0.5, 1), (3.0, 0)):
        figure = replace(there, value=there.value * factor, rounds=2, agreeing=2)
        made = handing.Handing(figure, figure)
        monkeypatch.setattr(handing, "measure", lambda *_, made=made: made)
        found.one_core.clear()
        list(handing.handed_entries(found, bench, levels, supported_isas()[-1], 1e9))
        assert len(found.one_core) == told


def test_hand_over_writes_all_and_no_more() -> None:
    probe = probes.Probe(64 * 1024)
    probe.walk(32 * 1024)
    times = probes.hand_over(probe, supported_isas()[0], "write_across", samples=4)
    assert times.shape == (4, 2)
    assert np.all(times > 0.0)
    with pytest.raises(ValueError, match="unknown"):
        probes.hand_over(probe, supported_isas()[0], "scribble")
