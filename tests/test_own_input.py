"""Threads of an image that each make its copy: who does, what plans say, and that it is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsim.analytic.demand import traffic
from archsim.analytic.seats import placement
from archsim.api import make_plan
from archsim.kernels import ConvShape, DenseDirect, DenseGemm, DirectSparseRow, LoweredSparse
from archsim.machinefile import load_machine
from archsim.methods.sharing import input_counts, own_input
from archsim.native import prepare
from archsim.network import Layer
from archsim.plan import Plan

HOST = load_machine("xeon-skylake-sp-2s")
LAYER = Layer("a", C=24, K=40, H=13, W=11, R=3, S=3, pad=(1, 1))
GROUPED = Layer("g", C=24, K=40, H=13, W=11, R=3, S=3, pad=(1, 1), groups=2)
METHODS = (("direct_sparse", "row"), ("lowered_sparse", "auto"), ("dense_direct", "auto"),
           ("dense_gemm", "auto"))  # fmt: skip
CLASSES = {"direct_sparse": DirectSparseRow, "lowered_sparse": LoweredSparse,
           "dense_direct": DenseDirect, "dense_gemm": DenseGemm}  # fmt: skip


def _weights(layer: Layer, density: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(1)
    shape = layer.K, layer.C // layer.groups, layer.R, layer.S
    return (rng.normal(size=shape) * (rng.random(shape) < density)).astype(np.float32)


def test_who_makes_a_copy_of_its_own() -> None:
    target = HOST.target()
    alone = replace(target, threads_per_core=1, l2_sharers=1)
    assert [own_input(n, alone) for n in (1, 2, 4, 5, 68)] == [False, True, True, False, False]
    assert not own_input(2, replace(alone, threads_per_core=2))
    assert not own_input(2, replace(alone, l2_sharers=2))  # the cores of an Atom's module


def test_what_a_copy_holds() -> None:
    assert input_counts(7, 2, 1, None).tolist() == [[3], [4]]
    assert input_counts(7, 2, 1, (0, 1, 9)).tolist() == [[7], [7]]
    assert input_counts(8, 2, 2, (0, 5, 10)).tolist() == [[4], [4]]  # a group each
    assert input_counts(8, 2, 2, (0, 6, 10)).tolist() == [[8], [4]]
    assert input_counts(8, 3, 4, (0, 2, 2, 8)).tolist() == [[2], [0], [6]]  # one has nothing to do
    assert input_counts(8, 2, 2, ()).tolist() == [[8], [8]]  # parts are taken at run time


def _machine(threads_per_core: int = 1) -> Any:
    document = HOST.model_copy(update={"threads_per_core": threads_per_core})
    assert document.target().l2_sharers == threads_per_core
    return document


def _plan(method: str, schedule: str, layer: Layer = LAYER, **given: Any) -> Plan:
    given = {"threads": 2, "batch": 1, **given}
    sparse: dict[str, Any] = {"density": 0.4} if "sparse" in method else {}
    return make_plan(layer, _machine(), method=method, schedule=schedule, **sparse, **given)


@pytest.mark.parametrize(("method", "schedule"), METHODS)
def test_plans_say_it(method: str, schedule: str) -> None:
    plan = _plan(method, schedule)
    assert plan.blocking["own_input"] == 1
    assert not any(phase.barriers for phase in plan.phases)
    assert not any(s.handed for phase in plan.phases for s in phase.streams)
    copies = plan.phases[0].tiles.count.sum(axis=1)
    assert copies[0] == copies[1] == copies.max()  # all of it, not half
    halves = _plan(method, schedule, GROUPED).phases[0].tiles.count.sum(axis=1)
    assert (2 * halves <= copies).all()  # the groups that it needs
    for other in (_plan(method, schedule, batch=2), _plan(method, schedule, threads=8)):
        assert "own_input" not in other.blocking
    shared = _plan(method, schedule, threads=8)
    assert any(s.handed for phase in shared.phases for s in phase.streams)


def test_whoever_takes_parts_still_meets() -> None:
    for method, schedule in METHODS[:2]:
        plan = _plan(method, schedule, partition="dynamic")
        assert plan.blocking["own_input"] == 1
        assert plan.phases[-1].barriers > 0


@pytest.mark.parametrize(("method", "schedule"), METHODS)
def test_each_thread_reads_and_writes_all_of_it(
    method: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of the copy phase double."""
    own = _plan(method, schedule)
    monkeypatch.setattr(f"archsim.methods.{method}.own_input", lambda *_: False)
    shared = _plan(method, schedule, Layer("s", C=24, K=40, H=13, W=11, R=3, S=3, pad=(1, 1)))
    assert "own_input" not in shared.blocking
    twice, once = (
        sum(float((s.bytes @ plan.phases[0].tiles.total).sum()) for s in plan.phases[0].streams)
        for plan in (own, shared)
    )
    assert twice == pytest.approx(2.0 * once, rel=0.02)
    # and beyond the first level: both read the picture, each writes a buffer of its own
    machine = _machine()
    with_copies, with_one = (
        sum(float((x @ plan.phases[0].tiles.total)[0]) for x in traffic(
            plan.phases[0], plan, machine, placement(plan.threads, machine)))
        for plan in (own, shared)
    )  # fmt: skip
    assert with_copies >= with_one > 0.0


@pytest.mark.parametrize("base", [LAYER, GROUPED], ids=["one", "groups"])
@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("method", "schedule"), METHODS)
def test_results_are_the_same(
    method: str, schedule: str, threads: int, own: int, base: Layer
) -> None:
    """With every count of threads for an image, copies of their own or not, image after image."""
    weights = _weights(base)
    shape = ConvShape(24, 13, 11, 40, 3, 3, pad=(1, 1), groups=base.groups)
    plan = make_plan(
        base, "host", method=method, schedule=schedule, threads=1, batch=1,
        pattern=weights if "sparse" in method else None,
    )  # fmt: skip
    x = np.random.default_rng(2).normal(size=(5, 24, 13, 11)).astype(np.float32)
    right = prepare(plan, weights).run(x)
    units = plan.part_ptr[-1]
    for partition in ("nnz", "dynamic") if "partition" in plan.blocking else ("",):
        blocking = dict(plan.blocking) | {"threads_per_image": threads, "own_input": own}
        if partition:
            blocking["partition"] = partition
        for cut in (2, 3):  # even, and some parts longer than others, groups or none in them
            parts = [units * min(cut * rank, 2 * threads) // (2 * threads)
                     for rank in range(threads)]  # fmt: skip
            layer = CLASSES[method](
                weights, shape, blocking=blocking, part_ptr=[*parts, units], threads=2 * threads
            )
            for _ in range(3):
                np.testing.assert_allclose(layer.run(x), right, rtol=1e-5, atol=1e-5)


def test_others_do_not_know_it() -> None:
    from archsim.kernels import Winograd

    plan = make_plan(LAYER, "host", method="winograd", threads=1, batch=1)
    shape = ConvShape(24, 13, 11, 40, 3, 3, pad=(1, 1))
    with pytest.raises(ValueError, match="own_input"):
        Winograd(_weights(LAYER), shape, blocking={**plan.blocking, "own_input": 1},
                 part_ptr=plan.part_ptr, threads=1)  # fmt: skip
