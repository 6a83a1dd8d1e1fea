"""Rates of products: what a core sustains, what a BLAS library reaches of it."""

from __future__ import annotations

import pytest

from archsim.analytic.assumed import assumptions
from archsim.api import make_plan, predict
from archsim.calibration import run, threads
from archsim.calibration.bench import Bench
from archsim.calibration.figures import Entry
from archsim.calibration.run import Calibration
from archsim.calibration.sampling import Figure
from archsim.hostfacts import read_facts
from archsim.incore import incore
from archsim.kernels import probes, supported_isas
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.network import Layer
from archsim.plan import Work

BASE = load_machine("xeon-skylake-sp-2s")
UNIT = BASE.core.isa["avx512"]
LAYER = Layer("a", C=64, K=64, H=32, W=32, R=3, S=3, pad=(1, 1))


def _machine(rate: float | None, sustained: float | None = None) -> Machine:
    rates = {"blas_multiply_adds": rate, "sustained_multiply": sustained}
    isa = {**BASE.core.isa, "avx512": UNIT.model_copy(update=rates)}
    return BASE.model_copy(update={"core": BASE.core.model_copy(update={"isa": isa})})


@pytest.mark.parametrize(("share", "factor"), [(None, 1.0), (0.9, 1 / 0.9), (1.5, 1.0)])
def test_a_rate_of_their_own(share: float | None, factor: float) -> None:
    """Never faster than the ports; multiply-adds of our own loops are untouched."""
    work = Work.of(2, multiply_adds=[12, 12], blas_multiply_adds=[12, 0])
    machine = _machine(None if share is None else share * UNIT.multiply)
    found = incore(work, machine, "avx512").arithmetic
    assert found == pytest.approx([12 / UNIT.multiply * factor, 12 / UNIT.multiply])


@pytest.mark.parametrize(("share", "factor"), [(0.95, 1 / 0.95), (1.2, 1.0)])
def test_what_a_core_sustains(share: float, factor: float) -> None:
    """Slows all multiply-adds, the library's in the same measure; loads are untouched."""
    work = Work.of(2, multiply_adds=[12, 12], blas_multiply_adds=[12, 0], loads_aligned=24)
    short = incore(work, _machine(0.9 * UNIT.multiply), "avx512")
    long = incore(work, _machine(0.9 * UNIT.multiply, share * UNIT.multiply), "avx512")
    assert long.arithmetic == pytest.approx(short.arithmetic * factor)
    assert long.load == pytest.approx(short.load)


def test_only_products_of_the_library_have_it() -> None:
    slow = _machine(UNIT.multiply / 4)
    for method, slower in (("dense_gemm", True), ("dense_direct", False)):
        before, after = (
            predict(LAYER, m, method=method, isa="avx512", threads=1).seconds or 0.0
            for m in (_machine(None), slow)
        )
        assert (after > 1.5 * before) if slower else (after == before)
        work = make_plan(LAYER, slow, method=method, isa="avx512", threads=1).phases[-1].work
        assert (work.blas_multiply_adds == (work.multiply_adds if slower else 0.0)).all()


def test_a_file_without_it_says_what_is_assumed() -> None:
    for name in ("blas_multiply_adds", "sustained_multiply"):
        key = f"core.isa.avx512.{name}, for arithmetic: as many as the ports start"
        assert key in set(assumptions(_machine(None)))
        assert key not in set(assumptions(_machine(1.0, 1.0)))


@pytest.mark.parametrize("agreeing", [0, 3])
def test_what_calibration_makes_of_it(monkeypatch: pytest.MonkeyPatch, agreeing: int) -> None:
    """The time of the ports' loop that a product takes is divided out; unsettled ones are not."""
    isas = supported_isas()
    found = Calibration(read_facts(), quick=True)
    path = f"core.isa.{isas[-1]}"
    found.entries.append(Entry(f"{path}.multiply", 2.0, "/cycle"))
    figure = Figure(1.25, 1.25, 1.6, 3, agreeing, 1.0, 0.0, 0.1)
    monkeypatch.setattr(threads, "product_figure", lambda *_: figure)
    run._measure_products(found, Bench(probes.Probe(2**20), 0.0, 1, 1, lambda _: None), isas)
    entry = found.entries[-1]
    if agreeing:
        assert entry.path == f"{path}.blas_multiply_adds"
        assert (entry.low, entry.value, entry.high) == pytest.approx((1.25, 1.6, 1.6))
        assert found.figures["products of BLAS"] is figure
    else:
        assert entry.path == f"{path}.multiply"
        assert "products of BLAS" in found.left_out[-1]


@pytest.mark.parametrize("agreeing", [0, 2])
def test_what_calibration_sustains(monkeypatch: pytest.MonkeyPatch, agreeing: int) -> None:
    """Operations a cycle of the vector clock; of each set that has multiply-adds."""
    found = Calibration(read_facts(), quick=True)
    bench = Bench(probes.Probe(2**20), 0.0, 1, 1, lambda _: None)
    bench.rounds["avx2.fma"] = []
    for name, value, unit in (("multiply", 2.0, "/cycle"), ("vector_clock", 2e9, "Hz")):
        found.entries.append(Entry(f"core.isa.avx2.{name}", value, unit))
    figure = Figure(0.27e-9, 0.25e-9, 0.3e-9, 3, agreeing, 1.0, 0.0, 0.03)
    monkeypatch.setattr(threads, "sustained_figure", lambda *_: figure)
    run._measure_sustained(found, bench, ("baseline", "avx2"))
    entry = found.entries[-1]
    if agreeing:
        assert entry.path == "core.isa.avx2.sustained_multiply"
        assert (entry.low, entry.value, entry.high) == pytest.approx((1 / 0.6, 1 / 0.54, 2.0))
        assert len(found.entries) == 3
    else:
        assert len(found.entries) == 2
        assert "avx2.fma sustained" in found.left_out[-1]
