"""The allocation of docs/targets.md against SciPy's HiGHS: ``python -m benchmarks.allocation``.

The same instance, losses and costs in whole cells, goes to both; the losses must agree.
"""

from __future__ import annotations

import math
import sys
import time

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.pruning import assumed_sensitivity, make_table
from archsim.pruning.allocation import CELLS, Choices, find_front, grid_costs, totals
from archsim.pruning.choices import all_choices

NETWORKS = ("alexnet", "googlenet", "resnet50")
SHARE = 0.5  # of the dense time


def least_loss(layers: list[Choices], cell: float, limit: int) -> float:
    """Return HiGHS's least loss, gap 0, on costs in cells."""
    loss = np.concatenate([c.loss for c in layers])
    owner = np.repeat(np.arange(len(layers)), [c.loss.size for c in layers])
    cost = np.concatenate([grid_costs(c.seconds, cell) for c in layers]).astype(float)
    one_each = csr_array((np.ones(owner.size), (owner, np.arange(owner.size))))
    limits = ([*[1] * len(layers), -np.inf], [*[1] * len(layers), limit])
    answer = milp(
        loss, integrality=np.ones(loss.size, dtype=int), bounds=Bounds(0, 1),
        constraints=LinearConstraint(vstack([one_each, csr_array(cost[None])]), *limits),
        options={"mip_rel_gap": 0},
    )  # fmt: skip
    assert answer.x is not None, answer.message
    return float(answer.fun)


def main(machine: str = "xeon-phi-7250", model: str = "park") -> None:
    """Print a row for each network."""
    for name in NETWORKS:
        begin = time.perf_counter()
        table = make_table(load_network(name), load_machine(machine), model=model)  # type: ignore[arg-type]
        made = time.perf_counter()
        sensitivity = assumed_sensitivity(table.network, table.sparsities)
        layers = [layer.costs for layer in all_choices(table, sensitivity)]
        cell = table.dense_seconds / CELLS
        limit = math.floor(SHARE * CELLS)
        picks = find_front(layers, "seconds", cell).within(limit * cell * (1 + 1e-12))
        solved = time.perf_counter()
        assert picks is not None, "the budget cannot be met"
        loss = totals(layers, picks)[0]
        best = least_loss(layers, cell, limit)
        ended = time.perf_counter()
        assert abs(loss - best) <= 1e-9 * best, (loss, best)
        print(
            f"{name}: table {made - begin:.1f} s; {len(layers)} layers, "
            f"{sum(c.loss.size for c in layers)} choices; {solved - made:.3f} s, HiGHS "
            f"{ended - solved:.2f} s; loss {loss:.6g}, difference {loss - best:.1g}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:3])
