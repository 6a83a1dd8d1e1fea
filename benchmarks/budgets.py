"""Times that users wait for, against the budgets of this project.

    python benchmarks/budgets.py [--json]

Whole processes are timed from outside (best and median of several); calls inside one process as
the best of many short samples, which other load on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import archsim
from archsim import native
from archsim.analytic import ecm
from archsim.network import Layer
from archsim.sparsity import Sparsity


def process(code: str, runs: int = 9) -> list[float]:
    """Seconds of ``python -c code``, less those of an empty Python."""
    times = []
    for _ in range(runs):
        spent = []
        for text in (code, "pass"):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", text], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
            spent.append(time.perf_counter() - start)
        times.append(spent[0] - spent[1])
    return times


def calls(run: Callable[[], object], repeat: int, samples: int = 15) -> list[float]:
    """Seconds per call, one number a sample."""
    times = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        times.append((time.perf_counter() - start) / repeat)
    return times


def rows() -> list[tuple[str, float, list[float]]]:
    """Return (what, budget in seconds, samples)."""
    layer = archsim.load_network("alexnet")["conv3"]
    xeon, phi = archsim.load_machine("xeon-e5-2697v4-2s"), archsim.load_machine("xeon-phi-7250")
    tiny = Layer("tiny", C=1, K=1)  # one weight: what is timed is the call
    weights = Sparsity(1.0).draw(tiny).weights
    assert weights is not None
    plan = archsim.make_plan(tiny, "host", method="direct_sparse", pattern=weights, threads=1)
    packed = native.prepare(plan, weights)
    x = np.zeros((1, tiny.C, tiny.H, tiny.W), dtype=np.float32)
    out = np.empty((1, tiny.K, tiny.P, tiny.Q), dtype=np.float32)
    return [
        ("import archsim", 0.15, process("import archsim")),
        ("archsim --help", 0.4, process("from archsim.cli import run; run(['--help'])")),
        (
            "archsim predict alexnet conv3 -m atom-c2750",
            3.0,
            process(
                "from archsim.cli import run; run('predict alexnet conv3 -m atom-c2750'.split())"
            ),
        ),
        *evaluations(layer, xeon),
        (
            "one layer simulated on the 68-core Xeon Phi",
            1.0,
            calls(
                lambda: archsim.simulate(
                    layer, phi, method="direct_sparse", density=0.1, batch=272
                ),
                repeat=1,
                samples=3,
            ),
        ),
        (
            "a prepared call of a kernel on a layer of one weight",
            3e-6,
            calls(lambda: packed.run(x, out=out), repeat=2000),
        ),
    ]


def evaluations(layer: Layer, xeon: archsim.Machine) -> list[tuple[str, float, list[float]]]:
    """Return the rows of ecm: a call with its parts, and a grid.

    ``auto`` remembers which blocking it chose for a density, so each call has another one.
    """
    densities = iter(np.linspace(0.02, 0.9, 10_000).tolist())
    common: dict[str, Any] = {"method": "direct_sparse", "batch": 72}
    given: dict[str, Any] = {**common, "schedule": "row"}
    plan = archsim.make_plan(layer, xeon, density=0.1, **given)
    machines = archsim.vary(xeon, {"memory.DDR.bandwidth": np.linspace(2e10, 4e11, 1000)})
    axes: dict[str, Any] = {
        "densities": np.linspace(0.01, 1.0, 1000), "batches": [72], "method": "direct_sparse",
        "schedule": "row",
    }  # fmt: skip
    return [
        (
            "one ecm evaluation (direct_sparse row, Xeon)",
            0.2e-3,
            calls(lambda: archsim.predict(layer, xeon, density=next(densities), **given), 50),
        ),
        (
            "  of this its plan",
            0.2e-3,
            calls(lambda: archsim.make_plan(layer, xeon, density=next(densities), **given), 50),
        ),
        ("  of this the plan's evaluation", 0.2e-3, calls(lambda: ecm.estimate(plan, xeon), 50)),
        (
            "one ecm evaluation that chooses its schedule (auto)",
            0.2e-3,
            calls(lambda: archsim.predict(layer, xeon, density=next(densities), **common), 5, 5),
        ),
        (
            "a million points of ecm on arrays",
            3.0,
            calls(lambda: archsim.predict_grid(layer, machines, **axes), 1, 3),
        ),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found: list[dict[str, Any]] = [
        {
            "what": what,
            "budget_s": budget,
            "best_s": min(times),
            "median_s": statistics.median(times),
            "within": min(times) <= budget,
        }
        for what, budget, times in rows()
    ]
    if as_json:
        print(json.dumps({"schema": 1, "budgets": found}, indent=1))
        return
    for row in found:
        print(
            f"{row['what']:<62} best {row['best_s'] * 1e3:10.4f} ms  median "
            f"{row['median_s'] * 1e3:10.4f} ms  budget {row['budget_s'] * 1e3:8.3f} ms  "
            f"{'ok' if row['within'] else 'OVER'}"
        )


if __name__ == "__main__":
    main()
