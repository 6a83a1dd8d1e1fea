"""Twice the L2, half the misses in flight, 1024-bit SIMD: closed form beside simulator.

Covers: machines from a few lines of YAML, layers after each other in one simulation, what a run
says besides its seconds.
Scenario: the convolutions of AlexNet on a Xeon Phi, one image per hardware thread, two sparsities.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import archsim

BASE = "xeon-phi-7250"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
METHODS = ("dense_direct", "winograd", "direct_sparse")
HEAD = """\
format: 1
name: {name}
base: xeon-phi-7250
source: imagined
sources:
  imagined: {{kind: assumed, text: what an architect would ask}}
caches:
"""
CHANGES = {
    "twice-the-l2": "  - {name: L2, size: 2 MiB}\n",
    "half-the-misses": "  - {name: L1, outstanding: 6}\n  - {name: L2, outstanding: 8}\n",
}


def machines(folder: Path) -> list[archsim.Machine]:
    """Return the Xeon Phi and three that do not exist."""
    found = [archsim.load_machine(BASE)]
    for name, change in CHANGES.items():
        file = folder / f"{name}.yaml"
        file.write_text(HEAD.format(name=name) + change, encoding="utf-8")
        found.append(archsim.load_machine(file))
    return [*found, archsim.load_machine(f"{BASE}-1024bit")]


def main() -> None:
    """Print both models' times of the layers, and what the simulator saw."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = machines(Path(folder))
    network = archsim.load_network("alexnet")
    heads = ("machine", "sparsity", "ecm", "simulator", "MCDRAM", "threads wait")
    print("{:<24}{:>9}{:>9}{:>11}{:>8}{:>14}".format(*heads))
    for sparsity in (0.7, "gesl"):
        sparsities = archsim.load_sparsity(sparsity, network)
        for machine in chosen:
            run = archsim.simulate_network(
                network, machine, layers=LAYERS, methods=METHODS, sparsity=sparsities,
                batch=machine.total_threads, events=2048,
            )  # fmt: skip
            closed = 0.0
            for result in run.results:
                dense = result.method != "direct_sparse"
                closed += (
                    archsim.predict(
                        network[result.layer], machine, method=result.method,
                        pattern=None if dense else sparsities[result.layer], batch=result.batch,
                        traffic="rule",
                    ).seconds
                    or 0.0
                )  # fmt: skip
            served = sum(detail.memories[0].served_bytes for detail in run.details)
            use = served / machine.memory[0].bandwidth_bytes_per_s / run.seconds
            waits = sum(
                sum(core.memory + core.waiting for core in detail.cores) / len(detail.cores)
                for detail in run.details
            )
            print(
                f"{machine.name:<24}{sparsity!s:>9}{closed * 1e3:>6.1f} ms{run.seconds * 1e3:>8.1f}"
                f" ms{use:>8.0%}{waits / run.seconds:>14.0%}"
            )


if __name__ == "__main__":
    main()
