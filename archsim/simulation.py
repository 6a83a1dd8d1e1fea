"""A whole network in one simulation: layer after layer on one machine, caches left as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from archsim.api import predict
from archsim.choice import fitted, ways_on
from archsim.errors import NotApplicableError, input_error
from archsim.machine import Machine
from archsim.methods import METHODS
from archsim.methods.sharing import Partition
from archsim.network import Layer, Network, load_network
from archsim.plan import Plan
from archsim.predictors import simulated
from archsim.request import Request, as_machine, make_request, positive, thread_count
from archsim.result import Result
from archsim.simulator.caches import Start
from archsim.simulator.engine import EVENTS, simulate_all
from archsim.simulator.outcome import Simulation
from archsim.simulator.scenario import Conditions, Scenario, load_scenario
from archsim.simulator.schedule import Take
from archsim.simulator.timeline import Recorder
from archsim.sparsity import LayerSparsities, Sparsity, load_sparsity
from archsim.targetsfile import Way


@dataclass(frozen=True)
class NetworkSimulation:
    """Layers in time, one after the other.

    Attributes
    ----------
    results : tuple of Result
        One of each layer.
    details : tuple of Simulation
        What else came out, layer by layer: cores, levels, memories, critical path.
    seconds : float
        Of the whole batch through all layers.
    timeline : Recorder or None
        Slices and shares in use over time, where they were asked for.
    """

    results: tuple[Result, ...]
    details: tuple[Simulation, ...]
    seconds: float
    timeline: Recorder | None = field(default=None, repr=False)


def simulate_network(
    network: Network | str,
    machine: Machine | str | Path,
    *,
    layers: Sequence[str] | None = None,
    sparsity: LayerSparsities | str | float | None = None,
    methods: Sequence[str] | None = None,
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    clock: str = "sustained",
    isa: str | None = None,
    seed: int = 0,
    start: Start = "cold",
    take: Take = "plan",
    chunk: int = 1,
    events: int | None = EVENTS,
    scenario: Scenario | str | Path | None = None,
    timeline: Recorder | None = None,
) -> NetworkSimulation:
    """Simulate the layers of a network one after the other, in one run.

    Parameters
    ----------
    network : Network or str
    machine : Machine, str or Path
    layers : sequence of str, optional
        Only these layers.
    sparsity : LayerSparsities, str or float, optional
        See :func:`archsim.load_sparsity`; by default the network's own map.
    methods : sequence of str, optional
        Of those that apply to a layer the closed form's fastest runs (default: of all; where
        neither methods nor a schedule are named and ``sparsity`` are targets of this machine,
        what they name).
    start : {"cold", "chained", "warm"}
        What the caches hold at first: nothing; only the input; all that a call of the same
        layer would have left.  Later layers find their input where the one before left it, and
        fetch their weights.
    take : {"plan", "dynamic", "stealing"}
        Who takes which tile: as the plan says; the next ``chunk`` units of an image (or the next
        image) from a common queue; or from whoever has most left.
    events : int or None
        About so many events a layer; None: one for each tile.
    scenario : Scenario, str or Path, optional
        What else happens on the machine; cores that it switches off have no threads.
    timeline : Recorder, optional
        Filled while the simulation runs, also if it is interrupted.

    Other arguments as in :func:`archsim.predict`.

    Raises
    ------
    InputError
        An argument is wrong, or no method applies to a layer.
    SimulationStuckError
        Threads wait for what never comes.
    """
    chosen = load_network(network) if isinstance(network, str) else network
    machine = as_machine(machine)
    if isinstance(scenario, (str, Path)):
        scenario = load_scenario(scenario)
    if events is not None:
        positive("events", events)
    positive("chunk", chunk)
    threads = _threads(machine, threads, scenario)
    picked = [chosen[name] for name in dict.fromkeys(layers)] if layers else list(chosen)
    given = sparsity if isinstance(sparsity, LayerSparsities) else load_sparsity(sparsity, chosen)
    common: dict[str, Any] = {
        "schedule": schedule, "partition": partition, "batch": batch, "threads": threads,
        "clock": clock, "isa": isa, "seed": seed,
    }  # fmt: skip
    names = list(methods) if methods else list(METHODS)
    ways: dict[str, Way] = {}
    if not methods and schedule == "auto":
        ways, _ = ways_on(given, machine, batch=batch, threads=threads)
    told = {name: ([way.method], {**common, "schedule": way.schedule})
            for name, way in ways.items()}  # fmt: skip
    requests = [
        _request(layer, machine, given[layer.name], *told.get(layer.name, (names, common)))
        for layer in picked
    ]
    plans: list[Plan] = [request.plan() for request in requests]
    found = simulate_all(
        plans, machine, isa=requests[0].isa, clock=clock, start=start, take=take, chunk=chunk,
        events=events, scenario=scenario, recorder=timeline,
    )  # fmt: skip
    results = tuple(map(simulated, requests, plans, found))
    return NetworkSimulation(results, found, sum(f.seconds for f in found), timeline)


def over_dense(run: NetworkSimulation, dense: NetworkSimulation) -> NetworkSimulation:
    """Return a simulation whose speedups are over a dense one of the same layers."""
    known = {r.layer: (r.method, r.seconds or 0.0) for r in dense.results}
    results = tuple(replace(r, baseline=partial(known.get, r.layer)) for r in run.results)
    return replace(run, results=results)


def _threads(machine: Machine, threads: int | None, scenario: Scenario | None) -> int | None:
    """Return how many threads there are room for."""
    cores = len(Conditions.of(scenario, machine).cores)
    if cores == machine.total_cores:
        return threads
    room = cores * machine.threads_per_core
    if threads is not None and thread_count(machine, threads) > room:
        raise input_error(
            "threads", "the scenario leaves fewer hardware threads", found=threads,
            allowed=f"1..{room}",
        )  # fmt: skip
    return room if threads is None else threads


def _request(
    layer: Layer, machine: Machine, sparsity: Sparsity, names: list[str], common: dict[str, Any]
) -> Request:
    """Return the request of a layer by the closed form's fastest method."""
    answers = [
        predict(layer, machine, method=name, pattern=sparsity, traffic="rule", **common)
        for name in names
    ]
    possible = [answer for answer in answers if answer.seconds is not None]
    if not possible:
        reasons = "; ".join(dict.fromkeys(f"{a.method}: {a.reason}" for a in answers))
        raise NotApplicableError(f"no method applies to {layer.name}: {reasons}")
    best = min(possible, key=lambda answer: answer.seconds or 0.0)
    request = make_request(
        layer, machine, method=best.method, density=None, pattern=sparsity, model="simulator",
        density_domain=sparsity.domain, **common,
    )  # fmt: skip
    return fitted(request)
