"""Which sparsity for which layer: a multiple-choice knapsack over the layers of a network.

Of each layer one choice is taken; losses, seconds and bytes add up.

* One budget of seconds or of bytes: exact dynamic programming on a stated grid.  Costs are rounded
  up to whole cells, so that a budget that is kept on the grid is kept in truth; the last row of the
  table is the whole front of loss against cost (Sinha and Zoltners, "The multiple-choice knapsack
  problem", Operations Research 27(3), 1979, state the problem).
* Seconds and bytes at once: the same problem on the unrounded numbers for SciPy's HiGHS, because
  a grid in both would be too coarse or too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archsim.errors import ArchsimError

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: cells of the grid that the dense network's cost is cut into
CELLS: Final = 20_000
_TIME_LIMIT_S: Final = 60.0  # of HiGHS, for two budgets
_GAP: Final = 1e-6  # of HiGHS, relative to its objective
_SLACK: Final = 1e-6  # HiGHS may break a row by 1e-7 (its default), which a budget must not be


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """What one layer may be: arrays of shape (choices,), the dense layer among them.

    Attributes
    ----------
    loss : no unit of its own
    seconds : of the whole batch
    bytes : of the weights
    """

    loss: Array
    seconds: Array
    bytes: Array

    @classmethod
    def of(cls, loss: ArrayLike, seconds: ArrayLike, size: ArrayLike) -> Choices:
        """Make arrays of what is given."""
        return cls(*(np.asarray(a, dtype=np.float64) for a in (loss, seconds, size)))

    def cost(self, kind: str) -> Array:
        """Return ``seconds`` or ``bytes``."""
        return self.seconds if kind == "seconds" else self.bytes


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Least loss for every cost on the grid.

    Attributes
    ----------
    kind : {"seconds", "bytes"}
    cell : float
        Cost of a cell.
    cells : ndarray of shape (points,), int
        Cells that a point needs, rising.
    loss : ndarray of shape (points,)
        Least loss with so many cells, falling.
    picks : ndarray of shape (points, layers), int
        Choice of each layer.
    """

    kind: str
    cell: float
    cells: Index
    loss: Array
    picks: Index

    def within(self, budget: float) -> Index | None:
        """Return the choices of least loss that cost at most ``budget``; None: nothing does."""
        place = int(np.searchsorted(self.cells, np.floor(budget / self.cell), side="right")) - 1
        return None if place < 0 else self.picks[place]

    def least_cost(self, loss: float) -> Index | None:
        """Return the cheapest choices whose loss is at most ``loss``."""
        fits = np.flatnonzero(self.loss <= loss)
        return None if fits.size == 0 else self.picks[fits[0]]


def grid_costs(cost: ArrayLike, cell: float) -> Index:
    """Return costs in whole cells, rounded up (to a billionth of a cell)."""
    cells: Index = np.ceil(np.asarray(cost) / cell - 1e-9).astype(np.intp)
    return cells


def find_front(layers: Sequence[Choices], kind: str, cell: float) -> Front:
    """Return the front by dynamic programming over the layers.

    Parameters
    ----------
    layers : sequence of Choices
    kind : {"seconds", "bytes"}
        The cost that the loss is traded for.
    cell : float
        Cost of one cell of the grid.

    Notes
    -----
    Time is proportional to the number of all choices times the number of cells.
    """
    costs = [grid_costs(layer.cost(kind), cell) for layer in layers]
    kept = [_undominated(c, layer) for c, layer in zip(costs, layers, strict=True)]
    # what all layers cost that lose least is enough for anybody
    width = 1 + sum(int(c[k].max()) for c, k in zip(costs, kept, strict=True))
    best = np.full(width, np.inf)
    best[0] = 0.0
    taken = np.zeros((len(layers), width), dtype=np.int32)
    reach = 0
    for row, layer, cost, keep in zip(taken, layers, costs, kept, strict=True):
        found = np.full(width, np.inf)
        grown = reach + int(cost[keep].max())
        for place in keep:
            step = int(cost[place])
            loss = best[: reach + 1] + layer.loss[place]
            better = loss < found[step : step + reach + 1]
            found[step : step + reach + 1][better] = loss[better]
            row[step : step + reach + 1][better] = place
        best, reach = found, grown
    lowest = np.minimum.accumulate(best)
    points = np.flatnonzero(np.isfinite(best) & (best < np.append(np.inf, lowest[:-1])))
    picks = np.empty((points.size, len(layers)), dtype=np.intp)
    left = points.copy()
    for place in range(len(layers) - 1, -1, -1):
        picks[:, place] = taken[place, left]
        left -= costs[place][picks[:, place]]
    return Front(kind, cell, points, best[points], picks)


