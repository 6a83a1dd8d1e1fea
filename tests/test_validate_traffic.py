"""The traffic suite: what cachegrind is asked, what it runs, and what becomes of its answers."""

from __future__ import annotations

from pathlib import Path

import pytest

import archsim
from archsim.errors import InputError
from archsim.machinefile import load_machine, machine_names
from archsim.network import Layer
from archsim.sparsity import Sparsity
from archsim.validate import run_suite
from archsim.validate import traffic as suite
from archsim.validate.cachegrind import Level, levels_of, misses, write_job
from archsim.validate.cachegrind_run import main
from archsim.validate.witness import AnalysisError, WitnessMissingError

LAYER = Layer("small", C=3, K=5, H=6, W=6, R=3, S=3, pad=(1, 1))


def test_sets_are_a_power_of_two() -> None:
    machines = [load_machine(name) for name in machine_names()]
    for machine in machines:
        for level, cache in zip(levels_of(machine), machine.caches, strict=False):
            sets = level.size_bytes // level.line_bytes // level.ways
            assert sets.bit_count() == 1
            assert level.size_bytes == cache.size_bytes
    assert levels_of(load_machine("atom-c2750"))[0] == Level(24576, 6, 64)
    machine = machines[0]
    odd = machine.caches[0].model_copy(update={"size_bytes": 40960.0, "ways": 8})
    found = levels_of(machine.model_copy(update={"caches": (odd, *machine.caches[1:])}))
    assert found[0] == Level(40960, 10, 64)  # 64 sets of 10 ways, for 80 of 8


def _job(folder: Path) -> None:
    drawn = Sparsity(0.5).draw(LAYER)
    machine = load_machine("host")
    plan = archsim.make_plan(LAYER, machine, method="direct_sparse", pattern=drawn,
                             schedule="row", batch=2, threads=1)  # fmt: skip
    assert drawn.weights is not None
    write_job(plan, drawn.weights, folder)


def test_what_is_watched_runs(tmp_path: Path) -> None:
    _job(tmp_path)
    main(tmp_path, 2)


def _valgrind(folder: Path, text: str) -> None:
    """Put a program that prints ``text``, with its last argument for {calls}, for valgrind."""
    program = folder / "valgrind"
    program.write_text(f"#!/bin/sh\nfor calls; do :; done\n{text}\n")
    program.chmod(0o755)


def test_calls_cancel_what_surrounds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _valgrind(tmp_path, """
echo "==1== D   refs:      $((5000 + 100 * calls))  (1 rd + 1 wr)" >&2
echo "==1== D1  misses:    1,0$((10 + 4 * calls))  (1 rd + 1 wr)" >&2
echo "==1== LLd misses:    $((500 + 2 * calls))  (1 rd + 1 wr)" >&2""")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = misses(tmp_path, levels_of(load_machine("atom-c2750")), images=2)
    assert (found.refs, found.first, found.last) == (50.0, 2.0, 1.0)


def test_what_it_says_of_a_failure_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _valgrind(tmp_path, "echo 'bad cache' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AnalysisError, match="bad cache"):
        misses(tmp_path, levels_of(load_machine("atom-c2750")), images=2)


def test_without_valgrind_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WitnessMissingError, match="apt-get install valgrind"):
        run_suite("traffic")


def test_points_are_scored_where_much_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _valgrind(tmp_path, """
echo "==1== D   refs:      $((9999 + 2000000 * calls))" >&2
echo "==1== D1  misses:    $((77 + 40000 * calls))" >&2
echo "==1== LLd misses:    $((5 + 200 * calls))" >&2""")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = suite(["atom-c2750"], layers=[("lenet5", "conv2")])
    if not found.points:  # a host without SSE
        assert "left out" in found.notes[0]
        return
    assert {(p.quantity, p.scored, p.measured) for p in found.points} == {
        ("L1 misses", True, 20000.0), ("L2 misses", False, 100.0),
    }  # fmt: skip
    assert all(p.predicted > 0 for p in found.points if p.quantity == "L1 misses")


def test_unknown_machines_are_refused() -> None:
    with pytest.raises((InputError, WitnessMissingError)):
        suite(["no-such-machine"])
