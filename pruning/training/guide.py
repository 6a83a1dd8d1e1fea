"""What a machine says of a network while it is pruned: which layers gain, and until where.

All times are asked for once, in a table (:mod:`archsim.pruning.table`); a projection reads off
lines and costs microseconds, so it can be made as often as wanted while a model trains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import input_error
from archsim.machine import Machine
from archsim.machinefile import load_machine
from archsim.network import Network
from archsim.pruning.groupwise import map_seconds
from archsim.pruning.table import LayerTimes, MethodTimes, TableModel, TimeTable, make_table
from archsim.pruning.window import Window, find_window
from archsim.sparsity import Domain

Array = NDArray[np.float64]
Action = Literal["prune", "stop", "restore", "skip"]
FcGoal = Literal["size", "time", "dense"]
Groups = Literal["weights", "output-maps"]

FC_GOALS: Final = ("size", "time", "dense")
GROUPS: Final = ("weights", "output-maps")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a layer now.

    Attributes
    ----------
    action : {"prune", "stop", "restore", "skip"}
        Go on; stop, its zeros stay; stop and give the dense weights back; do not begin.
    sparsity : float
        At which this was said.
    speedup : float
        Of the layer over its best dense method; 1 where it would run dense.
    """

    layer: str
    action: Action
    reason: str
    sparsity: float
    speedup: float


class Guide:
    """Projects the speedup of layers on a machine (Park et al., ICLR 2017, section 2.3).

    Parameters
    ----------
    network : Network
        Of :func:`archsim.from_torch`, so that its names are those of the modules.
    machine : Machine or str
    model : {"ecm", "park", "simulator"}
        ``park`` is the published model, whose upper bound of sparsity is x_lo.
    batch, threads : int, optional
        As in :func:`archsim.pruning.make_table`.
    fc : {"size", "time", "dense"}
        What fully connected layers are pruned for.  For size there is no upper bound, and the
        lower one is where CSR takes less than the dense weights, sparsity 1/2; ``dense`` leaves
        them, as the paper's guided network surgery does.
    groups : {"weights", "output-maps"}
        What the method removes: single weights, which sparse kernels use, or whole output maps,
        which leave a smaller dense layer.
    winograd : iterable of str
        Layers whose zeros are counted in the Winograd domain.
    levels : int
        Of the table.
    """

    def __init__(
        self,
        network: Network,
        machine: Machine | str,
        *,
        model: TableModel = "ecm",
        batch: int | None = None,
        threads: int | None = None,
        fc: FcGoal = "size",
        groups: Groups = "weights",
        winograd: Iterable[str] = (),
        levels: int = 100,
    ) -> None:
        for what, value, allowed in (("fc", fc, FC_GOALS), ("groups", groups, GROUPS)):
            if value not in allowed:
                raise input_error(what, "unknown", found=value, allowed=", ".join(allowed),
                                  near=(str(value), allowed))  # fmt: skip
        self.network = network
        self.machine = load_machine(machine) if isinstance(machine, str) else machine
        self.fc: FcGoal = fc
        winograd = set(winograd)
        self.table = make_table(
            network, self.machine, model=model, batch=batch, threads=threads, levels=levels,
            winograd=winograd,
        )  # fmt: skip
        self.windows: dict[str, Window] = {}
        self._lines: dict[str, tuple[Array, Array]] = {}
        self._why: dict[str, str] = {}
        for times in self.table:
            self._add(times, "winograd" if times.layer.name in winograd else "spatial", groups)

    def _add(self, times: LayerTimes, domain: Domain, groups: Groups) -> None:
        name, ask = times.layer.name, self.machine
        if groups == "output-maps":
            times = _of_maps(times, self.table, self.machine)
        window = find_window(times, self.table, ask if groups == "weights" else None, domain)
        best = times.best(domain) if times.sparse else np.empty(0)
        known = np.isfinite(best)
        seconds = np.minimum(best[known], times.dense_seconds)
        grid = self.table.sparsities[known] if seconds.size else np.empty(0)
        self.windows[name] = window
        self._lines[name] = np.append(0.0, grid), np.append(times.dense_seconds, seconds)
        self._why[name] = times.reason or f"no sparse method is faster on {self.machine.name}"

    def seconds(self, layer: str, density: float) -> float:
        """Return the predicted seconds of a layer of the table's batch, dense where faster."""
        grid, seconds = self._lines[layer]
        return float(np.interp(1.0 - density, grid, seconds))

    def speedup(self, densities: Mapping[str, float]) -> float:
        """Return the predicted speedup of the network; layers not named are dense."""
        total = sum(self.seconds(layer.name, densities.get(layer.name, 1.0))
                    for layer in self.network)  # fmt: skip
        return self.table.dense_seconds / total

    def start(self, layers: Iterable[str]) -> dict[str, Verdict]:
        """Say of each layer whether to prune it at all."""
        return {name: self._verdict(name, 1.0, settled=False) for name in layers}

    def project(
        self, densities: Mapping[str, float], settled: Collection[str] = ()
    ) -> dict[str, Verdict]:
        """Say what to do with each layer at its density.

        Parameters
        ----------
        densities : mapping of str to float
            Of the layers that are being pruned.
        settled : collection of str
            Layers whose density no longer changes: those below their lower bound are given up.
        """
        return {
            name: self._verdict(name, density, settled=name in settled)
            for name, density in densities.items()
        }

    def _verdict(self, name: str, density: float, *, settled: bool) -> Verdict:
        sparsity = 1.0 - density

        def say(action: Action, reason: str, speedup: float = 1.0) -> Verdict:
            return Verdict(name, action, reason, sparsity, speedup)

        if name not in self._lines:
            return say("skip", "archsim does not know this layer")
        speedup = self.seconds(name, 1.0) / self.seconds(name, density)
        layer = self.network[name]
        if layer.type == "fc" and self.fc == "dense":
            return say("skip", "fully connected layers stay dense")
        if layer.type == "fc" and self.fc == "size":
            if settled and layer.sparse_bytes(density) >= layer.dense_bytes:
                return say("restore", "CSR would take more room than the dense weights", speedup)
            return say("prune", "for size", speedup)
        window = self.windows[name]
        if window.pays_from is None:
            return say("skip", self._why[name])
        if window.gains_until is not None and window.gains_until <= window.pays_from:
            return say(
                "skip", f"gains nothing beyond {window.pays_from:.3f}, where it begins to pay"
            )
        if window.gains_until is not None and sparsity >= window.gains_until:
            return say("stop", f"nothing is gained above sparsity {window.gains_until:.3f}",
                       speedup)  # fmt: skip
        if sparsity <= window.pays_from and settled:
            return say("restore", f"settled below {window.pays_from:.3f}, where it begins to pay",
                       speedup)  # fmt: skip
        until = "" if window.gains_until is None else f" to {window.gains_until:.3f}"
        return say("prune", f"pays from {window.pays_from:.3f}{until}", speedup)


def _of_maps(times: LayerTimes, table: TimeTable, machine: Machine) -> LayerTimes:
    """Return times of a layer without some of its output maps as if of a sparse method."""
    shares, seconds = map_seconds(times.layer, table, machine)
    line = np.interp(table.sparsities, shares, seconds, right=np.nan)
    asked = np.zeros(line.size, dtype=np.bool_)
    row = MethodTimes("fewer_maps", "spatial", line, asked, ("auto",) * line.size)
    reason = None if shares.size > 1 else "has a single output map"
    return replace(times, sparse=(row,) if shares.size > 1 else (), reason=reason)
