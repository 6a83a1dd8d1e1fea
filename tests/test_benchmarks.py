"""The benchmarks' harness: its data load, its figures are right, a small cell is measured.

No test here looks at how long anything takes.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.kernels.winograd_matrices import VARIANTS
from archsim.network import Layer

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not installed, only kept beside", allow_module_level=True)
sys.path.append(str(ROOT))  # behind the installed archsim

cells = importlib.import_module("benchmarks.cells")
contest = importlib.import_module("benchmarks.contest")
document = importlib.import_module("benchmarks.document")
errors = importlib.import_module("benchmarks.errors")
figures = importlib.import_module("benchmarks.figures")
onnxfile = importlib.import_module("benchmarks.onnxfile")
page = importlib.import_module("benchmarks.page")
session = importlib.import_module("benchmarks.session")
requirements = importlib.import_module("benchmarks.requirements")
suites = importlib.import_module("benchmarks.suites")

TINY = Layer("tiny", C=4, K=6, H=9, W=7, R=3, S=3, pad=(1, 1))


def test_layers_are_those_of_the_networks() -> None:
    layers = suites.layers()
    conv2 = layers["conv2"]
    assert (conv2.C, conv2.K, conv2.R, conv2.groups, conv2.P) == (96, 256, 5, 2, 27)
    assert (layers["vgg64"].C, layers["vgg64"].H) == (64, 224)
    assert [layers[p].C for p in ("p64", "p256", "p512", "p1024", "p2048")] == [
        64, 256, 512, 1024, 2048,
    ]  # fmt: skip
    assert all(layers[p].R == 1 for p in ("p64", "p256", "p512", "p1024", "p2048", "fire2p"))


def test_cells_by_name() -> None:
    assert [cell.name for cell in suites.cells(["quick", "direct/conv3"])] == [
        "quick/conv3", "quick/r64", "direct/conv3",
    ]  # fmt: skip
    assert not any(cell.suite.only_when_named for cell in suites.cells())
    full = suites.suites()["full-b16t2"]
    assert (full.batch, full.threads, full.layers) == (16, 2, tuple(suites.convolutions()))
    for name in ("nothing", "direct/p64"):
        with pytest.raises(ValueError, match="no cells called"):
            suites.cells([name])


def test_every_row_finds_its_contestants_in_its_suites() -> None:
    """A name or a pattern that no suite has would be a row that is never measured."""
    for row in figures.wanted():
        for suite in (suites.suites()[name] for name in row.suites):
            who = {name for names, _ in suite.sparse for name in names} | set(suite.dense)
            assert row.of in who, row.title
            for line in row.lines:
                assert set(line.layers) <= set(suite.layers), row.title
                assert set(line.at) - {""} <= set(suite.patterns), row.title


@pytest.mark.filterwarnings("ignore:.*layers without an array")
def test_real_patterns_need_their_folder(monkeypatch: Any, tmp_path: Path) -> None:
    conv1 = suites.layers()["conv1"]
    monkeypatch.delenv(suites.DATA_VARIABLE, raising=False)
    with pytest.raises(suites.NoPatternError, match="ARCHSIM_DATA is not set"):
        suites.weights_of(conv1, "alexnet-l1", 0)
    monkeypatch.setenv(suites.DATA_VARIABLE, str(tmp_path))
    with pytest.raises(suites.NoPatternError, match="is missing"):
        suites.weights_of(conv1, "alexnet-l1", 0)
    folder = tmp_path / "alexnet_pruned"
    folder.mkdir()
    weights = np.zeros(conv1.weight_shape, dtype=np.float32)
    weights[0] = 1.0
    np.savez(folder / "l1_top1_0.56256.npz", conv1=weights)
    np.testing.assert_array_equal(suites.weights_of(conv1, "alexnet-l1", 0).weights, weights)


def entry(name: str, pattern: str, ms: float, **more: Any) -> dict[str, Any]:
    kind = more.pop("kind", "ours")
    more.setdefault("schedule", name)
    more.setdefault("flop", 2e5 if pattern else 2e6)
    return {
        "name": name, "kind": kind, "pattern": pattern, "threads": 1, "median_s": ms * 1e-3,
        "best_s": ms * 1e-3, "low_s": ms * 1e-3, "high_s": ms * 1e-3, "nonzeros": 1000,
        "phases_s": {"input": 0.0, "products": ms * 1e-3, "output": 0.0}, **more,
    }  # fmt: skip


def cell(suite: str, layer: str, *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "suite": suite, "layer": layer, "shape": "some", "batch": 1, "isa": "avx512",
        "dense_flop": 2e6, "pixels": 100, "weights": 10_000, "missing": {}, "rounds": 9,
        "roofs_flop_per_s": {"aligned": 4e8, "unaligned": 2e8, "registers": 5e9},
        "entries": list(entries), **more,
    }  # fmt: skip


@pytest.fixture
def stored() -> dict[str, Any]:
    dense = (
        entry("torch_nchw", "", 8.0, kind="dense"),
        entry("openvino", "", 6.0, kind="dense"),
        entry("dense_direct", "", 4.0),
    )
    times = {"0.2": 9.0, "0.3": 7.0, "0.4": 5.0, "0.5": 4.0, "0.7": 3.0, "0.85": 2.0}
    return {
        **document.new(seed=0),
        "call": {"median_s": 2e-6, "best_s": 1e-6},
        "cells": {
            "direct/conv3": cell(
                "direct", "conv3", *dense,
                *(entry("direct_sparse", pattern, ms) for pattern, ms in times.items()),
                entry("direct_sparse", "0.9", 1.0, schedule="lanes:flat"),
                entry("direct_sparse=row", "0.9", 1.5, schedule="row"),
                entry("deepsparse", "0.9", 3.0, kind="sparse", schedule=None),
            ),
            "direct/r64": cell(
                "direct", "r64", *dense,
                *(entry("direct_sparse", pattern, ms / 4) for pattern, ms in times.items()),
                entry("direct_sparse", "0.9", 0.25, schedule="row"),
                entry("direct_sparse=row", "0.9", 0.3, schedule="row"),
                missing={"mkl@0.9": "ImportError: no such thing"},
            ),
            "threads/conv3": cell(
                "threads", "conv3",
                entry("direct_sparse", "0.9", 1.0),
                entry("direct_sparse", "0.9", 0.6, threads=2),
                entry("direct_sparse", "0.7", 0.2),
                entry("direct_sparse", "0.7", 0.2, threads=2),
            ),
            "isa-avx2/conv2": {"failed": "this host has no avx2"},
        },
    }  # fmt: skip


def of(found: list[Any], title: str, at: str = "") -> Any:
    """The first line of a row (that takes this pattern)."""
    return next(f for f in found if f.row.title == title and (not at or at in f.line.at))


def test_figures(stored: dict[str, Any]) -> None:
    found = figures.rows(stored)
    ratio = of(found, "direct sparse over the best dense", "0.9")
    # peers only: dense_direct is ours.  6 / 1 and 6 / 0.25
    assert ratio.value == pytest.approx(12.0)
    assert ratio.reached is True
    # 2 x 1000 x 100 in 1 ms and 0.25 ms, of 4e8 FLOP/s
    assert ratio.share == pytest.approx(math.sqrt(0.5 * 2.0))
    assert of(found, "direct sparse over the best dense", "0.98").reached is None
    assert of(found, "direct sparse over DeepSparse, one picture").value == pytest.approx(3.0)
    assert of(found, "dense_direct over the best dense").value == pytest.approx(1.5)
    # r64's two are the same code: its 1.2 is noise
    never = of(found, "direct sparse never slower than its row schedule")
    assert never.details == {("direct/conv3", "0.9"): 1.5, ("direct/r64", "0.9"): 1.0}
    assert never.value == 1.0
    row = of(found, "row schedule alone, share of the unaligned-load roof")
    assert row.value == pytest.approx(2e5 / 0.3e-3 / 2e8)
    assert of(found, "two threads over one, calls above 0.3 ms").details == {
        ("threads/conv3", "0.9"): pytest.approx(1 / 0.6)
    }
    assert of(found, "Python's share of a prepared call, microseconds").value == pytest.approx(2.0)
    assert of(found, "1x1 over the best dense").value is None
    of_row = figures.rows(stored, "row")
    assert of(of_row, "direct sparse over the best dense", "0.9").value == pytest.approx(
        math.sqrt(6 / 1.5 * 6 / 0.3)
    )


def test_crossover(stored: dict[str, Any]) -> None:
    crossover = of(figures.rows(stored), "sparsity from which direct sparse beats the best dense")
    assert crossover.details == {("direct/conv3", ""): 0.35, ("direct/r64", ""): 0.2}
    assert crossover.value == 0.35
    assert crossover.reached is True
    assert math.isnan(figures.crossing([(0.2, 3.0), (0.9, 2.0)], 1.0))
    # slower again in between: from where it stays faster
    assert figures.crossing([(0.2, 1.0), (0.4, 3.0), (0.6, 1.0)], 2.0) == 0.5


def test_the_page(stored: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    page.write(path, stored, figures.rows(stored))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{page.END}\nafter\n")
    assert "old" not in text
    assert (
        "| direct sparse over the best dense | 0.9 | at least 5.50 | 12.00 | yes | 100% |" in text
    )
    assert "| conv3 | direct | 0.35 |" in text
    assert "mkl@0.9 on direct/r64: ImportError: no such thing" in text
    assert "isa-avx2/conv2: this host has no avx2" in text
    path.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="markers"):
        page.write(path, stored, [])


def test_the_shipped_page_has_its_markers() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.count(page.BEGIN) == text.count(page.END) == 1


def test_documents_are_saved_whole(stored: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "found.json"
    document.save(stored, path)
    assert document.load(path) == json.loads(json.dumps(stored))
    assert [p.name for p in path.parent.iterdir()] == ["found.json"]
    path.write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(ValueError, match="schema"):
        document.load(path)
    with pytest.raises(ValueError, match="is missing"):
        document.load(tmp_path / "none.json")


def test_a_cell_is_measured(monkeypatch: Any) -> None:
    """Ours alone, for real: checked, timed in turns, in the document's form."""
    monkeypatch.setattr(cells, "layers", lambda: {"tiny": TINY})
    monkeypatch.delenv(suites.DATA_VARIABLE, raising=False)
    sparse = ("direct_sparse", "direct_sparse=row", "direct_sparse=pointwise", "lowered_sparse")
    suite = suites.Suite(
        name="test", about="", layers=("tiny",), batch=2, dense=("dense_direct", "dense_gemm"),
        sparse=((sparse, ("0.5", "0.9", "alexnet-l1")),),
    )  # fmt: skip
    with cells.Peers() as peers:
        found = cells.measure(suites.Cell(suite, "tiny"), peers, seconds=0.0, seed=3)
    assert json.loads(json.dumps(found)) == found
    assert found["rounds"] == contest.LEAST_ROUNDS
    assert {(e["name"], e["pattern"]) for e in found["entries"]} == {
        ("dense_direct", ""), ("dense_gemm", ""),
        *((name, at) for name in ("direct_sparse", "direct_sparse=row", "lowered_sparse")
          for at in ("0.5", "0.9")),
    }  # fmt: skip
    for each in found["entries"]:
        assert 0.0 < each["best_s"] <= each["median_s"]
        assert each["calls"] >= contest.LEAST_ROUNDS
        assert each["error"] < contest.TOLERANCE
        assert set(each["phases_s"]) == {"input", "products", "output"}
    assert found["nonzeros"] == {"0.5": 108, "0.9": 22}
    assert "not set" in found["missing"]["alexnet-l1"]
    assert "pointwise" in found["missing"]["direct_sparse=pointwise@0.5"]
    assert all(value > 0.0 for value in found["roofs_flop_per_s"].values())


