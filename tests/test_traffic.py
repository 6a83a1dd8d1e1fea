"""Counted traffic: scripts touch what the kernels do, and the counts stand beside the rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import archsim
from archsim.errors import InputError
from archsim.kernels.replay import PAST, UPDATE, WRITE
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.network import Layer
from archsim.plan import Plan
from archsim.sparsity import Sparsity
from archsim.traffic import NotCountedError
from archsim.traffic.count import count, own_share, threads_of
from archsim.traffic.known import counted, script_of
from archsim.traffic.script import Array, Script, Segments

XEON = "xeon-e5-2697v4-2s"
_ROOM = 4 * 64  # bytes of vectors behind the last pixel, of copies that have room for them


def _layer(**sizes: Any) -> Layer:
    given: dict[str, Any] = {
        "name": "l", "type": "conv", "C": 4, "H": 6, "W": 7, "K": 6, "R": 3, "S": 3,
        "pad": (1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1,
    }  # fmt: skip
    return Layer(**(given | sizes))


LAYERS = {
    "3x3": _layer(),
    "groups": _layer(groups=2),
    "wide": _layer(H=3, W=40, C=2),
    "1x1": _layer(R=1, S=1, pad=(0, 0)),
    "1x1 whole vectors": _layer(H=8, W=8, R=1, S=1, pad=(0, 0)),
    "stride": _layer(stride=(2, 2)),
    "dilation": _layer(dilation=(2, 2), pad=(2, 2)),
}
DIRECT = ("row:fixed32", "row:fixed32-output", "row:dyn32", "lanes:flat", "lanes:tiles",
          "lanes:images", "lanes:shifts", "pointwise")  # fmt: skip
CASES = [
    *(("direct_sparse", schedule) for schedule in DIRECT),
    ("lowered_sparse", "auto"), ("dense_direct", "auto"), ("dense_gemm", "auto"),
    ("winograd", "auto"), ("structured", "feature-map"),
    ("structured", "intra-kernel-strided"),
]  # fmt: skip


def _plan(
    layer: Layer, method: str, schedule: str = "auto", *, batch: int = 3, threads: int = 2,
    machine: str = XEON, **more: Any,
) -> Plan | None:  # fmt: skip
    """Plan a pattern; None where the method does not apply."""
    sparsity = Sparsity(0.3, domain="winograd" if method == "sparse_winograd" else "spatial")
    weights = np.array(sparsity.draw(layer, 1).weights)
    if method == "structured":
        weights[1::3] = 0.0
    pattern: Any = weights
    if method in ("dense_direct", "dense_gemm", "winograd"):
        pattern = None
    known = archsim.methods.get_method(method)
    found = None if pattern is None else Sparsity.of_weights(pattern, layer)
    if known.reason(layer, found or Sparsity(1.0)) is not None:
        return None
    try:
        plan = archsim.make_plan(
            layer, machine, method=method, pattern=found, schedule=schedule, batch=batch,
            threads=threads, **more,
        )  # fmt: skip
    except archsim.NotApplicableError:
        return None
    return plan


class _Seen:
    """Which places of each array are touched, and where reading ends at the latest."""

    def __init__(self, script: Script) -> None:
        self.script, self.size = script, [array.size for array in script.arrays]
        self.read = [np.zeros(size + _ROOM + 1, dtype=np.int64) for size in self.size]
        self.written = [np.zeros(size + _ROOM + 1, dtype=np.int64) for size in self.size]
        self.end = [0] * len(self.size)

    def segments(self, segments: Segments) -> None:
        for s in segments:
            steps = self.script.steps[s["first"] : s["last"]]
            if not steps.size or s["width"] == 0:
                continue
            rows = np.arange(s["rows"]) * s["pitch"]
            begin = (s["offset"] + steps[:, None] + rows).reshape(-1)
            wrote = s["touch"] in (WRITE, UPDATE, PAST)
            self._places(int(s["array"]), begin, begin + s["width"], wrote)
            for side in range(int(s["side"]), int(s["side"]) + int(s["sides"])):
                at = np.array([s["side_offset"]])
                self._places(side, at, at + len(steps) * s["side_step"], False)

    def _places(
        self, array: int, begin: NDArray[np.int64], end: NDArray[np.int64], wrote: bool
    ) -> None:
        if not begin.size:
            return
        assert begin.min() >= 0, self.script.arrays[array]
        self.end[array] = max(self.end[array], int(end.max()))
        assert self.end[array] <= self.size[array] + _ROOM, self.script.arrays[array]
        marks = (self.written if wrote else self.read)[array]
        np.add.at(marks, begin, 1)
        np.add.at(marks, end, -1)

    def places(self, array: int, *, written: bool = False) -> NDArray[np.bool_]:
        """Return whether each byte was read, or written."""
        marks = (self.written if written else self.read)[array]
        return (np.cumsum(marks) > 0)[: self.size[array]]


def _all_segments(plan: Plan, script: Script) -> Iterator[Segments]:
    for stage in script.stages:
        for rank in range(plan.threads_per_image):
            yield from stage.make(rank)


@pytest.mark.parametrize(("method", "schedule"), CASES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("batch", [3, 1])
def test_scripts_stay_in_their_arrays_and_make_all_outputs(
    name: str, method: str, schedule: str, batch: int
) -> None:
    plan = _plan(LAYERS[name], method, schedule, batch=batch)
    if plan is None:
        pytest.skip("does not apply")
    script = script_of(plan)
    seen = _Seen(script)
    for segments in _all_segments(plan, script):
        seen.segments(segments)
    for index, array in enumerate(script.arrays):
        if array.name in ("input", "output", "weights"):
            assert seen.end[index] <= array.size
        if array.name == "weights":
            assert seen.places(index).all(), "some weights are never read"
        if array.name == "input" and plan.layer.stride == (1, 1) and method != "structured":
            assert seen.places(index).mean() > 0.9, "most of the picture is read"
    assert seen.places(script.place("output"), written=True).all(), "some outputs are not written"


@pytest.mark.parametrize("images", [1, 5, 40])
@pytest.mark.parametrize("method", ["fc_dense", "fc_sparse"])
def test_fully_connected_scripts(method: str, images: int) -> None:
    layer = _layer(type="fc", C=100, H=1, W=1, K=33, R=1, S=1, pad=(0, 0))
    plan = _plan(layer, method, batch=images, threads=2)
    assert plan is not None
    script = script_of(plan)
    seen = _Seen(script)
    for segments in _all_segments(plan, script):
        seen.segments(segments)
    turn = min(plan.images_per_turn, plan.batch) * layer.output_bytes
    assert seen.places(script.place("output"), written=True)[:turn].all()


def _with_caches(**sizes: int) -> Machine:
    """A Xeon with caches of other sizes, bytes."""
    machine = load_machine(XEON)
    caches = tuple(
        cache.model_copy(update={"size_bytes": float(sizes.get(cache.name, cache.size_bytes))})
        for cache in machine.caches
    )
    return machine.model_copy(update={"caches": caches})


@pytest.mark.parametrize(("method", "schedule"), CASES)
def test_huge_caches_move_nothing_and_small_ones_more(method: str, schedule: str) -> None:
    plan = _plan(LAYERS["1x1" if schedule == "pointwise" else "3x3"], method, schedule, threads=1)
    assert plan is not None
    huge = count(plan, _with_caches(L1=1 << 20, L2=1 << 21, L3=1 << 24), script_of(plan))
    assert all(not (r.any() or w.any()) for r, w in huge.phases.values())
    small = count(plan, _with_caches(L1=1024, L2=2048, L3=65536), script_of(plan))
    usual = count(plan, load_machine(XEON), script_of(plan))
    for level in range(3):
        assert _bytes(plan, small, level) >= _bytes(plan, usual, level)
    assert _bytes(plan, small, 0) > 0


def _bytes(plan: Plan, found: Any, level: int) -> float:
    total = 0.0
    for phase in plan.phases:
        read, written = found.phases[phase.name]
        total += float((read[level] + written[level]) @ phase.tiles.total)
    return total


def test_a_stream_through_all_levels_is_counted_once() -> None:
    """Tiny caches: every line of the input comes in, every line of the output goes out."""
    layer = _layer(C=64, K=64, H=14, W=14, R=1, S=1, pad=(0, 0))
    plan = _plan(layer, "direct_sparse", "row", batch=40, threads=1)
    assert plan is not None
    found = count(plan, _with_caches(L1=4096, L2=8192, L3=16384), script_of(plan))
    read, written = (found.arrays["input"][0], found.arrays["output"][1])
    assert read[2] == pytest.approx(layer.input_bytes, rel=0.05)
    assert written[2] == pytest.approx(layer.output_bytes, rel=0.05)


def test_shared_weights_are_fetched_once_for_all() -> None:
    layer = _layer(C=128, K=128, H=6, W=6)
    plan = _plan(layer, "direct_sparse", "row", batch=72, threads=72)
    assert plan is not None
    together = threads_of(plan, load_machine(XEON))
    assert together.sharers == (2, 2, 36)
    assert together.own == 2
    weights = Array("weights", 1000, "layer", "part")
    assert own_share(weights, 1, together, 0) == 1.0
    assert own_share(weights, 1, together, 2) == pytest.approx(2 / 36)
    assert own_share(replace(weights, shared="no"), 1, together, 2) == 1.0
    # all threads share one image: each reads its own part of the weights, all the same picture
    assert own_share(weights, 36, together, 2) == 1.0
    assert own_share(replace(weights, shared="image"), 36, together, 2) == pytest.approx(1 / 18)


def test_what_is_counted_is_remembered_and_depends_on_the_pattern() -> None:
    plan = _plan(LAYERS["3x3"], "direct_sparse", "row")
    other = _plan(LAYERS["3x3"], "direct_sparse", "row", batch=2)
    assert plan is not None
    assert other is not None
    machine = load_machine(XEON)
    assert counted(plan, machine) is counted(plan, machine)
    assert counted(plan, machine) is not counted(other, machine)


def test_predictions_say_which_traffic_they_have() -> None:
    layer = _layer(C=64, K=64, H=14, W=14)
    given: dict[str, Any] = {"method": "direct_sparse", "batch": 72}
    rule = archsim.predict(layer, XEON, density=0.1, **given)
    assert rule.traffic == "rule"
    drawn = archsim.predict(layer, XEON, density=0.1, traffic="counted", **given)
    assert drawn.traffic == "counted"
    assert drawn.notes[0].startswith("traffic counted")
    weights = Sparsity(0.1).draw(layer).weights
    known = archsim.predict(layer, XEON, pattern=weights, **given)
    assert known.traffic == "counted"
    assert known.seconds == drawn.seconds
    by_rule = archsim.predict(layer, XEON, pattern=weights, traffic="rule", **given)
    assert by_rule.traffic == "rule"
    with pytest.raises(InputError, match=r"traffic.*did you mean 'counted'"):
        archsim.predict(layer, XEON, traffic="count")


def test_what_cannot_be_counted_is_said() -> None:
    layer = _layer(type="fc", C=10, H=1, W=1, K=8, R=1, S=1, pad=(0, 0))
    plan = _plan(layer, "dense_gemm")
    assert plan is not None
    with pytest.raises(NotCountedError, match="dense_gemm"):
        script_of(plan)
    found = archsim.predict(layer, XEON, method="dense_gemm", traffic="counted")
    assert found.traffic == "rule"
    assert "not counted" in found.notes[0]
    density = archsim.make_plan(LAYERS["3x3"], XEON, method="lowered_sparse", density=0.1)
    with pytest.raises(NotCountedError, match="pattern"):
        script_of(density)
