"""Where the simulator and the closed form part: ``python -m benchmarks.agreement``.

AlexNet by every method that applies, density 0.1, one image for each hardware thread; the same plan
in both, transfers by rule, caches warm.
"""

from __future__ import annotations

import archsim
from archsim.analytic import ecm
from archsim.errors import NotApplicableError
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import load_network
from archsim.simulator.engine import simulate

CASES = (("atom-c2750", 16), ("xeon-e5-2697v4-2s", 72), ("xeon-phi-7250", 272))
DENSITY = 0.1
CLOSE = 0.02


def main() -> None:
    """Print for each machine how many points agree, and those that do not."""
    for name, batch in CASES:
        machine = load_machine(name)
        ratios: dict[str, float] = {}
        for layer in load_network("alexnet"):
            for method in METHODS:
                try:
                    plan = archsim.make_plan(
                        layer, machine, method=method, density=DENSITY, batch=batch
                    )
                except NotApplicableError:
                    continue
                ratio = simulate(plan, machine).seconds / ecm.estimate(plan, machine).seconds
                ratios[f"{layer.name} {method} {plan.schedule}"] = ratio
        apart = {what: ratio for what, ratio in ratios.items() if abs(ratio - 1.0) > CLOSE}
        print(f"{name}, {machine.total_threads} threads, batch {batch}: "
              f"{len(ratios) - len(apart)} of {len(ratios)} within {CLOSE:.0%}; "
              f"{min(ratios.values()):.2f} to {max(ratios.values()):.2f}")  # fmt: skip
        for what, ratio in sorted(apart.items(), key=lambda each: each[1]):
            print(f"    {what}: {ratio:.3f}")


if __name__ == "__main__":
    main()
