"""The command line as a user meets it: output, exit status, one-line errors."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import run
from archsim.methods import METHODS
from archsim.study import open_folder, write_document

ATOM = ["-m", "atom-c2750"]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status, out, _ = call(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def test_predict_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "predict", "alexnet", "conv3", *ATOM, "--sparsity", "0.9")
    assert status == 0
    assert "direct_sparse" in out
    assert "conv3" in out
    assert "error" not in err


def test_predict_json_is_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    found = call_json(capsys, "predict", "alexnet", *ATOM, "--sparsity", "gesl", "--batch", "8")
    assert found["schema"] == 1
    assert found["archsim"]
    assert len(found["results"]) == 8 * len(METHODS)
    assert found["totals"]["machines"]["atom-c2750"]["ecm"]["images_per_s"] > 0
    fc = next(r for r in found["results"] if r["layer"] == "fc6" and r["method"] == "direct_sparse")
    assert fc["seconds"] is None
    assert "output pixel" in fc["reason"]
    conv3 = next(r for r in found["results"] if r["layer"] == "conv3")
    densities = sorted({r["density"] for r in found["results"] if r["layer"] == "conv3"})
    assert densities == pytest.approx([1 - 0.931, 1.0])
    assert conv3["machine"] == "atom-c2750"


def test_predict_park_with_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    found = call_json(
        capsys, "predict", "alexnet", "conv5", *ATOM, "--model", "park", "--alpha", "2",
        "--sgemm", "100 GFLOP/s", "--stream", "1 TB/s", "--sparsity", "0.5",
        "--methods", "direct_sparse",
    )  # fmt: skip
    (result,) = found["results"]
    assert result["seconds"] == pytest.approx(2 * 0.5 * 149520384 / 100e9)
    assert result["speedup_over_dense"] == pytest.approx(1.0)


def test_validate(capsys: pytest.CaptureFixture[str]) -> None:
    found = call_json(capsys, "validate", "projections")
    assert found["suite"] == "projections"
    assert found["summary"]["points"] == 115
    status, out, _ = call(capsys, "validate", "projections", "--check")
    assert status == 0
    assert "115 scored points, 0 failed" in " ".join(out.split())


def test_machines_commands(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    names = [m["name"] for m in call_json(capsys, "machines", "list")["machines"]]
    assert {"atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", "host"} <= set(names)
    numbers = call_json(capsys, "machines", "show", "atom-c2750")["numbers"]
    l2 = next(n for n in numbers if n["key"] == "caches.L2.latency")
    assert l2["value"] == "14 cycles"
    assert l2["range"] == "13 cycles .. 19 cycles"
    file = tmp_path / "mine.yaml"
    assert (
        call(capsys, "machines", "new", "mine", "--base", "xeon-phi-7250", "-o", str(file))[0] == 0
    )
    assert call(capsys, "machines", "check", str(file))[:2] == (
        0, f"{file}: ok, mine ({_kinds(capsys, file)})\n",
    )  # fmt: skip
    again = call(capsys, "machines", "new", "mine", "--base", "xeon-phi-7250", "-o", str(file))
    assert again[0] == 2
    assert "exists already" in again[2]
    differences = call_json(
        capsys, "machines", "diff", "xeon-e5-2697v4-2s", "xeon-e5-2697v4-2s-hbm"
    )["differences"]
    assert any(d["key"].startswith("memory.") for d in differences)
    schema = json.loads(call(capsys, "machines", "schema")[1])
    assert schema["properties"]["clock"]["description"]


def _kinds(capsys: pytest.CaptureFixture[str], file: Path) -> str:
    (checked,) = call_json(capsys, "machines", "check", str(file))["checked"]
    return ", ".join(f"{count} {kind}" for kind, count in sorted(checked["numbers"].items()))


def test_networks_commands(capsys: pytest.CaptureFixture[str]) -> None:
    names = [n["name"] for n in call_json(capsys, "networks", "list")["networks"]]
    assert names == sorted(
        [
            "alexnet",
            "googlenet",
            "vgg16",
            "resnet50",
            "squeezenet",
            "resnet20",
            "resnet56",
            "lenet5",
        ]
    )
    shown = call_json(capsys, "networks", "show", "alexnet")
    assert shown["sparsities"]["gesl"]["layers"]["conv3"] == pytest.approx(0.931)
    status, out, _ = call(capsys, "networks", "show", "lenet5")
    assert status == 0
    assert "ip1" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "alexnett"], "did you mean 'alexnet'"),
        (["predict", "alexnet", "conv9", *ATOM], "unknown layer"),
        (["predict", "alexnet", "-m", "atom"], "no such machine"),
        (["predict", "alexnet", *ATOM, "--sparsity", "1.2"], "0..1"),
        (["predict", "alexnet", *ATOM, "--sparsity", "gessl"], "did you mean 'gesl'"),
        (["predict", "alexnet", *ATOM, "--methods", "direct"], "unknown method"),
        (["predict", "alexnet", *ATOM, "--batch", "0"], "--batch"),
        (["predict", "alexnet", *ATOM, "--model", "park", "--sgemm", "62"], "write '62 FLOP/s'"),
        (["measure", "alexnet", *ATOM], "is not this host"),
        (
            ["validate", "nothing"],
            "allowed: incore, native, projections, published, rule, scoreboard, traffic",
        ),
        (["report", "no-such-file.json"], "cannot be read"),
        (["machines", "check", "no-such.yaml"], "no such file"),
        (["machines", "show"], "Missing argument"),
        (["studdy"], "did you mean 'study'"),
        (["predict", "alexnet", "--machin", "x"], "No such option"),
        (["predict", "alexnet", "--seed", "-1"], "--seed"),
        (["predict", "alexnet", "--batch", "many"], "'many' is not a whole number"),
        (["predict", "alexnet", "--threads", "3000000000"], "--threads"),
        (["predict", "alexnet", "-m", ""], "must not be empty"),
        (["predict", "alexnet", "--sparsity", ""], "must not be empty"),
        (["predict", "alexnet", "--isa", ""], "must not be empty"),
        (["predict", "alexnet", *ATOM, *ATOM], "two machines have one name"),
        (["predict", "alexnet", *ATOM, "--alpha", "2"], "--alpha is for --model park"),
        (["predict", "alexnet", *ATOM, "--beta", "2", "--stream", "1 GB/s"], "--beta, --stream"),
        (["study", "lenet5", "-o", ""], "must not be empty"),
        (["study", "lenet5", "--methods", "auto"], "a study runs every method"),
        (["study", "lenet5", "-o", "/dev/null/x"], "cannot be written"),
        (["machines", "new", "host", "--base", "host"], "built-in machine"),
        (["machines", "new", "../x", "--base", "host"], "not a machine name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    status, out, err = call(capsys, *arguments)
    assert status == (1 if "measure" in arguments else 2)
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


def test_study_writes_and_report_redraws(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    status, out, err = call(
        capsys, "study", "alexnet", "conv3", "fc8", *ATOM, "-m", "xeon-e5-2697v4-2s",
        "--sparsity", "0.9", "-o", str(folder),
    )  # fmt: skip
    assert status == 0, err
    assert "atom-c2750" in out
    document = json.loads((folder / "results.json").read_text())
    assert document["totals"]["machines"]["atom-c2750"]["ecm"]["speedup_over_dense"] > 1
    assert {r["model"] for r in document["results"]} == {"ecm", "park"}
    assert (folder / "results.csv").read_text().startswith("network,layer,method")
    pytest.importorskip("plotly")
    page = (folder / "report.html").read_text()
    assert "conv3" in page
    (folder / "report.html").unlink()
    assert call(capsys, "report", str(folder / "results.json"))[0] == 0
    assert (folder / "report.html").exists()


def test_study_measures_the_host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = call_json(
        capsys, "study", "lenet5", "conv2", "-m", "host", "--sparsity", "0.8", "--no-curves",
        "-o", str(tmp_path),
    )  # fmt: skip
    native = [r for r in found["results"] if r["model"] == "native"]
    assert {r["method"] for r in native} == set(METHODS)
    assert max(found["totals"]["native_max_error"].values()) < 1e-5
    assert all(r["speedup_over_dense"] or r["reason"] for r in native)
    (sparse,) = (r for r in native if r["method"] == "sparse_winograd")
    assert "spatial domain" in sparse["reason"]


def test_measure_json_and_check(capsys: pytest.CaptureFixture[str]) -> None:
    found = call_json(
        capsys, "measure", "lenet5", "conv1", "--sparsity", "0.5", "--threads", "1",
        "--min-seconds", "0", "--check",
    )  # fmt: skip
    assert [r["model"] for r in found["results"]] == ["native"] * len(METHODS)
    timed = [r for r in found["results"] if not r["reason"]]
    inapplicable = {"sparse_winograd", "fc_dense", "fc_sparse", "structured"}
    assert {r["method"] for r in timed} == set(METHODS) - inapplicable
    assert all(r["seconds_low"] <= r["seconds"] <= r["seconds_high"] for r in timed)


def test_study_in_the_winograd_domain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All methods side by side: the spatial sparse ones and strided layers say why not.

    Fully connected layers keep their sparsity in the domain that they have.
    """
    found = call_json(
        capsys, "study", "vgg16", "conv3_2", "fc8", "-m", "xeon-phi-7250", "--methods", "all",
        "--density-domain", "winograd", "--sparsity", "0.9", "-o", str(tmp_path),
    )  # fmt: skip
    rows = {(r["layer"], r["method"]): r for r in found["results"] if r["model"] == "ecm"}
    assert {method for _, method in rows} == set(METHODS)
    sparse = rows["conv3_2", "sparse_winograd"]
    assert (sparse["density"], sparse["density_domain"]) == (pytest.approx(0.1), "winograd")
    assert sparse["seconds"]
    for name in ("direct_sparse", "lowered_sparse"):
        assert "Winograd" in rows["conv3_2", name]["reason"]
    assert "no tiles" in rows["fc8", "sparse_winograd"]["reason"]
    connected = rows["fc8", "fc_sparse"]
    assert (connected["density_domain"], connected["reason"]) == ("spatial", None)
    assert found["totals"]["sparsity"] == "0.9 (winograd)"
    strided = call_json(
        capsys, "predict", "alexnet", "conv1", "-m", "xeon-phi-7250", "--methods", "all",
        "--density-domain", "winograd", "--sparsity", "0.9",
    )  # fmt: skip
    why = {r["method"]: r["reason"] for r in strided["results"]}
    assert "not 11x11" in why["sparse_winograd"]
    assert "not 11x11" in why["winograd"]
    curves = {(r["method"], r["density_domain"]) for r in found["curves"]}
    assert curves == {("sparse_winograd", "winograd")}


