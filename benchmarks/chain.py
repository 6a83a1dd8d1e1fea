"""Chains of layers in lane layout against the same layers one by one, in interleaved rounds.

    python benchmarks/chain.py [--chains alexnet,r64] [--sparsity 0.9,0.95] [--seconds 2]
                               [--threads 1] [--batch 1]

One by one the layers are run *alike*, in the chain's own mode, and *apart*, each in its cheapest
lane schedule (1x1 layers: pointwise); all write into arrays that are there. They are called in
turns, so that a clock that drifts or a neighbour that computes disturbs them all; medians over the
rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import archsim
from archsim import kernels, native
from archsim.native_chain import prepare_chain
from archsim.network import Layer
from archsim.sparsity import Sparsity

ENDS = {
    "alexnet": ("alexnet", "conv3", "conv5"),
    "vgg256": ("vgg16", "conv3_2", "conv3_3"),
    "vgg512": ("vgg16", "conv5_1", "conv5_3"),
    "res2": ("resnet50", "res2b_branch2a", "res2b_branch2c"),
    "res4": ("resnet50", "res4b_branch2a", "res4b_branch2c"),
}
ALIKE = {
    "r64": Layer("r64", C=64, K=64, H=56, W=56, R=3, S=3, pad=(1, 1)),
    "r256": Layer("r256", C=256, K=256, H=14, W=14, R=3, S=3, pad=(1, 1)),
}
_LEAST_ROUNDS = 9


def layers_of(name: str) -> tuple[Layer, ...]:
    """Return the layers of a chain; the first residual blocks of ResNet-34 have three alike."""
    if name in ALIKE:
        return (ALIKE[name],) * 3
    network, first, last = ENDS[name]
    return archsim.chain(archsim.load_network(network), first, last)


def contestants(
    name: str, sparsity: float, batch: int, threads: int
) -> tuple[dict[str, Callable[[], object]], str]:
    """Return the calls to time, and the chain's schedule."""
    layers = layers_of(name)
    weights: list[Any] = [
        Sparsity(1.0 - sparsity).draw(layer, seed).weights for seed, layer in enumerate(layers)
    ]
    common: dict[str, Any] = {"batch": batch, "threads": threads, "isa": kernels.active_isa()}
    plans = archsim.plan_chain(layers, "host", pattern=weights, **common)
    chain = prepare_chain(
        [native.Job(*job) for job in zip(plans, weights, strict=True)], relu=False
    )
    alone: dict[str, list[Any]] = {"apart": [], "alike": []}
    mode = f"lanes:{plans[0].blocking['mode']}"
    for layer, array in zip(layers, weights, strict=True):
        cheapest = "pointwise" if (layer.R, layer.S) == (1, 1) else "lanes"
        for key, schedule in (("apart", cheapest), ("alike", mode)):
            plan = archsim.make_plan(
                layer, "host", method="direct_sparse", schedule=schedule, pattern=array, **common
            )
            alone[key].append(native.prepare(plan, array))
    first = layers[0]
    x = np.random.default_rng(0).standard_normal(
        (batch, first.C, first.H, first.W), dtype=np.float32
    )
    outs = [np.empty((batch, layer.K, layer.P, layer.Q), dtype=np.float32) for layer in layers]
    out = outs[-1].copy()

    def one_by_one(packed: list[Any]) -> None:
        given = x
        for layer, there in zip(packed, outs, strict=True):
            given = layer.run(given, out=there)

    calls: dict[str, Callable[[], object]] = {
        key: partial(one_by_one, packed) for key, packed in alone.items()
    }
    chain.run(x, out=out)
    for name_of_call, call in calls.items():
        call()
        scale = float(np.abs(out).max()) or 1.0
        if float(np.abs(out - outs[-1]).max()) > 1e-4 * scale:
            raise SystemExit(f"{name}: the chain and {name_of_call} differ")
    return {"chain": lambda: chain.run(x, out=out), **calls}, plans[0].schedule


def time_rounds(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Return the seconds of each call, round by round."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["chain"]) < _LEAST_ROUNDS:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Print a line for each chain and sparsity."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chains", default=",".join([*ENDS, *ALIKE]))
    parser.add_argument("--sparsity", default="0.9,0.95")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    print(f"{'chain':9}{'sparsity':>9}  {'schedule':13}{'chain':>9}{'alike':>9}{'apart':>9}"
          f"{'alike/chain':>13}{'apart/chain':>13}  ms; ratios of medians")  # fmt: skip
    for name in given.chains.split(","):
        for sparsity in map(float, given.sparsity.split(",")):
            calls, schedule = contestants(name, sparsity, given.batch, given.threads)
            found = time_rounds(calls, given.seconds)
            ms = {key: 1e3 * statistics.median(times) for key, times in found.items()}
            print(f"{name:9}{sparsity:9}  {schedule:13}{ms['chain']:9.3f}{ms['alike']:9.3f}"
                  f"{ms['apart']:9.3f}{ms['alike'] / ms['chain']:13.2f}"
                  f"{ms['apart'] / ms['chain']:13.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