def test_winograd_cells_have_weights_of_their_domain(monkeypatch: Any) -> None:
    """Beside spatial ones of the same sparsity; its errors are held against their own bound."""
    layer = Layer("tiny", C=8, K=12, H=9, W=10, R=3, S=3, pad=(1, 1))
    monkeypatch.setattr(cells, "layers", lambda: {"tiny": layer})
    suite = suites.Suite(
        name="test", about="", layers=("tiny",), dense=("winograd=f4x4_3x3", "winograd=f2x2_3x3"),
        sparse=((("sparse_winograd", "direct_sparse"), ("0.75",)),),
    )  # fmt: skip
    with cells.Peers() as peers:
        found = cells.measure(suites.Cell(suite, "tiny"), peers, seconds=0.0, seed=3)
    assert found["missing"] == {}
    assert found["nonzeros"] == {"0.75": 8 * 12 * 9 // 4, "0.75, winograd": 8 * 12 * 36 // 4}
    entries = {entry["name"]: entry for entry in found["entries"]}
    tiles = 3 * 3
    assert entries["sparse_winograd"]["flop"] == 2.0 * (8 * 12 * 36 // 4) * tiles
    assert entries["winograd=f4x4_3x3"]["flop"] == 2.0 * 8 * 12 * 36 * tiles
    assert entries["winograd=f2x2_3x3"]["flop"] == 2.0 * 8 * 12 * 16 * 25
    assert "error_of_bound" not in entries.pop("direct_sparse")
    assert all(0.0 < entry["error_of_bound"] < 1.0 for entry in entries.values())


def test_winograd_beyond_its_bound_is_left_out() -> None:
    layer = Layer("tiny", C=8, K=12, H=9, W=10, R=3, S=3, pad=(1, 1))
    x = contest.aligned((1, layer.C, layer.H, layer.W))
    x[:] = np.random.default_rng(0).standard_normal(x.shape)
    weights = suites.weights_of(layer, "0.5", 0, "winograd").weights
    judge = contest.Judge(layer, x)
    judge.expect(weights, "f4x4_3x3")
    right = cells.ours.contestant("sparse_winograd", layer, weights, x, pattern="0.5", threads=1)
    assert judge.check(right)["error_of_bound"] < 1.0
    # the largest value alone is far more wrong than rounding can make it
    wrong = replace(right, result=lambda: np.where(right.result() == right.result().max(), 9, 0))
    with pytest.raises(contest.WrongResultError, match="times its bound"):
        judge.check(wrong)


def test_connected_and_structured_cells(monkeypatch: Any) -> None:
    connected = Layer("fc", C=50, K=30, H=1, W=1, type="fc")
    chosen = {"fc": connected, "tiny": TINY}
    monkeypatch.setattr(cells, "layers", lambda: chosen)
    fc = suites.Suite(name="fc", about="", layers=("fc",), batch=3, dense=("fc_dense",),
                      sparse=((("fc_sparse",), ("0.8",)),))  # fmt: skip
    structured = suites.Suite(
        name="structured", about="", layers=("tiny",), dense=("dense_gemm",),
        sparse=((("structured", "sparse_winograd"), ("strided-2", "kernels-0.7")),),
    )  # fmt: skip
    with cells.Peers() as peers:
        of_fc = cells.measure(suites.Cell(fc, "fc"), peers, seconds=0.0, seed=3)
        of_structured = cells.measure(suites.Cell(structured, "tiny"), peers, seconds=0.0, seed=3)
    assert of_fc["missing"] == {}
    assert {entry["name"] for entry in of_fc["entries"]} == {"fc_dense", "fc_sparse"}
    schedules = {e["pattern"]: e["schedule"] for e in of_structured["entries"]}
    assert schedules["strided-2"] == "intra-kernel-strided"
    assert schedules["kernels-0.7"] == "kernel"
    assert "winograd domain" in of_structured["missing"]["strided-2"]


def test_a_dense_rival_is_the_same_with_every_pattern() -> None:
    found = figures.rows({"cells": {"structured/conv3": cell(
        "structured", "conv3", entry("dense_gemm", "", 4.0), entry("structured", "strided-2", 2.0),
    )}})  # fmt: skip
    row = of(found, "every second kernel position over the whole lowered product")
    assert row.value == pytest.approx(2.0)


def test_dense_rows_know_their_layers() -> None:
    peer = entry("openvino", "", 4.0, kind="dense")
    found = figures.rows({"cells": {
        f"winograd/{layer}": cell("winograd", layer, peer, entry("winograd", "", ms))
        for layer, ms in (("vgg64", 2.0), ("vgg128", 1.0), ("r64", 4.0))
    }})  # fmt: skip
    values = [f.value for f in found if f.row.title == "dense Winograd over the best dense"]
    assert values == [pytest.approx(math.sqrt(8.0)), pytest.approx(1.0)]


def test_every_variant_and_connected_layer_stays_in_its_bound() -> None:
    found = errors.measure(seed=1)
    assert {f.schedule for f in found if f.method == "winograd"} == set(VARIANTS)
    assert {f.method for f in found} == {
        "winograd", "sparse_winograd", "structured", "fc_dense", "fc_sparse",
    }  # fmt: skip
    for each in found:
        assert 0.0 < each.of_bound < 1.0, each
        assert each.error < contest.TOLERANCE


def test_connected_layers_are_matrix_products_for_peers() -> None:
    onnx = pytest.importorskip("onnx")
    layer = Layer("fc", C=5, K=3, H=1, W=1, type="fc")
    model = onnx.load_from_string(onnxfile.one_layer(layer, np.ones((3, 5, 1, 1), np.float32), 2))
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    sides = [[d.dim_value for d in value.type.tensor_type.shape.dim]
             for value in (model.graph.input[0], model.graph.output[0])]  # fmt: skip
    assert sides == [[2, 5], [2, 3]]


def test_mkl_multiplies_vectors_in_both_layouts() -> None:
    mkl = importlib.import_module("benchmarks.mkl_csr")
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((30, 50)).astype(np.float32)
    weights[rng.random(weights.shape) < 0.8] = 0.0
    x, out = contest.aligned((4, 50)), contest.aligned((4, 30))
    x[:] = rng.standard_normal(x.shape)
    try:
        several, single = mkl.Csr(weights, 4), mkl.Csr(weights, 1)
        several.vectors(x, out)[1]()
    except OSError:
        pytest.skip("no MKL here")
    np.testing.assert_allclose(out, x @ weights.T, rtol=1e-4, atol=1e-5)
    out[:] = 0.0
    single.vector(x[:1], out[:1])()
    np.testing.assert_allclose(out[0], weights @ x[0], rtol=1e-4, atol=1e-5)


def test_who_computes_something_else_is_left_out() -> None:
    x = contest.aligned((1, TINY.C, TINY.H, TINY.W))
    x[:] = np.random.default_rng(0).standard_normal(x.shape)
    assert x.ctypes.data % 64 == 0
    weights = suites.weights_of(TINY, "0.5", 0).weights
    judge = contest.Judge(TINY, x)
    judge.expect(weights)
    right = cells.ours.contestant("lowered_sparse", TINY, weights, x, pattern="0.5", threads=1)
    assert judge.check(right)["error"] < contest.TOLERANCE
    wrong = replace(right, result=lambda: right.result() * 1.01)
    with pytest.raises(contest.WrongResultError, match="off by"):
        judge.check(wrong)
    with pytest.raises(contest.WrongResultError, match="shape"):
        judge.check(replace(right, result=lambda: right.result()[:, 1:]))


def test_a_process_that_dies_takes_only_its_cell_along(monkeypatch: Any) -> None:
    false = shutil.which("false")
    assert false is not None
    monkeypatch.setattr(sys, "executable", false)
    found = {}
    session.run(
        suites.cells(["quick"]), lambda cell, what: found.update({cell.name: what}),
        seconds=0.0, seed=0,
    )  # fmt: skip
    died = {"failed": "the process that measured it has died"}
    assert found == {"quick/conv3": died, "quick/r64": died}


def test_what_a_host_lacks_is_said(monkeypatch: Any) -> None:
    foreign = replace(suites.suites()["quick"], isa="none of these")
    assert "has no none of these" in session.can_run(foreign)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert session.cpus(1) == {0}
    assert "2 physical cores" in session.can_run(suites.suites()["threads"])
    assert session.can_run(suites.suites()["quick"]) == ""


def test_children_get_their_threads_and_set(monkeypatch: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    two = session.environment(suites.suites()["threads"])
    assert (two["OMP_NUM_THREADS"], two["MKL_NUM_THREADS"]) == ("2", "2")
    assert two["OPENBLAS_NUM_THREADS"] == "1"
    assert session.environment(suites.suites()["isa-avx2"])["ARCHSIM_ISA"] == "avx2"


def test_the_extra_names_the_peers() -> None:
    names = " ".join(requirements.of_extra("bench"))
    for peer in ("torch", "onnxruntime", "openvino", "sparse_dot_mkl", "mkl", "onnx"):
        assert peer in names
