"""Group-wise against element-wise sparsity: removed output maps leave a smaller dense layer.

Park et al. (ICLR 2017, section 2.2): group-wise sparsity wins where its density is below
``alpha / alpha_g`` times the element-wise one, for a nonzero of it costs less (alpha_g, 1 at best)
than a scattered one (alpha).  Here both sides are predicted: the group-wise one as the layer with
so many fewer output maps, by its best dense method.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.machine import Machine
from archsim.network import Layer
from archsim.pruning.table import LayerTimes, TimeTable, dense_seconds

Array = NDArray[np.float64]

_SPARSITIES: Final = (0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 0.9375)
#: element-wise sparsities whose group-wise equal is told
COMPARED: Final = (0.7, 0.8, 0.9, 0.95)


def fewer_maps(layer: Layer, sparsity: float) -> Layer:
    """Return a layer without a share of its output maps; at least one of each group stays."""
    per_group = layer.K // layer.groups
    kept = max(1, round((1.0 - sparsity) * per_group)) * layer.groups
    return Layer(
        layer.name, layer.C, kept, layer.H, layer.W, layer.R, layer.S, layer.stride, layer.pad,
        layer.dilation, layer.groups, layer.type, layer.network,
    )  # fmt: skip


def map_seconds(layer: Layer, table: TimeTable, machine: Machine) -> tuple[Array, Array]:
    """Return shares of removed output maps, rising from 0, and the dense seconds of what is left.

    Returns
    -------
    shares, seconds : ndarrays of shape (points,), float64
    """
    shares: list[float] = []
    seconds: list[float] = []
    for sparsity in _SPARSITIES:
        left = fewer_maps(layer, sparsity)
        share = 1.0 - left.K / layer.K
        if shares and share <= shares[-1]:
            continue
        shares.append(share)
        seconds.append(
            dense_seconds(
                left, machine, model=table.model,  # type: ignore[arg-type]
                batch=table.batch, threads=table.threads,
            )
        )  # fmt: skip
    return np.array(shares), np.array(seconds)


def compare_groups(
    times: LayerTimes, table: TimeTable, machine: Machine, target: float = 0.0
) -> dict[str, Any]:
    """Return where removing whole output maps beats removing single weights.

    ``target`` is an element-wise sparsity that is compared besides :data:`COMPARED`.

    Returns
    -------
    dict
        ``beats``: [from, to], the equal sparsities at which the group-wise layer is faster, or
        None; ``equal``: for element-wise sparsities the group-wise one of equal time (None:
        slower than dense, or none below 0.94), and the ratio of their densities, the published
        ``alpha / alpha_g``.
    """
    shares, group = map_seconds(times.layer, table, machine)
    grid = table.sparsities[table.sparsities <= shares[-1]]
    element = times.best("spatial")[: grid.size]
    if element.size == 0:
        return {"structure": "output-map", "beats": None, "equal": []}
    faster = grid[np.interp(grid, shares, group) < element]
    equal = []
    for sparsity in sorted({*COMPARED, target} - {0.0}):
        limit = float(np.interp(sparsity, table.sparsities, times.best("spatial")))
        same = _equal(shares, group, limit) if limit < times.dense_seconds else None
        equal.append(
            {
                "element_wise": sparsity,
                "group_wise": same,
                "density_ratio": None if same is None else (1.0 - same) / (1.0 - sparsity),
            }
        )
    beats = [float(faster[0]), float(faster[-1])] if faster.size else None
    return {"structure": "output-map", "beats": beats, "equal": equal}


def _equal(shares: Array, seconds: Array, limit: float) -> float | None:
    """Return the lowest share of removed maps at which the layer takes ``limit``."""
    below = np.flatnonzero(seconds <= limit)
    if below.size == 0:
        return None
    place = int(below[0])
    if place == 0:
        return 0.0
    over, under = seconds[place - 1] - limit, limit - seconds[place]
    step = shares[place] - shares[place - 1]
    return float(shares[place - 1] + step * over / (over + under))
