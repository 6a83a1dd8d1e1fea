"""Where each level ends, its latency, what it hands inwards and how that combines with loads.

The closed form (archsim/analytic/ecm.py) knows steps: cycles to bring a line from one level to
the level inside.  A stream of loads from a level pays the steps of all levels inside it, so
steps are differences of stream times, or the stream's time itself, as the overlap rule says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from archsim.calibration.bench import CACHE_TOLERANCE, MEMORY_TOLERANCE, Bench, Task
from archsim.calibration.sampling import Figure
from archsim.kernels import probes

Overlap = Literal["serial", "overlapped", "latency"]

#: loads of the first level, or products, that are made beside each line of a stream
BESIDE: Final = (2, 4, 8, 12, 16, 24, 32)
#: stores beside each line: a line from the second level takes about as long as one
STORES: Final = BESIDE[:2]
#: pointer chases side by side
CHASES: Final = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32)
#: a level without prefetch takes a stream at nearly its latency for each line
_LATENCY_SHARE: Final = 0.7
_LEAST_STEP: Final = 0.01
#: of what only decides a rule or gives a whole number: misses in flight, overlap, write-allocate
_ROUGH_TOLERANCE: Final = 0.15
_EXACT: Final = ("chase_1", "read", "read_across", "update")
#: working sets of a curve, to the octave: up to a size, and above it
_FINE, _FINE_BYTES = 4, 16 * 2**20
_SAMPLE_SECONDS: Final = 60e-6


@dataclass(frozen=True, slots=True)
class Level:
    """A level to measure: ``size_bytes`` of it are walked, so that no level inside holds them."""

    name: str
    size_bytes: int
    tolerance: float

    def key(self, what: str) -> str:
        """Return the key of a task on this level."""
        return f"{self.name}.{what}"


def places(sizes_bytes: Mapping[str, int], memory_bytes: int) -> list[Level]:
    """Return what to walk for each cache level, inside out, and for memory (the last one).

    Eight times the level inside, so that little of it hits there, but at most half of the level
    itself; a third of the first level.
    """
    found: list[Level] = []
    inside = 0
    for name, size in sizes_bytes.items():
        walked = min(size // 2, 8 * inside) if inside else size // 3
        last = 0 < len(found) == len(sizes_bytes) - 1  # others use it too
        tolerance = MEMORY_TOLERANCE if last else CACHE_TOLERANCE
        found.append(Level(name, _blocks(walked), tolerance))
        inside = size
    found.append(Level("memory", _blocks(memory_bytes), MEMORY_TOLERANCE))
    return found


def _blocks(size_bytes: float) -> int:
    """Round to blocks of a walk, and to no less than a loop may touch."""
    blocks = round(size_bytes / probes.BLOCK_BYTES)
    return max(blocks * probes.BLOCK_BYTES, 4 * probes.BLOCK_BYTES)


def tasks(levels: Sequence[Level], isa: str, *, quick: bool) -> list[Task]:
    """Return the loops of the caches and of memory, for one core."""
    found: list[Task] = []
    for index, level in enumerate(levels):
        chases = (1,) if index == 0 else (1, 8, 12, 16, 24) if quick else CHASES
        for count in chases:
            found.append(_task(level, f"chase_{count}", None, chases=count))
        found += [_task(level, walk, isa) for walk in ("read", "update")]
        if index <= 1:
            found += [_task(level, f"read_and_store_{count}", isa) for count in STORES]
        if index == 1:
            found.append(_task(level, "read_across", isa))
        for beside in BESIDE[1::2] if quick else BESIDE:
            found.append(_task(level, f"read_and_load_{beside}", isa))
            found.append(_task(level, f"read_and_multiply_{beside}", isa))
        found.append(_task(level, "write", isa))  # last: it writes over the chases' links
    return found


def _task(level: Level, loop: str, isa: str | None, chases: int = 0) -> Task:
    exact = loop in _EXACT and (level.name, loop) != ("L1", "read")  # loads are measured apart
    tolerance = level.tolerance if exact else _ROUGH_TOLERANCE
    return Task(
        level.key(loop), loop, isa, level.size_bytes, chases=chases, tolerance=tolerance,
        sample_seconds=_SAMPLE_SECONDS,
    )  # fmt: skip


# ---- from times to steps ----


@dataclass(frozen=True, slots=True)
class Hiding:
    """How much of a level's transfers is hidden behind loads of the first level."""

    share: float
    """0: times add up; 1: the longer one counts."""
    beside: int
    """Loads of the first level beside each line: about as long as the line takes."""


