"""Native times of whole pruned networks, each layer by the method that is fastest for its zeros.

A network's layers run one after the other, each on its own input, as its products would be
needed; activations and pooling are left out, of everybody.  Networks are timed in turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim import kernels, native
from archsim.api import make_plan
from archsim.errors import NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.plan import Plan
from archsim.quiet import Watch
from archsim.sparsity import Sparsity

Array = NDArray[np.float32]

CHOICE_SECONDS: Final = 0.01  # of each candidate, when a layer's method is chosen


@dataclass(frozen=True, eq=False)
class Chosen:
    """The fastest plan of a layer with its weights, and the fastest dense one.

    ``seconds`` are those of the choice, each layer by itself.
    """

    plan: Plan
    weights: Array
    dense: Plan | None
    seconds: float
    dense_seconds: float | None

    @property
    def layer(self) -> Layer:
        """The layer."""
        return self.plan.layer

    @property
    def name(self) -> str:
        """Method and schedule."""
        return f"{self.plan.method}={self.plan.schedule}"


def load_weights(folder: Path) -> dict[str, tuple[Layer, Array]]:
    """Return layers and weights that a run has left in its folder."""
    network = load_network(folder / "network.yaml")
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        return {layer.name: (layer, file[layer.name]) for layer in network}


def choose(layer: Layer, weights: Array, *, threads: int = 1, batch: int = 1) -> Chosen:
    """Time every method that computes these weights on the host, in turns; return the fastest.

    Dense methods compute zeros like other weights.  `direct_sparse` is tried with each of its
    schedules, as `archsim targets` does.
    """
    sparsity = Sparsity.of_weights(weights, layer)
    jobs = []
    for name, method in METHODS.items():
        if sparsity.domain == "winograd" and name != "sparse_winograd":
            continue
        for schedule in method.schedules if name == "direct_sparse" else ("auto",):
            try:
                plan = make_plan(
                    layer, "host", method=name, schedule=schedule, batch=batch, threads=threads,
                    pattern=None if method.dense else sparsity, isa=kernels.active_isa(),
                )  # fmt: skip
            except NotApplicableError:
                continue
            if plan.weight_shape == weights.shape:
                jobs.append(native.Job(plan, weights))
    found = native.run_interleaved(jobs, min_seconds=CHOICE_SECONDS)
    order = sorted(range(len(jobs)), key=lambda i: found[i].seconds)
    dense = next((i for i in order if METHODS[jobs[i].plan.method].dense), None)
    return Chosen(
        jobs[order[0]].plan, weights, None if dense is None else jobs[dense].plan,
        found[order[0]].seconds, None if dense is None else found[dense].seconds,
    )  # fmt: skip


class PackedNetwork:
    """Packed layers with inputs and outputs of their own.

    Parameters
    ----------
    layers : sequence of Chosen
    dense : bool
        By the fastest dense methods, zeros or not.
    """

    def __init__(self, layers: Sequence[Chosen], *, dense: bool = False) -> None:
        rng = np.random.default_rng(0)
        self._steps: dict[str, list[tuple[Any, Array, Array]]] = {"conv": [], "fc": []}
        for one in layers:
            plan = one.dense if dense and one.dense is not None else one.plan
            layer, batch = plan.layer, plan.batch
            x = kernels.aligned_empty((batch, layer.C, layer.H, layer.W))
            rng.standard_normal(dtype=np.float32, out=x)
            out = kernels.aligned_empty((batch, layer.K, layer.P, layer.Q))
            self._steps[layer.type].append((native.prepare(plan, one.weights), x, out))

    def run(self, *types: str) -> None:
        """Run all layers of these types, in order."""
        for kind in types or ("conv", "fc"):
            for packed, x, out in self._steps[kind]:
                packed.run(x, out=out)


def time_networks(
    networks: Mapping[str, PackedNetwork], *, min_seconds: float, threads: int = 1
) -> dict[str, dict[str, float]]:
    """Time convolutions and whole networks in turns, while the cores are quiet.

    Returns
    -------
    dict of name to dict
        ``conv_s``, ``network_s`` (medians), ``conv_low_s``, ``conv_high_s``, ``disturbed``.
    """
    watch = Watch(load_machine("host"), threads)
    timed = {}
    for name, network in networks.items():
        for what, types in (("conv", ("conv",)), ("network", ("conv", "fc"))):
            timed[name, what] = native.Timed(
                partial(network.run, *types), lambda: None, threads=threads, watch=watch
            )
    native.time_in_turns(list(timed.values()), min_seconds)
    found: dict[str, dict[str, float]] = {name: {} for name in networks}
    for (name, what), one in timed.items():
        low, median, high = one.percentiles()
        found[name] |= {
            f"{what}_s": median, f"{what}_low_s": low, f"{what}_high_s": high,
            f"{what}_disturbed": float(one.disturbed),
        }  # fmt: skip
    return found
