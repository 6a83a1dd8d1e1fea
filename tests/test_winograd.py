"""Plans of winograd and sparse_winograd: counts against walks, native runs, the domain."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil, prod
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import kernels, native
from archsim.api import make_plan
from archsim.errors import InputError, NotApplicableError
from archsim.kernels.winograd_layout import pack_sparse, winograd_layout
from archsim.kernels.winograd_matrices import VARIANTS as MATRICES
from archsim.machinefile import load_machine
from archsim.methods.winograd_blocking import VARIANTS, in_place
from archsim.network import Layer, load_network
from archsim.plan import Plan
from archsim.sparsity import WINOGRAD_TILES, Sparsity, load_sparsity, weight_shapes
from archsim.study import sum_up

HOST = load_machine("host")
MACHINES = {
    name: load_machine(name) for name in ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")
}
SAME: dict[str, Any] = {"R": 3, "S": 3, "pad": (1, 1)}
LAYERS = [
    Layer("plain", C=20, K=36, H=28, W=28, **SAME),
    Layer("odd", C=7, K=33, H=13, W=17, **SAME),
    Layer("grouped", C=6, K=10, H=9, W=17, R=5, S=5, pad=(2, 2), groups=2),
    Layer("small", C=12, K=8, H=7, W=7, **SAME),
    Layer("one pixel", C=3, K=2, H=3, W=3, R=3, S=3),
]
BOTH = ("winograd", "sparse_winograd")


def _plan(layer: Layer, machine: Any, method: str, **changes: Any) -> Plan:
    arguments: dict[str, Any] = {"threads": 1, "batch": 1} | changes
    if method == "sparse_winograd" and "pattern" not in arguments:
        arguments = {"density": 0.3, "density_domain": "winograd"} | arguments
    return make_plan(layer, machine, method=method, **arguments)


def _total(plan: Plan, name: str, phase: str = "products") -> float:
    found = next(p for p in plan.phases if p.name == phase)
    return float(found.tiles.total @ getattr(found.work, name))


def _number(plan: Plan) -> dict[str, int]:
    return {k: int(v) for k, v in plan.blocking.items() if k != "variant"}


def test_plans_and_kernels_know_the_same_variants() -> None:
    assert list(VARIANTS) == list(MATRICES)
    tiles: dict[int, set[int]] = {}
    for ours, theirs in zip(VARIANTS.values(), MATRICES.values(), strict=True):
        assert (ours.outputs, ours.kernel) == (theirs.outputs, theirs.kernel)
        tiles.setdefault(ours.kernel, set()).add(ours.tile)
    assert {kernel: set(found) for kernel, found in WINOGRAD_TILES.items()} == tiles


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_plans_know_which_pictures_are_read_in_place(variant: str, lanes: int) -> None:
    r, found = VARIANTS[variant].kernel, set()
    for width in range(r, 40):
        layer = Layer("x", C=1, K=1, H=40, W=width, R=r, S=r, pad=(1, 1))
        number = {"lanes": lanes, "images": 1, "chunk_vectors": 1, "reg_vectors": 1, "out_block": 1}
        layout = winograd_layout(native.conv_shape(layer), number, variant)
        assert in_place(layer, VARIANTS[variant], lanes) == (layout.into is not None), width
        found.add(layout.into is not None)
    assert found == ({False, True} if lanes == 16 else {False})


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (5, 2)])
def test_plans_run_and_are_right(
    layer: Layer, method: str, isa: str, batch: int, threads: int
) -> None:
    if threads > HOST.total_threads:
        pytest.skip("this host has one thread")
    for schedule in ("auto", *(v.name for v in VARIANTS.values() if v.kernel == layer.R)):
        sizes: dict[str, Any] = {"schedule": schedule, "batch": batch, "threads": threads}
        plan = _plan(layer, HOST, method, isa=isa, **sizes)
        assert schedule in ("auto", plan.schedule)
        domain: Any = "winograd" if method == "sparse_winograd" else "spatial"
        weights = Sparsity(0.3, domain=domain).draw(layer, 1, plan.weight_shape).weights
        assert weights is not None
        found = native.run(plan, weights, min_seconds=0.0, check=True)
        assert found.max_error is not None
        assert found.max_error < 1e-5
        assert found.isa == isa
        assert {p.name for p in found.phases} == {"input", "products", "output"}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_sparse_products_are_those_of_the_packed_layer(layer: Layer, machine: str) -> None:
    """Walk the lists, chunks and register blocks that the kernel gets."""
    drawn = Sparsity(0.3, domain="winograd").draw(layer, seed=2)
    assert drawn.weights is not None
    plan = _plan(layer, MACHINES[machine], "sparse_winograd", pattern=drawn)
    number, shape = _number(plan), native.conv_shape(layer)
    layout = winograd_layout(shape, number, str(plan.blocking["variant"]))
    packed = pack_sparse(drawn.weights, shape, number)
    lists = packed.streams
    assert np.count_nonzero(lists.val) == np.count_nonzero(drawn.weights)
    beside = number["reg_lists"]
    in_blocks = ceil(shape.group_channels / number["in_block"])
    found, changes = Counter[str](), 0
    for first in range(0, len(layout.start), number["chunk_vectors"]):
        vectors = min(number["chunk_vectors"], len(layout.start) - first)
        for begin in range(0, vectors, number["reg_vectors"]):
            width = min(number["reg_vectors"], vectors - begin)
            lengths = np.diff(lists.ptr)
            changes += 1 + int(np.count_nonzero(np.diff(lengths)))
            for start, stop in pairwise(lists.ptr):
                nonzeros = int(np.count_nonzero(lists.val[start:stop]))  # the others fill up
                found["multiply_adds"] += nonzeros * width
                found["broadcasts"] += nonzeros
                found["stores"] += beside * width
                found["loads_aligned"] += nonzeros * width
            found["loads_aligned"] += len(packed.row) * width * (in_blocks - 1) // in_blocks
    for name, count in found.items():
        assert _total(plan, name) == pytest.approx(count), name
    # ends that differ from the one before, expected against drawn; of one group a panel all count
    assert _total(plan, "mispredicts") == pytest.approx(changes, rel=0.2, abs=60)
    uses = layout.tile_rows * layout.tile_columns
    assert plan.actual_flop == 2 * np.count_nonzero(drawn.weights) * uses


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_dense_products_are_those_of_a_walk(layer: Layer, machine: str) -> None:
    """Count what kernels/csrc/run_winograd.c does for one image, loop by loop."""
    plan = _plan(layer, MACHINES[machine], "winograd")
    number, variant = _number(plan), VARIANTS[str(plan.blocking["variant"])]
    vectors = ceil(prod(variant.grid(layer)) / number["lanes"])
    in_group, depth = layer.K // layer.groups, layer.C // layer.groups
    found = Counter[str]()
    for first in range(0, vectors, number["chunk_vectors"]):
        chunk = min(number["chunk_vectors"], vectors - first)
        for block in range(0, in_group, number["out_block"]):
            channels = min(number["out_block"], in_group - block)
            for v in range(0, chunk, number["reg_vectors"]):
                width = min(number["reg_vectors"], chunk - v)
                for k in range(0, channels, number["reg_count"]):
                    count = min(number["reg_count"], channels - k)
                    found["multiply_adds"] += depth * width * count
                    found["loads_aligned"] += depth * width
                    found["broadcasts"] += depth * count
                    found["stores"] += width * count
                    found["chain_multiply_adds"] += depth
    for name, count in found.items():
        assert _total(plan, name) == count * layer.groups * variant.positions, name


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("name", VARIANTS)
def test_transformations_are_those_of_all_tiles(method: str, name: str) -> None:
    """Vector operations, tile by tile; stores of numbers, each once between and once behind."""
    variant = VARIANTS[name]
    layer = Layer("l", C=4, K=6, H=28, W=28, R=variant.kernel, S=variant.kernel,
                  pad=(variant.kernel // 2,) * 2)  # fmt: skip
    plan = _plan(layer, MACHINES["xeon-phi-7250"], method, schedule=name)
    vectors = ceil(prod(variant.grid(layer)) / 16)
    rows = 2 * variant.tile * variant.ops_in
    assert _total(plan, "multiply_adds", "input") == 4 * vectors * rows
    rows = (variant.tile + variant.outputs) * variant.ops_out + variant.outputs**2
    assert _total(plan, "multiply_adds", "output") == 6 * vectors * rows
    assert _total(plan, "stores", "input") >= 2 * 4 * vectors * variant.positions


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 5), (7, 3), (16, 1), (272, 272)])
def test_all_tiles_are_computed_once(method: str, batch: int, threads: int) -> None:
    for layer in LAYERS:
        plan = _plan(layer, MACHINES["xeon-phi-7250"], method, batch=batch, threads=threads)
        number = _number(plan)
        tiles = prod(VARIANTS[plan.schedule].grid(layer))
        vectors = ceil(number["images"] * tiles / number["lanes"])
        assert plan.images_per_turn == number["images"]
        assert plan.part_ptr[-1] == ceil(vectors / number["chunk_vectors"])
        for phase in plan.phases:
            assert phase.tiles.thread_class.shape == (threads,)
            loops = max(phase.loops, default=0) + 1  # each goes over all tiles
            assert phase.tiles.total.sum() == plan.turns * plan.part_ptr[-1] * loops


def test_pictures_share_vectors_where_one_does_not_fill_them() -> None:
    layer = Layer("small", C=64, K=64, H=7, W=7, **SAME)
    plan = _plan(layer, MACHINES["xeon-phi-7250"], "sparse_winograd", schedule="f4x4_3x3",
                 batch=16)  # fmt: skip
    assert plan.images_per_turn % 4 == 0  # 4 tiles each, 16 lanes
    alone = _plan(layer, MACHINES["xeon-phi-7250"], "sparse_winograd", schedule="f4x4_3x3")
    assert _total(plan, "multiply_adds") * 4 == pytest.approx(16 * _total(alone, "multiply_adds"))


def test_few_zeros_fill_up_lists() -> None:
    """Sorted by length, neighbours hardly differ: what the counts of a plan leave out is little."""
    drawn = Sparsity(0.1, domain="winograd").draw(Layer("l", C=128, K=128, H=56, W=56, **SAME), 1)
    plan = _plan(Layer("l", C=128, K=128, H=56, W=56, **SAME), HOST, "sparse_winograd",
                 pattern=drawn)  # fmt: skip
    assert drawn.weights is not None
    packed = pack_sparse(drawn.weights, native.conv_shape(plan.layer), _number(plan))
    assert len(packed.streams.val) < 1.05 * np.count_nonzero(drawn.weights)


def test_a_density_is_the_mean_of_patterns() -> None:
    drawn = Sparsity(0.2, domain="winograd").draw(LAYERS[0], seed=3)
    machine = MACHINES["xeon-e5-2697v4-2s"]
    uniform = _plan(LAYERS[0], machine, "sparse_winograd", density=0.2, schedule="f4x4_3x3")
    real = _plan(LAYERS[0], machine, "sparse_winograd", pattern=drawn)
    for name in ("multiply_adds", "broadcasts", "stores", "mispredicts"):
        assert _total(real, name) == pytest.approx(_total(uniform, name)), name
    assert real.blocking == uniform.blocking


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_any_density_and_machine_plans(method: str, density: float) -> None:
    for machine in MACHINES.values():
        for layer in LAYERS:
            found = archsim.predict(layer, machine, method=method, density=density, threads=3,
                                    density_domain="winograd")  # fmt: skip
            assert found.seconds is not None
            assert np.isfinite(found.seconds)
            assert found.seconds > 0
            plan = _plan(layer, machine, method, threads=3)
            for stream in (s for phase in plan.phases for s in phase.streams):
                assert np.isfinite(stream.bytes).all()
                assert (stream.bytes >= 0).all()
                assert (stream.reuse_distance_bytes >= 0).all()


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (Layer("1x1", C=4, K=4, H=8, W=8), "3x3 and 5x5 kernels, not 1x1"),
        (Layer("3x5", C=4, K=4, H=8, W=8, R=3, S=5), "not 3x5"),
        (Layer("strided", C=4, K=4, H=8, W=8, R=3, S=3, stride=(2, 2)), "stride 1"),
        (Layer("dilated", C=4, K=4, H=8, W=8, R=3, S=3, dilation=(2, 2)), "dilation 1"),
        (Layer("fc", C=4, K=4, type="fc"), "one output pixel"),
    ],
    ids=lambda value: value.name if isinstance(value, Layer) else "",
)
def test_what_no_variant_covers_says_why(layer: Layer, why: str) -> None:
    for method in BOTH:
        found = archsim.predict(layer, HOST, method=method, density=0.1, density_domain="winograd")
        assert found.seconds is None
        assert found.reason is not None
        assert why in found.reason


def test_schedules_domains_and_tiles_that_do_not_fit() -> None:
    with pytest.raises(NotApplicableError, match="f4x4_5x5 is for 5x5 kernels, not 3x3"):
        _plan(LAYERS[0], HOST, "winograd", schedule="f4x4_5x5")
    with pytest.raises(NotApplicableError, match="density is of the spatial domain"):
        make_plan(LAYERS[0], HOST, method="sparse_winograd", density=0.1, threads=1)
    pattern = Sparsity(0.3, domain="winograd").draw(LAYERS[0], 0, (4, 4, 36, 20))
    with pytest.raises(NotApplicableError, match="tiles of 4 x 4, which f4x4_3x3 does not have"):
        _plan(LAYERS[0], HOST, "sparse_winograd", pattern=pattern, schedule="f4x4_3x3")
    assert _plan(LAYERS[0], HOST, "sparse_winograd", pattern=pattern).schedule == "f2x2_3x3"
    assert pattern.weights is not None
    spatial = Sparsity(0.3, pattern.weights)
    with pytest.raises(InputError, match=r"wrong shape; found \(4, 4, 36, 20\)"):
        _plan(LAYERS[0], HOST, "direct_sparse", pattern=spatial)


@pytest.mark.filterwarnings("ignore:.*layers without an array")
def test_weights_of_the_winograd_domain(tmp_path: Any) -> None:
    """Their shape alone tells the domain, in arrays and in files."""
    alexnet = load_network("alexnet")
    layer = alexnet["conv3"]
    assert weight_shapes(layer, "winograd") == [(6, 6, 384, 256), (4, 4, 384, 256)]
    assert weight_shapes(alexnet["conv1"], "winograd") == [(96, 3, 11, 11)]
    weights = np.zeros((6, 6, 384, 256), dtype=np.float32)
    weights[0] = 1.0
    found = Sparsity.of_weights(weights, layer)
    assert found.domain == "winograd"
    assert found.density == pytest.approx(1 / 6)
    np.savez(tmp_path / "weights.npz", conv3=weights)
    read = load_sparsity(str(tmp_path / "weights.npz"), alexnet)["conv3"]
    assert (read.domain, read.density) == (found.domain, found.density)
    drawn = Sparsity(0.25, domain="winograd").draw(layer)
    assert drawn.weights is not None
    assert drawn.weights.shape == weights.shape
    assert np.count_nonzero(drawn.weights) == round(0.25 * weights.size)


def test_a_network_s_layers_that_have_no_domain_stay_spatial() -> None:
    """Connected layers: their sparsity is that of the weights, and their bytes count as such."""
    network = load_network("vgg16")
    found = load_sparsity(0.9, network).in_domain("winograd", network)
    assert found.label == "0.9 (winograd)"
    domains = {layer.type: found[layer.name].domain for layer in network}
    assert domains == {"conv": "winograd", "fc": "spatial"}
    layer = network["conv3_2"]
    nonzeros = 0.1 * 36 * 256 * 256
    assert found["conv3_2"].csr_bytes(layer) == pytest.approx(8 * nonzeros + 4 * (36 * 256 + 1))
    drawn = found["conv3_2"].draw(layer, shape=(4, 4, 256, 256))
    assert drawn.csr_bytes(layer) == pytest.approx(8 * 0.1 * 16 * 65536 + 4 * (16 * 256 + 1), 1e-5)
    for name in ("fc6", "fc8"):
        assert found[name].csr_bytes(network[name]) == network[name].sparse_bytes(
            found[name].density
        )
    totals = sum_up("vgg16", list(network), found, [])["weights"]
    least = [min(float(y.dense_bytes), found[y.name].csr_bytes(y)) for y in network]
    assert totals["sparse_bytes"] == sum(least)
    assert load_sparsity(0.9, network).in_domain(None, network)["conv3_2"].domain == "spatial"


def test_the_published_model_does_not_know_it() -> None:
    for method in BOTH:
        found = archsim.predict(LAYERS[0], "xeon-e5-2697v4-2s", method=method, density=0.1,
                                density_domain="winograd", model="park")  # fmt: skip
        assert found.seconds is None
        assert "published model" in str(found.reason)


def test_measuring_in_the_winograd_domain() -> None:
    sparsity = Sparsity(0.1, domain="winograd")
    cases = [(name, sparsity) for name in ("dense_direct", "direct_sparse", *BOTH)]
    found = {
        r.method: r
        for r in archsim.api.measure_together(
            LAYERS[0], cases, threads=1, min_seconds=0.0, check=True
        )
    }
    assert found["direct_sparse"].seconds is None
    assert "Winograd" in str(found["direct_sparse"].reason)
    sparse = found["sparse_winograd"]
    assert sparse.density_domain == "winograd"
    assert sparse.density == pytest.approx(0.1, abs=1e-3)
    assert found["winograd"].density_domain == "spatial"
    assert sparse.effective_flop == LAYERS[0].flop
    assert sparse.dense_method in ("dense_direct", "winograd")
    for result in found.values():
        assert result.max_error is None or result.max_error < 1e-5
