"""Structured patterns and plans: what is left is what the published formula says."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import native
from archsim.analytic import ecm
from archsim.api import make_plan, predict
from archsim.errors import InputError, NotApplicableError
from archsim.machinefile import load_machine, machine_names
from archsim.methods import structured
from archsim.network import Layer, load_network
from archsim.sparsity import STRUCTURES, Sparsity

CONV3 = load_network("alexnet")["conv3"]
XEON = load_machine("xeon-e5-2697v4-2s")
HOST = archsim.load_machine("host")
LAYERS = [
    Layer("plain", C=20, K=36, H=13, W=13, R=3, S=3, pad=(1, 1)),
    Layer("grouped", C=6, K=10, H=9, W=17, R=5, S=5, pad=(2, 2), groups=2),
    Layer("strided", C=3, K=20, H=31, W=29, R=7, S=7, stride=(2, 2), pad=(3, 3)),
    Layer("pointwise", C=12, K=7, H=8, W=8),
]


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 9])
def test_strided_patterns_leave_the_published_columns(stride: int) -> None:
    """K' = sum over input maps of ceil((k k - offset) / stride) (Anwar, Hwang, Sung 2017)."""
    pattern = Sparsity.structured(CONV3, "intra-kernel-strided", stride=stride, seed=3)
    assert pattern.weights is not None
    there = (pattern.weights != 0).reshape(CONV3.K, CONV3.C, 9)
    assert (there == there[:1]).all()  # the same positions for all output maps
    offsets = there[0].argmax(axis=1)
    assert offsets.max() < stride
    formula = sum(ceil((9 - offset) / stride) for offset in offsets)
    assert structured.strided_columns(offsets, stride, 9) == formula
    kept = structured.find(CONV3, pattern)
    weights, lowered = kept.shapes(CONV3, "intra-kernel-strided")
    assert weights == (384, formula)
    assert lowered == (formula, 169)


def test_maps_leave_whole_rows_and_columns() -> None:
    for structure, shapes in (
        ("output-map", ((96, 2304), (2304, 169))), ("input-map", ((384, 576), (576, 169))),
    ):  # fmt: skip
        pattern = Sparsity.structured(CONV3, structure, density=0.25)  # type: ignore[arg-type]
        assert structured.find(CONV3, pattern).shapes(CONV3, "feature-map") == shapes
        assert pattern.density == 0.25


def test_kernels_leave_lists_of_whole_kernels() -> None:
    pattern = Sparsity.structured(CONV3, "kernel", density=0.3)
    assert pattern.weights is not None
    there = (pattern.weights != 0).any(axis=(2, 3))
    assert there.sum() == round(0.3 * CONV3.K * CONV3.C)
    assert pattern.density == pytest.approx(0.3, abs=1e-4)
    plan = make_plan(CONV3, XEON, method="structured", pattern=pattern, threads=1)
    assert plan.schedule == plan.blocking["granularity"] == "kernel"
    assert plan.nonzeros == 9 * there.sum()
    apart = make_plan(CONV3, XEON, method="lowered_sparse", pattern=pattern, threads=1)
    assert plan.nonzeros == apart.nonzeros
    products = [(p.phases[1].work.multiply_adds * p.phases[1].tiles.total).sum()
                for p in (plan, apart)]  # fmt: skip
    assert products[0] == pytest.approx(products[1])
    # all weights of a kernel share an index of 4 bytes
    read = sum(float((s.bytes * plan.phases[1].tiles.total).sum())
               for s in plan.phases[1].streams if s.array == "weights")  # fmt: skip
    passes = ceil(ceil(169 / plan.target.lanes) / int(plan.blocking["pixel_vectors"]))
    assert read == pytest.approx(passes * plan.nonzeros * (4 + 4 / 9))


def test_results_say_what_is_left() -> None:
    """Both lowered matrices, against the published formula."""
    pattern = Sparsity.structured(CONV3, "intra-kernel-strided", stride=2, seed=3)
    assert pattern.weights is not None
    offsets = (pattern.weights[0].reshape(CONV3.C, 9) != 0).argmax(axis=1)
    left = structured.strided_columns(offsets, 2, 9)
    found = predict(CONV3, XEON, method="structured", pattern=pattern)
    assert found.notes[0] == f"[384 x {left}] . [{left} x 169] of [384 x 2304] . [2304 x 169]"
    pattern = Sparsity.structured(CONV3, "kernel", density=0.25)
    found = predict(CONV3, XEON, method="structured", pattern=pattern)
    assert found.notes[0] == "24576 of 98304 kernels of [384 x 2304] . [2304 x 169]"


