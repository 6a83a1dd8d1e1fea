"""Plans of dense_direct: counts against a walk over the kernel's loops; blocking."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise, product
from math import ceil
from typing import Any

import pytest

from archsim.api import make_plan
from archsim.errors import NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods.dense_blocking import blocking, geometry
from archsim.network import Layer, load_network
from archsim.plan import Plan, Target

ALEXNET = load_network("alexnet")
MACHINES = {
    name: load_machine(name) for name in ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")
}
LAYERS = [
    Layer("plain", C=256, K=384, H=13, W=13, R=3, S=3, pad=(1, 1)),
    Layer("grouped", C=12, K=70, H=27, W=29, R=5, S=5, pad=(2, 2), groups=2),
    Layer("strided", C=3, K=96, H=57, W=57, R=11, S=11, stride=(4, 4)),
    Layer("pointwise", C=64, K=256, H=56, W=56),
    Layer("deep pointwise", C=1024, K=256, H=14, W=14),
    Layer("narrowing pointwise", C=256, K=64, H=56, W=56),
    Layer("small image", C=40, K=33, H=7, W=7, R=3, S=3, pad=(1, 1)),
    Layer("depthwise", C=8, K=8, H=20, W=20, R=3, S=3, pad=(1, 1), groups=8),
    Layer("wide", C=2, K=3, H=3, W=1000, R=3, S=3, pad=(1, 1)),
]  # fmt: skip


def _total(plan: Plan, name: str) -> float:
    phase = next(phase for phase in plan.phases if phase.name == "products")
    return float(phase.tiles.total @ getattr(phase.work, name))


def _steps(length: int, step: int) -> list[tuple[int, int]]:
    """Begin and size of the pieces of a loop ``for (i = 0; i < length; i += step)``."""
    return [(i, min(step, length - i)) for i in range(0, length, step)]


def _kernel_rows(layer: Layer, first: int, height: int) -> int:
    """Kernel rows that meet the image in any of some output rows."""
    return sum(
        any(
            0 <= (first + i) * layer.stride[0] + r * layer.dilation[0] - layer.pad[0] < layer.H
            for i in range(height)
        )
        for r in range(layer.R)
    )


def _runs(layer: Layer, plan: Plan) -> list[tuple[int, int]]:
    """Vectors and output channels that are in work at once, over all ranks."""
    b: dict[str, Any] = dict(plan.blocking)
    by_channels = b["in_lanes"] == "channels"
    unit = b["lanes"] if by_channels else b["reg_count"]
    per_group = layer.K // layer.groups
    units, runs = ceil(per_group / unit), []
    for start, stop in pairwise(plan.part_ptr):
        u = start
        while u < stop:
            n = min(b["reg_vectors"], stop - u, units - u % units) if by_channels else 1
            runs.append((n, min(n * unit, per_group - u % units * unit)))
            u += n
    return runs


def _places(layer: Layer, plan: Plan) -> list[tuple[int, int]]:
    """Rank and group of each of those runs; with pixels in lanes a run is a unit."""
    b: dict[str, Any] = dict(plan.blocking)
    if b["in_lanes"] == "channels":
        return [(0, 0)] * len(_runs(layer, plan))
    in_group = ceil(layer.K // layer.groups / b["reg_count"])
    return [
        (rank, u // in_group)
        for rank, (start, stop) in enumerate(pairwise(plan.part_ptr))
        for u in range(start, stop)
    ]


def _walk(layer: Layer, plan: Plan) -> Counter[str]:
    """Count what kernels/csrc/run_dense_direct.c does for one image, loop by loop."""
    b: dict[str, Any] = dict(plan.blocking)
    rows, columns = (1, layer.P * layer.Q) if b["flat"] else (layer.P, layer.Q)
    lanes, in_group = b["lanes"], layer.C // layer.groups
    found = Counter[str]()
    bands = [
        (first, height, width)
        for first, height in _steps(rows, b["band_rows"])
        for _, width in _steps(columns, b["band_columns"])
    ]
    by_channels = b["in_lanes"] == "channels"
    seen = set[tuple[int, int, int]]()  # (rank, group, band) whose panel is filled
    runs = list(zip(_runs(layer, plan), _places(layer, plan), strict=True))
    for ((n, channels), place), band in product(runs, enumerate(bands)):
        number, (first, height, width) = band
        fills = b["source"] == "panels" and (*place, number) not in seen
        seen.add((*place, number))
        for _, block in _steps(in_group, b["channel_block"]):
            for p, h in _steps(height, b["reg_rows"]):
                steps = block * layer.S * _kernel_rows(layer, first + p, h)
                if not by_channels:
                    for _, count in _steps(width, b["reg_vectors"] * lanes):
                        vectors = ceil(count / lanes)
                        found["multiply_adds"] += steps * vectors * channels
                        found["broadcasts"] += steps * channels
                        found["stores"] += vectors * (channels + steps * fills)
                        if b["source"] == "panels":
                            found["loads_aligned"] += steps * vectors * (not fills)
                    continue
                for _, w in _steps(width, b["reg_count"]):
                    found["multiply_adds"] += steps * h * w * n
                    found["broadcasts"] += steps * h * w
                    found["loads_aligned"] += steps * n + h * w * n
                    found["stores"] += h * w * n
        if by_channels:  # the sums are turned
            found["loads_aligned"] += height * width * n
            found["stores"] += ceil(height * width / lanes) * channels
    return found


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_counts_are_those_of_a_walk(layer: Layer, machine: str, threads: int) -> None:
    plan = make_plan(layer, MACHINES[machine], method="dense_direct", threads=threads)
    for name, count in _walk(layer, plan).items():
        assert _total(plan, name) == pytest.approx(count), name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_blocking_fits_the_machine(layer: Layer, machine: str) -> None:
    target = MACHINES[machine].target()
    cut = blocking(layer, target)
    sums = cut.vectors * cut.reg_rows * cut.reg_count
    assert sums + cut.vectors + 1 <= target.registers
    assert 1 <= cut.channel_block <= layer.C // layer.groups
    assert cut.band_rows == 1 or cut.band_columns == cut.geometry.columns
    band = cut.band_rows * cut.band_columns * 2 * cut.lanes * 4
    if cut.in_lanes == "channels":
        assert band <= target.l1_bytes // target.l1_sharers


def test_channels_lie_in_vectors_unless_that_wastes() -> None:
    target = MACHINES["xeon-phi-7250"].target()
    forms = {layer.name: blocking(layer, target).in_lanes for layer in LAYERS}
    assert forms["plain"] == forms["deep pointwise"] == "channels"
    assert forms["pointwise"] == "pixels"  # 64 products do not pay for turning the sums
    assert forms["depthwise"] == "pixels"  # one channel would fill one lane of 16


def test_panels_where_input_does_not_stay_near() -> None:
    target = MACHINES["xeon-e5-2697v4-2s"].target()
    found = [layer for layer in LAYERS if blocking(layer, target).panels]
    assert [layer.name for layer in found] == ["narrowing pointwise"]
    layer, cut = found[0], blocking(found[0], target)
    assert cut.band_columns == cut.vectors * cut.lanes == 24  # at least one register block
    larger = replace(target, l2_bytes=8 * target.l2_bytes)
    columns = blocking(layer, larger).band_columns
    assert columns % 24 == 0
    assert 64 <= columns <= larger.l2_bytes // larger.l2_sharers // 8 // (4 * 256)


def test_the_image_is_copied_only_where_it_must_be() -> None:
    target = MACHINES["xeon-phi-7250"].target()
    assert geometry(LAYERS[0], target).source == "padded"
    assert geometry(LAYERS[2], target).source == "padded"
    found = geometry(LAYERS[3], target)
    assert (found.source, found.flat, found.columns) == ("image", True, 56 * 56)
    plan = make_plan(LAYERS[3], MACHINES["xeon-phi-7250"], method="dense_direct")
    assert [phase.name for phase in plan.phases] == ["products"]
    for layer in LAYERS:
        lines = geometry(layer, target).channel_pitch * 4 / 64
        assert geometry(layer, target).source == "image" or lines % 2 == 1


def test_lines_of_the_next_pixels_are_asked_for() -> None:
    """Once each, and only of pictures as they came: copies lie near."""
    phi = MACHINES["xeon-phi-7250"]
    for layer in LAYERS:
        plan = make_plan(layer, phi, method="dense_direct", threads=1)
        cut = blocking(layer, phi.target())
        as_it_came = cut.geometry.source == "image" and layer.R * layer.S == 1
        asked = _total(plan, "early_lines")
        if not as_it_came or cut.in_lanes != "channels":
            assert asked == 0.0, layer.name
            continue
        # a register block's pixels are less than a line: one line of each channel and block
        pixels = layer.P * layer.Q
        assert asked <= layer.C * ceil(pixels / cut.reg_count)
        assert asked >= layer.C * pixels * 4 / 64
    once, twice = (
        _total(make_plan(LAYERS[4], phi, method="dense_direct", threads=n), "early_lines")
        for n in (1, 2)
    )
    assert twice == 2.0 * once > 0.0  # each thread's first output channels find the picture far


def test_one_image_is_shared_by_all_threads_and_many_are_not() -> None:
    xeon = MACHINES["xeon-e5-2697v4-2s"]
    plan = make_plan(ALEXNET["conv3"], xeon, method="dense_direct", threads=4)
    assert plan.threads_per_image == 4
    assert plan.part_ptr == (0, 12, 24, 36, 48)
    plan = make_plan(ALEXNET["conv3"], xeon, method="dense_direct", threads=4, batch=8)
    assert plan.threads_per_image == 1


def test_few_registers_and_odd_lanes_plan() -> None:
    target = MACHINES["atom-c2750"].target()
    for registers, lanes in ((4, 4), (8, 2), (32, 32), (64, 64)):
        odd: Target = replace(target, registers=registers, lanes=lanes)
        for layer in LAYERS:
            assert blocking(layer, odd).tiles > 0


def test_fully_connected_is_refused() -> None:
    with pytest.raises(NotApplicableError, match="one output pixel"):
        make_plan(ALEXNET["fc6"], MACHINES["atom-c2750"], method="dense_direct")
