"""Cycles of a `row` plan, by the constants that the lane layouts are chosen with.

So ``auto`` can hold both against each other.  It knows no more of a machine than a `Target`;
:mod:`archsim.analytic` is what predicts.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from archsim.methods.lanes_cost import LOAD, LOAD_FAR, LOAD_L2, WINDOW_SHARE
from archsim.plan import Counts, Phase, Plan, Target

# A load that crosses a line: `python -m benchmarks roofs`, unaligned, from the first level.
CROSSING: Final = 1.15
# A list of nonzeros: its mispredicted end (about 20 cycles on Skylake: Fog, The microarchitecture
# of Intel, AMD and VIA CPUs) and the call; addresses begin anew, so that nothing hides them.
LIST: Final = 25.0


def row_cycles(plan: Plan) -> Counts:
    """Return the cycles of the busiest thread, all phases, for each density.

    Loads wait for each other, lists are entered one by one, and what comes back from beyond a
    level is loaded anew, a line at a time.
    """
    return sum((_phase(phase, plan.target) for phase in plan.phases), np.zeros(1))


def _phase(phase: Phase, target: Target) -> Counts:
    work = phase.work
    inside = work.loads_aligned + work.loads_unaligned - work.loads_line_crossing
    loads = LOAD * (inside + work.broadcasts + work.scalar_loads)
    loads = loads + CROSSING * work.loads_line_crossing
    tile = np.maximum(loads, work.stores) + LIST * work.mispredicts
    tile = tile + _moved(phase, target)
    per_class: Counts = tile @ phase.tiles.count.T
    busiest: Counts = per_class.max(axis=-1, initial=0.0)
    return busiest


def _moved(phase: Phase, target: Target) -> Counts:
    cycles = np.zeros(phase.work.stores.shape)
    for stream in phase.streams:
        distance = stream.reuse_distance_bytes
        line = np.where(
            distance > WINDOW_SHARE * target.l2_bytes / target.l2_sharers,
            LOAD_FAR,
            np.where(distance > target.l1_bytes / target.l1_sharers, LOAD_L2, 0.0),
        )
        ways = 2.0 if stream.access == "update" else 1.0
        cycles = cycles + ways * (stream.bytes / target.line_bytes * line).sum(axis=-2)
    return cycles
