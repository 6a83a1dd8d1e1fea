"""Native runs through the plan: the plan's blocking, right answers, honest times."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import archsim
from archsim import kernels, native
from archsim.api import measure_together
from archsim.methods import get_method
from archsim.network import Layer, load_network
from archsim.quiet import Watch
from archsim.sparsity import Sparsity, load_sparsity

HOST = archsim.load_machine("host")
METHODS = ("dense_gemm", "dense_direct", "lowered_sparse", "direct_sparse")
LAYERS = [
    Layer("plain", C=20, K=36, H=13, W=13, R=3, S=3, pad=(1, 1)),
    Layer("grouped", C=6, K=10, H=9, W=17, R=5, S=5, pad=(2, 2), groups=2),
    Layer("strided", C=3, K=20, H=31, W=29, R=7, S=7, stride=(2, 2), pad=(3, 3)),
    Layer("pointwise", C=12, K=7, H=8, W=8),
    Layer("dilated", C=4, K=16, H=20, W=12, R=3, S=3, dilation=(2, 2), pad=(2, 2)),
    Layer("wide", C=2, K=3, H=5, W=530, R=3, S=3, pad=(1, 1)),
    Layer("uneven", C=3, K=5, H=11, W=7, R=1, S=3, pad=(0, 1), stride=(2, 1)),
]


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (3, 2)])
def test_plans_run_and_are_right(
    layer: Layer, method: str, isa: str, batch: int, threads: int
) -> None:
    if threads > HOST.total_threads:
        pytest.skip("this host has one thread")
    weights = Sparsity(0.3).draw(layer, seed=1).weights
    assert weights is not None
    plan = archsim.make_plan(
        layer, HOST, method=method, pattern=weights, batch=batch, threads=threads, isa=isa
    )
    found = native.run(plan, weights, min_seconds=0.0, check=True)
    assert found.max_error is not None
    assert found.max_error < 1e-5
    if method == "dense_gemm":  # the library chooses, and tells what
        assert found.isa.startswith("blas")
    else:
        assert found.isa == isa
    assert found.seconds_low <= found.seconds <= found.seconds_high
    assert {p.name for p in found.phases} <= {"input", "products", "output"}


@pytest.mark.parametrize("schedule", ["row:fixed32", "row:fixed32-output", "row:dyn8", "row:dyn32"])
def test_every_row_variant_runs(schedule: str) -> None:
    layer = Layer("blocks", C=70, K=33, H=12, W=14, R=3, S=3, pad=(1, 1))
    weights = Sparsity(0.2).draw(layer).weights
    assert weights is not None
    plan = archsim.make_plan(
        layer, HOST, method="direct_sparse", pattern=weights, schedule=schedule, threads=1
    )
    found = native.run(plan, weights, min_seconds=0.0, check=True)
    assert found.max_error is not None
    assert found.max_error < 1e-5


def test_measure_returns_the_one_result_type() -> None:
    found = archsim.measure(
        LAYERS[0], HOST, method="direct_sparse", density=0.2, threads=1, min_seconds=0.0,
        check=True, seed=4,
    )  # fmt: skip
    assert found.model == "native"
    assert found.machine == "host"
    assert found.seed == 4
    assert found.isa == kernels.active_isa()
    assert found.schedule.startswith(("row:", "lanes:"))
    assert found.seconds is not None
    assert found.max_error is not None
    assert found.dense_method in ("dense_gemm", "dense_direct", "winograd")
    assert found.speedup_over_dense is not None


def test_methods_run_in_turns_share_a_baseline() -> None:
    sparsity = Sparsity(0.1)
    cases = [(name, sparsity) for name in METHODS] + [("direct_sparse", Sparsity(0.5))]
    found = measure_together(LAYERS[0], cases, threads=1, min_seconds=0.0, check=True)
    assert [r.method for r in found] == [*METHODS, "direct_sparse"]
    dense = min((r for r in found if get_method(r.method).dense), key=lambda r: r.seconds or 0.0)
    assert all(r.dense_method == dense.method for r in found)
    assert dense.seconds is not None
    for result in found:
        assert result.seconds is not None
        assert result.speedup_over_dense == pytest.approx(dense.seconds / result.seconds)
        assert result.max_error is not None
        assert result.max_error < 1e-5
    assert found[-1].density == pytest.approx(0.5, abs=1e-3)


def test_methods_that_do_not_apply_keep_their_place() -> None:
    layer = Layer("fc", C=40, K=12, type="fc")
    found = measure_together(
        layer, [("direct_sparse", Sparsity(0.1)), ("dense_gemm", Sparsity(0.1))], threads=1,
        min_seconds=0.0,
    )  # fmt: skip
    assert found[0].seconds is None
    assert found[0].reason is not None
    assert found[1].seconds is not None


def test_forcing_an_instruction_set_reaches_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    name = kernels.supported_isas()[0]
    before = kernels.active_isa()
    kernels.set_isa(name)
    try:
        found = archsim.measure(LAYERS[0], method="direct_sparse", density=0.2, threads=1,
                                min_seconds=0.0)  # fmt: skip
        assert found.isa == name
    finally:
        kernels.set_isa(before)


def _data() -> Path:
    folder = os.environ.get("ARCHSIM_DATA")
    if not folder:
        pytest.skip("ARCHSIM_DATA does not name the folder with real pruned weights")
    return Path(folder)


@pytest.mark.filterwarnings("ignore:.*layers without an array")
@pytest.mark.parametrize("file", ["l1_top1_0.56256.npz", "grouplasso_top1_0.54214.npz"])
@pytest.mark.parametrize("method", METHODS)
def test_real_pruned_weights(file: str, method: str) -> None:
    network = load_network("alexnet")
    sparsities = load_sparsity(str(_data() / "alexnet_pruned" / file), network)
    for layer in network:
        if layer.type == "conv":
            found = archsim.measure(
                layer, HOST, method=method, pattern=sparsities[layer.name], threads=1,
                min_seconds=0.0, check=True,
            )  # fmt: skip
            assert found.max_error is not None
            assert found.max_error < 1e-5, layer.name


def test_reference_sees_a_wrong_output() -> None:
    layer = LAYERS[0]
    x = np.ones((1, layer.C, layer.H, layer.W), dtype=np.float32)
    weights = np.ones(layer.weight_shape, dtype=np.float32)
    wrong = np.zeros((1, layer.K, layer.P, layer.Q), dtype=np.float32)
    assert native.relative_error(layer, x, weights, wrong) == pytest.approx(1.0)


class _Looks:
    """Stands in for a watch: quiet or not, as listed, quiet ever after."""

    def __init__(self, *looks: bool) -> None:
        self._looks = list(looks)

    def quiet(self) -> bool:
        return self._looks.pop(0) if self._looks else True


def _timed(looks: _Looks, turns: int) -> native.Timed:
    number = iter(range(10_000))
    timed = native.Timed(lambda: None, lambda: next(number), threads=1, watch=cast(Watch, looks))
    for _ in range(turns):
        timed.turn(0.0)
    return timed


def test_calls_count_between_two_quiet_looks() -> None:
    # a turn of three calls looks before them and after each: the second and the third one are
    # disturbed
    timed = _timed(_Looks(True, True, False, True), 4)
    assert timed.notes == [0, *range(3, 12)]
    assert not timed.disturbed


def test_a_turn_begins_with_calls_that_bring_its_arrays_back() -> None:
    """Eight that are short; a single one that is longer than eight are given."""
    for seconds, untimed in ((0.0, 8), (0.015, 3), (0.06, 1)):
        calls: list[float] = []

        def call(seconds: float = seconds, calls: list[float] = calls) -> None:
            calls.append(seconds)
            time.sleep(seconds)

        timed = native.Timed(call, lambda: None, threads=1)
        timed.turn(0.0)
        assert len(timed.calls) == (3 if seconds < 0.04 else 1)
        assert len(calls) - len(timed.calls) <= untimed
        assert seconds > 0.0 or len(calls) - len(timed.calls) == untimed


def test_too_few_quiet_calls_and_all_count() -> None:
    timed = _timed(_Looks(*[False] * 16), 4)
    assert timed.disturbed
    assert len(timed.notes) == 12
    assert not timed.done(1e9)  # it waits for better times
    assert timed.done(0.0)  # but not for ever


def test_a_watch_sees_work_on_its_cpu() -> None:
    """Whatever shares the CPU takes some of it: no look of many is quiet all the time."""
    watch = Watch(HOST)
    cpu = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        os.sched_setaffinity(busy.pid, {cpu})
        time.sleep(0.1)
        looks = []
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            looks.append(watch.quiet())
        assert not all(looks)
    finally:
        busy.kill()
        busy.wait()
        os.sched_setaffinity(0, before)
