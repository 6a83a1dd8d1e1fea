"""How far off a prediction of ecm may be: 90 % intervals.

Two things spread a prediction. The machine's numbers: each that its file gives a range for is moved
to either end by itself, and what that does to the time adds up in squares, as for independent
errors; a range is taken to hold the number in nine cases of ten. And the model: how far native runs
were from predictions on the layers that it was built with (``model_error.yaml``, by method; made by
``archsim validate native --spread``). Coverage is scored on other layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from math import exp, hypot, log
from typing import Final

from archsim.analytic.grid import estimates
from archsim.errors import InputError
from archsim.machine import Machine
from archsim.plan import Plan
from archsim.variation import vary
from archsim.yamlfile import read_yaml

#: Share of measurements that should lie inside.
SHARE: Final = 0.9
_ERRORS_FILE: Final = "model_error.yaml"


def interval(
    plan: Plan, machine: Machine, seconds: float, *, isa: str, clock: str
) -> tuple[float, float]:
    """Return the seconds between which nine of ten measurements should lie.

    Parameters
    ----------
    plan : Plan
        Of one density.
    machine : Machine
    seconds : float
        What was predicted.
    isa, clock : str
        As it was predicted.
    """
    down, up = _of_machine(plan, machine, isa, clock)
    errors = model_errors()
    low, high = errors.get(plan.method, errors.get("all", (0.0, 0.0)))
    return seconds * exp(-hypot(down, min(low, 0.0))), seconds * exp(hypot(up, max(high, 0.0)))


def _of_machine(plan: Plan, machine: Machine, isa: str, clock: str) -> tuple[float, float]:
    """Return how far down and up the machine's ranges move the time, as logarithms."""
    pairs = variants(machine, plan.target.isa)
    if not pairs:
        return 0.0, 0.0
    machines = [machine, *(each for pair in pairs for each in pair)]
    times = [0.0] * len(machines)
    for points in estimates(plan, machines, isa, clock):
        for row, place in enumerate(points.machines):
            times[place] = float(points.seconds[row, 0])
    base = times[0]
    if not base > 0.0:
        return 0.0, 0.0
    down = up = 0.0
    for first in range(1, len(times), 2):
        moved = [log(time / base) for time in times[first : first + 2] if time > 0.0]
        down = hypot(down, min(0.0, *moved))
        up = hypot(up, max(0.0, *moved))
    return down, up


@lru_cache(maxsize=64)
def variants(machine: Machine, isa: str) -> tuple[tuple[Machine, Machine], ...]:
    """Return the machine with each ranged number at its low and its high end.

    Ranges that would change the plan (sizes of caches) are left out.
    """
    found = []
    for path, source in machine.provenance.items():
        if source.low is None or source.high is None or source.low == source.high:
            continue
        try:
            low, high = vary(machine, {path: [source.low, source.high]})
        except InputError:
            continue  # an end that breaks a rule between fields, such as a size of no whole ways
        if low.target(isa) == high.target(isa) == machine.target(isa):
            found.append((low, high))
    return tuple(found)


@lru_cache(maxsize=1)
def model_errors() -> Mapping[str, tuple[float, float]]:
    """Return the 5th and 95th percentile of log(measured / predicted), by method, as shipped."""
    place = resources.files("archsim.analytic") / _ERRORS_FILE
    if not place.is_file():
        return {}
    with resources.as_file(place) as path:
        table = read_yaml(path).plain()["methods"]
    return {name: (float(low), float(high)) for name, (low, high) in table.items()}
