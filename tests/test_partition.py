"""How output channels are cut among the threads of an image: same results, other counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim import native
from archsim.api import make_plan, predict
from archsim.cli import run
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.methods.sharing import PARTITIONS, Partition, cut
from archsim.network import Layer
from archsim.plan import Plan
from archsim.sparsity import Sparsity

XEON = load_machine("xeon-e5-2697v4-2s")
PLAIN = Layer("plain", C=20, K=70, H=13, W=13, R=3, S=3, pad=(1, 1))
GROUPED = Layer("grouped", C=6, K=40, H=9, W=17, R=5, S=5, pad=(2, 2), groups=2)
STRIDED = Layer("strided", C=3, K=40, H=31, W=29, R=7, S=7, stride=(2, 2), pad=(3, 3))
POINTWISE = Layer("pointwise", C=12, K=45, H=8, W=8)
CASES = [
    (layer, method, schedule)
    for layer in (PLAIN, GROUPED, STRIDED, POINTWISE)
    for method, schedule in (
        ("lowered_sparse", "auto"),
        ("direct_sparse", "row"),
        ("direct_sparse", "lanes:flat"),
        ("direct_sparse", "lanes:tiles"),
        ("direct_sparse", "lanes:images"),
    )
] + [(POINTWISE, "direct_sparse", "pointwise")]
METHODS = [("lowered_sparse", "auto"), ("direct_sparse", "row"), ("direct_sparse", "lanes:flat")]
SKEWED = Layer("skewed", C=64, K=256, H=13, W=13, R=3, S=3, pad=(1, 1))


def _skewed_weights() -> Any:
    """The first output channel dense (576 weights), eight weights in each of the 255 others."""
    weights = np.zeros(SKEWED.weight_shape, dtype=np.float32)
    weights[0] = 1.0
    weights[1:, ::8, 1, 1] = 1.0
    return weights


def _per_thread(plan: Plan) -> Any:
    """Return the multiply-adds of each thread."""
    products = next(phase for phase in plan.phases if phase.name == "products")
    per_class = products.tiles.count @ products.work.multiply_adds
    return per_class[products.tiles.thread_class]


@pytest.mark.parametrize(
    ("layer", "method", "schedule"), CASES, ids=lambda v: getattr(v, "name", v)
)
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 3), (3, 2), (2, 5)])
def test_results_are_the_same(
    layer: Layer, method: str, schedule: str, batch: int, threads: int
) -> None:
    weights = Sparsity(0.2).draw(layer, seed=3).weights
    assert weights is not None
    rng = np.random.default_rng(4)
    x = rng.standard_normal((batch, layer.C, layer.H, layer.W), dtype=np.float32)
    target = load_machine("host").target(archsim.kernels.active_isa())
    found = []
    for partition in PARTITIONS:
        plan = make_plan(layer, target, method=method, schedule=schedule, pattern=weights,
                         batch=batch, threads=threads, partition=partition)  # fmt: skip
        assert plan.blocking["partition"] == partition
        packed = native.prepare(plan, weights)
        for _ in range(3):  # the counter begins anew
            found.append(packed.run(x))
    assert native.relative_error(layer, x, weights, found[0]) < 1e-5
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize(("method", "schedule"), METHODS)
@pytest.mark.parametrize("density", [0.1, None])
@pytest.mark.parametrize(("batch", "threads"), [(1, 7), (3, 9), (8, 4)])
def test_every_tile_is_counted_once(
    method: str, schedule: str, density: float | None, batch: int, threads: int
) -> None:
    pattern = Sparsity(0.1).draw(PLAIN, seed=5) if density is None else None
    plans = [
        make_plan(PLAIN, XEON, method=method, schedule=schedule, density=density, pattern=pattern,
                  batch=batch, threads=threads, partition=partition)
        for partition in PARTITIONS
    ]  # fmt: skip
    alone = make_plan(PLAIN, XEON, method=method, schedule=schedule, density=density,
                      pattern=pattern, batch=1, threads=1)  # fmt: skip
    for plan in plans:
        assert plan.part_ptr[0] == 0
        assert plan.part_ptr[-1] == alone.part_ptr[-1]
        assert list(plan.part_ptr) == sorted(plan.part_ptr)
        for phase, single in zip(plan.phases, alone.phases, strict=True):
            turns = -(-batch // plan.images_per_turn)
            assert phase.tiles.total.tolist() == (turns * single.tiles.total).tolist()


@pytest.mark.parametrize(("method", "schedule"), METHODS)
def test_a_skewed_pattern(method: str, schedule: str) -> None:
    """A fifth of the nonzeros in one channel: equal counts of channels are no balance."""
    weights = _skewed_weights()
    imbalance = {}
    for partition in PARTITIONS:
        plan = make_plan(SKEWED, XEON, method=method, schedule=schedule, pattern=weights,
                         threads=2, partition=partition)  # fmt: skip
        work = _per_thread(plan)
        imbalance[partition] = work.max() / work.mean()
    assert imbalance["rows"] == pytest.approx((576 + 127 * 8) / ((576 + 255 * 8) / 2))
    assert imbalance["nnz"] < 1.05
    assert imbalance["dynamic"] < 1.05


def test_predictions_see_the_imbalance() -> None:
    seconds = {}
    for partition in PARTITIONS:
        found = predict(SKEWED, XEON, method="direct_sparse", schedule="row", threads=2,
                        pattern=_skewed_weights(), partition=partition)  # fmt: skip
        seconds[partition] = found.seconds or 0.0
    assert 0.0 < seconds["nnz"] < seconds["rows"]
    assert 0.0 < seconds["dynamic"] < seconds["rows"]


def test_dealing_out() -> None:
    """Greedy list scheduling, by hand: part after part to whoever has had the least work."""
    nonzeros = np.array([6.0, 1.0])
    kinds = np.array([0, 1, 1, 1, 1, 1, 1, 1], dtype=np.int64)
    dealt = cut("dynamic", nonzeros, kinds, 2)
    assert dealt.part_ptr == (0, 1, 3, 4, 5, 6, 7, 8)  # work 7, 4, 2, 2, 2, 2, 2
    assert dealt.counts.tolist() == [[1, 2], [0, 5]]  # 7 + 2 + 2 against 4 + 2 + 2 + 2
    assert cut("rows", nonzeros, kinds, 2).counts.tolist() == [[1, 3], [0, 4]]
    assert cut("nnz", nonzeros, kinds, 2).counts.tolist() == [[1, 1], [0, 6]]
    empty = cut("dynamic", np.zeros(2), kinds, 2)
    assert empty.counts.sum(axis=1).tolist() == [4, 4]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_more_threads_than_units(partition: Partition) -> None:
    few = cut(partition, np.array([2.0]), np.zeros(3, dtype=np.int64), 5)
    assert few.part_ptr[-1] == 3
    assert few.counts.shape == (5, 1)
    assert few.counts.sum() == 3
    assert few.counts.max() == 1


def test_dense_methods_cut_evenly() -> None:
    for method in ("dense_gemm", "dense_direct"):
        plans = [
            make_plan(PLAIN, XEON, method=method, threads=3, partition=partition)
            for partition in PARTITIONS
        ]
        assert len({plan.part_ptr for plan in plans}) == 1


@pytest.mark.parametrize("command", ["predict", "measure", "study"])
def test_command_line(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    machine = ["-m", "host"] if command == "measure" else ["-m", "atom-c2750"]
    rest = {
        "predict": [],
        "measure": ["--min-seconds", "0"],
        "study": ["-o", str(tmp_path / "found"), "--no-curves"],
    }[command]
    arguments = [command, "lenet5", "conv2", *machine, *rest, "--methods", "lowered_sparse"]
    assert run([*arguments, "--partition", "dynamic"]) == 0
    capsys.readouterr()
    assert run([*arguments, "--partition", "dynamik"]) == 2
    _, err = capsys.readouterr()
    assert "unknown partition" in err
    assert "nnz, rows, dynamic" in err


def test_the_partition_reaches_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    wrong: Any = "columns"
    with pytest.raises(InputError, match="unknown partition"):
        make_plan(PLAIN, XEON, method="direct_sparse", partition=wrong)
    with pytest.raises(InputError, match="unknown partition"):
        predict(PLAIN, XEON, partition=wrong)
