"""The proof's tables from a made-up document; its quick study, where torch is there."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not installed, only kept beside", allow_module_level=True)
sys.path.append(str(ROOT))  # behind the installed archsim

document = importlib.import_module("benchmarks.proof.document")
page = importlib.import_module("benchmarks.proof.page")
tables = importlib.import_module("benchmarks.proof.tables")
proof = importlib.import_module("benchmarks.proof.__main__")


def _run(name: str, method: str, accuracy: float, sparsity: float, seed: int = 0) -> dict[str, Any]:
    layers = {
        "conv1": {"weights": 100, "sparsity": sparsity, "bytes": 300, "dense_bytes": 400},
        "fc1": {"weights": 300, "sparsity": 0.5, "bytes": 100, "dense_bytes": 1200},
    }
    return {
        "run": name, "model": "net", "method": method, "start": "net-dense" if method else "",
        "seed": seed, "accuracy": accuracy,
        "validation": accuracy, "machine": "host" if method.startswith("g") else "",
        "layers": layers, "predicted_speedups": {"host": 2.0} if method else {},
    }  # fmt: skip


def _times(conv: float) -> dict[str, Any]:
    layer = {"method": "m=s", "s": conv, "dense_s": 8e-6, "dense_method": "dense_direct"}
    return {"conv_s": conv, "network_s": 2 * conv, "layers": {"conv1": layer, "fc1": layer}}


@pytest.fixture
def found() -> dict[str, Any]:
    """Return a document with two strengths of esl, one of gesl, two seeds."""
    runs, times = [_run("net-dense", "", 0.80, 0.0)], {"dense": _times(8e-6)}
    times["dense"]["layers"] = {}
    for seed in (0, 1):
        for name, method, accuracy, seconds in (
            ("net-esl-hard", "esl", 0.70, 2e-6),
            ("net-esl-mild", "esl", 0.78, 4e-6),
            ("net-gesl-hard", "gesl", 0.74, 2e-6),
        ):
            run = _run(f"{name}-s{seed}", method, accuracy + 0.01 * seed, 0.9, seed)
            runs.append(run)
            times[run["run"]] = _times(seconds)
    circumstances = {"date": "2026-01-01", "machine": "x", "isa": "avx2", "system": "Linux",
                     "python": "3.11", "versions": {"archsim": "0"}}  # fmt: skip
    return {
        "runs": {run["run"]: run for run in runs}, "races": {},
        "times": {**circumstances, "models": {"net": times}},
    }  # fmt: skip


def test_seconds_at_an_accuracy() -> None:
    points = [(0.78, 4.0), (0.70, 2.0)]
    assert tables.at_accuracy(points, 0.74) == pytest.approx(3.0)
    assert tables.at_accuracy(points, 0.78) == 4.0
    assert tables.at_accuracy(points, 0.698) == 2.0
    assert tables.at_accuracy(points, 0.79) is None
    assert tables.at_accuracy([(0.7, 2.0)], 0.702) == 2.0


def test_guided_is_compared_at_equal_accuracy(found: dict[str, Any]) -> None:
    runs = list(found["runs"].values())
    guided = [run for run in runs if run["method"] == "gesl"]
    plain = [run for run in runs if run["method"] == "esl"]
    table, ratios = tables.equal_accuracy(guided, plain, found["times"]["models"]["net"])
    assert ratios == [pytest.approx(1.5)]  # 3 us on the line between 2 and 4, over 2 us
    assert "1.50, 1.50" in table  # each seed has the same line, a point higher


def test_the_page_is_made_of_the_document(found: dict[str, Any], tmp_path: Path) -> None:
    there = tmp_path / "page.md"
    page.write(there, found)
    text = there.read_text(encoding="utf-8")
    assert "| gesl-hard | 74.50 ± 0.71 % | 90.0 ± 0.0 % |" in text
    assert "| 4.00 / 4.00 | 2 |" in text  # 8 us dense over 2 us
    found["runs"].popitem()
    page.write(there, found)
    assert "74.50" not in there.read_text(encoding="utf-8")


def test_the_web_page_has_a_dot_for_each_run(found: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "found.json"
    source.write_text(json.dumps(found), encoding="utf-8")
    there = tmp_path / "study" / "pruning.html"
    assert proof.main(["--document", str(source), "html", str(there)]) == 0
    text = there.read_text(encoding="utf-8")
    dots = [f"<title>{run}</title></circle>" for run in found["runs"] if run != "net-dense"]
    assert len(dots) == 6
    assert all(dot in text for dot in dots)
    assert "<td>74.50 ± 0.71 %</td>" in text
    assert "|" not in text


def test_a_dense_run_that_went_on_stands_beside_the_first(found: dict[str, Any]) -> None:
    times = found["times"]["models"]["net"]
    runs = list(found["runs"].values())
    longer = {**runs[0], "run": "net-dense-on", "start": "net-dense", "accuracy": 0.87}
    table = tables.methods_table(runs[1:], times, runs[0], [longer])
    assert "| dense, trained on | 87.00 % | 0 % |" in table
    assert "trained on" not in tables.methods_table(runs[1:], times, runs[0])


def test_sizes_and_zeros_count_weights() -> None:
    run = _run("net-esl-hard-s0", "esl", 0.7, 0.9)
    assert tables.size_ratio(run) == pytest.approx(4.0)
    assert tables.share_of_zeros(run, "conv") == pytest.approx(0.9)
    assert tables.share_of_zeros(run, "all") == pytest.approx(0.6)


def test_sums_of_convolutions_over_the_best_product() -> None:
    everybody = {"archsim": 1e-3, "archsim_dense": 2e-3, "onnxruntime": 3e-3}
    everybody |= dict.fromkeys(tables.PRODUCTS[1:], 5e-3)
    other = everybody | {"onnxruntime": 5e-3, "torch_nchw": 1e-3}
    text = tables.peers_table({"net": [{"seconds": everybody}, {"seconds": other}]})
    # best product in sum: torch_nchw, 6 ms; best of each layer: 3 + 1 ms
    assert text.splitlines()[-1].endswith("| 3.00 | 2.00 | 2.00 |")


def test_the_committed_page_is_that_of_the_committed_document(tmp_path: Path) -> None:
    path = tmp_path / "pruning.md"
    path.write_bytes((ROOT / "docs" / "pruning.md").read_bytes())
    page.write(path, document.read_json(ROOT / "docs" / "results" / "pruning.json"))
    assert path.read_text("utf-8") == (ROOT / "docs" / "pruning.md").read_text("utf-8")


def test_one_line_for_a_document_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert proof.main(["--document", "/nowhere/x.json", "page"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_quick_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    studies = importlib.import_module("benchmarks.proof.studies")
    monkeypatch.setitem(studies.STUDIES, "digits", lambda: studies.digits(epochs=1))
    common = ["--folder", str(tmp_path), "--document", str(tmp_path / "found.json")]
    assert proof.main([*common, "run", "digits:0"]) == 0
    assert proof.main([*common, "run", "digits:0"]) == 0  # nothing is done twice
    assert proof.main([*common, "time", "--seconds", "0"]) == 0
    assert proof.main([*common, "collect"]) == 0
    assert proof.main([*common, "page", "--page", str(tmp_path / "page.md")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["runs"]) == {"digits-dense", "digits-esl-s0", "digits-gesl-s0"}
    assert all(run["largest_error"] < 1e-4 for run in found["runs"].values())
    assert found["times"]["models"]["digits"]["digits-gesl-s0"]["conv_s"] > 0
    assert "| esl |" in (tmp_path / "page.md").read_text()


def test_an_unknown_study_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert proof.main(["run", "guidet"]) == 2
    assert "guided" in capsys.readouterr().err
