"""Chains of layers that stay in lane layout: which there are, and the verbs for them.

A network's file lists its layers in order of execution and says nothing about what stands between
them: activations (a ReLU is part of the chain), but also pooling, additions, concatenations,
branches.  :func:`chains` finds the runs whose shapes allow a chain; whether each layer really
takes what the one before it gives is known to the caller only, who therefore names the chain that
is wanted (:func:`chain`).  No other verb forms one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from archsim.analytic import ecm
from archsim.api import predict
from archsim.choice import fitted
from archsim.errors import input_error
from archsim.hostfacts import HOST
from archsim.machine import Machine
from archsim.methods import lanes_chain
from archsim.network import Layer, Network
from archsim.plan import Plan, Target
from archsim.predictors import simulated
from archsim.request import (
    MAX_BATCH,
    Request,
    as_layer,
    as_machine,
    as_sparsity,
    make_request,
    positive,
    thread_count,
    words,
)
from archsim.result import Result
from archsim.sparsity import Sparsity

Densities = float | Sequence[float] | None
Patterns = Sequence[NDArray[Any] | Sparsity] | None


@dataclass(frozen=True)
class ChainResult:
    """What a chain of layers costs on one machine.

    Attributes
    ----------
    layers : tuple of Result
        One of each layer; its phases are those of the plans
        (:func:`archsim.methods.lanes_chain.plan`). A measurement's have no waiting in them.
    seconds : float
        Of the whole batch through all layers.
    seconds_low, seconds_high : float or None
        5th and 95th percentile of a measurement.
    apart_seconds : float
        Of the same layers one by one, each by ``direct_sparse`` with the schedule ``auto``: same
        machine, model, batch and threads; in the same run where it is measured.
    max_error : float or None
        Largest difference to a float64 reference over its largest value, where one was made.
    """

    layers: tuple[Result, ...]
    seconds: float
    apart_seconds: float
    seconds_low: float | None = None
    seconds_high: float | None = None
    max_error: float | None = None

    @property
    def speedup_over_apart(self) -> float:
        """Seconds of the layers one by one over those of the chain."""
        return self.apart_seconds / self.seconds

    @property
    def effective_gflops(self) -> float:
        """GFLOP/s with the zeros counted as work done."""
        return sum(layer.effective_flop for layer in self.layers) / self.seconds / 1e9

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form; ``layers`` as in :meth:`Result.as_dict`."""
        return {
            "seconds": self.seconds,
            "seconds_low": self.seconds_low,
            "seconds_high": self.seconds_high,
            "apart_seconds": self.apart_seconds,
            "speedup_over_apart": self.speedup_over_apart,
            "effective_gflops": self.effective_gflops,
            "layers": [layer.as_dict() for layer in self.layers],
        }


def chains(network: Network) -> tuple[tuple[Layer, ...], ...]:
    """Return the longest runs of layers whose shapes make a chain, two layers or more.

    Each layer has stride 1 and an output of its input's size, and as many input channels as the
    layer before has output channels. That is necessary, not sufficient: a list of layers does not
    show additions and branches (ResNet, GoogLeNet) or pooling that keeps the size.
    """
    runs: list[list[Layer]] = [[]]
    for layer in network:
        if not lanes_chain.keeps_size(layer):
            runs.append([])
            continue
        if runs[-1] and not lanes_chain.follows(runs[-1][-1], layer):
            runs.append([])
        runs[-1].append(layer)
    return tuple(tuple(run) for run in runs if len(run) > 1)


def chain(network: Network, first: str, last: str) -> tuple[Layer, ...]:
    """Return the layers of a network from ``first`` to ``last``, checked to make a chain.

    Parameters
    ----------
    network : Network
    first, last : str
        Names of layers; all between them in the list belong to the chain.

    Raises
    ------
    InputError
        A name is unknown, or the layers do not make a chain.
    """
    names = [layer.name for layer in network]
    begin, end = (names.index(network[name].name) for name in (first, last))
    if end < begin:
        raise input_error("chain: last", f"comes before {first}", found=last)
    layers = network.layers[begin : end + 1]
    why = lanes_chain.reason(layers, [Sparsity(1.0)] * len(layers))
    if why is not None:
        raise input_error(f"chain {first} to {last} of {network.name}", why)
    return layers


