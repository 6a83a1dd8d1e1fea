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
    """How the plan's threads sit on the machine, spread over cores as evenly as possible."""

    cores: int  # cores in use
    threads_per_core: int  # threads on a core in use, at most
    capacities: tuple[float, ...]  # bytes of each level that one thread may count on


def estimate(
    plan: Plan,
    machine: Machine,
    *,
    isa: str | None = None,
    clock: str = "sustained",
    memory: bool = True,
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
    """
    isa = isa or plan.target.isa
    hertz = machine.clock_for(isa, clock)
    place = _place(plan, machine)
    parts = [_phase(phase, plan, machine, isa, hertz, place, memory) for phase in plan.phases]
    moved: dict[str, float] = {}
    terms: dict[str, float] = {}
    for _, levels, contributions in parts:
        for name, count in levels.items():
            moved[name] = moved.get(name, 0.0) + count
        for name, seconds in contributions.items():
            terms[name] = terms.get(name, 0.0) + seconds
    join = machine.barrier_cycles / hertz if plan.threads > 1 else 0.0
    terms["barrier"] = terms.get("barrier", 0.0) + join
    seconds = sum(result.seconds for result, _, _ in parts) + join
    return Estimate(seconds, tuple(result for result, _, _ in parts), moved, _ranked(terms))


def _place(plan: Plan, machine: Machine) -> _Placement:
    cores = min(plan.threads, machine.total_cores)
    per_core = ceil(plan.threads / machine.total_cores)
    capacities = []
    for cache in machine.caches:
        instances = max(1, machine.total_cores // cache.shared_by)
        cores_here = min(cache.shared_by, ceil(cores / instances))
        capacities.append(cache.size_bytes / (cores_here * per_core))
    return _Placement(cores, per_core, tuple(capacities))


def traffic(
    phase: Phase, plan: Plan, machine: Machine, place: _Placement
) -> tuple[list[Counts], list[Counts]]:
    """Return bytes per tile read and written back across each boundary, innermost first.

    Boundary i lies outside cache i: its bytes come from cache i + 1, or from memory.
    """
    moved = np.stack([stream.bytes for stream in phase.streams])
    distance = np.stack([stream.reuse_distance_bytes for stream in phase.streams])
    # one copy serves all threads of the image that live on this cache
    here = min(plan.threads_per_image, place.threads_per_core)
    copies = np.array([[here if stream.shared else 1] for stream in phase.streams])
    reads = np.array([stream.access != "write" for stream in phase.streams])
    writes = np.array([stream.access != "read" for stream in phase.streams])
    allocates = machine.memory[_home(plan, machine)].write_allocate
    read, written = [], []
    for level, capacity in enumerate(place.capacities):
        missed = np.where(distance > capacity * copies, moved, 0.0)
        last = level == len(place.capacities) - 1
        fetched = reads | (writes if allocates or not last else False)
        read.append(missed[fetched].sum(axis=0))
        written.append(missed[writes].sum(axis=0))
    return read, written


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
) -> tuple[PhaseResult, dict[str, float], dict[str, float]]:
    """Return the phase's result, bytes per level, and seconds per limiting term."""
    busy = incore(phase.work, machine, isa)
    cores = _CoreSums(phase, place)
    hidden = {name: cores.sum(cycles) for name, cycles in busy.overlapped.items()}
    hidden["latency"] = cores.longest(busy.latency)  # chains of two threads overlap
    waiting = cores.longest if machine.core.threads_hide_stalls else cores.sum
    stalls = {"mispredict": waiting(busy.stalls)}
    serial = {"load": cores.sum(busy.load)}
    total = phase.tiles.total
    read, written = traffic(phase, plan, machine, place)
    home = machine.memory[_home(plan, machine)]
    levels = [cache.name for cache in machine.caches[1:]] + [home.name]
    moved = {machine.caches[0].name: float(total @ _core_bytes(phase, plan))}
    if with_memory:
        for index, name in enumerate(levels):
            moved[name] = float(total @ (read[index] + written[index]))
            cycles = _transfer_cycles(index, read[index], written[index], machine, home, hertz)
            rule = machine.caches[index].overlap
            into = {"serial": serial, "overlapped": hidden, "latency": stalls}[rule]
            into[name] = cores.sum(cycles)
    exposed = np.add.reduce(list(serial.values()))
    longest_hidden = np.maximum.reduce(list(hidden.values()))
    core_cycles = np.maximum(longest_hidden, exposed) + np.add.reduce(list(stalls.values()))
    slowest = int(np.argmax(core_cycles))
    terms = {name: values[slowest] / hertz for name, values in stalls.items()}
    if exposed[slowest] >= longest_hidden[slowest]:
        terms |= {name: values[slowest] / hertz for name, values in serial.items()}
    else:
        name = max(hidden, key=lambda key: hidden[key][slowest])
        terms[name] = hidden[name][slowest] / hertz
    seconds = float(core_cycles[slowest]) / hertz
    mean = float(core_cycles.mean()) / hertz
    if seconds > mean:
        terms = {name: value * mean / seconds for name, value in terms.items()}
        terms["imbalance"] = seconds - mean
    if with_memory:
        chip = moved[home.name] / (home.bandwidth_bytes_per_s * machine.sockets)
        if chip > seconds:
            seconds, terms = chip, {home.name: chip}
    barrier = _barrier_seconds(phase, plan, machine, hertz)
    terms["barrier"] = barrier
    return PhaseResult(phase.name, seconds + barrier, _ranked(terms)), moved, terms


class _CoreSums:
    """Adds up tiles per core: threads that follow each other share a core."""

    def __init__(self, phase: Phase, place: _Placement) -> None:
        thread_class = phase.tiles.thread_class
        idle = np.zeros((1, phase.tiles.count.shape[1]), dtype=np.int64)
        per_thread = np.vstack([phase.tiles.count, idle])[thread_class]
        missing = -len(per_thread) % place.threads_per_core
        per_thread = np.vstack([per_thread, np.repeat(idle, missing, axis=0)])
        self._count = per_thread.reshape(-1, place.threads_per_core, idle.shape[1])

    def sum(self, cycles: Counts) -> Array:
        """Cycles per core when its threads take turns."""
        total: Array = (self._count @ cycles).sum(axis=1)
        return total

    def longest(self, cycles: Counts) -> Array:
        """Cycles per core when its threads wait beside each other."""
        longest: Array = (self._count @ cycles).max(axis=1)
        return longest


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
        limit = inner.outstanding * inner.line_bytes / home.latency_s
        read_rate = min(home.core_bandwidth_bytes_per_s or limit, limit) / hertz
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
    return vectors * width + (work.broadcasts + work.scalar_loads) * FLOAT_BYTES


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
