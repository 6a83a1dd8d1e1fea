"""Workers of a sweep: the same answers; killed, interrupted, left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import archsim
from archsim.errors import ArchsimError, InputError
from archsim.sweeps import workers as workers_of_sweeps
from archsim.sweeps.rowfile import write_csv
from tests.little_sweep import ALEXNET, ATOM, SMALL, small


def test_workers_say_the_same(tmp_path: Path) -> None:
    alone, many = tmp_path / "1.csv", tmp_path / "2.csv"
    small(csv=alone)
    told: list[tuple[int, int]] = []
    small(csv=many, workers=2, progress=lambda _, done, total: told.append((done, total)))
    assert many.read_bytes() == alone.read_bytes()
    assert told[0] == (0, 16)
    assert told[-1] == (16, 16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.csv", "2.csv"]


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    def kill(*_: object) -> None:
        for child in set(multiprocessing.active_children()) - before:
            child.kill()

    many = {"sparsities": "0.1:0.9:200", "csv": tmp_path / "x.csv", "batches": "1:40:40"}
    with pytest.raises(ArchsimError, match="a worker process ended before its answer"):
        small(**many, workers=2, progress=kill)
    assert not set(multiprocessing.active_children()) - before


class _StopError(Exception):
    """Stands for whatever ends a sweep early."""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("end", [KeyboardInterrupt, _StopError])
def test_what_was_found_is_kept(tmp_path: Path, workers: int, end: type[BaseException]) -> None:
    table = tmp_path / "x.csv"
    many = SMALL | {"sparsities": "0.1:0.9:100"}

    def stop(_: str, done: int, __: int) -> None:
        if done:
            raise end

    with pytest.raises(end):
        archsim.sweep(ALEXNET, ATOM, **many, csv=table, workers=workers, progress=stop)
    part = tmp_path / "x.csv.part"
    kept = part.read_text(encoding="utf-8").splitlines()
    assert 1 < len(kept) < 801
    assert not table.exists()
    with pytest.raises(InputError, match="holds rows of an interrupted sweep"):
        archsim.sweep(ALEXNET, ATOM, **many, csv=table)
    told: list[int] = []
    archsim.sweep(ALEXNET, ATOM, **many, csv=table, resume=part,
                  progress=lambda _, done, __: told.append(done))  # fmt: skip
    assert told[0] == len(kept) - 1
    assert not part.exists()
    whole = write_csv(archsim.sweep(ALEXNET, ATOM, **many), tmp_path / "whole.csv")
    assert table.read_bytes() == whole.read_bytes()


class _WithALockError(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self) -> None:
        super().__init__("a reason")
        self.lock = threading.Lock()


def test_an_error_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text comes, and the worker does not die of it."""
    ours, theirs = multiprocessing.Pipe()

    def fails(*_: object) -> None:
        raise _WithALockError

    monkeypatch.setattr(workers_of_sweeps, "answer", fails)
    heard = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=workers_of_sweeps._answer_all, args=(theirs,))
    thread.start()
    ours.send((None, ["a task", "another"]))
    for place in (0, 1):
        ours.send(place)
        found = ours.recv()
        assert found[0] == place
        assert isinstance(found[1], ArchsimError)
        assert str(found[1]) == "_WithALockError: a reason"
    ours.close()
    thread.join(10.0)
    assert not thread.is_alive()
    assert signal.getsignal(signal.SIGINT) is heard


_LONG = """
import archsim
if __name__ == "__main__":
    archsim.sweep("alexnet", "atom-c2750", layers=["conv3", "conv4"], model="simulator", workers=2,
                  vary={"memory.DDR.bandwidth": "10GB/s:40GB/s:2000"}, sparsities="0.8,0.9",
                  progress=lambda *_: print("on", flush=True))
"""


@pytest.mark.skipif(os.name != "posix", reason="looks at a group of processes")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    script = tmp_path / "long.py"
    script.write_text(_LONG, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        for _ in range(3):  # begun, and two answers
            assert parent.stdout.readline() == b"on\n"
        parent.kill()
        parent.wait()
    end = time.monotonic() + 30.0
    while time.monotonic() < end:
        try:
            os.killpg(parent.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGKILL)
    pytest.fail("workers went on without their parent")