def hiding(first: Mapping[int, float], level: Mapping[int, float]) -> Hiding:
    """Return how a level's transfers combine with loads.

    Parameters
    ----------
    first, level : mapping
        Loads (or stores) of the first level beside each line -> cycles a line, walking the first
        level and walking this one; 0 is the plain stream.

    The loads are chosen that take about as long as the line itself, where the two rules differ
    most.
    """
    stream = level[0]
    beside = min((n for n in level if n), key=lambda n: abs(first[n] - stream))
    added = first[beside] + stream - first[0]
    hidden = max(first[beside], stream)
    if added <= hidden:  # disturbed: a level no slower than the first
        return Hiding(0.0, beside)
    return Hiding((added - level[beside]) / (added - hidden), beside)


def rule(share: float, stream: float, latency: float) -> Overlap:
    """Return the overlap rule: the nearer one, or ``latency`` where each line waits for itself.

    Parameters
    ----------
    share : float
        Of `hiding`.
    stream, latency : float
        Cycles of a line in a stream from the level, and of one access that waits.
    """
    if share > 0.5:
        return "overlapped"
    return "latency" if stream > _LATENCY_SHARE * latency else "serial"


def read_steps(streams: Sequence[float], rules: Sequence[Overlap]) -> list[float]:
    """Return the cycles of each step inwards such that the model gives back the streams.

    Parameters
    ----------
    streams : sequence of float
        Cycles of a line read from each level, inside out, the first level included.
    rules : sequence of {"serial", "overlapped", "latency"}
        Of each boundary, one fewer.
    """
    serial = streams[0]
    steps = []
    for stream, how in zip(streams[1:], rules, strict=True):
        if how == "overlapped":
            steps.append(stream)
        else:
            # disturbed, an outer stream can be as fast as an inner one: that is refused elsewhere
            steps.append(max(stream - serial, _LEAST_STEP * stream))
            serial = max(serial, stream)
    return steps


def stream_times(first: float, steps: Sequence[float], rules: Sequence[Overlap]) -> list[float]:
    """Return the streams that steps give, as the model combines them: read_steps backwards."""
    streams = [first]
    for count in range(1, len(steps) + 1):
        pairs = list(zip(steps[:count], rules[:count], strict=True))
        serial = first + sum(step for step, how in pairs if how != "overlapped")
        streams.append(max([serial] + [step for step, how in pairs if how == "overlapped"]))
    return streams


def write_steps(
    updates: Sequence[float], reads: Sequence[float], rules: Sequence[Overlap], least: float
) -> list[float]:
    """Return the cycles to write a line back over each boundary.

    Parameters
    ----------
    updates : sequence of float
        Cycles of a line that is read and written, walking each level, inside out.
    reads : sequence of float
        Steps of reading, one fewer.
    rules : sequence of {"serial", "overlapped", "latency"}
        Of each boundary.
    least : float
        Cycles in which the core itself stores a line: a smaller difference shows nothing.
    """
    steps = []
    serial = updates[0]
    for update, read, how in zip(updates[1:], reads, rules, strict=True):
        write = update - read if how == "overlapped" else update - serial - read
        steps.append(max(write, least))
        if how != "overlapped":
            serial = max(serial, update)
    return steps