@pytest.mark.parametrize("density", [0.0, 0.05, 0.4])
def test_lists_are_counted(density: float) -> None:
    """Visits and vectors of sums, against a walk over the pattern."""
    layer = Layer("walk", C=24, K=10, H=12, W=12, R=3, S=3, pad=(1, 1), groups=2)
    pattern = Sparsity.structured(layer, "kernel", density=density, seed=2)
    plan = make_plan(layer, XEON, method="structured", pattern=pattern, schedule="kernel",
                     threads=1)  # fmt: skip
    assert pattern.weights is not None
    there: Any = pattern.weights.any(axis=(2, 3))
    block, lanes = int(plan.blocking["channel_block"]), plan.target.lanes
    lists = -(-12 // block)
    visits = sum(
        b in (0, lists - 1) or bool(np.any(there[k, b * block : (b + 1) * block]))
        for k in range(10)
        for b in range(lists)
    )
    work, total = plan.phases[1].work, plan.phases[1].tiles.total
    vectors = -(-144 // lanes)
    assert (work.stores * total).sum() == visits * vectors
    assert (work.multiply_adds * total).sum() == there.sum() * 9 * vectors
    loads = there.sum() * 9 * vectors + (visits - 10) * vectors
    assert (work.loads_aligned * total).sum() == loads


def test_zeros_inside_of_kernels_count_as_weights() -> None:
    layer = Layer("few", C=8, K=6, H=7, W=7, R=3, S=3, pad=(1, 1))
    weights = np.zeros(layer.weight_shape, dtype=np.float32)
    weights[0, 3, 1, 1] = weights[5, 0, 0, 2] = weights[5, 7, 2, 0] = 1.0
    weights[5, 1] = 1.0
    plan = make_plan(layer, XEON, method="structured", pattern=weights, schedule="kernel",
                     threads=1)  # fmt: skip
    assert plan.nonzeros == 4 * 9
    tiles = plan.phases[1].tiles.total * plan.phases[1].work.multiply_adds
    vectors = -(-49 // plan.target.lanes)
    assert tiles.sum() == 4 * 9 * vectors


def test_without_a_machine_auto_takes_lists_where_they_leave_less_than_half() -> None:
    """Of the smaller dense product, which removed maps make smaller for both."""

    def schedule_of(pattern: object) -> str:
        given = {"method": "structured", "pattern": pattern, "threads": 1}
        return make_plan(CONV3, XEON.target(None), **given).schedule  # type: ignore[arg-type]

    for density, schedule in ((0.45, "kernel"), (0.55, "feature-map")):
        pattern = Sparsity.structured(CONV3, "kernel", density=density)
        assert schedule_of(pattern) == schedule
    pattern = Sparsity.structured(CONV3, "kernel", density=0.45)
    assert pattern.weights is not None
    fewer = pattern.weights * (np.arange(CONV3.K) % 2)[:, None, None, None]
    assert schedule_of(fewer) == "kernel"
    half = np.ones(CONV3.weight_shape, np.float32) * (np.arange(CONV3.K) % 2)[:, None, None, None]
    assert schedule_of(half) == "feature-map"


def test_reasons() -> None:
    with pytest.raises(NotApplicableError, match="a pattern is needed"):
        make_plan(CONV3, XEON, method="structured", density=0.3)
    fc = load_network("alexnet")["fc7"]
    with pytest.raises(NotApplicableError, match="no maps"):
        make_plan(fc, XEON, method="structured", density=0.3)
    found = predict(CONV3, XEON, method="structured", density=0.3)
    assert found.seconds is None
    assert found.reason is not None


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("diagonal", {}), "structure: unknown"),
        (("kernel", {"density": 1.5}), "density"),
        (("intra-kernel-strided", {"stride": 10}), "stride: must lie in 1..9"),
        (("intra-kernel-strided", {"stride": 0}), "stride: must lie in 1..9"),
    ],
)
def test_bad_structures(arguments: Any, match: str) -> None:
    structure, more = arguments
    with pytest.raises(InputError, match=match):
        Sparsity.structured(CONV3, structure, **more)


def test_auto_takes_the_coarser_where_both_leave_the_same() -> None:
    maps = Sparsity.structured(CONV3, "input-map", density=0.5)
    strided = Sparsity.structured(CONV3, "intra-kernel-strided", stride=2)
    plan = make_plan(CONV3, XEON, method="structured", pattern=maps, threads=1)
    assert plan.schedule == "feature-map"
    plan = make_plan(CONV3, XEON, method="structured", pattern=strided)
    assert plan.schedule == "intra-kernel-strided"
    whole = make_plan(CONV3, XEON, method="structured", pattern=strided, schedule="feature-map")
    assert whole.blocking["kept_rows"] == 2304


def test_less_is_less_work() -> None:
    dense = make_plan(CONV3, XEON, method="dense_gemm", threads=1)
    pattern = Sparsity.structured(CONV3, "intra-kernel-strided", stride=2)
    plan = make_plan(CONV3, XEON, method="structured", pattern=pattern, threads=1)
    share = int(plan.blocking["kept_rows"]) / 2304
    done = [float((p.phases[1].work.multiply_adds * p.phases[1].tiles.total).sum())
            for p in (plan, dense)]  # fmt: skip
    assert done[0] == pytest.approx(share * done[1])
    assert [p.phases[0].tiles.total.sum() for p in (plan, dense)] == [
        plan.blocking["kept_rows"],
        2304,
    ]
    assert plan.nonzeros == int(plan.blocking["kept_rows"]) * 384
    for name in machine_names():
        machine = load_machine(name)
        slow, fast = (
            predict(CONV3, machine, method=method, pattern=pattern, threads=1).seconds
            for method in ("dense_gemm", "structured")
        )
        assert slow is not None
        assert fast is not None
        assert fast < slow


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_plans_predict_and_run(layer: Layer, structure: Any) -> None:
    stride = min(2, layer.R * layer.S)
    pattern = Sparsity.structured(layer, structure, density=0.4, stride=stride, seed=5)
    for batch, threads in ((1, 1), (1, 2), (3, 2)):
        if structured.reason(layer, pattern) is not None:
            assert layer.R * layer.S == 1
            continue
        schedule = structure if structure == "kernel" else "auto"
        plan = make_plan(layer, XEON, method="structured", pattern=pattern, batch=batch,
                         threads=threads, schedule=schedule)  # fmt: skip
        assert np.isfinite(ecm.estimate(plan, XEON).seconds)
        if threads > HOST.total_threads:
            continue
        plan = make_plan(layer, HOST, method="structured", pattern=pattern, batch=batch,
                         threads=threads, schedule=schedule)  # fmt: skip
        found = native.run(plan, np.asarray(pattern.weights), min_seconds=0.0, check=True)
        assert found.max_error is not None
        assert found.max_error < 1e-5
