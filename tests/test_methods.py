"""Plans: counts against hand-worked cases and against a walk over the real pattern."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest

from archsim.api import make_plan
from archsim.errors import InputError, NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods.crossing import crossing_share
from archsim.methods.row_variants import VARIANTS, row_variant
from archsim.methods.sharing import balanced_parts, even_parts, share
from archsim.network import Layer, load_network
from archsim.plan import Plan
from archsim.sparsity import Sparsity

ALEXNET = load_network("alexnet")
CONV3 = ALEXNET["conv3"]
ATOM = load_machine("atom-c2750")
XEON = load_machine("xeon-e5-2697v4-2s")
PHI = load_machine("xeon-phi-7250")


def _products(plan: Plan) -> Any:
    return next(phase for phase in plan.phases if phase.name == "products")


def _total(plan: Plan, name: str) -> float:
    phase = _products(plan)
    return float(phase.tiles.total @ getattr(phase.work, name))


# register blocks and loads per nonzero of 13x13 layers: SkimCaffe, by instruction set
@pytest.mark.parametrize(
    ("machine", "batch", "rows", "vectors", "loads", "passes", "name"),
    [
        (ATOM, 32, 3, 4, 52, 5, "row:fixed32-output"),
        (XEON, 144, 7, 2, 26, 2, "row:fixed32"),
        (PHI, 272, 13, 1, 13, 1, "row:dyn32-shared"),
    ],
    ids=["sse42", "avx2", "avx512"],
)
def test_published_register_blocks(
    machine: Any, batch: int, rows: int, vectors: int, loads: int, passes: int, name: str
) -> None:
    plan = make_plan(
        CONV3, machine, method="direct_sparse", schedule="row", density=0.1, batch=batch
    )
    assert plan.schedule == name
    assert (plan.blocking["reg_rows"], plan.blocking["reg_vectors"]) == (rows, vectors)
    assert plan.blocking["row_pitch"] == 14
    nonzeros = plan.nonzeros * batch
    assert _total(plan, "multiply_adds") == pytest.approx(nonzeros * loads)
    assert _total(plan, "loads_folded") == pytest.approx(nonzeros * loads)
    steps = _total(plan, "chain_multiply_adds")
    assert steps == pytest.approx(nonzeros * passes)


@pytest.mark.parametrize("machine", [ATOM, XEON, PHI])
def test_lines_asked_for_early_are_those_of_each_row_of_a_block(machine: Any) -> None:
    """Rows of 56 numbers, in one block each, are four lines; in a small layer none is asked for."""
    layer = Layer("wide", C=64, K=64, H=56, W=56, R=3, S=3, pad=(1, 1))
    plan = make_plan(layer, machine, method="direct_sparse", schedule="row", density=0.3)
    assert plan.blocking["prefetch"] == 1
    assert _total(plan, "early_lines") == pytest.approx(plan.nonzeros * 56 * 4)
    layer = Layer("small", C=8, K=8, H=8, W=8, R=3, S=3, pad=(1, 1))
    small = make_plan(layer, machine, method="direct_sparse", schedule="row", density=0.1)
    assert small.blocking["prefetch"] == 0
    assert _total(small, "early_lines") == 0


# shares counted over the real address stream at pitch 14, from the published geometry
@pytest.mark.parametrize(
    ("machine", "line", "page"),
    [(ATOM, 0.167, 0.0026), (XEON, 0.417, 0.0064), (PHI, 0.917, 0.0143)],
    ids=["sse42", "avx2", "avx512"],
)
def test_line_and_page_crossings(machine: Any, line: float, page: float) -> None:
    plan = make_plan(CONV3, machine, method="direct_sparse", density=0.1, batch=32,
                     schedule="row")  # fmt: skip
    loads = _total(plan, "loads_folded")
    assert _total(plan, "loads_line_crossing") / loads == pytest.approx(line, abs=0.03)
    assert _total(plan, "loads_page_crossing") / loads == pytest.approx(page, abs=5e-4)


def test_crossing_share_by_brute_force() -> None:
    rng = np.random.default_rng(1)
    nonzeros, positions = rng.integers(0, 5000, 37), rng.integers(0, 900, 23)
    sums = nonzeros[:, None] + positions[None, :]
    expected = np.mean(sums % 16 > 16 - 8)
    assert crossing_share(nonzeros, positions, 8, 16) == pytest.approx(expected)


def test_uniform_counts_are_the_mean_of_drawn_ones() -> None:
    uniform = make_plan(CONV3, XEON, method="direct_sparse", density=0.1, batch=72,
                        schedule="row")  # fmt: skip
    drawn = Sparsity(0.1).draw(CONV3, seed=3)
    real = make_plan(CONV3, XEON, method="direct_sparse", pattern=drawn, batch=72,
                     schedule="row")  # fmt: skip
    assert drawn.weights is not None
    assert real.nonzeros == np.count_nonzero(drawn.weights)
    for name in ("multiply_adds", "broadcasts", "stores", "mispredicts", "loads_line_crossing"):
        assert _total(real, name) == pytest.approx(_total(uniform, name), rel=0.01), name


def test_plan_of_a_pattern_counts_every_block() -> None:
    """Walk the loops of the schedule over a small pattern and count what they do."""
    layer = Layer("small", C=12, K=20, H=9, W=11, R=3, S=3, pad=(1, 1), groups=2)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(layer.weight_shape) * (rng.random(layer.weight_shape) < 0.3)
    plan = make_plan(
        layer, ATOM, method="direct_sparse", pattern=weights, batch=1, threads=1,
        schedule="row:fixed32",
    )  # fmt: skip
    lanes, rows = 4, int(plan.blocking["reg_rows"])
    vectors = ceil(layer.Q / lanes)
    passes = ceil(layer.P / rows)
    loads = broadcasts = rounds = 0
    for channel in weights.astype(np.float32):
        nonzeros = int(np.count_nonzero(channel))
        rounds += passes  # one column block: 6 channels a group are below 32
        for start in range(0, layer.P, rows):
            loads += nonzeros * min(rows, layer.P - start) * vectors
        broadcasts += nonzeros * passes + passes
    assert _total(plan, "multiply_adds") == loads
    assert _total(plan, "broadcasts") == broadcasts
    assert _total(plan, "mispredicts") == rounds
    assert plan.actual_flop == 2 * np.count_nonzero(weights) * layer.P * layer.Q


def test_strided_layers_run_the_scalar_loop() -> None:
    plan = make_plan(ALEXNET["conv1"], XEON, method="direct_sparse", density=0.5, batch=1,
                     schedule="row")  # fmt: skip
    assert plan.blocking["vectorised"] == 0
    assert _total(plan, "multiply_adds") == 0
    pixels = 55 * 55
    assert _total(plan, "scalar_multiply_adds") == pytest.approx(plan.nonzeros * pixels)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_plans(name: str) -> None:
    plan = make_plan(CONV3, XEON, method="direct_sparse", density=0.05, schedule=name, batch=72)
    assert plan.schedule == name
    assert 256 % int(plan.blocking["channel_block"]) == 0


def test_block_rules() -> None:
    assert VARIANTS["row:dyn32"].channel_block(256, 207) == 32
    assert VARIANTS["row:dyn32"].channel_block(256, 20) == 256
    assert VARIANTS["row:dyn8"].channel_block(256, 20) == 128  # at most half
    assert VARIANTS["row:fixed32"].channel_block(256, 20) == 32
    assert VARIANTS["row:fixed32"].channel_block(3, 20) == 3
    assert VARIANTS["row:dyn32"].channel_block(48, 0) == 48
    assert 48 % VARIANTS["row:dyn32"].channel_block(48, 100) == 0


def test_unknown_schedule_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'row:dyn32"):
        row_variant("row:dyn23", XEON.target())
    with pytest.raises(InputError, match="unknown schedule"):
        make_plan(CONV3, XEON, method="lowered_sparse", schedule="row", density=0.1)


def test_fully_connected_layers_say_why_not() -> None:
    for method in ("direct_sparse", "lowered_sparse", "dense_direct"):
        with pytest.raises(NotApplicableError, match="one output pixel"):
            make_plan(ALEXNET["fc6"], XEON, method=method, density=0.1)


def test_winograd_density_does_not_apply() -> None:
    with pytest.raises(NotApplicableError, match="Winograd"):
        make_plan(CONV3, XEON, method="direct_sparse", density=0.1, density_domain="winograd")


@pytest.mark.parametrize(
    "method", ["dense_gemm", "dense_direct", "lowered_sparse", "direct_sparse"]
)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 5), (7, 3), (272, 272), (5, 72)])
def test_all_images_are_computed_once(method: str, batch: int, threads: int) -> None:
    plan = make_plan(CONV3, PHI, method=method, density=0.2, batch=batch, threads=threads)
    for phase in plan.phases:
        tiles = phase.tiles
        assert tiles.thread_class.shape == (threads,)
        schedule = plan.schedule if method == "direct_sparse" else "auto"
        one = make_plan(
            CONV3, PHI, method=method, density=0.2, batch=1, threads=1, schedule=schedule
        )
        single = next(p for p in one.phases if p.name == phase.name)
        if phase.name == "products" and method == "dense_direct":
            # how the output channels are cut decides how many of them are a tile
            done, alone = _total(plan, "multiply_adds"), _total(one, "multiply_adds")
            assert done == pytest.approx(batch * alone)
            continue
        if phase.name == "input" and method == "direct_sparse" and plan.schedule == "lanes:shifts":
            continue  # every thread copies what it looks at: tests/test_lanes.py counts
        kind = 0  # kind 1 of a GEMM, packing, is done by every thread
        turns = ceil(batch / plan.images_per_turn)
        assert tiles.total[kind] == turns * single.tiles.total[kind]


def test_dense_counts_are_the_layer_s() -> None:
    plan = make_plan(CONV3, XEON, method="dense_gemm", batch=2)
    assert plan.actual_flop == plan.effective_flop == 2 * CONV3.flop
    vectors = ceil(169 / 8)
    assert _total(plan, "multiply_adds") == 2 * 384 * 256 * 9 * vectors
    pointwise = Layer("p", C=8, K=8, H=4, W=4)
    assert [p.name for p in make_plan(pointwise, XEON, method="dense_gemm").phases] == ["products"]


def test_parts() -> None:
    assert even_parts(7, 3) == (0, 2, 4, 7)
    weights = np.array([5.0, 1, 1, 1, 1, 1])
    assert balanced_parts(weights, 2) == (0, 1, 6)
    assert balanced_parts(np.zeros(4), 2) == (0, 2, 4)
    parts = balanced_parts(np.ones(3), 5)
    assert len(parts) == 6
    assert list(parts) == sorted(parts)


def test_share_leaves_surplus_threads_idle() -> None:
    tiles = share(batch=2, threads=7, threads_per_image=3, parts=np.array([[1], [2], [1]]))
    assert (tiles.thread_class < 0).sum() == 1
    assert tiles.total.tolist() == [8]
    tiles = share(batch=1, threads=4, threads_per_image=1, parts=np.array([[9]]))
    assert tiles.members.tolist() == [1]


@pytest.mark.parametrize(
    "layer",
    [
        Layer("one pixel", C=1, K=1),
        Layer("one channel", C=1, K=1, H=5, W=7, R=3, S=3),
        Layer("wide", C=2, K=3, H=3, W=1000, R=3, S=3, pad=(1, 1)),
        Layer("dilated", C=4, K=6, H=13, W=17, R=3, S=2, dilation=(2, 3), stride=(2, 1)),
        Layer("depthwise", C=8, K=8, H=9, W=9, R=3, S=3, groups=8),
    ],
    ids=lambda layer: layer.name,
)
@pytest.mark.parametrize("density", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "method", ["dense_gemm", "dense_direct", "lowered_sparse", "direct_sparse"]
)
def test_odd_shapes_plan(layer: Layer, density: float, method: str) -> None:
    for machine in (ATOM, XEON, PHI):
        plan = make_plan(layer, machine, method=method, density=density, threads=3)
        for phase in plan.phases:
            for stream in phase.streams:
                assert np.isfinite(stream.bytes).all()
                assert (stream.bytes >= 0).all()
                assert (stream.reuse_distance_bytes >= 0).all()


def test_plan_with_a_target_needs_threads() -> None:
    with pytest.raises(InputError, match="threads"):
        make_plan(CONV3, XEON.target(), method="dense_gemm")
    plan = make_plan(CONV3, XEON.target(), method="dense_gemm", threads=2)
    assert plan.threads == 2
