"""Lines that change hands between cores with caches of their own: shared by ecm and simulator.

What another core wrote a moment ago has to be fetched from it, and what it has read since has to be
taken from it before it can be written.  Both cost more than a line of the cache that all share,
where the machine says how much.
"""

from __future__ import annotations

from math import ceil, inf
from typing import Final

import numpy as np

from archsim.machine import Machine
from archsim.plan import OPERATIONS, Counts, Phase, Plan

_HANDED: Final = slice(
    OPERATIONS.index("handed_reads"), OPERATIONS.index("handed_split_writes") + 1
)


def with_handed(phase: Phase, plan: Plan, machine: Machine) -> Counts:
    """Return the counts of a phase's work with the lines that cores hand to each other.

    Returns
    -------
    ndarray of shape (..., operations, kinds)
    """
    counts, work = phase.work.counts, phase.work
    found = handed_lines(phase, plan, machine)
    if found is None:
        return counts
    reads, writes = found
    across = writes * work.stores_line_crossing / np.maximum(work.stores, 1.0)
    rows = np.stack(np.broadcast_arrays(reads, writes - across, across), axis=-2)
    lead = np.broadcast_shapes(counts.shape[:-2], rows.shape[:-2])
    counts = np.broadcast_to(counts, (*lead, *counts.shape[-2:])).copy()
    counts[..., _HANDED, :] = rows
    return counts


def handed_lines(phase: Phase, plan: Plan, machine: Machine) -> tuple[Counts, Counts] | None:
    """Return the lines of a tile that are read from, and written after, other cores.

    Returns
    -------
    tuple of ndarray of shape (..., kinds), or None
        None where there are none, or the machine does not say what they cost.
    """
    core, sharers = machine.core, plan.threads_per_image
    if sharers < 2 or (core.handed_read_cycles is None and core.handed_write_cycles is None):
        return None
    per_core = ceil(plan.threads / machine.total_cores)
    elsewhere = 1.0 - min(sharers, per_core) / sharers
    streams = [stream for stream in phase.streams if stream.handed > 0.0]
    if not streams or elsewhere <= 0.0:
        return None
    most = inf if core.handed_size_bytes is None else core.handed_size_bytes
    images = ceil(plan.batch * sharers / plan.threads)
    line, kinds = machine.caches[0].line_bytes, phase.tiles.count.shape[1]
    reads: Counts = np.zeros(kinds)
    writes: Counts = np.zeros(kinds)
    for stream in streams:
        lines = stream.bytes.sum(axis=-2) * (stream.handed / line)
        if stream.access == "read":
            reads = reads + lines * elsewhere
        else:
            own = float((lines @ phase.tiles.count.T).max()) * line / images
            if min(own, stream.handed_bytes) <= most:
                writes = writes + lines
    return reads, writes
