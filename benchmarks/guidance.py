"""What guidance adds to a step of training: projections against forward, backward and update.

    python -m benchmarks.guidance [--json]

One thread.  A step is timed as the plain loop runs it with an unguided pruner; a projection by
itself, and divided by the steps from one to the next.  The budget is 2 % of a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

# `python -m` puts the repository first on the path; a plain install would be shadowed by ./archsim,
# which has no compiled parts.
sys.path.append(sys.path.pop(0))

import torch
from torch import nn

import archsim
from archsim.pruning.training.elementwise import ESL
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.models import digits_net, fashion_net

BUDGET: Final = 0.02
EVERY: Final = 100  # the default of `archsim prune`
_CASES: Final = (
    ("digits_net", digits_net, (1, 8, 8), 64), ("fashion_net", fashion_net, (1, 28, 28), 128),
)  # fmt: skip


def seconds(call: Callable[[], object], samples: int, calls: int) -> float:
    """Return the median of samples, each a mean over calls."""
    call()
    times = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def measure(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], batch: int) -> Any:
    """Return what a step and a projection take."""
    torch.manual_seed(0)
    net = make()
    pruner = ESL(net)
    guided = Guided(pruner, Guide(archsim.from_torch(net, shape), "xeon-phi-7250", fc="time"))
    for layer in guided.layers.values():  # all are projected, whatever the machine says
        layer.active = True
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(batch, *shape), torch.arange(batch) % 10

    def step() -> None:
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        pruner.before_step()
        optimizer.step()
        pruner.after_step()

    def project() -> None:
        guided.guide.project(guided._open(), set())

    one, projection = seconds(step, 15, 10), seconds(project, 15, 20)
    share = projection / EVERY / one
    return {
        "model": name, "batch": batch, "step_s": one, "projection_s": projection, "every": EVERY,
        "share": share, "kept": share <= BUDGET,
    }  # fmt: skip


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    rows = [measure(*case) for case in _CASES]
    if as_json:
        print(json.dumps({"schema": 1, "guidance": rows}, indent=1))
        return
    for row in rows:
        print(f"{row['model']}: step {row['step_s'] * 1e3:.2f} ms, projection "
              f"{row['projection_s'] * 1e6:.0f} us every {row['every']} steps: "
              f"{row['share']:.3%} of a step (budget {BUDGET:.0%})")  # fmt: skip


if __name__ == "__main__":
    main()
