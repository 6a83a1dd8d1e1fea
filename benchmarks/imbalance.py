"""Uneven patterns on two threads, predicted and measured: ``python -m benchmarks.imbalance``.

AlexNet's layers pruned with group lasso (``ARCHSIM_DATA``), and patterns whose output channels have
very different numbers of nonzeros, cut by nonzeros and by output channels.  Each measurement stands
between those of other patterns, and counts if nobody disturbed it; predictions are for the very
pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, Final, Literal

import numpy as np

import archsim
from archsim.machinefile import load_machine
from archsim.network import Layer, load_network
from archsim.sparsity import Sparsity, load_sparsity
from archsim.validate.cases import real_files
from benchmarks.undisturbed import Host

LAYERS = ("conv2", "conv3", "conv4", "conv5")
CASES = (("direct_sparse", "row"), ("direct_sparse", "lanes"), ("lowered_sparse", "auto"))
PARTITIONS = ("nnz", "rows")
MODELS: Final[tuple[Literal["ecm", "simulator"], ...]] = ("ecm", "simulator")
ROUNDS = 5
SECONDS = 0.02
THREADS = 2


def skewed(layer: Layer, seed: int = 0) -> Sparsity:
    """Return a pattern whose output channels' densities fall from 0.5 to 0.005 geometrically."""
    rng = np.random.default_rng(seed)
    shape = (layer.K, layer.C // layer.groups, layer.R, layer.S)
    density = np.geomspace(0.5, 0.005, shape[0])[:, None, None, None]
    weights = rng.standard_normal(shape) * (rng.random(shape) < density)
    return Sparsity.of_weights(weights.astype(np.float32), layer)


def patterns() -> Iterator[tuple[str, Layer, Sparsity]]:
    """Yield name, layer and pattern."""
    network = load_network("alexnet")
    for path in real_files("alexnet"):
        if "grouplasso" in path.stem:
            found = load_sparsity(path, network)
            yield from (("group lasso", network[name], found[name]) for name in LAYERS)
    yield from (("skewed", network[name], skewed(network[name])) for name in LAYERS)


def main() -> None:
    """Print a row for each run, and the errors of both models."""
    machine = load_machine("host")
    cases: list[tuple[str, Layer, dict[str, Any]]] = [
        (name, layer, {"method": method, "schedule": schedule, "pattern": pattern,
                       "partition": partition, "batch": 1})
        for name, layer, pattern in patterns()
        for method, schedule in CASES
        for partition in PARTITIONS
    ]  # fmt: skip
    host = Host(machine, THREADS, SECONDS)
    times: list[list[tuple[float, bool]]] = [[] for _ in cases]
    for _ in range(ROUNDS):
        for (_, layer, given), found in zip(cases, times, strict=True):
            measured = host.measure(layer, **given)
            if measured is not None:
                found.append(measured)
    errors: dict[str, list[float]] = {model: [] for model in MODELS}
    left_out = 0
    for (name, layer, given), found in zip(cases, times, strict=True):
        undisturbed = [seconds for seconds, quiet in found if quiet]
        if not undisturbed:
            left_out += bool(found)
            continue
        measured_seconds = median(undisturbed)
        row = []
        for model in MODELS:
            predicted = (
                archsim.predict(layer, machine, model=model, threads=THREADS, **given).seconds
                or np.nan
            )
            errors[model].append(predicted / measured_seconds - 1.0)
            row.append(f"{model} {predicted * 1e3:.4f} ({errors[model][-1]:+.1%})")
        print(f"{name} {layer.name} {given['method']} {given['schedule']} {given['partition']}: "
              f"measured {measured_seconds * 1e3:.4f} ms, {', '.join(row)}")  # fmt: skip
    print(f"{len(errors['ecm'])} undisturbed, {left_out} left out")
    for model in MODELS if errors["ecm"] else ():
        off = errors[model]
        print(f"{model}: median {np.median(np.abs(off)):.1%}, p90 "
              f"{np.percentile(np.abs(off), 90):.1%}, bias {np.mean(off):+.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
