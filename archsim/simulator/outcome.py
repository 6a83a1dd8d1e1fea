"""What a simulation found out, besides the seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from archsim.result import PhaseResult


@dataclass(frozen=True, slots=True)
class CoreUse:
    """One core over the whole run, times in seconds.

    ``busy`` is the time of its busiest port, at most the run's; the others are means over its
    threads and sum to the run's seconds: ``working`` on tiles, of which ``queued`` for ports
    that its other threads hold; ``memory``, held up by a memory that others draw on; ``waiting``
    at barriers; ``idle`` without work.
    """

    core: int
    threads: int
    busy: float
    working: float
    queued: float
    memory: float
    waiting: float
    idle: float


@dataclass(frozen=True, slots=True)
class LevelUse:
    """A cache level or memory: bytes that it hands inwards and takes from inside.

    ``hits`` is the share of the bytes that were asked of a cache which it had.
    """

    name: str
    asked_bytes: float
    read_bytes: float
    written_bytes: float
    hits: float | None


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """One memory of one socket: share of its bandwidth in use, and what waits for it.

    ``crowding`` is the greatest demand over what there was; ``slow_seconds`` how long it was
    above 1.
    """

    name: str
    utilisation: float
    served_bytes: float
    slow_seconds: float
    crowding: float


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the critical path: the thread that everybody waited for."""

    layer: str
    phase: str
    kind: int
    thread: int
    core: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Simulation:
    """A layer in time.

    Attributes
    ----------
    seconds : from the first tile to the last, the join at the end with it
    tiles, runs : tiles executed, and runs of equal tiles that they were simulated in
    bytes : bytes that each level hands to the level inside it or takes from there
    critical_path : what held the end up, the last steps of it
    path_steps : how many steps there were
    """

    layer: str
    seconds: float
    start_seconds: float
    phases: tuple[PhaseResult, ...]
    bound_by: tuple[str, ...]
    bytes: Mapping[str, float]
    tiles: int
    runs: int
    cores: tuple[CoreUse, ...]
    levels: tuple[LevelUse, ...]
    memories: tuple[MemoryUse, ...]
    critical_path: tuple[Step, ...] = field(repr=False)
    path_steps: int = 0

    @property
    def core_busy(self) -> tuple[float, ...]:
        """Busy share of each core in use."""
        return tuple(use.busy / self.seconds if self.seconds else 0.0 for use in self.cores)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: seconds, bytes and shares."""
        found = asdict(self)
        found["bytes"] = dict(self.bytes)
        return found
