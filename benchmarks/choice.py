"""What ``auto`` chooses for `direct_sparse`: ``python -m benchmarks.choice [native]``.

Without an argument: predicted times of the candidates that `auto` has against those of more
densities.  ``native``: on this host, the plan that `auto` takes, the one that the cost models of
the methods would take without the machine's speeds, and the fastest of all candidates, in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Final

import numpy as np

from archsim.analytic import ecm
from archsim.choice import fitted
from archsim.errors import NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods import get_method
from archsim.methods.lanes_candidates import TRIED, lane_candidates
from archsim.methods.lanes_geometry import MODES
from archsim.network import Layer, load_network
from archsim.plan import Candidate
from archsim.predictors import by_native_interleaved
from archsim.quiet import Watch
from archsim.request import Request, make_request
from archsim.sparsity import Sparsity

METHOD: Final = "direct_sparse"
MACHINES: Final = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", "generic-x86-64")
LAYERS: Final = {
    "alexnet": ("conv2", "conv3", "conv5"),
    "resnet50": ("res2a_branch2b", "res3b_branch2b", "res4b_branch2a"),
}
MORE: Final = (0.01, 0.02, 0.03, 0.045, 0.06, 0.09, 0.12, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)
DENSITIES: Final = (0.01, 0.03, 0.1, 0.2, 0.5)
BATCHES: Final = (1, 16)
SECONDS: Final = 0.02  # of each contestant


def layers() -> Iterator[Layer]:
    """Yield the layers."""
    for network, names in LAYERS.items():
        yield from (load_network(network)[name] for name in names)


def predicted() -> None:
    """Print by how much more candidates are faster."""
    for name in MACHINES:
        machine, lost = load_machine(name), []
        for layer, density in product(layers(), DENSITIES):
            batch = threads = machine.total_threads
            request = _request(layer, name, density, batch, threads)
            target = machine.target(None)
            few, many = (
                _fastest(request, lane_candidates(layer, MODES, batch, threads, target, tried))
                for tried in (TRIED, MORE)
            )
            lost.append(few / min(few, many) - 1.0)
        print(f"{name}: {len(TRIED)} densities against {len(MORE)}: mean {fmean(lost):.2%}, "
              f"worst {max(lost):.1%} of {len(lost)}")  # fmt: skip


def _request(layer: Layer, machine: str, density: float, batch: int, threads: int) -> Request:
    return make_request(
        layer, load_machine(machine), method=METHOD, schedule="auto", density=None,
        pattern=Sparsity(density), density_domain="spatial", partition="nnz", batch=batch,
        threads=threads, clock="sustained", isa=None, seed=0, model="ecm",
    )  # fmt: skip


def _named(request: Request, candidates: tuple[Candidate, ...]) -> Iterator[Request]:
    for candidate in candidates:
        yield replace(request, schedule=candidate.schedule, blocks_for=candidate.blocks_for)


def _fastest(request: Request, candidates: tuple[Candidate, ...]) -> float:
    found = []
    for named in _named(request, candidates):
        try:
            found.append(ecm.estimate(named.plan(), request.machine).seconds)
        except NotApplicableError:
            continue
    return min(found)


def native() -> None:
    """Print how `auto` does on this host, and the cost models alone."""
    machine = load_machine("host")
    watch = Watch(machine)
    ratios: dict[str, list[float]] = {"auto": [], "cost models": []}
    for layer, density, batch in product(layers(), DENSITIES[1:4], BATCHES):
        request = _request(layer, "host", density, batch, 1)
        chosen, alone = fitted(request), request
        everything = get_method(METHOD).candidates(
            layer, "auto", batch=batch, threads=1, target=machine.target(None)
        )
        running = [chosen, alone, *_named(request, everything)]
        timed = by_native_interleaved(running, min_seconds=SECONDS, check=False, watch=watch)
        seconds = np.array([found.seconds for found in timed])
        quiet = "" if all("disturbed" not in found.notes for found in timed) else ", disturbed"
        for name, own in zip(ratios, seconds[:2], strict=True):
            ratios[name].append(float(own / seconds.min()))
        print(f"{layer.name} {density:g} x{batch}: auto {timed[0].schedule} "
              f"{ratios['auto'][-1]:.3f}, cost models {timed[1].schedule} "
              f"{ratios['cost models'][-1]:.3f} of the fastest{quiet}")  # fmt: skip
    for name, found in ratios.items():
        print(f"{name}: mean {fmean(found):.3f}, worst {max(found):.2f} times the fastest of all "
              f"candidates, {len(found)} points")  # fmt: skip


if __name__ == "__main__":
    native() if sys.argv[1:] == ["native"] else predicted()
