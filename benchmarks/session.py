"""Runs cells in child processes: what a library does to a process stays there.

Thread counts and the instruction set are environment variables that libraries read once, and a
peer that crashes takes only its own process along. A child is pinned, measures cells that ask for
the same environment, and prints one line of JSON for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from archsim.kernels import isa_table
from archsim.kernels.isa import ENVIRONMENT_VARIABLE
from benchmarks.suites import Cell, Suite

_ROOT: Final = Path(__file__).resolve().parents[1]
_COUNTS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def environment(suite: Suite) -> dict[str, str]:
    """Return the environment of a child that measures cells of ``suite``."""
    found = dict(os.environ)
    found |= dict.fromkeys(_COUNTS, str(suite.threads))
    # dense_gemm's threads are ours, each with a BLAS of one thread
    found["OPENBLAS_NUM_THREADS"] = "1"
    # Intel's runtime spins 200 ms after a product and would hold the next one's core
    found["KMP_BLOCKTIME"] = "10"
    if suite.isa:
        found[ENVIRONMENT_VARIABLE] = suite.isa
    return found


def cpus(threads: int) -> set[int]:
    """Return CPUs for so many threads, of those that this process may use, on cores of their own.

    Fewer than wanted if there are no more.
    """
    chosen: list[int] = []
    taken: set[int] = set()
    for cpu in sorted(os.sched_getaffinity(0)):
        core = _siblings(cpu)
        if not core & taken and len(chosen) < threads:
            chosen.append(cpu)
            taken |= core
    return set(chosen)


def _siblings(cpu: int) -> set[int]:
    """CPUs of the same core, this one included."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        parts = path.read_text(encoding="ascii").strip().split(",")
    except OSError:
        return {cpu}
    found = {cpu}
    for part in parts:
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def can_run(suite: Suite) -> str:
    """Return why this host cannot measure ``suite``, or an empty text."""
    if suite.isa and suite.isa not in {isa.name for isa in isa_table() if isa.supported}:
        return f"this host has no {suite.isa}"
    if len(cpus(max(suite.threads, *suite.also, 1))) < suite.threads:
        return f"needs {suite.threads} physical cores"
    return ""


def run(
    cells: Iterable[Cell],
    done: Callable[[Cell, dict[str, Any]], None],
    *,
    seconds: float,
    seed: int,
    without: tuple[str, ...] = (),
) -> None:
    """Measure cells and hand each to ``done`` with its result, or ``{"failed": reason}``."""
    for suite, group in groupby(cells, key=lambda cell: cell.suite):
        waiting = list(group)
        if reason := can_run(suite):
            for cell in waiting:
                done(cell, {"failed": reason})
            continue
        while waiting:
            finished = _child(suite, waiting, done, seconds, seed, without)
            if finished < len(waiting):  # it died on the next one
                done(waiting[finished], {"failed": "the process that measured it has died"})
            waiting = waiting[finished + 1 :]


def _child(
    suite: Suite,
    cells: list[Cell],
    done: Callable[[Cell, dict[str, Any]], None],
    seconds: float,
    seed: int,
    without: tuple[str, ...],
) -> int:
    """Start a process for ``cells``; return how many it has measured."""
    order = json.dumps({"cells": [c.name for c in cells], "seconds": seconds, "seed": seed,
                        "without": without})  # fmt: skip
    finished = 0
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-W", "ignore", "-m", "benchmarks", "child", order],
        stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=environment(suite),
    ) as child:  # fmt: skip
        assert child.stdout is not None  # asked for
        for line in child.stdout:
            done(cells[finished], json.loads(line))
            finished += 1
    return finished


def serve(order: dict[str, Any]) -> None:
    """Measure what a parent asks for and print one line of JSON for each cell."""
    from benchmarks import cells, suites

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print where they like
    warnings.simplefilter("ignore")
    chosen = suites.cells(order["cells"])
    suite = chosen[0].suite
    os.sched_setaffinity(0, cpus(max((suite.threads, *suite.also))))
    without = set(order["without"])
    with cells.Peers(lambda name: name not in without) as peers:
        for cell in chosen:
            try:
                found = cells.measure(cell, peers, seconds=order["seconds"], seed=order["seed"])
            except MemoryError:
                found = {"failed": "not enough memory"}
            answers.write(json.dumps(found) + "\n")
            answers.flush()
