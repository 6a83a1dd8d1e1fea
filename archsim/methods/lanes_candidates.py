"""Lane layouts and blocks that a machine may choose from: the cheapest of some densities."""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import Final

from archsim.methods import lanes
from archsim.methods.lanes_cost import Choice, choose
from archsim.methods.lanes_geometry import Mode
from archsim.network import Layer
from archsim.plan import Candidate, Target

#: Densities whose cheapest blocks are tried, whatever the density is: the fastest of the same
#: candidates cannot become slower with fewer nonzeros.  What more of them would find is told by
#: ``python -m benchmarks.choice`` (docs/direct_sparse.md).
TRIED: Final = (0.02, 0.06, 0.15, 0.4, 1.0)


def blocks_of(choice: Choice | None) -> Hashable:
    """Return what makes two choices one plan."""
    return None if choice is None else (choice.geometry, choice.reg, choice.slab_block)


@lru_cache(maxsize=1024)
def lane_candidates(
    layer: Layer,
    modes: tuple[Mode, ...],
    batch: int,
    threads: int,
    target: Target,
    tried: tuple[float, ...] = TRIED,
) -> tuple[Candidate, ...]:
    """Return a candidate for each layout with its blocks that some density finds cheapest."""
    found: dict[Hashable, Candidate] = {}
    for name, own in lanes.SCHEDULES.items():
        if len(own) > 1 or own[0] not in modes:
            continue
        for density in tried:
            choice = choose(layer, layer.weights * density, batch, threads, target, own)
            if choice is not None:
                found.setdefault(blocks_of(choice), Candidate(name, density))
    return tuple(found.values())
