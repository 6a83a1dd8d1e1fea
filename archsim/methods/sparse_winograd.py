"""Sparse Winograd convolution: weights that are sparse in the Winograd domain.

Li, Park and Tang, "Enabling Sparse Winograd Convolution by Native Pruning", 2017: the t x t
coefficients of each kernel are pruned themselves; every position of a tile is one sparse matrix
(K x C) times a dense one (C x tiles).  A filter that is sparse in space is not sparse there, and
a density in one variant's domain says nothing of another's: ``auto`` takes the variant of the
pattern, for a mere density F(4x4).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from archsim.methods import winograd_blocking
from archsim.methods.sharing import Partition
from archsim.methods.winograd_plan import make_plan, nonzeros_of
from archsim.network import Layer
from archsim.plan import Candidate, Plan, Target, first
from archsim.sparsity import WINOGRAD_TILES, Densities, Sparsity

NAME: Final = "sparse_winograd"
SCHEDULES: Final = winograd_blocking.SCHEDULES


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    why = winograd_blocking.reason(layer)
    if why is None and sparsity.domain != "winograd":
        why = "density is of the spatial domain; a filter pruned there is not sparse in Winograd's"
    return why


def candidates(
    layer: Layer, schedule: str, batch: int, threads: int, target: Target
) -> tuple[Candidate, ...]:
    """Return the schedule itself: a density, and a pattern, are one variant's."""
    del layer, batch, threads, target
    return (Candidate(schedule),)


def blockings(
    layer: Layer, densities: Densities, *, batch: int, threads: int, schedule: str, target: Target,
    partition: Partition,
) -> list[Hashable]:  # fmt: skip
    """Return for each density what its plan's blocking depends on: equal ones are of one plan."""
    del partition
    tile = WINOGRAD_TILES[layer.R][0] if schedule == "auto" else None
    return [
        tuple(
            winograd_blocking.choose(
                layer, schedule, x, batch=batch, threads=threads, target=target, tile=tile
            )
            .numbers()
            .items()
        )
        for x in densities.density[:, 0].tolist()
    ]


def plan(
    layer: Layer,
    sparsity: Sparsity | Densities,
    *,
    batch: int,
    threads: int,
    schedule: str,
    target: Target,
    partition: Partition,
) -> Plan:
    """Plan the convolution; see :func:`archsim.api.make_plan` for the arguments.

    Threads share chunks of tiles, each of which meets all nonzeros: they are cut evenly, whatever
    the partition.
    """
    del partition
    tile = None if sparsity.weights is None else len(sparsity.weights)
    if schedule == "auto" and tile is None:
        tile = WINOGRAD_TILES[layer.R][0]
    cut = winograd_blocking.choose(
        layer, schedule, first(sparsity.density), batch=batch, threads=threads, target=target,
        tile=tile,
    )  # fmt: skip
    nonzeros = nonzeros_of(layer, cut.variant.positions, sparsity)
    return make_plan(
        NAME, layer, sparsity, cut, nonzeros, batch=batch, threads=threads, target=target
    )
