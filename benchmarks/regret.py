"""The recommended allocation against native runs: ``python -m benchmarks.regret [NETWORK]``.

What ``archsim targets NETWORK -m host --budget-time 50%`` recommends is run natively, layer by
layer, and so are 200 random allocations that lose no more by the same curves.  Each layer and
level that any of them has is timed once; the five random ones that are fastest by these times and
the recommended one are then timed anew, in turns.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from statistics import median

import numpy as np

import archsim
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.pruning import assumed_sensitivity, find_targets, make_table, read_budget
from archsim.pruning.choices import LayerChoices
from archsim.sparsity import Sparsity

NETWORK = "squeezenet"  # not in view when the models were made
BUDGET = "50%"
LEVELS = 20
RANDOM = 200
BEST = 5
ROUNDS = 10
SECONDS = 0.02  # of a measurement

Picks = tuple[int, ...]


class Times:
    """Native seconds of options, by layer; one shape at one option is timed once a round."""

    def __init__(self, choices: Sequence[LayerChoices], batch: int, threads: int) -> None:
        self.choices, self.batch, self.threads = choices, batch, threads
        self.known: dict[tuple[int, int], float] = {}

    def of(self, picks: Picks) -> float:
        """Return the sum over the layers."""
        return sum(self.layer(index, pick) for index, pick in enumerate(picks))

    def layer(self, index: int, pick: int) -> float:
        """Return one layer's time, measured when it is first asked for."""
        if (index, pick) not in self.known:
            option, layer = self.choices[index].options[pick], self.choices[index].times.layer
            found = archsim.measure(
                layer, method=option.method, schedule=option.schedule,
                pattern=Sparsity(1.0 - option.sparsity), batch=self.batch, threads=self.threads,
                min_seconds=SECONDS,
            )  # fmt: skip
            assert found.seconds is not None, found.reason
            self.known[index, pick] = found.seconds
        return self.known[index, pick]


def random_picks(choices: Sequence[LayerChoices], limit: float, rng: np.random.Generator) -> Picks:
    """Return an allocation that loses at most ``limit``: random, then relaxed at random layers."""
    picks = [int(rng.integers(len(layer.options))) for layer in choices]
    losses = [layer.costs.loss for layer in choices]
    while sum(loss[pick] for loss, pick in zip(losses, picks, strict=True)) > limit:
        pruned = [index for index, pick in enumerate(picks) if pick]
        picks[int(rng.choice(pruned))] -= 1  # options are ordered by sparsity
    return tuple(picks)


def in_turns(
    choices: Sequence[LayerChoices], allocations: Iterable[Picks], batch: int, threads: int
) -> list[list[float]]:
    """Return seconds of allocations, round by round."""
    listed = list(allocations)
    rounds = [Times(choices, batch, threads) for _ in range(ROUNDS)]
    return [[times.of(picks) for picks in listed] for times in rounds]


def main(name: str = NETWORK) -> None:
    """Print what was predicted, what was measured, and the regret."""
    machine, network = load_machine("host"), load_network(name)
    table = make_table(network, machine, levels=LEVELS)
    sensitivity = assumed_sensitivity(network, table.sparsities, per="layer")
    budget = read_budget(
        time=BUDGET, dense_seconds=table.dense_seconds,
        dense_bytes=sum(layer.dense_bytes for layer in network),
    )  # fmt: skip
    targets = find_targets(table, sensitivity, budget, machine=machine, groups=False)
    assert targets.picks is not None
    choices, chosen = targets.choices, tuple(int(pick) for pick in targets.picks)
    limit = sum(float(c.costs.loss[p]) for c, p in zip(choices, chosen, strict=True))
    predicted = sum(float(c.costs.seconds[p]) for c, p in zip(choices, chosen, strict=True))
    rng = np.random.default_rng(0)
    others = [random_picks(choices, limit * (1 + 1e-12), rng) for _ in range(RANDOM)]
    times = Times(choices, table.batch, table.threads)
    measured = times.of(chosen)
    dense = times.of((0,) * len(choices))
    fastest = sorted(set(others), key=times.of)[:BEST]
    rounds = in_turns(choices, [chosen, *fastest], table.batch, table.threads)
    ours, *theirs = (median(column) for column in zip(*rounds, strict=True))
    halves = [median(r[0] for r in rounds[start::2]) for start in (0, 1)]
    print(
        f"{name}, {machine.description}\n"
        f"batch {table.batch}, threads {table.threads}, {len(choices)} layers, "
        f"loss at most {limit:.4f}\n"
        f"recommended: predicted {predicted * 1e3:.3f} ms, measured {measured * 1e3:.3f} ms "
        f"({predicted / measured - 1:+.1%}); dense predicted {table.dense_seconds * 1e3:.3f} ms, "
        f"measured {dense * 1e3:.3f} ms\n"
        f"{RANDOM} random allocations: {np.mean([times.of(p) < measured for p in others]):.1%} "
        f"faster in the first run; the best {BEST} in turns, against the recommended one: "
        + ", ".join(f"{seconds / ours - 1:+.1%}" for seconds in theirs)
        + f"; its even rounds against its odd ones {halves[0] / halves[1] - 1:+.1%}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
