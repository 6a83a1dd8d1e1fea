"""Plans of the lanes and pointwise schedules: what the kernel executes, walked and run."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import kernels, native
from archsim.api import make_plan
from archsim.errors import NotApplicableError
from archsim.kernels.lanes_layout import Residues, flat_pitch, lanes_layout, pack_lanes
from archsim.kernels.shifts_layout import pack_shifts, shifts_layout
from archsim.machinefile import load_machine
from archsim.methods.lanes import SCHEDULES
from archsim.methods.lanes_cost import LOAD, LOAD_FAR, LOAD_L2, load_cycles
from archsim.methods.lanes_geometry import geometries
from archsim.methods.row_cost import row_cycles
from archsim.network import Layer
from archsim.plan import Plan
from archsim.sparsity import Sparsity

HOST = load_machine("host")
MACHINES = {name: load_machine(name) for name in ("atom-c2750", "xeon-e5-2697v4-2s")}
LAYERS = [
    Layer("plain", C=20, K=36, H=13, W=13, R=3, S=3, pad=(1, 1)),
    Layer("grouped", C=6, K=10, H=9, W=17, R=5, S=5, pad=(2, 2), groups=2),
    Layer("strided", C=3, K=20, H=31, W=29, R=7, S=7, stride=(4, 4), pad=(3, 3)),
    Layer("dilated", C=4, K=16, H=20, W=12, R=3, S=3, dilation=(2, 2), pad=(2, 2)),
    Layer("wide", C=2, K=3, H=5, W=530, R=3, S=3, pad=(1, 1)),
    Layer("one pixel", C=1, K=1),
]
POINTWISE = [
    Layer("whole vectors", C=12, K=7, H=8, W=8),
    Layer("odd", C=12, K=8, H=7, W=7, groups=2),
]
LANES = [name for name in SCHEDULES if name != "pointwise"]


def _phase(plan: Plan, name: str) -> Any:
    return next(phase for phase in plan.phases if phase.name == name)


def _total(plan: Plan, name: str, phase: str = "products") -> float:
    found = _phase(plan, phase)
    return float(found.tiles.total @ getattr(found.work, name))


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (5, 2)])
def test_plans_run_and_are_right(schedule: str, isa: str, batch: int, threads: int) -> None:
    if threads > HOST.total_threads:
        pytest.skip("this host has one thread")
    for layer in POINTWISE if schedule == "pointwise" else LAYERS + POINTWISE:
        weights = Sparsity(0.3).draw(layer, seed=1).weights
        assert weights is not None
        plan = make_plan(
            layer, HOST, method="direct_sparse", schedule=schedule, pattern=weights, batch=batch,
            threads=threads, isa=isa,
        )  # fmt: skip
        assert schedule in ("lanes", plan.schedule)
        found = native.run(plan, weights, min_seconds=0.0, check=True)
        assert found.max_error is not None
        assert found.max_error < 1e-5
        assert found.isa == isa
        assert {p.name for p in found.phases} <= {phase.name for phase in plan.phases}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("schedule", LANES)
def test_products_are_those_of_the_packed_layer(layer: Layer, schedule: str) -> None:
    """Walk the lists, blocks and pieces that the kernel gets, and count what it does with them."""
    weights = Sparsity(0.3).draw(layer, seed=2).weights
    assert weights is not None
    machine = MACHINES["xeon-e5-2697v4-2s"]
    plan = make_plan(layer, machine, method="direct_sparse", schedule=schedule, pattern=weights,
                     batch=1, threads=1)  # fmt: skip
    shape, mode = native.conv_shape(layer), str(plan.blocking["mode"])
    number = {k: int(v) for k, v in plan.blocking.items() if not isinstance(v, str)}
    layout: Any = None
    if mode == "shifts":
        layout = shifts_layout(shape, number)
        lists, parts = pack_shifts(weights, shape, layout), layout.parts
        sizes = layout.block[:, 0] * layout.block[:, 1]
    else:
        layout = lanes_layout(shape, number, mode)
        lists, parts = pack_lanes(weights, shape, layout, number["slab_block"]), 1
        sizes = layout.block[:, 1] * layout.block[:, 2]
    loads = broadcasts = spills = rounds = 0
    blocks = lists.lists // layer.K // parts
    for begin, end in zip(lists.ptr[:-1], lists.ptr[1:], strict=True):
        for size in sizes:
            loads += (end - begin) * size
            broadcasts += end - begin
            rounds += 1
    for size in sizes:
        spills += layer.K * (blocks - 1) * size
        broadcasts += layer.K
    assert _total(plan, "multiply_adds") == loads
    assert _total(plan, "loads_aligned") == loads + spills
    assert _total(plan, "broadcasts") == broadcasts
    assert _total(plan, "mispredicts") == rounds
    assert _total(plan, "loads_unaligned") == 0
    if mode == "shifts":
        written = sum(int(bits).bit_count() for bits in layout.piece[:, 1])
        assert written == layer.P * layer.Q
        assert _total(plan, "stores") == spills + len(layout.piece) * layer.K
    elif mode != "flat":  # a flat chunk ends where a row does, which is counted on average
        lanes_used = sum(chunk[3] - chunk[2] for chunk in layout.chunk)
        assert _total(plan, "stores", "output") >= lanes_used * layer.K


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("threads", [1, 3])
def test_windows_are_those_of_the_packed_layer(layer: Layer, threads: int) -> None:
    """Walk what the kernel copies: every thread the channels of the groups that it works in."""
    plan = make_plan(layer, MACHINES["xeon-e5-2697v4-2s"], method="direct_sparse",
                     schedule="lanes:shifts", density=0.3, batch=1, threads=threads)  # fmt: skip
    number = {k: int(v) for k, v in plan.blocking.items() if not isinstance(v, str)}
    layout = shifts_layout(native.conv_shape(layer), number)
    written = read = 0
    for rows, vectors, top, *_ in layout.block:
        for first_row in layout.plane_row:
            for y in range(top, top + rows + layout.reach_rows):
                row = y * layer.stride[0] + first_row - layer.pad[0]
                written += vectors
                read += vectors * (0 <= row < layer.H)
    group = layer.K // layer.groups
    copied = sum(
        len({k // group for k in range(*part)}) * (layer.C // layer.groups)
        for part in pairwise(plan.part_ptr)
    )
    assert plan.phases[1].barriers == 0
    assert _total(plan, "stores", "input") == written * copied
    loads = "loads_unaligned" if layer.stride[1] == 1 else "scalar_loads"
    lanes = 1 if layer.stride[1] == 1 else number["lanes"]
    assert _total(plan, loads, "input") == read * copied * lanes


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_plan_and_kernel_agree_on_the_geometry(layer: Layer, lanes: int) -> None:
    shape = native.conv_shape(layer)
    residues = Residues.of(shape)
    for mode in ("flat", "tiles", "images", "shifts"):
        for geometry in geometries(layer, lanes, mode):
            assert geometry.planes == residues.count
            assert geometry.reach == (residues.reach_rows, residues.reach_columns)
            if mode == "flat":
                assert geometry.pitch == flat_pitch(shape, residues)


def test_a_density_is_the_mean_of_patterns() -> None:
    layer, machine = LAYERS[0], MACHINES["xeon-e5-2697v4-2s"]
    drawn = Sparsity(0.2).draw(layer, seed=3)
    assert drawn.weights is not None
    density = np.count_nonzero(drawn.weights) / layer.weights
    common: dict[str, Any] = {"method": "direct_sparse", "schedule": "lanes:flat", "threads": 2}
    uniform = make_plan(layer, machine, density=density, **common)
    real = make_plan(layer, machine, pattern=drawn, **common)
    for name in ("multiply_adds", "broadcasts", "stores", "mispredicts"):
        assert _total(real, name) == pytest.approx(_total(uniform, name)), name
    assert real.blocking == uniform.blocking


@pytest.mark.parametrize("schedule", ["auto", *LANES])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_any_density_and_machine_plans(schedule: str, density: float) -> None:
    for machine in MACHINES.values():
        for layer in LAYERS:
            plan = make_plan(layer, machine, method="direct_sparse", schedule=schedule,
                             density=density, threads=3)  # fmt: skip
            again = make_plan(layer, machine, method="direct_sparse", schedule=schedule,
                              density=density, threads=3)  # fmt: skip
            assert plan.blocking == again.blocking
            for stream in (s for phase in plan.phases for s in phase.streams):
                assert np.isfinite(stream.bytes).all()
                assert (stream.bytes >= 0).all()
                assert (stream.reuse_distance_bytes >= 0).all()


def _auto(layer: Layer, density: float, **more: Any) -> Plan:
    return make_plan(layer, MACHINES["xeon-e5-2697v4-2s"], method="direct_sparse",
                     density=density, **{"threads": 1} | more)  # fmt: skip


def test_auto_takes_what_costs_least() -> None:
    conv3 = Layer("conv3", C=256, K=384, H=13, W=13, R=3, S=3, pad=(1, 1))
    small = Layer("small", C=16, K=48, H=14, W=14, R=5, S=5, pad=(2, 2))
    assert _auto(conv3, 0.3).schedule.startswith("lanes:")
    assert _auto(small, 0.002).schedule.startswith("row:")  # next to nothing but conversions
    assert _auto(Layer("one", C=64, K=32, H=28, W=28), 0.1).schedule == "pointwise"
    strided = LAYERS[2]
    assert _auto(strided, 0.002).schedule.startswith("lanes:")


@pytest.mark.parametrize("layer", LAYERS[:2] + POINTWISE, ids=lambda layer: layer.name)
def test_a_row_plan_costs_more_the_more_there_is_to_do(layer: Layer) -> None:
    cost = [row_cycles(_auto(layer, density, schedule="row")) for density in (0.01, 0.1, 0.5, 1.0)]
    assert cost == sorted(cost)
    assert cost[-1] > cost[0]
    # no load is faster than a slot, two a cycle
    loads = _total(_auto(layer, 1.0, schedule="row"), "multiply_adds")
    assert cost[-1] >= 0.5 * loads
    assert row_cycles(_auto(layer, 1.0, schedule="row", batch=4)) == pytest.approx(
        4 * cost[-1], rel=0.2
    )


def test_a_load_costs_what_its_level_does() -> None:
    target = _auto(LAYERS[0], 0.1).target
    sizes = [2.0**n for n in range(8, 27)]
    cost = [load_cycles(size, 0.2, 512.0, target, 1) for size in sizes]
    assert cost == sorted(cost)
    assert min(cost) == pytest.approx(LOAD, rel=0.01)
    assert LOAD < load_cycles(3.0 * target.l1_bytes, 0.2, 512.0, target, 1) < LOAD_L2
    assert LOAD_L2 < max(cost) <= LOAD_FAR


def test_window_stays_in_the_first_level_where_that_pays() -> None:
    layer = Layer("conv3", C=256, K=384, H=13, W=13, R=3, S=3, pad=(1, 1))
    plan = make_plan(layer, MACHINES["xeon-e5-2697v4-2s"], method="direct_sparse",
                     schedule="lanes:flat", density=0.3, threads=1)  # fmt: skip
    window = 4 * 8 * (int(plan.blocking["tile_columns"]) + 2 * 14 + 2)
    assert int(plan.blocking["slab_block"]) * window <= plan.target.l1_bytes
    thin = make_plan(layer, MACHINES["xeon-e5-2697v4-2s"], method="direct_sparse",
                     schedule="lanes:flat", density=0.005, threads=1)  # fmt: skip
    assert int(thin.blocking["slab_block"]) > int(plan.blocking["slab_block"])


def test_images_are_lanes() -> None:
    layer = LAYERS[0]
    plan = make_plan(layer, MACHINES["xeon-e5-2697v4-2s"], method="direct_sparse",
                     schedule="lanes:images", density=0.3, batch=17, threads=1)  # fmt: skip
    assert plan.images_per_turn == 8
    assert _total(plan, "multiply_adds") == pytest.approx(
        ceil(17 / 8) * plan.nonzeros * layer.P * layer.Q
    )
    found = archsim.simulate(layer, "xeon-e5-2697v4-2s", method="direct_sparse",
                             schedule="lanes:images", density=0.3, batch=17)  # fmt: skip
    assert found.seconds


def test_pointwise_is_for_pointwise_layers() -> None:
    with pytest.raises(NotApplicableError, match="1x1 layers"):
        make_plan(LAYERS[0], HOST, method="direct_sparse", schedule="pointwise", density=0.1)
    plan = make_plan(POINTWISE[0], HOST, method="direct_sparse", schedule="pointwise", density=0.1)
    assert _total(plan, "stores", "input") == 0  # read where it stands
