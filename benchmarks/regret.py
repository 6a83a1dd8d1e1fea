"""The recommended allocation, natively: ``python -m benchmarks.regret [NETWORK [THREADS]]``.

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

from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.pruning import assumed_sensitivity, find_targets, make_table, read_budget
from archsim.pruning.choices import LayerChoices
from archsim.sparsity import Sparsity
from benchmarks.undisturbed import Host

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

    def __init__(self, choices: Sequence[LayerChoices], batch: int, host: Host) -> None:
        self.choices, self.batch, self.host = choices, batch, host
        self.known: dict[tuple[int, int], float] = {}
        self.disturbed = 0

    def of(self, picks: Picks) -> float:
        """Return the sum over the layers."""
        return sum(self.layer(index, pick) for index, pick in enumerate(picks))

    def layer(self, index: int, pick: int) -> float:
        """Return one layer's time, measured when it is first asked for."""
        if (index, pick) not in self.known:
            option, layer = self.choices[index].options[pick], self.choices[index].times.layer
            found = self.host.measure(
                layer, Sparsity(1.0 - option.sparsity), method=option.method,
                schedule=option.schedule, batch=self.batch,
            )  # fmt: skip
            assert found is not None, (layer.name, option.method)
            self.known[index, pick], quiet = found
            self.disturbed += not quiet
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
    choices: Sequence[LayerChoices], allocations: Iterable[Picks], batch: int, host: Host
) -> list[list[float]]:
    """Return seconds of allocations, round by round."""
    listed = list(allocations)
    rounds = [Times(choices, batch, host) for _ in range(ROUNDS)]
    return [[times.of(picks) for picks in listed] for times in rounds]


def main(name: str = NETWORK, threads: str | None = None) -> None:
    """Print what was predicted, what was measured, and the regret."""
    machine, network = load_machine("host"), load_network(name)
    table = make_table(
        network, machine, levels=LEVELS, threads=None if threads is None else int(threads)
    )
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
    host = Host(machine, table.threads, SECONDS)
    times = Times(choices, table.batch, host)
    measured = times.of(chosen)
    dense = times.of((0,) * len(choices))
    fastest = sorted(set(others), key=times.of)[:BEST]
    rounds = in_turns(choices, [chosen, *fastest], table.batch, host)
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
        + f"; its even rounds against its odd ones {halves[0] / halves[1] - 1:+.1%}; "
        f"{times.disturbed} of {len(times.known)} times of the first run were disturbed"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
