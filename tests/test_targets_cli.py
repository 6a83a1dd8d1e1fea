"""``archsim targets`` as a user meets it, and latency tables in and out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.cli import run
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.pruning import TimeTable, make_table, read_table, write_table

PARK = ["-m", "xeon-e5-2697v4-2s", "--model", "park"]
ALEXNET = load_network("alexnet")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(["targets", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def table() -> TimeTable:
    return make_table(ALEXNET, load_machine("xeon-e5-2697v4-2s"), model="park", levels=50)


def test_json_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "alexnet", *PARK, "--budget-time", "50%", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["schema"] == 1
    assert found["sensitivity"] == "assumed"
    assert {"network", "machine", "budget", "layers", "totals"} <= set(found)
    for layer in found["layers"]:
        keys = {"layer", "window", "prune", "sparsity", "method", "seconds", "dense_seconds"}
        assert keys <= set(layer)
    totals = found["totals"]
    assert totals["seconds"] == pytest.approx(sum(y["seconds"] for y in found["layers"]))
    assert totals["seconds"] <= 0.5 * totals["dense_seconds"]
    assert totals["loss"] < found["uniform"]["loss"]


def test_without_a_budget_windows_alone(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "alexnet", *PARK, "--no-groups", "--json")
    assert status == 0
    found = json.loads(out)
    assert found["totals"]["seconds"] is None
    assert all(y["sparsity"] is None and y["prune"] for y in found["layers"])
    assert found["front"]["points"][-1]["loss"] == 0.0


def test_table_page_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = call(
        capsys, "alexnet", *PARK, "--budget-time", "50%", "--count", "layers", "--against", "gesl",
        "-o", str(tmp_path / "t.yaml"), "--html", str(tmp_path / "t.html"),
        "--export", f"nncf={tmp_path / 'n.json'}", "--latency-table", str(tmp_path / "l.csv"),
    )  # fmt: skip
    assert status == 0, err
    words = " ".join(out.split())
    assert "uniform: " in words
    assert "gesl: " in words
    assert "assumed, not measured" in words
    page = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "Where pruning pays" in page
    assert 'id="front"' in page
    assert err.count("wrote") == 4
    again = read_table(tmp_path / "l.csv", ALEXNET)
    assert again.machine == "xeon-e5-2697v4-2s"


def test_a_page_escapes_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = tmp_path / "n.yaml"
    network.write_text("name: n\nlayers:\n  - {name: '<b>x</b>', C: 64, K: 64, H: 14, W: 14}\n")
    page = tmp_path / "t.html"
    status, _, err = call(capsys, str(network), *PARK, "--html", str(page))
    assert status == 0, err
    assert "<b>x</b>" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget-time", "1%"], "budget-time: cannot be met"),
        (["--budget-time", "soon"], "cannot be read"),
        (["--budget-accuracy", "-1"], "must be finite and at least 0;"),
        (["--latency-table", "t.txt"], "unknown ending; found 't.txt'; allowed: .csv, .json"),
        (["--pin", "conv3=0.3"], "target of conv3: is below the layer's window"),
        (["--pin", "conv33=0.9"], "did you mean 'conv3'"),
        (["--pin", "conv3=1.5"], "0..1"),
        (["--export", "nncv=x"], "did you mean 'nncf'"),
        (["--model", "ekm"], "did you mean 'ecm'"),
        (["--sensitivity", "missing.csv"], "missing.csv"),
        (["--table", "missing.csv"], "missing.csv"),
        (["--weights", "0.5"], "no weights"),
        (["--export", "nncf=x.json"], "a budget is needed"),
        (["--budget-time", "50%", "--export", "torch-pruning=x.json"], "--groups"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, out, err = call(capsys, "alexnet", *PARK, "--no-groups", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_tables_survive_a_file(table: TimeTable, tmp_path: Path, name: str) -> None:
    again = read_table(write_table(table, tmp_path / name), ALEXNET)
    assert again.sparsities == pytest.approx(table.sparsities)
    assert again.dense_seconds == pytest.approx(table.dense_seconds)
    for times, known in zip(again, table, strict=True):
        assert times.best("spatial") == pytest.approx(known.best("spatial"))
        assert times.best_methods("spatial") == known.best_methods("spatial")


def test_forms_of_other_tools(table: TimeTable, tmp_path: Path) -> None:
    ofa = json.loads(write_table(table, tmp_path / "o.json", "ofa").read_text())
    key = next(k for k in ofa if k.startswith("Conv-input:13x13x256-output:13x13x384"))
    assert set(ofa[key]) == {"count", "mean", "var"}
    conv3 = table.layers["conv3"]
    dense = next(v for k, v in ofa.items() if k.startswith(key.split("-method")[0])
                 and k.endswith("sparsity:0"))  # fmt: skip
    assert dense["mean"] == pytest.approx(1e3 * conv3.dense_seconds)
    nni = json.loads(write_table(table, tmp_path / "n.json", "nni").read_text())
    assert set(nni[0]) == {"op_name", "op_data_shape", "op_dtype", "op_latency"}
    assert nni[0]["op_latency"] == pytest.approx(1e3 * table.layers["conv1"].dense_seconds)
    with pytest.raises(InputError, match="tidy form only"):
        write_table(table, tmp_path / "o.csv", "ofa")


def _rows(table: TimeTable, path: Path) -> list[dict[str, Any]]:
    write_table(table, path)
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_own_measurements_with_few_levels(table: TimeTable, tmp_path: Path) -> None:
    """A device's own table: levels differ by layer, what lies outside them is unknown."""
    path = tmp_path / "own.csv"
    lines = ["layer,method,sparsity,seconds"]
    lines += [f"{y.name},mine,0,1.0" for y in ALEXNET]
    lines += [f"{y.name},mine_sparse,{s},{2.0 * (1 - s)}" for y in ALEXNET for s in (0.4, 0.8)]
    lines += ["conv1,mine_sparse,0.9,0.2"]
    path.write_text("\n".join(lines) + "\n")
    found = read_table(path, ALEXNET)
    assert found.sparsities.tolist() == [0.4, 0.8, 0.9]
    assert np.isinf(found.layers["conv2"].best("spatial")[-1])
    status = run(["targets", "alexnet", "--table", str(path), "--budget-time", "50%", "--json"])
    assert status == 0
    status = run(["targets", "alexnet", "--table", str(path), "--latency-table", str(path)])
    assert status == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sparsity", "1.5"), "0..1"),
        (("seconds", "-1"), "above zero"),
        (("seconds", "fast"), "a finite number"),
        (("domain", "fourier"), "unknown"),
        (("layer", "conv9"), "did you mean"),
    ],
)
def test_wrong_tables(
    table: TimeTable, tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    path = tmp_path / "t.csv"
    rows = _rows(table, path)
    rows[3][change[0]] = change[1]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=message):
        read_table(path, ALEXNET)


