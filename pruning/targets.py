"""Pruning targets: which layers to prune on a machine, how far, and by which method to run them.

::

    Machine, Network -> table (times) -+-> window (where pruning pays)
              curves -> sensitivity ---+-> choices -> allocation (budgets) -> Targets -> document
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from archsim.errors import InputError, input_error
from archsim.machine import Machine
from archsim.network import Network
from archsim.pruning.allocation import CELLS, Front, Index, find_front, solve_both, totals
from archsim.pruning.budget import Budget
from archsim.pruning.choices import LayerChoices, Option, all_choices, applied
from archsim.pruning.groupwise import compare_groups
from archsim.pruning.sensitivity import Sensitivity
from archsim.pruning.table import TimeTable
from archsim.pruning.window import Window, find_window
from archsim.sparsity import Domain, load_sparsity

_NEAR: Final = 1e-9  # sums of many layers differ in the last digits


@dataclass(frozen=True, eq=False)
class Targets:
    """What to prune; ``picks`` is the option of each layer, None without a budget."""

    network: Network
    table: TimeTable
    sensitivity: Sensitivity
    budget: Budget
    choices: Sequence[LayerChoices]
    windows: Mapping[str, Window]
    front: Front
    picks: Index | None
    method: str
    groups: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    uniform: Mapping[str, Any] | None = None
    against: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()

    @property
    def options(self) -> dict[str, Option]:
        """The option of each layer; without a budget all are dense."""
        picks = self.picks if self.picks is not None else np.zeros(len(self.choices), dtype=np.intp)
        return {
            layer.times.layer.name: layer.options[int(pick)]
            for layer, pick in zip(self.choices, picks, strict=True)
        }

    @property
    def sparsities(self) -> dict[str, float]:
        """Sparsity of each layer that is to be pruned."""
        return {name: o.sparsity for name, o in self.options.items() if o.sparsity > 0.0}


def find_targets(
    table: TimeTable,
    sensitivity: Sensitivity,
    budget: Budget | None = None,
    *,
    machine: Machine | None = None,
    pins: Mapping[str, float] | None = None,
    against: Sequence[str] = (),
    groups: bool = True,
    cells: int = CELLS,
) -> Targets:
    """Find windows and, with a budget, the allocation that loses least.

    With a budget of loss and none of time the fastest allocation is found instead.

    Parameters
    ----------
    table : TimeTable
    sensitivity : Sensitivity
    budget : Budget, optional
    machine : Machine, optional
        The table's; windows are refined by predictions, and group-wise sparsity is compared.
    pins : mapping of layer to sparsity, optional
        Layers whose sparsity is decided.
    against : sequence of str
        Sparsities to compare with, as :func:`archsim.load_sparsity` reads them.
    groups : bool
        Compare with removed output maps.
    cells : int
        Cells of the grid that the dense network's cost is cut into.

    Raises
    ------
    InputError
        A budget that cannot be met (by how much), or a pin below its layer's window.
    """
    budget = budget or Budget()
    for name in pins or {}:
        table.network[name]  # refuses unknown layers
    choices = all_choices(table, sensitivity, pins)
    costs = [layer.costs for layer in choices]
    kind = "bytes" if budget.bytes is not None and budget.seconds is None else "seconds"
    dense = sum(float(layer.cost(kind)[0]) for layer in costs)
    front = find_front(costs, kind, dense / cells)
    picks, method = _solve(choices, budget, front) if budget or pins else (None, "")
    chosen = {
        layer.times.layer.name: layer.options[int(pick)].sparsity
        for layer, pick in zip(choices, picks if picks is not None else (), strict=False)
    }
    described = machine is not None and table.model != "native"
    return Targets(
        table.network, table, sensitivity, budget, choices, _windows(table, sensitivity, machine),
        front, picks, method,
        groups={
            t.layer.name: compare_groups(t, table, machine, chosen.get(t.layer.name, 0.0))
            for t in table
            if t.sparse
        }
        if groups and described and machine is not None
        else {},
        uniform=_uniform(table, sensitivity, budget) if budget else None,
        against=[_against(table, sensitivity, name, front, kind) for name in against],
        notes=_notes(front, method),
    )  # fmt: skip


def _windows(
    table: TimeTable, sensitivity: Sensitivity, machine: Machine | None
) -> dict[str, Window]:
    found = {}
    for times in table:
        domains: list[Domain] = [d for d in times.domains if d in sensitivity[times.layer.name]]
        domain = domains[0] if domains else "spatial"
        found[times.layer.name] = find_window(times, table, machine, domain)
    return found


def _solve(choices: Sequence[LayerChoices], budget: Budget, front: Front) -> tuple[Index, str]:
    """Return the option of each layer, and how it was found."""
    costs = [layer.costs for layer in choices]
    limits = {"seconds": budget.seconds, "bytes": budget.bytes, "loss": budget.loss}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    fast = budget.loss is not None and budget.seconds is None
    easy = [_lightest(c.seconds, c.bytes) if fast else _lightest(c.loss, c.seconds) for c in costs]
    if _keeps(costs, np.array(easy), given):
        return np.array(easy), "each layer by itself"
    for name, limit in given.items():
        _refuse(costs, name, limit)
    found: Index | None
    if set(given) == {"loss"}:
        found, how = front.least_cost(given["loss"] * (1 + _NEAR)), "dynamic programming"
    elif len(given) == 1:
        found, how = front.within(given[front.kind]), "dynamic programming"
    else:
        found = solve_both(
            costs, seconds=budget.seconds, size=budget.bytes, loss=budget.loss,
            objective="seconds" if fast else "loss",
        )  # fmt: skip
        how = "HiGHS"
    if found is None and len(given) == 1:  # the grid is too coarse: the cheapest fits in truth
        (name,) = given
        found, how = np.array([_lightest(c.cost(name), c.loss) for c in costs]), "the cheapest"
    if found is None:
        raise InputError("budgets: each can be met, but not all of them at once")
    return found, how


def _lightest(first: Any, second: Any) -> int:
    return int(np.lexsort((second, first))[0])


def _keeps(costs: Sequence[Any], picks: Index, given: Mapping[str, float]) -> bool:
    loss, seconds, size = totals(costs, picks)
    have = {"loss": loss, "seconds": seconds, "bytes": size}
    return all(have[name] <= limit * (1 + _NEAR) for name, limit in given.items())


def _refuse(costs: Sequence[Any], name: str, limit: float) -> None:
    """Refuse a budget that not even the cheapest options keep."""
    least = float(sum(getattr(c, name).min() for c in costs))
    if least <= limit * (1 + _NEAR):
        return
    dense = float(sum(getattr(c, name)[0] for c in costs))
    unit = {"seconds": " s", "bytes": " bytes"}.get(name, "")
    share = f" ({least / dense:.1%} of the dense network)" if dense else ""
    flag = {"seconds": "time", "bytes": "size", "loss": "accuracy"}[name]
    raise input_error(
        f"budget-{flag}",
        f"cannot be met: {limit:.4g}{unit} is asked, {least:.4g}{unit}{share} is the least: "
        f"{least - limit:.3g}{unit} too much",
    )


def _uniform(table: TimeTable, sensitivity: Sensitivity, budget: Budget) -> dict[str, Any]:
    """Return the lowest equal sparsity that keeps the budget, and what it costs.

    With a budget of loss alone it is the highest.  It is that of all layers which their curves do
    not keep dense; 0 is the dense network.
    """
    best: dict[str, Any] | None = None
    layers = [name for name in table.layers
              if (curve := sensitivity[name].get("spatial")) and curve.greatest > 0.0]  # fmt: skip
    for sparsity in (0.0, *table.sparsities):
        found = applied(
            table, sensitivity,
            {name: (float(sparsity), "spatial") for name in layers},
        )  # fmt: skip
        loss: Any = found["loss"]
        if loss is None or (budget.loss is not None and loss > budget.loss * (1 + _NEAR)):
            break
        seconds: Any = found["seconds"]
        size: Any = found["bytes"]
        fits = (budget.seconds is None or seconds <= budget.seconds) and (
            budget.bytes is None or size <= budget.bytes
        )
        if fits:
            best = {"sparsity": float(sparsity), **found}
            if budget.seconds is not None or budget.bytes is not None:
                break
    return best or {"sparsity": None, "seconds": None, "bytes": None, "loss": None, "slower": []}


def _against(
    table: TimeTable, sensitivity: Sensitivity, name: str, front: Front, kind: str
) -> dict[str, Any]:
    """Return what given sparsities cost, and the best at the same loss and at the same cost."""
    given = load_sparsity(name, table.network)
    sparsities = {t.layer.name: (given[t.layer.name].sparsity, given[t.layer.name].domain)
                  for t in table}  # fmt: skip
    found = applied(table, sensitivity, sparsities)
    loss: Any = found["loss"]
    same_loss = None
    if loss is not None:
        reachable = np.flatnonzero(front.loss <= loss * (1 + _NEAR))
        same_loss = float(front.cells[reachable[0]] * front.cell) if reachable.size else None
    cost: Any = found[kind]
    place = int(np.searchsorted(front.cells * front.cell, cost * (1 + _NEAR), side="right")) - 1
    return {
        "sparsity": given.label, **found, f"{kind}_at_same_loss": same_loss,
        f"loss_at_same_{kind}": float(front.loss[place]) if place >= 0 else None,
    }  # fmt: skip


def _notes(front: Front, method: str) -> list[str]:
    notes = []
    if method == "dynamic programming":
        unit = "s" if front.kind == "seconds" else "bytes"
        notes.append(f"exact on a grid of {front.cell:.4g} {unit}, costs rounded up to it")
    elif method:
        notes.append(f"solved: {method}")
    return notes
