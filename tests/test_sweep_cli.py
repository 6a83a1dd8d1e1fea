"""``archsim sweep`` as a user meets it."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from archsim.cli import run

SMALL = ["sweep", "alexnet", "conv2", "conv3", "-m", "atom-c2750", "--method", "lowered_sparse",
         "--vary", "memory.DDR.bandwidth=10GB/s:40GB/s:3", "--sparsity", "0.5,0.9"]  # fmt: skip
TIMEOUT_SECONDS = 120.0


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tables_tell_the_best_point_and_each_axis(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, *SMALL)
    assert (status, err) == (0, "")
    assert "alexnet (conv2, conv3), 6 points, ecm: best point" in out
    for axis in ("memory.DDR.bandwidth", "sparsity"):
        assert f"{axis}, all else as at the best point" in out
    assert out.count("1.00×") >= 3
    assert "10 GB/s" in out


def test_json_holds_rows_or_totals(capsys: pytest.CaptureFixture[str]) -> None:
    layers = json.loads(call(capsys, *SMALL, "--json")[1])
    points = json.loads(call(capsys, *SMALL, "--json", "--total")[1])
    assert (layers["schema"], layers["kind"], layers["rows_of"]) == (1, "sweep", "layers")
    assert len(layers["results"]) == 2 * len(points["results"]) == 2 * layers["points"] == 12
    names = {axis["name"]: axis["values"] for axis in layers["axes"]}
    assert names["memory.DDR.bandwidth"] == [1e10, 2.5e10, 4e10]
    assert names["sparsity"] == [0.5, 0.9]
    best = min(points["results"], key=lambda row: row["seconds_per_image"])
    assert points["summary"]["best"]["seconds"] == best["seconds"]
    assert layers["summary"] == points["summary"]


def test_files_of_a_sweep(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows, totals, page = (tmp_path / name for name in ("rows.csv", "totals.csv", "page.html"))
    status, _, err = call(capsys, *SMALL, "--csv", str(rows), "-o", str(page))
    assert (status, err) == (0, f"wrote {rows}\nwrote {page}\n")
    assert call(capsys, *SMALL, "--csv", str(totals), "--total")[0] == 0
    found, summed = rows_of(rows), rows_of(totals)
    assert (len(found), len(summed)) == (12, 6)
    for n, total in enumerate(summed):
        both = sum(float(row["seconds"]) for row in found[2 * n : 2 * n + 2])
        assert float(total["seconds"]) == pytest.approx(both)
    assert "<h2>Best point" in page.read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "totals.csv", "page.html"}


def test_rows_that_are_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    call(capsys, *SMALL, "--csv", str(path))
    whole = path.read_text(encoding="utf-8")
    part = tmp_path / "rows.csv.part"
    part.write_text("".join(whole.splitlines(keepends=True)[:6]), encoding="utf-8")
    path.unlink()
    status, _, err = call(capsys, *SMALL, "--resume", str(part))
    assert status == 0
    assert err == f"5 of 12 rows are there already\nwrote {path}\n"
    assert path.read_text(encoding="utf-8") == whole
    assert not part.exists()
    status, out, err = call(capsys, *SMALL, "--clock", "nominal", "--resume", str(path))
    assert (status, out) == (2, "")
    assert f"error: {path}:2: was made with other settings" in err
    assert path.read_text(encoding="utf-8") == whole


def test_totals_do_not_take_the_place_of_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    call(capsys, *SMALL, "--csv", str(path))
    whole = path.read_text(encoding="utf-8")
    assert call(capsys, *SMALL, "--resume", str(path), "--total")[0] == 2
    status, out, _ = call(capsys, *SMALL, "--resume", str(path), "--total", "--json")
    assert (status, json.loads(out)["rows_of"]) == (0, "points")
    assert path.read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.skipif(os.name != "posix", reason="sends an interrupt to a group of processes")
def test_ctrl_c_keeps_what_is_done(tmp_path: Path, workers: str) -> None:
    table, part = tmp_path / "my rows.csv", tmp_path / "my rows.csv.part"
    command = [
        sys.executable, "-m", "archsim", "sweep", "alexnet", "conv3", "conv4", "-m", "atom-c2750",
        "--model", "simulator", "--vary", "memory.DDR.bandwidth=10GB/s:40GB/s:2000", "--sparsity",
        "0.9", "-j", workers, "--csv", str(table),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        cwd=tmp_path,
        # a shell's job in the background ignores interrupts, and so would its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    end = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < end:  # until there is a row
        if part.exists() and part.read_text(encoding="utf-8").count("\n") > 2:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.endswith("error: interrupted\n")
    first = err.splitlines()[0]
    assert first.startswith(f"{len(rows_of(part))} of 4000 rows are kept in {part}; go on with: ")
    told = shlex.split(first.partition("go on with: ")[2])
    assert told[:2] == ["archsim", "sweep"]
    assert told[-2:] == ["--resume", str(part)]


@pytest.mark.parametrize("taken", [False, True])
def test_ctrl_c_keeps_what_nobody_named_a_file_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    _stop_behind_the_first_task(monkeypatch, KeyboardInterrupt)
    other = tmp_path / "sweep-alexnet.csv.part"
    if taken:
        other.write_text("of another sweep", encoding="utf-8")
    status, out, err = call(capsys, *SMALL)
    part = f"sweep-alexnet{'-1' if taken else ''}.csv.part"
    assert (status, out) == (130, "")
    assert err.startswith(f"3 of 12 rows are kept in {part}; go on with: archsim ")
    assert len(rows_of(tmp_path / part)) == 3
    if taken:
        assert other.read_text(encoding="utf-8") == "of another sweep"


def _stop_behind_the_first_task(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    from archsim.sweeps import run as runs
    from archsim.sweeps.tasks import Task, answer

    def failing(space: Any, task: Task) -> Any:
        if task.sparsities == (0,):
            return answer(space, task)
        raise error

    monkeypatch.setattr(runs, "answer", failing)
    monkeypatch.setattr("archsim.sweeps.tasks._DENSITIES", 1)


def test_a_sweep_that_fails_keeps_what_is_done(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stop_behind_the_first_task(monkeypatch, MemoryError)
    path = tmp_path / "rows.csv"
    status, _, err = call(capsys, *SMALL, "--csv", str(path))
    assert status == 1
    assert f"3 of 12 rows are kept in {path}.part; go on with: " in err
    assert "error: not enough memory" in err
    monkeypatch.undo()
    status, _, err = call(capsys, *SMALL, "--csv", str(path), "--resume", f"{path}.part")
    assert (status, err.splitlines()[0]) == (0, "3 of 12 rows are there already")
    assert len(rows_of(path)) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vary", "memory.DDR.bandwith=1GB/s"], "did you mean 'memory.DDR.bandwidth'"),
        (["--vary", "cores=1:4:0"], "vary cores: wrong count of a range; found '0'"),
        (["--vary", "clock=nan GHz"], "a frequency is due"),
        (["--vary", "clock=-2GHz"], "above zero"),
        (["--vary", ""], "must not be empty"),
        (["--threads", "9"], "fewer hardware threads; found 9; allowed: 1..8"),
        (["--batch", "1.5"], "batch: must be a whole number of at least 1; found '1.5'"),
        (["--sparsity", "nan"], "sparsity: must lie in 0..1"),
        (["--method", "auto,winograd"], "'auto' stands alone"),
        (["--method", "dense_gemm", "--schedule", "row"], "--schedule row is for direct_sparse"),
        (["--model", "native"], "unknown model of a sweep"),
        (["--total"], "--total is for --csv and --json"),
        (["--resume", "nowhere.csv"], "nowhere.csv: cannot be read"),
        (["--csv", "nowhere/x.csv"], "nowhere/x.csv.part: cannot be written"),
        (["--csv", "."], "is a folder"),
        (["-o", "page.txt"], "unknown ending; found 'page.txt'"),
        (["-j", "0"], "-j"),
        (["-j", "x"], "'x' is not a whole number"),
        (["conv3"], "a layer is named twice"),
    ],
)
def test_wrong_input_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, "sweep", "alexnet", "conv3", "-m", "atom-c2750", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