def test_a_table_must_cover_the_network(table: TimeTable, tmp_path: Path) -> None:
    path = write_table(table, tmp_path / "t.json")
    document = json.loads(path.read_text())
    document["rows"] = [r for r in document["rows"] if r["layer"] != "fc7"]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="does not cover alexnet; found 'nothing of fc7'"):
        read_table(path, ALEXNET)
    path.write_text("[]")
    with pytest.raises(InputError, match="not a latency table"):
        read_table(path, ALEXNET)


def test_levels_of_ecm_are_predictions() -> None:
    """What a table says of a level is what ``predict`` says, or within its tolerance of it."""
    from archsim.api import predict
    from archsim.pruning.table import TOLERANCE

    machine = load_machine("xeon-e5-2697v4-2s")
    table = make_table(ALEXNET, machine, layers=["conv3"], batch=36, threads=36)
    (times,) = table
    for row in times.sparse:
        for place in (9, 47, 83, 95):
            found = predict(
                times.layer, machine, method=row.method, schedule=row.schedules[place],
                density=1.0 - float(table.sparsities[place]), batch=36, threads=36,
            )  # fmt: skip
            assert row.seconds[place] == pytest.approx(found.seconds, rel=5 * TOLERANCE)
            if row.asked[place]:
                assert row.seconds[place] == pytest.approx(found.seconds, rel=1e-9)


def test_native_tables_are_measured() -> None:
    network = load_network("lenet5")
    table = make_table(
        network, load_machine("host"), model="native", batch=2, threads=1, levels=20,
        layers=["conv2"], min_seconds=0.002,
    )  # fmt: skip
    (times,) = table
    assert times.has_interval
    assert times.dense_low is not None
    assert times.dense_low <= times.dense_seconds <= (times.dense_high or 0.0)
    assert all(m.low is not None for m in times.sparse)


def test_exports_are_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for export, more in (("torch-pruning", ["--budget-time", "50%", "--no-groups"]), ("inc", [])):
        status, _, err = call(
            capsys, "alexnet", *PARK, *more, "--latency-table", str(tmp_path / "l.csv"),
            "-o", str(tmp_path / "t.yaml"), "--export", f"{export}={tmp_path / 'x.json'}",
        )  # fmt: skip
        assert status == 2
        assert err.startswith(f"error: export {export}: ")
        assert list(tmp_path.iterdir()) == []


def test_predict_takes_targets_as_sparsities(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "t.yaml"
    status, out, _ = call(
        capsys, "alexnet", *PARK, "--budget-time", "50%", "--no-groups", "-o", str(file), "--json"
    )
    targets = {y["layer"]: y["sparsity"] for y in json.loads(out)["layers"]}
    assert status == 0
    arguments = ["predict", "alexnet", *PARK, "--methods", "auto", "--sparsity", str(file)]
    assert run([*arguments, "--batch", "36", "--json"]) == 0
    results = {r["layer"]: r for r in json.loads(capsys.readouterr().out)["results"]}
    assert set(results) == set(targets)
    for layer, share in targets.items():
        assert results[layer]["density"] in (pytest.approx(1.0 - share), 1.0)
    assert any(r["density"] < 1.0 for r in results.values())


def test_a_table_of_another_machine(
    table: TimeTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write_table(table, tmp_path / "latency.csv"))
    status, _, err = call(capsys, "alexnet", "-m", "atom-c2750", "--table", file)
    assert status == 2
    assert err == (
        f"error: --table {file}: is of another machine; found 'xeon-e5-2697v4-2s'; "
        "allowed: atom-c2750\n"
    )
    assert call(capsys, "alexnet", "-m", "xeon-e5-2697v4-2s", "--table", file)[0] == 0