def _undominated(cost: Index, layer: Choices) -> list[int]:
    """Return the choices that no other beats in loss and cost, dearest first."""
    kept: list[int] = []
    least = np.inf
    for place in np.lexsort((layer.bytes, layer.seconds, layer.loss, cost)):
        if layer.loss[place] < least:
            least = float(layer.loss[place])
            kept.append(int(place))
    return kept[::-1]


def solve_both(
    layers: Sequence[Choices],
    *,
    seconds: float | None = None,
    size: float | None = None,
    loss: float | None = None,
    objective: str = "loss",
) -> Index | None:
    """Return the choices of least ``objective`` within all budgets; None: nothing keeps them.

    Parameters
    ----------
    seconds, size, loss : float, optional
        Budgets.
    objective : {"loss", "seconds"}

    Raises
    ------
    ArchsimError
        HiGHS found no answer in a minute.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    columns = {
        "loss": np.concatenate([c.loss for c in layers]),
        "seconds": np.concatenate([c.seconds for c in layers]),
        "bytes": np.concatenate([c.bytes for c in layers]),
    }
    budgets = {
        name: value
        for name, value in (("loss", loss), ("seconds", seconds), ("bytes", size))
        if value is not None
    }
    owner = np.repeat(np.arange(len(layers)), [c.loss.size for c in layers])
    one_each = csr_array((np.ones(owner.size), (owner, np.arange(owner.size))))
    scales = [value or 1.0 for value in budgets.values()]
    rows = [csr_array(columns[n][None] / s) for n, s in zip(budgets, scales, strict=True)]
    kept = [v / s * (1.0 - _SLACK) for v, s in zip(budgets.values(), scales, strict=True)]
    limits = np.concatenate([np.ones(len(layers)), kept])
    least = np.concatenate([np.ones(len(layers)), np.full(len(rows), -np.inf)])
    scale = columns[objective].max() or 1.0
    answer = milp(
        columns[objective] / scale,
        constraints=LinearConstraint(vstack([one_each, *rows]), least, limits),
        integrality=np.ones(owner.size, dtype=np.intp), bounds=Bounds(0, 1),
        options={"mip_rel_gap": _GAP, "time_limit": _TIME_LIMIT_S},
    )  # fmt: skip
    if answer.status == 2:
        return None
    if answer.x is None:
        raise ArchsimError(f"budgets: HiGHS gave up ({answer.message})")
    starts = np.concatenate([[0], np.cumsum([c.loss.size for c in layers])])
    picks: Index = np.array(
        [int(np.argmax(answer.x[a:b])) for a, b in pairwise(starts)],
        dtype=np.intp,
    )
    return picks


def totals(layers: Sequence[Choices], picks: ArrayLike) -> tuple[float, float, float]:
    """Return (loss, seconds, bytes) of a choice of each layer."""
    chosen = list(zip(layers, np.asarray(picks), strict=True))
    return (
        float(sum(c.loss[p] for c, p in chosen)),
        float(sum(c.seconds[p] for c, p in chosen)),
        float(sum(c.bytes[p] for c, p in chosen)),
    )
