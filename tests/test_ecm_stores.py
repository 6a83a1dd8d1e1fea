"""What stores, loads across lines and BLAS cost: counts against walks, terms against hand sums."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from archsim import native
from archsim.analytic import ecm
from archsim.analytic.assumed import assumptions
from archsim.api import make_plan, predict
from archsim.calibration import caches
from archsim.cli import run
from archsim.incore import incore
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.methods.crossing import row_shares
from archsim.methods.streams import stream
from archsim.network import Layer
from archsim.plan import Phase, Plan, Tiles, Work
from archsim.quiet import Watch

BASE = load_machine("xeon-skylake-sp-2s")
FAR = 512 * 1024.0  # beyond L1, inside L2
LINES = 1000.0
SMALL = Layer("small", C=16, K=16, H=8, W=8)
LARGE = Layer("large", C=64, K=64, H=32, W=32)


def _machine(**core: object) -> Machine:
    """A machine whose lines are serial, with fields of its core replaced."""
    inner = BASE.caches[0].model_copy(update={"overlap": "serial"})
    return BASE.model_copy(
        update={
            "core": BASE.core.model_copy(update=core),
            "caches": (inner, *BASE.caches[1:]),
        }
    )


def _seconds(machine: Machine, access: str, work: Work, *, crossing: float = 0.0) -> float:
    """Return cycles of one tile that touches so many lines of L2."""
    plan = make_plan(LARGE, machine, method="dense_direct", threads=1)
    phase = Phase(
        "products",
        Tiles(np.ones((1, 1), np.int64), np.zeros(1, np.int64)),
        work,
        (stream("a", access, 64.0 * LINES, FAR, crossing=crossing),),  # type: ignore[arg-type]
    )
    whole = Plan(**{name: getattr(plan, name) for name in plan.__slots__} | {"phases": (phase,)})
    found = ecm.evaluate(whole, machine, joins=False)
    return float(found.seconds[0] * found.cost.hertz)


def test_stores_wait_for_lines_in_both_directions() -> None:
    unit = BASE.instruction_set(None)
    read = 64.0 / BASE.caches[1].bandwidth_bytes_per_cycle
    written = 64.0 / (
        BASE.caches[1].write_bytes_per_cycle or BASE.caches[1].bandwidth_bytes_per_cycle
    )
    load, store = LINES / unit.loads, LINES / unit.stores
    work = Work.of(loads_aligned=LINES, stores=LINES)
    waits = _seconds(_machine(store_overlap="serial"), "update", work)
    assert waits == pytest.approx(
        max(load + LINES * read, store + LINES * (read + written)), rel=1e-9
    )
    beside = _seconds(_machine(store_overlap="overlapped"), "update", work)
    assert beside == pytest.approx(max(load + LINES * (read + written), store), rel=1e-9)


def test_lines_under_split_loads_cost_more() -> None:
    work = Work.of(loads_unaligned=LINES, loads_line_crossing=LINES)
    plain = _seconds(_machine(split_miss_cycles=None), "read", work, crossing=0.75)
    split = _seconds(_machine(split_miss_cycles=2.0), "read", work, crossing=0.75)
    assert split - plain == pytest.approx(0.75 * LINES * 2.0)
    assert _seconds(_machine(split_miss_cycles=2.0), "read", work) == pytest.approx(plain)


def test_stores_across_lines_and_pages_have_their_prices() -> None:
    name = BASE.default_isa
    unit = BASE.core.isa[name].model_copy(
        update={"store_line_crossing_cycles": 3.0, "store_page_crossing_cycles": 20.0}
    )
    machine = _machine(isa={**BASE.core.isa, name: unit}, scalar_stores=4.0)
    each = 1.0 / unit.stores
    work = Work.of(stores=100, stores_line_crossing=40, stores_page_crossing=10, scalar_stores=80)
    found = incore(work, machine).store
    assert found[0] == pytest.approx(60 * each + 30 * 3.0 + 10 * 20.0 + 80 / 4.0)


@pytest.mark.parametrize(
    ("rows", "width", "planes"), [(13, 13, 7), (1, 196, 5), (28, 28, 3), (4, 16, 9)]
)
def test_shares_of_rows_are_those_of_a_walk(rows: int, width: int, planes: int) -> None:
    target = load_machine("generic-x86-64").target("avx512")
    lines = pages = moves = 0
    for plane in range(planes * 1024):  # until pages come round
        for row in range(rows):
            for column in range(0, width, 16):
                begin = (plane * rows + row) * width + column
                end = begin + min(16, width - column) - 1
                lines += begin // 16 != end // 16
                pages += begin // 1024 != end // 1024
                moves += 1
        if plane > 300 and (plane + 1) * rows * width % 1024 == 0:
            break
    found = row_shares(rows, width, 10**6, target)
    assert found == pytest.approx((lines / moves, pages / moves))


def test_blas_packs_what_is_large() -> None:
    target = BASE.target("avx512")
    assert target.lanes == 16
    small = make_plan(SMALL, BASE, method="dense_gemm", threads=1, isa="avx512")
    large = make_plan(LARGE, BASE, method="dense_gemm", threads=1, isa="avx512")
    assert small.phases[-1].work.scalar_stores.sum() == 0
    elements = LARGE.C * LARGE.P * LARGE.Q
    packed = large.phases[-1]
    assert packed.work.scalar_stores @ packed.tiles.total == elements
    narrow = load_machine("xeon-e5-2697v4-2s")
    other = make_plan(LARGE, narrow, method="dense_gemm", threads=1).phases[-1]
    assert other.work.scalar_stores.sum() == 0


def test_a_call_of_blas_costs_more() -> None:
    dear = BASE.model_copy(update={"blas_overhead_s": 1e-3})
    for method, more in (("dense_gemm", 1e-3), ("dense_direct", 0.0)):
        before, after = (predict(LARGE, m, method=method).seconds or 0.0 for m in (BASE, dear))
        assert after - before == pytest.approx(more, abs=1e-12)


def test_a_split_line_is_what_its_loads_do_not_explain() -> None:
    assert caches.split_step(2.5, 1.2, 0.8) == pytest.approx(0.5)
    assert caches.split_step(1.5, 1.2, 0.8) == 0.0


def test_short_calls_are_timed_behind_one_that_is_not() -> None:
    calls = []

    class Quiet:
        def quiet(self) -> bool:
            calls.append("look")
            return True

    timed = native.Timed(
        lambda: calls.append("call"), lambda: None, threads=1, watch=cast(Watch, Quiet())
    )
    timed.turn(0.0)
    # whoever had the turn before has filled the caches
    assert calls == ["call"] * 8 + ["look"] + ["call", "call", "look"] * 3
    assert len(timed.calls) == 3


def test_what_a_file_lacks_is_named_or_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (resources.files("archsim") / "machines" / "atom-c2750.yaml").read_text("utf-8")
    path = tmp_path / "lacks.yaml"
    path.write_text(text.replace("  mispredict: 10 cycles\n", ""), "utf-8")
    common = ["alexnet", "conv3", "-m", str(path), "--method", "dense_direct"]
    assert run(["explain", *common]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "key 'mispredict' is missing: needed for mispredict; --assume" in told
    assert run(["explain", *common, "--assume"]) == 0
    machine = load_machine(path, assume=True)
    assert machine.core.mispredict_cycles == load_machine("generic-x86-64").core.mispredict_cycles
    assert any(
        line.startswith("core.mispredict, for mispredict: ") for line in assumptions(machine)
    )
    assert not any("not in the file" in line for line in assumptions(load_machine("atom-c2750")))


def test_assuming_changes_no_complete_file() -> None:
    assert load_machine("atom-c2750", assume=True) == load_machine("atom-c2750")