def plan_chain(
    layers: Sequence[Layer],
    machine: Machine | Target | str | Path,
    *,
    density: Densities = None,
    pattern: Patterns = None,
    schedule: str = "auto",
    batch: int = 1,
    threads: int | None = None,
    isa: str | None = None,
) -> tuple[Plan, ...]:
    """Return what a chain of layers asks of a machine, one plan per layer, with no time in it.

    Parameters
    ----------
    layers : sequence of Layer
        Each takes what the one before it gives.
    machine : Machine, Target, str or Path
        With a Target, ``threads`` is needed.
    density : float or sequence of float, optional
        Share of nonzeros, uniformly random, of all layers or of each (default 1).
    pattern : sequence of ndarray of shape (K, C / groups, R, S), or of Sparsity, optional
        Real weights of each layer; their zeros count.
    schedule : str
        ``chain:flat``, ``chain:tiles``, ``chain:images``, or ``auto``: the one that the cost model
        finds cheapest for all layers together.
    batch, threads, isa
        See :func:`archsim.make_plan`.

    Raises
    ------
    InputError
        An argument is wrong.
    NotApplicableError
        The layers do not make a chain.
    """
    layers = _as_layers(layers)
    words(schedule=schedule, isa="" if isa is None else isa)
    if isinstance(machine, Target):
        if threads is None:
            raise input_error("threads", "must be given with a Target")
        target, threads = machine, positive("threads", threads)
    else:
        machine = as_machine(machine)
        target, threads = machine.target(isa), thread_count(machine, threads)
    return lanes_chain.plan(
        layers, _as_sparsities(layers, density, pattern),
        batch=positive("batch", batch, MAX_BATCH), threads=threads, schedule=schedule,
        target=target,
    )  # fmt: skip


def predict_chain(
    layers: Sequence[Layer],
    machine: Machine | str | Path,
    *,
    density: Densities = None,
    pattern: Patterns = None,
    schedule: str = "auto",
    batch: int = 1,
    threads: int | None = None,
    model: Literal["ecm", "simulator"] = "ecm",
    clock: str = "sustained",
    isa: str | None = None,
    seed: int = 0,
) -> ChainResult:
    """Predict the time of a chain of layers on a machine.

    Arguments as in :func:`plan_chain` and :func:`archsim.predict`, errors as well.
    """
    if model not in ("ecm", "simulator"):
        raise input_error("model", "unknown model", found=model, allowed="ecm, simulator")
    requests = _requests(
        layers, machine, density, pattern, batch=batch, threads=threads, clock=clock, isa=isa,
        seed=seed, model=model,
    )  # fmt: skip
    plans = _plans(requests, schedule)
    if model == "simulator":
        results = _simulated(requests, plans)
    else:
        results = tuple(
            _by_ecm(request, plan, index == len(plans) - 1)
            for index, (request, plan) in enumerate(zip(requests, plans, strict=True))
        )
    apart = [
        predict(
            request.layer, request.machine, method=request.method, pattern=request.sparsity,
            batch=request.batch, threads=request.threads, model=model, clock=clock, isa=isa,
            seed=seed, traffic="rule",
        )
        for request in requests
    ]  # fmt: skip
    return ChainResult(
        results,
        seconds=sum(result.seconds or 0.0 for result in results),
        apart_seconds=sum(result.seconds or 0.0 for result in apart),
    )


