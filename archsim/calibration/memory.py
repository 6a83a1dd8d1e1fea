"""Memory: how much of it may be used, the rate of all cores together, what a store costs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.calibration.sampling import QUANTILE, STOLEN_TOLERANCE, Round
from archsim.kernels import probes

#: a working set of so many times the last cache is memory's
BEYOND_CACHE: Final = 2.25
_LEAST_BEYOND: Final = 1.5
SHARE_OF_FREE: Final = 0.4
_LEAST_BYTES: Final = 64 * 2**20
_CGROUP: Final = Path("/sys/fs/cgroup")


def free_bytes(root: Path = Path("/"), cgroup: Path = _CGROUP) -> int:
    """Return the memory that this process may still take: the system's and its cgroup's."""
    found = []
    text = _text(root / "proc/meminfo")
    match = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if match:
        found.append(int(match[1]) * 1024)
    for limit, used in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory/memory.limit_in_bytes", cgroup / "memory/memory.usage_in_bytes"),
    ):
        limits, uses = _text(limit).strip(), _text(used).strip()
        if limits.isdigit() and uses.isdigit():
            found.append(max(0, int(limits) - int(uses)))
    return min(found, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def working_set(last_cache_bytes: int, free: int) -> int:
    """Return the bytes to walk for memory; 0: there is not enough to be sure of missing."""
    wanted = max(_LEAST_BYTES, int(BEYOND_CACHE * last_cache_bytes))
    usable = min(wanted, int(SHARE_OF_FREE * free))
    usable -= usable % probes.BLOCK_BYTES
    return usable if usable >= _LEAST_BEYOND * last_cache_bytes else 0


def team_round(times: NDArray[np.float64], operations: float) -> Round:
    """Return what samples of several threads at once say: seconds for all to do ``operations``.

    Parameters
    ----------
    times : ndarray of shape (samples, threads, 3)
        Clock at the begin and at the end, and CPU seconds.
    operations : float
        Operations of all threads together in one sample.

    Cycles are seconds here; who wants cycles knows the clock.
    """
    begin, end, cpu = times[:, :, 0], times[:, :, 1], times[:, :, 2]
    own = end - begin
    wall = end.max(axis=1) - begin.min(axis=1)
    # all ran all the time, and nearly at the same time
    clean = (cpu >= (1.0 - STOLEN_TOLERANCE) * own).all(axis=1)
    clean &= own.mean(axis=1) >= 0.9 * wall
    chosen = clean if clean.any() else np.ones_like(clean)
    seconds = wall[chosen] / operations
    value, middle = float(np.quantile(seconds, QUANTILE)), float(np.median(seconds))
    return Round(
        cycles=value, seconds=value, median_cycles=middle, median_seconds=middle, clock_hz=0.0,
        clean=float(clean.mean()), stolen=max(0.0, 1.0 - float(cpu.sum() / own.sum())),
    )  # fmt: skip


def allocates_on_write(read: float, write: float, update: float) -> bool:
    """Decide whether a store first reads its line, from cycles of a line in three streams.

    A stream that only writes then costs as much as one that reads and writes; without, only the
    writing half of it.
    """
    alone = max(update - read, 0.5 * read)
    return abs(write - alone) > abs(write - update)