def test_module_and_help_from_a_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from archsim.cli import main; main(['--help'])"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    for command in ("study", "predict", "measure", "validate", "report", "machines", "networks"):
        assert command in done.stdout


def test_import_is_light(tmp_path: Path) -> None:
    """``import archsim`` and ``--help`` load none of the heavy libraries."""
    heavy = ["torch", "onnx", "plotly", "pandas", "scipy", "simpy", "pydantic", "numpy"]
    code = (
        "import sys, archsim\n"
        f"print([n for n in {heavy} if n in sys.modules])\n"
        "from archsim.cli import run\n"
        "run(['--help'])\n"
        f"print([n for n in {heavy} if n in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith("[]\n")
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("value", ["inf", "nan"])
def test_min_seconds_is_finite(capsys: pytest.CaptureFixture[str], value: str) -> None:
    status, _, err = call(capsys, "measure", "lenet5", "--min-seconds", value)
    assert status == 2
    assert "must be finite" in err


def test_text_from_files_is_plain(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither markup nor terminal escapes of a file reach the terminal."""
    machine = tmp_path / "mine.yaml"
    machine.write_text(
        'format: 1\nname: mine\nbase: atom-c2750\ndescription: "[/foo] [red]x \\e[31m"\n'
    )
    network = tmp_path / "net.yaml"
    network.write_text(
        'format: 1\nname: net\ndescription: "[/foo] \\e[31m"\n'
        "layers:\n- {name: a, type: fc, C: 4, K: 4}\n"
    )
    for arguments in (
        ("machines", "show", str(machine)),
        ("networks", "show", str(network)),
        ("predict", str(network), "-m", str(machine)),
    ):
        status, out, err = call(capsys, *arguments)
        assert status == 0, err
        assert "\x1b" not in out + err
        assert ("net" if arguments[0] == "predict" else "[/foo]") in out
    status, _, err = call(capsys, "predict", str(network), "\x1b[31m")
    assert status == 2
    assert "\x1b" not in err


@pytest.mark.parametrize("command", ["machines list", "machines schema", "--help"])
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written(command: str, redirection: str) -> None:
    code = "from archsim.cli import main; main()"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {command} {redirection}', sys.executable, code],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_reader_that_leaves() -> None:
    code = "from archsim.cli import main; main()"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" machines schema | true', sys.executable, code],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError("9 TB"), 1), (OverflowError("9e999"), 2)]
)
def test_too_large_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("archsim.machinefile.load_machine", fail)
    found, _, err = call(capsys, "machines", "show", "host")
    assert found == status
    assert err.count("\n") == 1
    assert str(error) in err


def test_study_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is named safely, and is not left behind empty."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    Path("net.yaml").write_text(
        "format: 1\nname: my net\nlayers:\n- {name: a, type: fc, C: 4, K: 4}\n"
    )
    assert call(capsys, "study", "net.yaml", *ATOM, "--sparsity", "3")[0] == 2
    assert [p.name for p in Path().iterdir()] == ["net.yaml"]
    status, _, err = call(capsys, "study", "net.yaml", *ATOM, "--sparsity", "0.9")
    assert status == 0, err
    assert Path("study-my_net/results.json").exists()
    assert not list(Path().rglob("*.part"))
    assert [p.name for p in tmp_path.iterdir()] == ["cwd"]


def test_folders_of_a_failed_study(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that it made go, nested ones too; those that were there or have files stay."""
    study = ["study", "lenet5", *ATOM, "--sparsity", "3", "-o"]
    assert call(capsys, *study, str(tmp_path / "a" / "b" / "c"))[0] == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    assert call(capsys, *study, str(tmp_path / "mine" / "b" / "c"))[0] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").iterdir())
    assert call(capsys, *study, str(tmp_path / "mine"))[0] == 2
    assert (tmp_path / "mine").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, *study, "mine/relative/deep")[0] == 2
    assert not list(Path("mine").iterdir())
    (tmp_path / "file").write_text("kept")
    assert call(capsys, *study, str(tmp_path / "file" / "b"))[0] == 2

    def interrupted() -> None:
        with open_folder(tmp_path / "x" / "y"):
            (tmp_path / "x" / "notes").write_text("kept")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["notes"]


@pytest.mark.parametrize("name", ["=1+1", "+cmd", "-2", "@SUM(A1)", " =1"])
def test_csv_has_no_formulas(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    """What a spreadsheet would run stands there as text; JSON keeps the name as it is."""
    net = tmp_path / "net.csv"
    with net.open("w", newline="") as file:
        csv.writer(file).writerows([["name", "type", "C", "K"], [name, "fc", 4, 4]])
    folder = tmp_path / "found"
    status, _, err = call(capsys, "study", str(net), *ATOM, "--sparsity", "0.9", "-o", str(folder))
    assert status == 0, err
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = json.loads((folder / "results.json").read_text())["results"]
    assert {row["layer"] for row in rows} == {"'" + found[0]["layer"]}
    assert found[0]["layer"] == name.strip()
    assert not any(str(cell).startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert all(float(row["density"]) > 0 for row in rows)  # numbers stay numbers


def test_results_are_replaced_together(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("old")
    with pytest.raises(TypeError):
        write_document({"schema": 1, "results": [None]}, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "old"


def test_deep_results_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "deep.json"
    file.write_text("[" * 100_000)
    status, _, err = call(capsys, "report", str(file))
    assert status == 2
    assert "nested too deeply" in err


def test_report_without_the_extra(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "study")
    arguments = ["study", "lenet5", "conv2", *ATOM, "--sparsity", "0.9", "-o", folder]
    assert call(capsys, *arguments)[0] == 0
    monkeypatch.setitem(sys.modules, "jinja2", None)
    status, out, err = call(capsys, "report", f"{folder}/results.json")
    assert status == 0
    assert "conv2" in out
    assert "archsim[report]" in err


def test_piped_tables_cut_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown = call(capsys, "networks", "show", "alexnet")[1]
    assert "published sparsities" in shown
    assert "winograd_native" in shown
    checked = call(capsys, "validate", "projections")[1]
    assert "xeon-e5-2697v4-2s" in checked
    assert "…" not in shown + checked


def test_a_network_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archsim.cli.options._PIPE_WIDTH", 80)
    shown = call(capsys, "networks", "show", "alexnet")[1]
    for whole in ("227x227", "37748736", "0.9181", "0.8422", "0.462"):
        assert whole in shown
    listed = call(capsys, "machines", "list")[1]
    assert "xeon-phi-7250-1024bit" in listed
    assert "Silvermont" not in listed
