"""Cycles of a tile inside one core, from its counted operations: shared by ecm and simulator.

Data is taken to be in L1.  Each resource (arithmetic ports, load ports, store port, issue slots,
scalar units) is busy for so many cycles; the longest run of multiply-adds that wait for each
other gives a latency.  Which of these overlap is for the caller to say.

Every resource's cycles are a weighted sum of the counts, so they are one matrix for an instruction
set of a core: what a thread asks for in all its tiles costs what its tiles cost together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from archsim.machine import Machine
from archsim.machineblocks import InstructionSet
from archsim.plan import OPERATIONS, Counts, Work

#: rows of :func:`cycles_of_operations`; multiplies and additions have ports of their own where the
#: machine says so, and the busier of the two counts
ROWS: Final = (
    "load", "multiply", "add", "shuffle", "store", "issue", "scalar", "latency", "stalls",
)  # fmt: skip
_STORES: Final = ("stores", "stores_line_crossing", "stores_page_crossing")


@dataclass(frozen=True, slots=True)
class InCore:
    """Busy cycles per tile and resource, arrays of shape (kinds,).

    ``stalls`` are cycles in which the core issues nothing (restart after mispredicts).
    """

    arithmetic: Counts
    load: Counts
    shuffle: Counts
    store: Counts
    issue: Counts
    scalar: Counts
    latency: Counts
    stalls: Counts

    @property
    def cycles(self) -> Counts:
        """Cycles of a tile when all its data is in L1."""
        busiest = np.maximum.reduce(
            [
                self.arithmetic,
                self.load,
                self.shuffle,
                self.store,
                self.issue,
                self.scalar,
                self.latency,
            ]
        )
        total: Counts = busiest + self.stalls
        return total


def incore(work: Work, machine: Machine, isa: str | None = None) -> InCore:
    """Return the busy cycles of every resource for ``work`` on one core of ``machine``."""
    load, multiply, add, shuffle, store, issue, scalar, latency, stalls = (
        cycles_of_operations(machine, isa) @ work.counts
    )
    arithmetic = np.maximum(multiply, add)
    return InCore(arithmetic, load, shuffle, store, issue, scalar, latency, stalls)


def cycles_of_operations(machine: Machine, isa: str | None = None) -> Counts:
    """Return the cycles of each resource for one of each operation, shape (rows, operations)."""
    unit = machine.instruction_set(isa)
    table = np.zeros((len(ROWS), len(OPERATIONS)))
    for row, weights in zip(ROWS, _weights(machine, unit), strict=True):
        for operation, cycles in weights.items():
            table[ROWS.index(row), OPERATIONS.index(operation)] = cycles
    return table


def _weights(machine: Machine, unit: InstructionSet) -> Iterator[dict[str, float]]:
    """Yield cycles by operation for each row of :data:`ROWS`."""
    core = machine.core
    each = 1.0 / unit.loads
    load = {
        "loads_aligned": each,
        "loads_unaligned": each,
        "broadcasts": 1.0 / (unit.broadcasts or unit.loads),
        # of loads and multiply-adds that are both at their ports' rate neither reaches it
        "folded_in_line": max(0.0, 1.0 / unit.folded_loads - each) if unit.folded_loads else 0.0,
        # a crossing load costs so much instead; page-crossing ones cross a line as well
        "loads_line_crossing": unit.line_crossing_cycles - each,
        "loads_page_crossing": unit.page_crossing_cycles - unit.line_crossing_cycles,
        "scalar_loads": 1.0 / core.scalar_loads,
        "early_lines": 1.0 / core.early_lines if core.early_lines else 0.0,
        "split_misses": core.split_miss_cycles or 0.0,
        "handed_reads": core.handed_read_cycles or 0.0,
        "gathered": 1.0 / (unit.gathers or core.scalar_loads),
    }
    store = dict(zip(_STORES, _store_cycles(unit), strict=True))
    store["scalar_stores"] = 1.0 / (core.scalar_stores or unit.stores)
    store["handed_writes"] = core.handed_write_cycles or 0.0
    split = core.handed_split_write_cycles
    store["handed_split_writes"] = store["handed_writes"] if split is None else split
    yield load | (store if core.shared_load_store else {})
    yield from _arithmetic(unit)
    # one port on most cores for most shuffles of two sources (uops.info: UNPCKLPS, VPERMT2PS)
    yield {"shuffles": 1.0 / (unit.shuffles or 1.0)}
    yield store
    yield {name: uops / core.issue_width for name, uops in _uops(unit).items()}
    yield {"scalar_ops": 1.0 / core.scalar, "branches": 1.0 / core.scalar}
    chained = unit.multiply_latency_cycles if unit.fma else unit.add_latency_cycles
    yield {"chain_multiply_adds": chained}
    yield {
        "mispredicts": core.mispredict_cycles,
        "waiting_loads": machine.caches[0].latency_cycles,
    }


def _store_cycles(unit: InstructionSet) -> tuple[float, float, float]:
    """Cycles of a store, and what it takes more across a line, and then across a page.

    Two stores where the machine does not say: one to each line.
    """
    each = 1.0 / unit.stores
    line = unit.store_line_crossing_cycles or 2.0 * each
    page = unit.store_page_crossing_cycles or line
    return each, line - each, page - line


def _arithmetic(unit: InstructionSet) -> Iterator[dict[str, float]]:
    both = ("multiply_adds", "scalar_multiply_adds")
    each = 1.0 / min(unit.multiply, unit.sustained_multiply or math.inf)
    multiply, add = dict.fromkeys(both, each), dict.fromkeys(both, 1.0 / unit.add)
    if not unit.fma and unit.pairs:
        multiply, add = dict.fromkeys(both, 1.0 / unit.pairs), {}
    elif not unit.fma and unit.shared_arithmetic:
        multiply, add = dict.fromkeys(both, each + 1.0 / unit.add), {}
    # a library's loops reach less than the ports; what one of theirs takes more, of sustained ones
    held_back = each * unit.multiply
    blas = held_back / unit.blas_multiply_adds if unit.blas_multiply_adds else 0.0
    multiply |= {"blas_multiply_adds": max(0.0, blas - multiply["multiply_adds"])}
    # a broadcast of several micro-operations is a load and shuffles, which take a slot of a
    # multiplier port (movss and shufps on Silvermont: LLVM X86ScheduleSLM.td, FP port 0), for
    # one cycle even where a multiply keeps that port longer
    yield multiply | {"broadcasts": (unit.broadcast_uops - 1) / max(1.0, unit.multiply)}
    yield {} if unit.fma else add


def _uops(unit: InstructionSet) -> dict[str, float]:
    # a gather is as many micro-operations as numbers, or a few more
    single = (
        "loads_aligned", "loads_unaligned", "stores", "gathered", "shuffles", "scalar_ops",
        "scalar_loads", "scalar_stores", "branches",
    )  # fmt: skip
    return {
        **dict.fromkeys(single, 1.0),
        **dict.fromkeys(("multiply_adds", "scalar_multiply_adds"), 1.0 if unit.fma else 2.0),
        "broadcasts": float(unit.broadcast_uops),
        "loads_folded": -1.0 if unit.folded_load else 0.0,
    }
