"""Cycles of a tile inside one core, from its counted operations: shared by ecm and simulator.

Data is taken to be in L1.  Each resource (arithmetic ports, load ports, store port, issue slots,
scalar units) is busy for so many cycles; the longest run of multiply-adds that wait for each
other gives a latency.  Which of these overlap is for the caller to say.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from archsim.machine import Machine
from archsim.plan import Counts, Work


@dataclass(frozen=True, slots=True)
class InCore:
    """Busy cycles per tile and resource, arrays of shape (kinds,).

    ``stalls`` are cycles in which the core issues nothing (restart after mispredicts).
    """

    arithmetic: Counts
    load: Counts
    store: Counts
    issue: Counts
    scalar: Counts
    latency: Counts
    stalls: Counts

    @property
    def overlapped(self) -> dict[str, Counts]:
        """Resources that work beside each other and beside the loads."""
        return {
            "arithmetic": self.arithmetic,
            "store": self.store,
            "issue": self.issue,
            "scalar": self.scalar,
            "latency": self.latency,
        }

    @property
    def cycles(self) -> Counts:
        """Cycles of a tile when all its data is in L1."""
        busiest = np.maximum.reduce([*self.overlapped.values(), self.load])
        total: Counts = busiest + self.stalls
        return total


def incore(work: Work, machine: Machine, isa: str | None = None) -> InCore:
    """Return the busy cycles of every resource for ``work`` on one core of ``machine``."""
    core, unit = machine.core, machine.instruction_set(isa)
    vector, scalar = work.multiply_adds, work.scalar_multiply_adds
    both = vector + scalar
    # a broadcast of several micro-operations is a load and shuffles, which take a slot of a
    # multiplier port (movss and shufps on Silvermont: LLVM X86ScheduleSLM.td, FP port 0), for
    # one cycle even where a multiply keeps that port longer
    shuffles = work.broadcasts * (unit.broadcast_uops - 1) / max(1.0, unit.multiply)
    multiply, add = both / unit.multiply + shuffles, both / unit.add
    if unit.fma:
        arithmetic = multiply
    elif unit.shared_arithmetic:
        arithmetic = multiply + add
    else:
        arithmetic = np.maximum(multiply, add)

    loads = work.loads_aligned + work.loads_unaligned
    line_only = work.loads_line_crossing - work.loads_page_crossing
    load = (
        (loads - work.loads_line_crossing + work.broadcasts) / unit.loads
        + line_only * unit.line_crossing_cycles
        + work.loads_page_crossing * unit.page_crossing_cycles
        + work.scalar_loads / core.scalar_loads
        + work.gathered / (unit.gathers or core.scalar_loads)
    )
    store = work.stores / unit.stores
    if core.shared_load_store:
        load = load + store

    folded = work.loads_folded if unit.folded_load else 0.0
    uops = (
        both * (1 if unit.fma else 2)
        + (loads - folded)
        + work.stores
        + work.broadcasts * unit.broadcast_uops
        + work.gathered  # a gather is as many micro-operations as numbers, or a few more
        + work.scalar_ops
        + work.scalar_loads
        + work.branches
    )
    latency = unit.multiply_latency_cycles if unit.fma else unit.add_latency_cycles
    return InCore(
        arithmetic=arithmetic,
        load=load,
        store=store,
        issue=uops / core.issue_width,
        scalar=(work.scalar_ops + work.branches) / core.scalar,
        latency=work.chain_multiply_adds * latency,
        stalls=work.mispredicts * core.mispredict_cycles,
    )


RESOURCES = tuple(f.name for f in fields(InCore))
