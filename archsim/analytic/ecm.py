"""ecm: execution-cache-memory model of a plan, white box, no coefficient fitted.

In-core cycles come from counted operations (:mod:`archsim.incore`).  A stream of a tile misses a
level when its reuse distance is above the thread's share of that level's capacity; the lines
that miss cost what the machine file says of the level outside.  How transfers combine with the
core's own loads is the machine's overlap rule:

* ``serial``: transfer cycles add to the load cycles, and their sum overlaps with arithmetic
  (Stengel, Treibig, Hager, Wellein, "Quantifying performance bottlenecks of stencil
  computations using the execution-cache-memory model", ICS 2015, section 2);
* ``overlapped``: transfers run beside everything else;
* ``latency``: a small in-order memory pipeline waits for each line.

Hardware threads of a core share its ports and its caches.  Memory is shared by all cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from archsim.incore import incore
from archsim.machine import Machine, Memory
from archsim.network import FLOAT_BYTES
from archsim.plan import Counts, Phase, Plan
from archsim.result import PhaseResult

Array = NDArray[np.float64]
_LISTED_SHARE = 0.05  # a resource is named in bound_by from this share of the phase's time on


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds of a plan, its phases, and the bytes that each level hands inwards."""

    seconds: float
    phases: tuple[PhaseResult, ...]
    bytes: dict[str, float]
    bound_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Placement:
    """How the plan's threads sit on the machine: on as many cores as there are, evenly."""

    cores: int  # cores in use
    threads_per_core: int  # threads on a core in use, at most
    capacities: tuple[float, ...]  # bytes of each level that one thread may count on
    sharers: tuple[int, ...]  # threads on one instance of each level
    core_of_thread: NDArray[np.int64]


def estimate(
    plan: Plan,
    machine: Machine,
    *,
    isa: str | None = None,
    clock: str = "sustained",
    memory: bool = True,
    joins: bool = True,
    counted: Mapping[str, tuple[Array, Array]] | None = None,
) -> Estimate:
    """Predict a plan on a machine.

    Parameters
    ----------
    plan : Plan
        Made for this machine's target.
    machine : Machine
    isa : str, optional
        Instruction set (default: the one of the plan's target).
    clock : {"sustained", "nominal"}
    memory : bool
        False leaves out every transfer: data is in L1.
    joins : bool
        Whether all threads wait for each other at the end; False within a chain of layers.
    counted : mapping, optional
        Of phases by name, what :func:`traffic` returns, found in another way.
    """
    isa = isa or plan.target.isa
    hertz = machine.clock_for(isa, clock)
    place = _place(plan, machine)
    parts = [
        _phase(phase, plan, machine, isa, hertz, place, memory, counted) for phase in plan.phases
    ]
    moved: dict[str, float] = {}
    terms: dict[str, float] = {}
    for _, levels, contributions in parts:
        for name, count in levels.items():
            moved[name] = moved.get(name, 0.0) + count
        for name, seconds in contributions.items():
            terms[name] = terms.get(name, 0.0) + seconds
    join = machine.barrier_cycles / hertz if joins and plan.threads > 1 else 0.0
    terms["barrier"] = terms.get("barrier", 0.0) + join
    seconds = sum(result.seconds for result, _, _ in parts) + join
    return Estimate(seconds, tuple(result for result, _, _ in parts), moved, _ranked(terms))


