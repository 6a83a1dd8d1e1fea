"""What would twice the L2 and 1024-bit SIMD do for pruned AlexNet on a Xeon Phi?

Covers: a machine of one's own from a few lines of YAML, predictions, the useful window.
Scenario: the published GESL sparsities, one image per hardware thread.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import archsim

BASE = "xeon-phi-7250"
MACHINE = """\
format: 1
name: phi-wide
base: xeon-phi-7250
description: Xeon Phi with 1024-bit SIMD and twice the L2
source: imagined
sources:
  imagined: {kind: assumed, text: what an architect would ask}
core:
  isa:
    wide1024:
      lanes: 32
      registers: 32
      fma: true
      multiply: 1.69 /cycle
      add: 1.69 /cycle
      multiply_latency: 6 cycles
      add_latency: 6 cycles
      loads: 1.77 /cycle
      stores: 1 /cycle
      line_crossing: 1.69 cycles   # two or three lines instead of one or two
      page_crossing: 14.1 cycles
      vector_clock: 1.2 GHz
caches:
  - name: L2
    size: 2 MiB
"""


def main() -> None:
    """Compare the two machines layer by layer."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "phi-wide.yaml"
        file.write_text(MACHINE, encoding="utf-8")
        machines = [archsim.load_machine(BASE), archsim.load_machine(file)]

    wide = machines[1]
    sgemm = wide.provenance["rates.sgemm"]
    print(f"{wide.name}: SGEMM rate is {sgemm.kind}, from {sgemm.text}")

    network = archsim.load_network("alexnet")
    sparsities = archsim.load_sparsity("gesl", network)
    print(f"{'layer':<7}{'sparsity':>9}" + "".join(f"{m.name:>26}" for m in machines))
    for layer in network:
        if layer.type != "conv":
            continue
        cells = []
        for machine in machines:
            best = archsim.predict(
                layer, machine, pattern=sparsities[layer.name], batch=machine.total_threads
            )
            cells.append(f"{best.method} {best.speedup_over_dense:.1f}x")
        row = f"{layer.name:<7}{sparsities[layer.name].sparsity:>9.3f}"
        print(row + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