def split_step(across: float, in_core: float, read: float) -> float:
    """Return the cycles that a line takes more which loads across lines bring into L1.

    Parameters
    ----------
    across : float
        Cycles of a line, walked with a vector that ends on the next.
    in_core : float
        Of these loads in the first level.
    read : float
        Step of a line that aligned loads bring.
    """
    return max(0.0, across - in_core - read)


def outstanding(bench: Bench, levels: Sequence[Level], inner: int) -> tuple[float, str]:
    """Return how many misses of a level a core has in flight, and where that was seen.

    An outer level's latency over its time for each access when many chases run side by side
    (Little's law); the most that any outer level shows.
    """
    best, seen = 0.0, ""
    for level in levels[inner + 1 :]:
        keys = [level.key(f"chase_{n}") for n in CHASES]
        found = {key: bench.figure(key) for key in keys if key in bench.rounds}
        alone = found[keys[0]].value
        key = min(found, key=lambda k: found[k].value)
        if alone / found[key].value > best:
            best = alone / found[key].value
            seen = f"{level.name}, {key.rsplit('_', 1)[1]} chases side by side"
    return best, seen


# ---- where levels end ----


@dataclass(frozen=True, slots=True)
class Point:
    """A working set, and cycles of an access that waits and of a line in a stream."""

    size_bytes: int
    latency: float
    read: float


def curve_sizes(first_bytes: int, memory_bytes: int, per_octave: int) -> list[int]:
    """Return working sets from half of ``first_bytes`` to memory."""
    sizes, size = [], first_bytes / 2
    while size <= memory_bytes:
        sizes.append(_blocks(size))
        size *= 2 ** (1 / (_FINE if size < _FINE_BYTES else per_octave))
    return sizes


def curve(bench: Bench, sizes: Sequence[int], isa: str, passes: int) -> list[Point]:
    """Measure latency and reading over working sets; of several passes the fastest."""
    tasks_of: dict[int, tuple[Task, Task]] = {
        size: (
            Task(f"curve.{size}.latency", "chase_1", size_bytes=size, chases=1,
                 tolerance=MEMORY_TOLERANCE, sample_seconds=_SAMPLE_SECONDS),
            Task(f"curve.{size}.read", "read", isa, size, tolerance=MEMORY_TOLERANCE,
                 sample_seconds=_SAMPLE_SECONDS),
        )
        for size in sizes
    }  # fmt: skip
    for number in range(passes):
        if number and bench.late:
            break
        for index, size in enumerate(sizes):
            bench.progress(
                f"working sets: pass {number + 1} of {passes}, {index + 1} of {len(sizes)}"
            )
            for task in tasks_of[size]:
                bench.rounds.setdefault(task.key, []).append(bench.run(task))
                bench.tolerances[task.key] = task.tolerance
    return [
        Point(size, bench.figure(pair[0].key).value, bench.figure(pair[1].key).value)
        for size, pair in tasks_of.items()
    ]


def level_end(points: Sequence[Point], here: float, outside: float) -> float | None:
    """Return the bytes at which a level ends, or None if the curve does not show it.

    Where the latency passes the geometric mean of this level's and the next one's, between the
    last point below it and the first one above for good.
    """
    border = math.sqrt(here * outside)
    below = [i for i, point in enumerate(points) if point.latency <= border]
    if not below or below[-1] + 1 == len(points):
        return None
    last, after = points[below[-1]], points[below[-1] + 1]
    part = (border - last.latency) / (after.latency - last.latency)
    return last.size_bytes * math.pow(after.size_bytes / last.size_bytes, part)


def figures_of(
    bench: Bench, levels: Sequence[Level], loop: str, *, seconds: bool = False
) -> list[Figure]:
    """Return the figure of one loop on each level."""
    return [bench.figure(level.key(loop), seconds=seconds) for level in levels]