def _place(plan: Plan, machine: Machine) -> _Placement:
    cores = min(plan.threads, machine.total_cores)
    per_core = ceil(plan.threads / machine.total_cores)
    capacities, sharers = [], []
    for cache in machine.caches:
        instances = max(1, machine.total_cores // cache.shared_by)
        cores_here = min(cache.shared_by, ceil(cores / instances))
        sharers.append(cores_here * per_core)
        capacities.append(cache.size_bytes / sharers[-1])
    core_of_thread = plan.core_of_thread(machine.total_cores)
    return _Placement(cores, per_core, tuple(capacities), tuple(sharers), core_of_thread)


def traffic(phase: Phase, plan: Plan, machine: Machine, place: _Placement) -> tuple[Array, Array]:
    """Return bytes per tile read and written back, each of shape (boundaries, kinds).

    Boundary i lies outside cache i: its bytes come from cache i + 1, or from memory.
    """
    moved = np.concatenate([stream.bytes for stream in phase.streams])
    distance = np.concatenate([stream.reuse_distance_bytes for stream in phase.streams])
    rows = [len(stream.bytes) for stream in phase.streams]
    # one copy serves all of its readers that live on the same cache: they have room for it
    # together, and what one of them fetched the others find there
    sharers = plan.threads_per_image
    readers = {"no": 1, "image": sharers, "part": plan.threads // sharers}
    most = np.repeat([readers[stream.shared] for stream in phase.streams], rows)
    copies = np.minimum(most, np.array(place.sharers)[:, None])
    reads = np.repeat([stream.access in ("read", "update") for stream in phase.streams], rows)
    writes = np.repeat([stream.access != "read" for stream in phase.streams], rows)
    past = np.repeat([stream.access == "past" for stream in phase.streams], rows)
    capacity = np.array(place.capacities)[:, None]
    missed = np.where(distance > (capacity * copies)[:, :, None], moved / copies[:, :, None], 0.0)
    missed[:-1, past], missed[-1, past] = 0.0, moved[past]
    fetched = np.ones((len(capacity), 1)) * ~past
    if not machine.memory[_home(plan, machine)].write_allocate:
        fetched[-1] = reads
    return (
        np.einsum("lsk,ls->lk", missed, fetched),
        np.einsum("lsk,s->lk", missed, writes.astype(np.float64)),
    )


def _home(plan: Plan, machine: Machine) -> int:
    """Return the index of the memory that holds the data: the first one that it fits into."""
    layer = plan.layer
    footprint = plan.batch * (layer.input_bytes + layer.output_bytes) + layer.dense_bytes
    for index, memory in enumerate(machine.memory):
        if memory.size_bytes is None or footprint <= memory.size_bytes:
            return index
    return len(machine.memory) - 1


def _phase(
    phase: Phase,
    plan: Plan,
    machine: Machine,
    isa: str,
    hertz: float,
    place: _Placement,
    with_memory: bool,
    counted: Mapping[str, tuple[Array, Array]] | None,
) -> tuple[PhaseResult, dict[str, float], dict[str, float]]:
    """Return the phase's result, bytes per level, and seconds per limiting term."""
    home = machine.memory[_home(plan, machine)]
    levels = [cache.name for cache in machine.caches[1:]] + [home.name]
    total = phase.tiles.total
    found = counted.get(phase.name) if counted else None
    read, written = found or traffic(phase, plan, machine, place)
    moved = {machine.caches[0].name: float(total @ _core_bytes(phase, plan))}
    terms = _core_terms(phase, machine, isa)
    if with_memory:
        moved |= dict(zip(levels, ((read + written) @ total).tolist(), strict=True))
        for index, name in enumerate(levels):
            cycles = _transfer_cycles(index, read[index], written[index], machine, home, hertz)
            terms.append(_Term(name, machine.caches[index].overlap, cycles))
    seconds, parts = _combine(terms, phase, place, hertz)
    if with_memory:
        chip = moved[home.name] / (home.bandwidth_bytes_per_s * machine.sockets)
        if chip > seconds:
            seconds, parts = chip, {home.name: chip}
    barrier = _barrier_seconds(phase, plan, machine, hertz)
    parts["barrier"] = barrier
    return PhaseResult(phase.name, seconds + barrier, _ranked(parts)), moved, parts


@dataclass(frozen=True, slots=True)
class _Term:
    """Cycles per tile of one resource, and how they combine with the others.

    ``serial`` terms add up; each ``overlapped`` one runs beside their sum; ``latency`` terms
    are added to the longer of the two.  Of ``waits`` the threads of a core pay the longest, not
    the sum: they wait beside each other.
    """

    name: str
    rule: str
    cycles: Counts
    waits: bool = False


def _core_terms(phase: Phase, machine: Machine, isa: str) -> list[_Term]:
    busy = incore(phase.work, machine, isa)
    return [
        _Term("load", "serial", busy.load),
        *(
            _Term(name, "overlapped", cycles, waits=name == "latency")
            for name, cycles in busy.overlapped.items()
        ),
        _Term("mispredict", "latency", busy.stalls, waits=machine.core.threads_hide_stalls),
    ]


def _combine(
    terms: list[_Term], phase: Phase, place: _Placement, hertz: float
) -> tuple[float, dict[str, float]]:
    """Return the seconds of the slowest core, and what they consist of.

    Threads of a core take turns on its resources.
    """
    per_class = np.stack([term.cycles for term in terms]) @ phase.tiles.count.T
    idle = np.zeros((len(terms), 1))
    per_thread = np.concatenate([per_class, idle], axis=1)[:, phase.tiles.thread_class]
    core = np.zeros((len(terms), place.cores))
    for row, term in enumerate(terms):
        if term.waits:
            np.maximum.at(core[row], place.core_of_thread, per_thread[row])
        else:
            core[row] = np.bincount(
                place.core_of_thread, weights=per_thread[row], minlength=place.cores
            )
    rules = np.array([term.rule for term in terms])
    serial = core[rules == "serial"].sum(axis=0)
    hidden = core[rules == "overlapped"].max(axis=0)
    cycles = np.maximum(serial, hidden) + core[rules == "latency"].sum(axis=0)
    slowest = int(np.argmax(cycles))
    exposed = rules == "latency"
    if serial[slowest] >= hidden[slowest]:
        exposed |= rules == "serial"
    else:
        overlapped = np.where(rules == "overlapped", core[:, slowest], -1.0)
        exposed[int(np.argmax(overlapped))] = True
    seconds, mean = float(cycles[slowest]) / hertz, float(cycles.mean()) / hertz
    # what every core pays, and what only the slowest one does
    scale = mean / seconds if seconds > 0 else 0.0
    parts = {
        term.name: float(core[row, slowest]) / hertz * scale
        for row, term in enumerate(terms)
        if exposed[row]
    }
    parts["imbalance"] = seconds - mean
    return seconds, parts


def _transfer_cycles(
    index: int, read: Counts, written: Counts, machine: Machine, home: Memory, hertz: float
) -> Counts:
    """Cycles per tile to bring lines over boundary ``index`` and to write back."""
    inner = machine.caches[index]
    if index + 1 < len(machine.caches):
        outer = machine.caches[index + 1]
        read_rate = outer.bandwidth_bytes_per_cycle
        write_rate = outer.write_bytes_per_cycle or read_rate
        latency = outer.latency_cycles
    else:
        # a stated rate of one core holds; without one its misses in flight set it
        limit = inner.outstanding * inner.line_bytes / home.latency_s
        read_rate = (home.core_bandwidth_bytes_per_s or limit) / hertz
        write_rate = read_rate
        latency = home.latency_s * hertz
    if inner.overlap == "latency":
        cycles: Counts = read / inner.line_bytes * (latency - inner.latency_cycles)
        return cycles + written / write_rate
    total: Counts = read / read_rate + written / write_rate
    return total


def _core_bytes(phase: Phase, plan: Plan) -> Counts:
    """Bytes per tile between the core and L1."""
    work, width = phase.work, plan.target.lanes * FLOAT_BYTES
    vectors = work.loads_aligned + work.loads_unaligned + work.stores
    return vectors * width + (work.broadcasts + work.gathered + work.scalar_loads) * FLOAT_BYTES


def _barrier_seconds(phase: Phase, plan: Plan, machine: Machine, hertz: float) -> float:
    """Barriers among the threads of one image: a tree over fewer threads is so much flatter."""
    sharers = plan.threads_per_image
    if sharers < 2 or machine.total_threads < 2:
        return 0.0
    share = log2(sharers) / log2(machine.total_threads)
    return phase.barriers * machine.barrier_cycles * min(share, 1.0) / hertz


def _ranked(terms: dict[str, float]) -> tuple[str, ...]:
    total = sum(terms.values())
    listed = sorted(terms, key=lambda name: -terms[name])
    return tuple(n for n in listed if terms[n] > 0 and terms[n] >= _LISTED_SHARE * total)
