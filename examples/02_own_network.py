"""At which sparsity does pruning my own network begin to pay, on an Atom and on a Xeon?

Covers: a network from a CSV layer table, a sweep over sparsities, reading bottlenecks.
Scenario: a small keyword-spotting net on 40x98 spectrograms, one image per hardware thread.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import archsim

LAYERS = """\
name,type,C,H,W,K,R,S,stride,pad
first,conv,1,40,98,64,8,20,1,0
second,conv,64,33,79,64,4,10,2,0
third,conv,64,15,35,128,3,3,1,1
out,fc,67200,,,12,,,,
"""
MACHINES = ("atom-c2750", "xeon-e5-2697v4-2s")
SPARSITIES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


def main() -> None:
    """Find the first sparsity of the list at which a sparse method beats the dense one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "keywords.csv"
        file.write_text(LAYERS, encoding="utf-8")
        network = archsim.load_network(file)

    print(f"{network.name}: {network.macs / 1e6:.1f} M multiply-adds, {network.weights} weights")
    for layer in network:
        for name in MACHINES:
            machine = archsim.load_machine(name)
            for sparsity in SPARSITIES:
                best = archsim.predict(
                    layer, machine, density=1 - sparsity, batch=machine.total_threads
                )
                if best.method != best.dense_method:
                    found = f"{best.method} pays from {sparsity:.2f}, bound by {best.bound_by[0]}"
                    break
            else:
                found = f"nothing beats {best.dense_method} up to {SPARSITIES[-1]}"
            print(f"{layer.name:<8}{name:<20}{found}")


if __name__ == "__main__":
    main()
