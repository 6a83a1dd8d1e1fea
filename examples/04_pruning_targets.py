"""What do the published GESL sparsities leave on the table, machine by machine?

Covers: latency tables, sensitivity, the front of loss against time, a hypothetical machine.
Scenario: AlexNet and GoogLeNet under the published model; every layer's loss counts the same.  The
loss is assumed (energy of Gaussian weights), so its numbers compare allocations, not networks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import archsim
from archsim.pruning import as_document, assumed_sensitivity, find_targets, make_table

WIDE_MEMORY = """\
format: 1
name: atom-wide-memory
base: atom-c2750
description: Atom with four times the memory bandwidth
source: imagined
sources:
  imagined: {kind: assumed, text: what an architect would ask}
rates:
  stream: 60 GB/s
"""
MACHINES = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250")


def row(network: archsim.Network, machine: archsim.Machine) -> str:
    """Return what GESL costs, and what is lost least in its time, fastest at its loss."""
    table = make_table(network, machine, model="park")
    sensitivity = assumed_sensitivity(network, table.sparsities, per="layer")
    found = find_targets(table, sensitivity, machine=machine, against=["gesl"], groups=False)
    (gesl,) = as_document(found)["against"]
    dense = table.dense_seconds
    cells = [
        network.name, machine.name, f"{gesl['seconds'] / dense:.1%}",
        f"{gesl['seconds_at_same_loss'] / dense:.1%}", f"{gesl['loss']:.3f}",
        f"{gesl['loss_at_same_seconds']:.3f}", str(len(gesl["slower"])),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "machine.yaml"
    path.write_text(WIDE_MEMORY, encoding="utf-8")
    machines = [*(archsim.load_machine(name) for name in MACHINES), archsim.load_machine(path)]

print("| network | machine | GESL's time | best at its loss | GESL's loss | best in its time "
      "| layers faster dense |")  # fmt: skip
print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
for name in ("alexnet", "googlenet"):
    for machine in machines:
        print(row(archsim.load_network(name), machine))