def measure_chain(
    layers: Sequence[Layer],
    machine: Machine | str | Path = HOST,
    *,
    density: Densities = None,
    pattern: Patterns = None,
    schedule: str = "auto",
    batch: int = 1,
    threads: int | None = None,
    isa: str | None = None,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> ChainResult:
    """Time a chain of layers on this host, ReLU between them, with the plans of its target.

    The layers one by one are timed in turns with it. Arguments as in :func:`plan_chain` and
    :func:`archsim.measure`, errors as well.
    """
    from archsim import native, native_chain
    from archsim.host import require_host

    machine = as_machine(machine)
    require_host(machine)
    requests = _requests(
        layers, machine, density, pattern, batch=batch, threads=threads, clock="sustained", isa=isa,
        seed=seed, model="native",
    )  # fmt: skip
    _plans(requests, schedule)  # refuses before weights are drawn
    drawn = [
        replace(request, sparsity=request.sparsity.draw(request.layer, seed + index))
        for index, request in enumerate(requests)
    ]
    plans = _plans(drawn, schedule)
    weights: list[Any] = [request.sparsity.weights for request in drawn]
    found = native_chain.run_chain(
        [native.Job(*job) for job in zip(plans, weights, strict=True)],
        [native.Job(fitted(r).plan(), array) for r, array in zip(drawn, weights, strict=True)],
        seed=seed,
        min_seconds=min_seconds,
        check=check,
    )
    results = tuple(
        request.result(
            schedule=plan.schedule, seconds=sum(phase.seconds for phase in phases),
            actual_flop=plan.actual_flop, phases=phases, isa=found.isa,
            notes=(f"{found.calls} calls",),
        )
        for request, plan, phases in zip(requests, plans, found.layers, strict=True)
    )  # fmt: skip
    return ChainResult(
        results, found.seconds, found.apart_seconds, found.seconds_low, found.seconds_high,
        found.max_error,
    )  # fmt: skip


def _by_ecm(request: Request, plan: Plan, last: bool) -> Result:
    found = ecm.estimate(plan, request.machine, isa=request.isa, clock=request.clock, joins=last)
    return request.result(
        schedule=plan.schedule, seconds=found.seconds, actual_flop=plan.actual_flop,
        bound_by=found.bound_by, bytes=found.bytes, phases=found.phases,
    )  # fmt: skip


def _simulated(requests: Sequence[Request], plans: Sequence[Plan]) -> tuple[Result, ...]:
    """Run the plans one after the other; each finds the caches as the last one left them."""
    from archsim.simulator.engine import simulate_all

    first = requests[0]
    found = simulate_all(
        plans, first.machine, isa=first.isa, clock=first.clock, join_each=False, linked_start="warm"
    )
    return tuple(map(simulated, requests, plans, found))


def _requests(
    layers: Sequence[Layer],
    machine: Machine | str | Path,
    density: Densities,
    pattern: Patterns,
    **arguments: Any,
) -> list[Request]:
    """Check the arguments; a request of each layer by itself."""
    layers = _as_layers(layers)
    return [
        make_request(
            layer, machine, method="direct_sparse", density=None, pattern=sparsity,
            density_domain=sparsity.domain, schedule="auto", partition="nnz", **arguments,
        )
        for layer, sparsity in zip(layers, _as_sparsities(layers, density, pattern), strict=True)
    ]  # fmt: skip


def _plans(requests: Sequence[Request], schedule: str) -> tuple[Plan, ...]:
    words(schedule=schedule)
    first = requests[0]
    return lanes_chain.plan(
        [request.layer for request in requests], [request.sparsity for request in requests],
        batch=first.batch, threads=first.threads, schedule=schedule,
        target=first.machine.target(first.isa),
    )  # fmt: skip


def _as_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    if isinstance(layers, (str, Layer)) or not isinstance(layers, Sequence):
        raise input_error("layers", "wrong type", found=layers, allowed="a sequence of Layer")
    if not layers:
        raise input_error("layers", "a chain has at least one layer", found="none")
    return tuple(as_layer(layer) for layer in layers)


def _as_sparsities(
    layers: Sequence[Layer], density: Densities, pattern: Patterns
) -> list[Sparsity]:
    if pattern is not None and density is not None:
        raise input_error("density", "is given by the pattern already", found=density)
    many = isinstance(density, Sequence) and not isinstance(density, str)
    densities: Sequence[Any] = density if many else [density] * len(layers)  # type: ignore[assignment]
    patterns: Sequence[Any] = [None] * len(layers) if pattern is None else pattern
    for name, found in (("density", densities), ("pattern", patterns)):
        if not isinstance(found, Sequence) or len(found) != len(layers):
            raise input_error(
                name, f"must be a sequence of {len(layers)}, one for each layer", found=found
            )
    return [
        as_sparsity(layer, *given, "spatial")
        for layer, given in zip(layers, zip(densities, patterns, strict=True), strict=True)
    ]
