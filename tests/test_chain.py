"""Chains: which layers make one, what is planned, predicted and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import archsim
from archsim import kernels, native
from archsim.analytic import ecm
from archsim.errors import InputError, NotApplicableError
from archsim.kernels.lanes_layout import lanes_layout
from archsim.kernels.lanes_link import lanes_link
from archsim.machinefile import load_machine
from archsim.methods.lanes_chain import (
    CHAIN_SCHEDULES,
    chain_geometries,
    slab_vectors,
    window_vectors,
)
from archsim.native_chain import prepare_chain
from archsim.network import Layer
from archsim.plan import Plan
from archsim.sparsity import Sparsity

HOST = load_machine("host")
XEON = load_machine("xeon-e5-2697v4-2s")
ALEXNET = archsim.load_network("alexnet")
CHAINS = {
    "3x3": [
        Layer("a", C=6, K=10, H=13, W=13, R=3, S=3, pad=(1, 1)),
        Layer("b", C=10, K=8, H=13, W=13, R=3, S=3, pad=(1, 1), groups=2),
        Layer("c", C=8, K=4, H=13, W=13, R=3, S=3, pad=(1, 1)),
    ],
    "mixed": [
        Layer("a", C=5, K=6, H=9, W=20, R=1, S=1),
        Layer("b", C=6, K=4, H=9, W=20, R=5, S=5, pad=(2, 2)),
        Layer("c", C=4, K=7, H=9, W=20, R=3, S=3, pad=(2, 2), dilation=(2, 2)),
    ],
    "a gap in step with the lanes": [
        Layer("a", C=2, K=3, H=32, W=7, R=3, S=3, pad=(1, 1)),
        Layer("b", C=3, K=2, H=32, W=7, R=3, S=3, pad=(1, 1)),
    ],
}
SCHEDULES = [name for name in CHAIN_SCHEDULES if name != "auto"]


def _weights(layers: list[Layer], density: float = 0.3) -> list[Any]:
    return [Sparsity(density).draw(layer, seed).weights for seed, layer in enumerate(layers)]


def _phase(plan: Plan, name: str) -> Any:
    return next(phase for phase in plan.phases if phase.name == name)


def _total(plan: Plan, name: str, phase: str) -> float:
    found = _phase(plan, phase)
    return float(found.tiles.total @ getattr(found.work, name))


def _names(layers: Any) -> list[str]:
    return [layer.name for layer in layers]


def test_runs_of_networks() -> None:
    assert [_names(run) for run in archsim.chains(ALEXNET)] == [["conv3", "conv4", "conv5"]]
    vgg = archsim.chains(archsim.load_network("vgg16"))
    assert [len(run) for run in vgg] == [2, 2, 3, 3, 3]
    assert _names(vgg[2]) == ["conv3_1", "conv3_2", "conv3_3"]
    resnet = [_names(run) for run in archsim.chains(archsim.load_network("resnet50"))]
    assert resnet[0][:3] == ["res2a_branch2a", "res2a_branch2b", "res2a_branch2c"]
    assert not any("res3a_branch2a" in run for run in resnet)  # stride 2
    for run in archsim.chains(archsim.load_network("googlenet")):
        assert len(run) > 1


def test_a_chain_by_its_ends() -> None:
    assert _names(archsim.chain(ALEXNET, "conv3", "conv5")) == ["conv3", "conv4", "conv5"]
    assert _names(archsim.chain(ALEXNET, "conv4", "conv4")) == ["conv4"]
    with pytest.raises(InputError, match="unknown layer"):
        archsim.chain(ALEXNET, "conv3", "conv9")
    with pytest.raises(InputError, match="comes before conv5"):
        archsim.chain(ALEXNET, "conv5", "conv3")
    with pytest.raises(InputError, match=r"conv3 .*of 13x13.* does not take what conv2"):
        archsim.chain(ALEXNET, "conv2", "conv3")
    with pytest.raises(InputError, match=r"layer conv1: .*stride 1"):
        archsim.chain(ALEXNET, "conv1", "conv2")
    with pytest.raises(InputError, match="layer fc6: a fully connected"):
        archsim.chain(ALEXNET, "conv5", "fc6")


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CHAINS)
def test_plans_run_and_are_right(name: str, schedule: str, isa: str) -> None:
    layers = CHAINS[name]
    for batch, threads in ((1, 1), (5, min(2, HOST.total_threads))):
        found = archsim.measure_chain(
            layers, HOST, pattern=_weights(layers), schedule=schedule, batch=batch,
            threads=threads, isa=isa, min_seconds=0.0, check=True,
        )  # fmt: skip
        assert found.max_error is not None
        assert found.max_error < 1e-5
        assert {result.schedule for result in found.layers} == {schedule}
        assert {result.isa for result in found.layers} == {isa}
        plans = archsim.plan_chain(
            layers, HOST, pattern=_weights(layers), schedule=schedule, batch=batch,
            threads=threads, isa=isa,
        )  # fmt: skip
        for result, plan in zip(found.layers, plans, strict=True):
            assert set(_names(result.phases)) <= set(_names(plan.phases))
        assert found.seconds > 0.0
        assert found.apart_seconds > 0.0


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", CHAINS)
def test_counts_are_those_of_the_packed_chain(name: str, schedule: str, isa: str) -> None:
    layers = CHAINS[name]
    weights = _weights(layers)
    plans = archsim.plan_chain(layers, HOST, pattern=weights, schedule=schedule, threads=1, isa=isa)
    chain = prepare_chain([native.Job(*job) for job in zip(plans, weights, strict=True)])
    for i, whole in enumerate(chain.whole):
        link = chain.layers[i].linked_to(chain.layers[i + 1], whole=whole)
        if whole:
            assert "input" not in _names(plans[i + 1].phases)
            assert _total(plans[i], "stores", "output") == len(link.move) * layers[i].K
        else:
            assert "output" not in _names(plans[i].phases)
            assert _total(plans[i + 1], "stores", "input") == len(link.move) * layers[i].K


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("name", CHAINS)
def test_plan_and_kernel_spread_over_the_same_vectors(name: str, lanes: int) -> None:
    """For every grid and some register blocks, whatever the cost model would take."""
    layers = CHAINS[name]
    shapes = [native.conv_shape(layer) for layer in layers]
    for mode in ("flat", "tiles", "images"):
        for found in chain_geometries(layers, lanes, mode):
            reg = min(2, found[0].tile[0]), min(3, found[0].tile[1])
            numbers = [
                {
                    "lanes": lanes, "plane_pitch": g.pitch, "slab_pitch": g.slab_pitch(*reg),
                    "grid_rows": g.grid[0], "grid_columns": g.grid[1],
                    "tile_rows": g.tile[0], "tile_columns": g.tile[1],
                    "reg_rows": reg[0], "reg_vectors": reg[1],
                }
                for g in found
            ]  # fmt: skip
            layouts = [lanes_layout(*both, mode) for both in zip(shapes, numbers, strict=True)]
            for i in range(1, len(layers)):
                for whole in (False, True):
                    link = lanes_link(
                        shapes[i - 1], numbers[i - 1], mode, layouts[i - 1], shapes[i], layouts[i],
                        whole=whole,
                    )  # fmt: skip
                    if whole:
                        assert len(link.move) == slab_vectors(found[i], layers[i])
                        written = link.move[:, 1].tolist()
                        assert len(set(written)) == len(written)  # once
                    else:
                        assert len(link.move) == window_vectors(found[i], layers[i], reg)


def test_phases() -> None:
    """Windows where a register block covers the tile, else whole slabs."""
    layers = archsim.chain(ALEXNET, "conv3", "conv5")
    wide = [Layer(name, C=8, K=8, H=56, W=56, R=3, S=3, pad=(1, 1)) for name in "ab"]
    wide.append(Layer("c", C=8, K=8, H=56, W=56, R=1, S=1))
    target = replace(XEON.target(None), lanes=16, registers=32)
    windows = archsim.plan_chain(layers, target, density=0.1, threads=2, schedule="chain:flat")
    slabs = archsim.plan_chain(wide, target, density=0.1, threads=2)
    assert [_names(plan.phases) for plan in windows] == [
        ["input", "products"], ["input", "products"], ["input", "products", "output"],
    ]  # fmt: skip
    assert [_names(plan.phases) for plan in slabs] == [
        ["input", "products", "output"], ["products", "output"], ["products", "output"],
    ]  # fmt: skip
    written = [
        [s.array for phase in plan.phases for s in phase.streams if s.access == "write"]
        for plan in (*windows, *slabs)
    ]
    assert written == [
        ["lane input", "next sums"], ["lane input", "next sums"], ["lane input", "output"],
        ["lane input", "next lane input"], ["next lane input"], ["output"],
    ]  # fmt: skip
    for plans in (windows, slabs):
        # one image, two threads that share it: after the first layer they wait once for each
        assert [sum(phase.barriers for phase in plan.phases) for plan in plans] == [2, 1, 1]
        assert len({plan.schedule for plan in plans}) == 1
        for key in ("mode", "grid_rows", "grid_columns", "tile_rows", "tile_columns"):
            assert len({plan.blocking[key] for plan in plans}) == 1


def test_threads_make_the_windows_of_their_groups() -> None:
    layers = archsim.chain(ALEXNET, "conv3", "conv5")
    target = replace(XEON.target(None), lanes=16, registers=32)
    for threads, each in ((1, [384]), (2, [192, 192]), (4, [192] * 4)):
        plans = archsim.plan_chain(layers, target, density=0.1, threads=threads,
                                   schedule="chain:flat")  # fmt: skip
        tiles = _phase(plans[1], "input").tiles
        assert tiles.count[tiles.thread_class].ravel().tolist() == each  # conv4 has two groups


def test_weights_come_back_when_all_layers_are_through() -> None:
    layers = archsim.chain(ALEXNET, "conv3", "conv5")
    plans = archsim.plan_chain(layers, XEON, density=0.1, threads=1, schedule="chain:flat")
    for plan in plans:
        alone = archsim.make_plan(
            plan.layer, XEON, method="direct_sparse", schedule="lanes:flat", density=0.1, threads=1
        )
        far, near = (
            max(s.reuse_distance_bytes.max() for s in _phase(p, "products").streams
                if s.array == "weights")
            for p in (plan, alone)
        )  # fmt: skip
        assert far > near


def test_flat_takes_the_largest_pitch() -> None:
    layers = CHAINS["mixed"]
    plans = archsim.plan_chain(layers, XEON, density=0.3, threads=1, schedule="chain:flat")
    assert {plan.blocking["plane_pitch"] for plan in plans} == {22}  # 20 and a pad of 2


def test_prediction_is_the_sum_of_its_layers() -> None:
    layers = archsim.chain(ALEXNET, "conv3", "conv5")
    density = [0.1, 0.2, 0.15]
    found = archsim.predict_chain(layers, XEON, density=density, threads=1)
    assert [result.density for result in found.layers] == density
    assert found.seconds == pytest.approx(sum(r.seconds or 0.0 for r in found.layers))
    assert found.speedup_over_apart == found.apart_seconds / found.seconds
    assert found.max_error is None
    document = json.loads(json.dumps(found.as_dict()))
    assert document["seconds"] == found.seconds
    assert [layer["layer"] for layer in document["layers"]] == ["conv3", "conv4", "conv5"]
    simulated = archsim.predict_chain(layers, XEON, density=density, threads=1, model="simulator")
    assert 0.0 < simulated.seconds < found.seconds  # it has no memory


@pytest.mark.parametrize("mode", ["flat", "tiles"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_chain_is_predicted_to_save_conversions(mode: str, threads: int) -> None:
    """Against the same modes: of six conversions two are left, and the spreading."""
    layers = archsim.chain(ALEXNET, "conv3", "conv5")
    plans = archsim.plan_chain(
        layers, XEON, density=0.05, threads=threads, schedule=f"chain:{mode}"
    )
    alone = [
        archsim.make_plan(
            layer, XEON, method="direct_sparse", schedule=f"lanes:{mode}", density=0.05,
            threads=threads,
        )
        for layer in layers
    ]  # fmt: skip

    def conversions(found: Any) -> float:
        phases = [phase for plan in found for phase in ecm.estimate(plan, XEON).phases]
        return sum(phase.seconds for phase in phases if phase.name != "products")

    assert conversions(plans) < conversions(alone)
    joined, free = (ecm.estimate(plans[0], XEON, joins=joins).seconds for joins in (True, False))
    assert joined > free if threads > 1 else joined == free


def test_a_chain_of_one_layer_is_the_layer() -> None:
    layer = ALEXNET["conv3"]
    (plan,) = archsim.plan_chain([layer], XEON, density=0.1, threads=2, schedule="chain:flat")
    alone = archsim.make_plan(
        layer, XEON, method="direct_sparse", schedule="lanes:flat", density=0.1, threads=2
    )
    assert plan.blocking == alone.blocking
    assert ecm.estimate(plan, XEON).seconds == ecm.estimate(alone, XEON).seconds


def test_a_target_is_enough() -> None:
    layers = CHAINS["3x3"]
    target = XEON.target(None)
    plans = archsim.plan_chain(layers, target, density=0.1, threads=3)
    assert plans[0].threads == 3
    with pytest.raises(InputError, match="threads: must be given with a Target"):
        archsim.plan_chain(layers, target)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": "conv3"}, "a sequence of Layer"),
        ({"layers": ["conv3"]}, "layer: wrong type"),
        ({"density": [0.1, 0.2]}, "density: must be a sequence of 3"),
        ({"density": 1.5}, "0..1"),
        ({"density": "half"}, "a number is due"),
        ({"pattern": [Sparsity(0.1)]}, "pattern: must be a sequence of 3"),
        ({"pattern": np.ones(3)}, "pattern: must be a sequence of 3"),
        ({"pattern": [Sparsity(0.1)] * 3, "density": 0.1}, "given by the pattern already"),
        ({"schedule": "lanes"}, "allowed: auto, chain:flat, chain:tiles, chain:images"),
        ({"schedule": 3}, "schedule: must be text"),
        ({"batch": 0}, "batch: must be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], text: str) -> None:
    given: dict[str, Any] = {"layers": CHAINS["3x3"], "density": 0.1} | arguments
    if "pattern" in arguments and "density" not in arguments:
        del given["density"]
    layers = given.pop("layers")
    for verb in (archsim.plan_chain, archsim.predict_chain, archsim.measure_chain):
        with pytest.raises(InputError, match=text):
            verb(layers, HOST, threads=1, **given)


def test_layers_that_make_no_chain() -> None:
    apart = [ALEXNET["conv2"], ALEXNET["conv3"]]
    for verb in (archsim.plan_chain, archsim.predict_chain, archsim.measure_chain):
        with pytest.raises(NotApplicableError, match="does not take what conv2 gives"):
            verb(apart, HOST, density=0.1, threads=1)
    with pytest.raises(InputError, match="model: unknown model"):
        archsim.predict_chain(CHAINS["3x3"], XEON, model="park")  # type: ignore[arg-type]
    with pytest.raises(archsim.HostMismatchError):
        archsim.measure_chain(CHAINS["3x3"], XEON)
