"""What ecm reads of a machine: the costs of one instruction set as arrays, made once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from archsim.analytic.seats import cores_on
from archsim.incore import ROWS, cycles_of_operations
from archsim.machine import Machine
from archsim.machineblocks import Memory
from archsim.plan import Counts, Plan

#: names of the in-core terms, in the order of :data:`archsim.incore.ROWS`, as results call them
CORE_TERMS: Final = (
    "load", "arithmetic", "arithmetic", "shuffle", "store", "issue", "scalar", "latency",
    "mispredict",
)  # fmt: skip
_RULES: Final = ("serial", "overlapped", "latency")
_CORE_RULES: Final = ("serial", *["overlapped"] * (len(ROWS) - 2), "latency")
_STORE: Final = ROWS.index("store")
IMBALANCE: Final = "imbalance"
BARRIER: Final = "barrier"
CALL: Final = "call"
_MOST: Final = 8192


@dataclass(frozen=True, slots=True)
class Rules:
    """How terms combine: their places, serial ones first, then overlapped ones, then waits.

    Serial terms add up; each overlapped one runs beside their sum; waits are added to the longer
    of the two.
    """

    serial: slice
    beside: slice
    waits: slice


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Costs of one instruction set of a machine, its data in one of its memories.

    Terms are those of the core and one for each boundary between levels; boundary i lies outside
    cache i.

    Attributes
    ----------
    cycles : ndarray of shape (terms, operations + 2 x boundaries)
        Of one operation; then of a byte that is read over each boundary, and of one that is
        written back.
    terms : tuple of str
        And then imbalance, barrier and call.
    home : int
        Which of the terms is the memory's.
    levels : tuple of str
        Caches and the memory, inside out.
    join_seconds : float
        For which all threads wait for each other once a call: forked and joined where the machine
        says what that takes, else a barrier.
    call_seconds : float
        What a call costs besides its kernel; zero where the machine does not say.
    blas_seconds : float
        And what one of a BLAS library costs more.
    """

    hertz: float
    cycles: Counts
    rules: Rules
    terms: tuple[str, ...]
    home: int
    levels: tuple[str, ...]
    chip_bytes_per_s: float
    threads_hide_stalls: bool
    join_seconds: float
    call_seconds: float
    blas_seconds: float

    def call_of(self, plan: Plan) -> float:
        """Return the seconds of one call of a plan besides its kernel."""
        return self.call_seconds + (self.blas_seconds if plan.calls_blas else 0.0)


_known: dict[tuple[int, str, str, int, int], tuple[Machine, Costs]] = {}


def costs(machine: Machine, isa: str, clock: str, home: int, threads: int) -> Costs:
    """Return the costs where memory ``home`` holds the data; machines do not change.

    The cores that ``threads`` sit on share what a level hands out.
    """
    cores = min(threads, machine.total_cores)
    key = id(machine), isa, clock, home, cores
    found = _known.get(key)
    if found is not None and found[0] is machine:  # kept alive here: no other has its id
        return found[1]
    if len(_known) >= _MOST:
        _known.clear()
    made = _costs(machine, isa, clock, machine.memory[home], cores)
    _known[key] = machine, made
    return made


def _costs(machine: Machine, isa: str, clock: str, home: Memory, cores: int) -> Costs:
    hertz = machine.clock_for(isa, clock)
    levels = (*(cache.name for cache in machine.caches), home.name)
    names = CORE_TERMS + levels[1:]
    rules = [*_CORE_RULES, *(cache.overlap for cache in machine.caches)]
    order = sorted(range(len(rules)), key=lambda term: _RULES.index(rules[term]))
    ends = [sum(_RULES.index(rule) <= place for rule in rules) for place in range(len(_RULES))]
    return Costs(
        hertz=hertz,
        cycles=_table(machine, isa, home, hertz, cores)[order],
        rules=Rules(*(slice(*each) for each in pairwise((0, *ends)))),
        terms=(*(names[term] for term in order), IMBALANCE, BARRIER, CALL),
        home=order.index(len(rules) - 1),
        levels=levels,
        chip_bytes_per_s=home.bandwidth_bytes_per_s * machine.sockets,
        threads_hide_stalls=machine.core.threads_hide_stalls,
        join_seconds=machine.barrier_cycles / hertz
        if machine.fork_join_s is None
        else machine.fork_join_s,
        call_seconds=machine.call_overhead_s or 0.0,
        blas_seconds=machine.blas_overhead_s or 0.0,
    )


def _table(machine: Machine, isa: str, home: Memory, hertz: float, cores: int) -> Counts:
    core, boundaries = cycles_of_operations(machine, isa), len(machine.caches)
    table = np.zeros((len(core) + boundaries, core.shape[1] + 2 * boundaries))
    table[: len(core), : core.shape[1]] = core
    for i in range(boundaries):
        columns = [core.shape[1] + i, core.shape[1] + boundaries + i]
        per_byte = _per_byte(i, machine, home, hertz, cores)
        table[len(core) + i, columns] = per_byte
        if machine.core.store_overlap == "serial" and machine.caches[i].overlap == "serial":
            # what is stored waits for lines in both directions, what is loaded for fetched ones
            table[_STORE, columns] = per_byte
            table[len(core) + i, columns[1]] = 0.0
    return table


def _per_byte(
    index: int, machine: Machine, home: Memory, hertz: float, cores: int
) -> tuple[float, float]:
    """Cycles to bring a byte over boundary ``index``, and to write one back."""
    inner, shared = machine.caches[index], math.inf
    if index + 1 < len(machine.caches):
        outer = machine.caches[index + 1]
        read_rate = outer.bandwidth_bytes_per_cycle
        write_rate = outer.write_bytes_per_cycle or read_rate
        latency = outer.latency_cycles
        shared = _shared_rate(machine, index + 1, cores)
    else:
        # a stated rate of one core holds; without one its misses in flight set it
        limit = inner.outstanding * inner.line_bytes / home.latency_s
        read_rate = (home.core_bandwidth_bytes_per_s or limit) / hertz
        write_rate = (home.core_write_bytes_per_s or read_rate * hertz) / hertz
        latency = home.latency_s * hertz
    if inner.overlap == "latency":
        waits = max(0.0, latency - inner.latency_cycles)  # none behind a level that answers sooner
        return waits / inner.line_bytes, 1.0 / write_rate
    return 1.0 / min(read_rate, shared), 1.0 / min(write_rate, shared)


def _shared_rate(machine: Machine, index: int, cores: int) -> float:
    """Bytes per cycle that a core has of cache ``index`` when all cores in use ask at once."""
    cache = machine.caches[index]
    if cache.shared_bandwidth_bytes_per_cycle is None:
        return math.inf
    return cache.shared_bandwidth_bytes_per_cycle / cores_on(cache, machine, cores)
