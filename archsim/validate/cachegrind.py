"""Valgrind's cachegrind as a witness: caches simulated under the running kernels.

It has two levels, both least recently used, and counts misses of reads and writes; no write-backs,
and a load that crosses a line and misses twice is one miss.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim import native
from archsim.machine import Machine
from archsim.plan import Plan
from archsim.validate.witness import AnalysisError, WitnessMissingError

_COUNTS: Final = {"refs": r"D\s+refs:", "first": r"D1\s+misses:", "last": r"LLd\s+misses:"}
#: What runs between the calls cancels in the difference of two runs.
_CALLS: Final = (1, 3)
_MOST_WAYS: Final = 64


@dataclass(frozen=True, slots=True)
class Level:
    """A cache as cachegrind takes it: a power of two of sets."""

    size_bytes: int
    ways: int
    line_bytes: int

    def __str__(self) -> str:
        return f"{self.size_bytes},{self.ways},{self.line_bytes}"


def levels_of(machine: Machine) -> tuple[Level, Level]:
    """Return the two inner caches of a machine as cachegrind takes them.

    The size is kept and the ways are the nearest that make sets a power of two; where that would
    be above 64, the size is the nearest power of two times the ways.
    """
    first, second = (
        _level(int(cache.size_bytes), int(cache.ways), int(cache.line_bytes))
        for cache in machine.caches[:2]
    )
    return first, second


def _level(size: int, ways: int, line: int) -> Level:
    lines = size // line
    fitting = [
        w for w in range(1, _MOST_WAYS + 1) if lines % w == 0 and (lines // w).bit_count() == 1
    ]
    if fitting:
        return Level(lines * line, min(fitting, key=lambda w: abs(log2(w / ways))), line)
    return Level(2 ** round(log2(lines / ways)) * ways * line, ways, line)


@dataclass(frozen=True, slots=True)
class Misses:
    """Of one image: references to data, and lines missed in both levels."""

    refs: float
    first: float
    last: float


def program() -> str:
    """Return valgrind's path.

    Raises
    ------
    WitnessMissingError
    """
    found = shutil.which("valgrind")
    if found is None:
        raise WitnessMissingError(
            "validate traffic: valgrind is missing; Debian and Ubuntu: apt-get install valgrind"
        )
    return found


def write_job(plan: Plan, weights: NDArray[np.float32], folder: Path) -> None:
    """Write what :mod:`archsim.validate.cachegrind_run` runs."""
    layer = plan.layer
    arguments: dict[str, Any] = {
        "blocking": dict(plan.blocking),
        "part_ptr": list(plan.part_ptr),
        "threads": plan.threads,
        "isa": plan.target.isa,
    }
    job = {
        "kernel": type(native.prepare(plan, weights)).__name__,
        "shape": asdict(native.conv_shape(layer)),
        "arguments": arguments,
        "x": (plan.batch, layer.C, layer.H, layer.W),
        "out": (plan.batch, layer.K, layer.P, layer.Q),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    np.save(folder / "weights.npy", weights, allow_pickle=False)


def misses(folder: Path, levels: tuple[Level, Level], images: int) -> Misses:
    """Return what a job misses for each of its images, by cachegrind.

    Raises
    ------
    WitnessMissingError, AnalysisError
    """
    few, more = (np.array(_watch(folder, levels, calls)) for calls in _CALLS)
    refs, first, last = (more - few) / (_CALLS[1] - _CALLS[0]) / images
    return Misses(float(refs), float(first), float(last))


def _watch(folder: Path, levels: tuple[Level, Level], calls: int) -> list[int]:
    script = Path(__file__).with_name("cachegrind_run.py")
    command = [
        program(), "--tool=cachegrind", "--cache-sim=yes", f"--D1={levels[0]}",
        f"--LL={levels[1]}", f"--I1={levels[0]}", "--cachegrind-out-file=/dev/null",
        sys.executable, "-P", str(script), str(folder), str(calls),
    ]  # fmt: skip
    # one thread, and the same hashes and so the same allocations in both runs
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1", PYTHONHASHSEED="0")
    done = subprocess.run(  # noqa: S603 (our own command)
        command, capture_output=True, text=True, env=environment, check=False
    )
    found = [re.search(rf"{name}\s*([\d,]+)", done.stderr) for name in _COUNTS.values()]
    if done.returncode or None in found:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise AnalysisError(f"cachegrind failed: {said}")
    return [int(match[1].replace(",", "")) for match in found if match]
