"""What commands accept, refuse and print in the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import run
from archsim.network import load_network, network_names
from archsim.report.numbers import ratio

YAML = "name: n\nsources: {s: {kind: assumed, text: words}}\nsource: s\nlayers:\n"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the JSON that a command prints."""
    return json.loads(call(capsys, *arguments, "--json")[1])


@pytest.mark.parametrize("name", network_names())
def test_a_network_as_yaml_is_read_again(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = call(capsys, "networks", "show", name, "--yaml")
    assert status == 0
    path = tmp_path / "again.yaml"
    path.write_text(out, encoding="utf-8")
    assert load_network(path) == load_network(name)


def test_odd_names_survive_as_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_text(
        YAML + "".join(f"  - {{name: '{name}', C: 4, K: 4, H: 8, W: 8, pad: [0, 1]}}\n"
                       for name in ("1e5", "true", "a: b", "größe", "x#y"))
        + "sparsities: {'0.5': {layers: {'1e5': 0.25}, domain: winograd, top1_accuracy: 0.5}}\n"
        "default_sparsity: '0.5'\n",
        encoding="utf-8",
    )  # fmt: skip
    again = tmp_path / "again.yaml"
    again.write_text(call(capsys, "networks", "show", str(path), "--yaml")[1], encoding="utf-8")
    assert load_network(again) == load_network(path)


def test_every_check_has_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    scenario, machine = tmp_path / "s.yaml", tmp_path / "mine.yaml"
    scenario.write_text("name: quiet\n", encoding="utf-8")
    _, out, _ = call(capsys, "scenarios", "check", str(scenario), "--json")
    assert json.loads(out)["checked"] == [{"file": str(scenario), "name": "quiet"}]
    _, out, err = call(
        capsys, "machines", "new", "mine", "--base", "atom-c2750", "-o", str(machine), "--json"
    )
    assert json.loads(out)["file"] == str(machine)
    assert err == ""
    assert machine.exists()
    _, out, _ = call(capsys, "validate", "scoreboard", "--suites", "projections", "--json")
    assert json.loads(out)["suites"]["projections"]["summary"]["failed"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "alexnet", "--model", "park", "--traffic", "counted"],
         "--traffic is for --model ecm; the model here is park"),
        (["predict", "alexnet", "--methods", "dense_gemm", "--schedule", "row"],
         "--schedule row is for direct_sparse; the methods here are dense_gemm"),
        (["measure", "alexnet", "--methods", "dense_gemm", "--schedule", "row"], "--schedule row"),
        (["simulate", "alexnet", "--methods", "dense_gemm", "--schedule", "row"], "--schedule row"),
        (["study", "alexnet", "--methods", "dense_gemm", "--schedule", "row"], "--schedule row"),
        (["explain", "alexnet", "conv2", "--method", "dense_gemm", "--schedule", "row"],
         "--schedule row"),
        (["predict", "alexnet", "--methods", "auto,dense_gemm"],
         "'auto' stands alone, without other methods; found 'auto,dense_gemm'"),
        (["simulate", "alexnet", "--trace", "t.txt"],
         "unknown ending; found 't.txt'; allowed: .pftrace, .json"),
        (["explain", "alexnet", "conv2", "-o", "t.txt"],
         "unknown ending; found 't.txt'; allowed: .html"),
        (["predict", "model.onnx"], "ONNX files are not read; found 'model.onnx'"),
        (["networks", "show", "alexnet", "--yaml", "--json"], "two forms"),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_schedule_goes_with_the_methods_that_have_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, _ = call(
        capsys, "predict", "alexnet", "conv3", "-m", "atom-c2750", "--schedule", "row", "--methods",
        "dense_gemm,direct_sparse", "--sparsity", "0.9", "--json",
    )  # fmt: skip
    assert status == 0
    schedules = {r["method"]: r["schedule"] for r in json.loads(out)["results"]}
    assert schedules["direct_sparse"].startswith("row")


@pytest.mark.parametrize("command", ["predict", "simulate"])
def test_help_tells_the_default_batch(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Images [default: 1]" in " ".join(call(capsys, command, "--help")[1].split())


def test_a_cache_smaller_than_the_one_inside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        "name: m\nbase: xeon-phi-7250\ncaches: [{name: L2, size: 16 KiB}]\n", encoding="utf-8"
    )
    status, out, err = call(capsys, "machines", "check", str(path))
    assert (status, out.startswith(f"{path}: ok, m")) == (0, True)
    assert err == f"warning: {path}: L2 (16 KiB) is smaller than L1 (32 KiB), inside it\n"
    _, out, err = call(capsys, "machines", "check", "xeon-phi-7250", "--json")
    assert json.loads(out)["checked"][0]["warnings"] == []
    assert err == ""


def test_projections_count_scored_points(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = call(capsys, "validate", "projections")
    rows = [line for line in out.splitlines() if "useful_density_high" in line]
    assert rows
    assert all(" 0 " in line and "not scored" in line for line in rows)


@pytest.mark.parametrize("command", ["predict", "simulate", "measure", "study"])
def test_a_layer_that_is_named_twice(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "alexnet", "conv3", "conv4", "conv3", "-m", "atom-c2750"]) == 2
    assert "a layer is named twice; found 'conv3'" in capsys.readouterr().err


SIMULATE = ["simulate", "alexnet", "conv2", "conv3", "-m", "xeon-phi-7250", "--batch", "68",
            "--events", "200", "--sparsity", "gesl"]  # fmt: skip


def test_simulate_tells_speedups_over_a_dense_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = called(capsys, *SIMULATE, "-o", str(tmp_path))
    dense = called(capsys, *SIMULATE[:-1], "0", "--no-baseline", "--methods",
                      "dense_gemm,dense_direct,winograd")  # fmt: skip
    seconds = {r["layer"]: r["seconds"] for r in dense["results"]}
    for result in found["results"]:
        expected = seconds[result["layer"]] / result["seconds"]
        assert result["speedup_over_dense"] == pytest.approx(expected)
    total = found["totals"]["machines"]["xeon-phi-7250"]["simulator"]
    assert total["dense_seconds"] == pytest.approx(sum(seconds.values()))
    assert total["speedup_over_dense"] > 1.0
    assert all(r["speedup_over_dense"] is None for r in dense["results"])
    status, out, _ = call(capsys, "report", str(tmp_path / "results.json"))
    assert status == 0
    assert ratio(total["speedup_over_dense"]) in out


@pytest.mark.parametrize("arguments", [SIMULATE, ["predict", *SIMULATE[1:8], "--methods", "auto"]])
def test_tables_end_with_the_total(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = call(capsys, *arguments)
    found = called(capsys, *arguments)
    ((total,),) = [tuple(m.values()) for m in found["totals"]["machines"].values()]
    line = " ".join(out[out.index("total of the layers") :].split())
    assert f"speedup: {total['speedup_over_dense']:.2f}×" in line
