"""The verbs: make_plan, predict, simulate, measure.  All results are of the one type."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.choice import fitted
from archsim.errors import NotApplicableError, input_error
from archsim.hostfacts import HOST
from archsim.machine import Machine
from archsim.methods import METHODS, get_method
from archsim.methods.sharing import Partition
from archsim.network import Layer
from archsim.plan import Plan, Target
from archsim.predictors import (
    ParkGiven,
    by_ecm,
    by_ecm_counted,
    by_native,
    by_native_interleaved,
    by_park,
    by_simulator,
)
from archsim.request import (
    MAX_BATCH,
    Request,
    as_layer,
    as_machine,
    as_partition,
    as_sparsity,
    finite,
    make_request,
    positive,
    words,
)
from archsim.result import Result
from archsim.sparsity import Domain, Sparsity

PREDICTORS: Final = ("park", "ecm", "simulator")
TRAFFICS: Final = ("auto", "rule", "counted")


def make_plan(
    layer: Layer,
    machine: Machine | Target | str | Path,
    *,
    method: str,
    density: float | None = None,
    pattern: NDArray[Any] | Sparsity | None = None,
    density_domain: Domain = "spatial",
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    isa: str | None = None,
) -> Plan:
    """Return what ``method`` asks of a machine for ``layer``, with no time in it.

    Parameters
    ----------
    layer : Layer
    machine : Machine, Target, str or Path
        With a Target, ``threads`` is needed.
    method : str
        ``dense_gemm``, ``dense_direct``, ``winograd``, ``lowered_sparse``, ``direct_sparse``,
        ``sparse_winograd``, ``fc_dense``, ``fc_sparse`` or ``structured``.
    density : float, optional
        Share of nonzeros, uniformly random (default 1).
    pattern : ndarray of shape (K, C / groups, R, S), or Sparsity, optional
        Real weights; their zeros count.
    schedule : str
        A schedule of the method, or ``auto``: the one that ``ecm`` finds fastest on the machine
        (transfers by rule); with a Target, which has no speeds, the one of fewest counted cycles.
    partition : {"nnz", "rows", "dynamic"}
        How sparse methods cut output channels among the threads that share an image: about
        equal nonzeros for each thread; equally many channels; or smaller parts that threads take
        at run time.  Dense methods always cut evenly.
    batch, threads : int
        Images, and threads that work on them (default: every hardware thread).
    isa : str, optional
        Instruction set of the machine (default: the widest).

    Raises
    ------
    InputError
        An argument is wrong.
    NotApplicableError
        The method cannot compute this layer.
    """
    if not isinstance(machine, Target):
        request = make_request(
            layer, machine, method=method, density=density, pattern=pattern,
            density_domain=density_domain, schedule=schedule, partition=partition, batch=batch,
            threads=threads, clock="sustained", isa=isa, seed=0, model="ecm",
        )  # fmt: skip
        return fitted(request).plan()
    as_layer(layer)
    words(method=method, schedule=schedule, isa="" if isa is None else isa)
    if threads is None:
        raise input_error("threads", "must be given with a Target")
    return get_method(method).plan(
        layer,
        as_sparsity(layer, density, pattern, density_domain),
        batch=positive("batch", batch, MAX_BATCH),
        threads=positive("threads", threads),
        schedule=schedule,
        partition=as_partition(partition),
        target=machine,
    )


def predict(
    layer: Layer,
    machine: Machine | str | Path,
    *,
    method: str = "auto",
    density: float | None = None,
    pattern: NDArray[Any] | Sparsity | None = None,
    density_domain: Domain = "spatial",
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    model: Literal["park", "ecm", "simulator"] = "ecm",
    traffic: str = "auto",
    clock: str = "sustained",
    isa: str | None = None,
    seed: int = 0,
    alpha: float | None = None,
    beta: float = 2.0,
    sgemm_flops_per_s: float | None = None,
    stream_bytes_per_s: float | None = None,
    intervals: bool = True,
) -> Result:
    """Predict the time of a layer on a machine.

    Parameters
    ----------
    layer : Layer
    machine : Machine, str or Path
        A machine, its name or its file.
    method : str
        A method's name, or ``auto``: the fastest that applies.
    density, pattern, density_domain, schedule, partition, batch, threads, isa
        See :func:`make_plan`.
    model : {"ecm", "park", "simulator"}
        Our white-box closed form; the published one (ICLR 2017, section 2.2); discrete events.
    traffic : {"auto", "rule", "counted"}
        How ``ecm`` finds the transfers between levels: by reuse distance against capacity, or by
        replaying what the kernel touches through the machine's caches, which takes 0.1 to some
        seconds and needs a pattern (a density is drawn with ``seed``).  ``auto`` counts where a
        pattern is given.
    clock : {"sustained", "nominal"}
        The instruction set's vector clock where the machine gives one, or the nominal clock.
    seed : int
        Of a pattern that must be drawn; carried into the result.
    alpha, beta, sgemm_flops_per_s, stream_bytes_per_s : float, optional
        Parameters of ``park``; by default the machine's published rates.
    intervals : bool
        Give ``ecm`` its 90 % interval (``seconds_low``, ``seconds_high``), which takes a
        millisecond; see :mod:`archsim.analytic.interval`.

    Raises
    ------
    InputError
        An argument is wrong.

    Notes
    -----
    Where the method does not apply, ``seconds`` is None and ``reason`` says why.
    """
    if model not in PREDICTORS:
        raise input_error(
            "model", "unknown model", found=model, allowed=", ".join(PREDICTORS),
            near=(str(model), PREDICTORS),
        )  # fmt: skip
    if traffic not in TRAFFICS:
        raise input_error(
            "traffic", "unknown rule", found=traffic, allowed=", ".join(TRAFFICS),
            near=(str(traffic), TRAFFICS),
        )  # fmt: skip
    given = _park_given(alpha, beta, sgemm_flops_per_s, stream_bytes_per_s)
    request = make_request(
        layer, machine, method=method, density=density, pattern=pattern,
        density_domain=density_domain, schedule=schedule, partition=partition, batch=batch,
        threads=threads, clock=clock, isa=isa, seed=seed, model=model,
    )  # fmt: skip
    if model == "park":
        return _answer(request, partial(by_park, given=given))
    if model == "simulator":
        return _answer(request, by_simulator)
    known = request.sparsity.weights is not None
    counts = traffic == "counted" or (traffic == "auto" and known)
    return _answer(request, by_ecm_counted if counts else partial(by_ecm, intervals=intervals))


def _park_given(
    alpha: float | None, beta: float, sgemm: float | None, stream: float | None
) -> ParkGiven:
    return ParkGiven(
        finite("alpha", alpha),
        finite("beta", beta) or 0.0,  # refused, like any that is not above zero
        finite("sgemm_flops_per_s", sgemm),
        finite("stream_bytes_per_s", stream),
    )


def simulate(layer: Layer, machine: Machine | str | Path, **arguments: Any) -> Result:
    """Simulate a layer on a machine; arguments as in :func:`predict`.

    Tiles of the plan run in time on the machine's cores and draw on its caches and memories.
    More of what a run finds out, whole networks and scenarios: :func:`simulate_network`.
    """
    if "model" in arguments:
        raise input_error("simulate: model", "is the simulator", found=arguments["model"])
    return predict(layer, machine, model="simulator", **arguments)


def measure(
    layer: Layer,
    machine: Machine | str | Path = HOST,
    *,
    method: str = "auto",
    density: float | None = None,
    pattern: NDArray[Any] | Sparsity | None = None,
    density_domain: Domain = "spatial",
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    isa: str | None = None,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> Result:
    """Time the native kernel of a layer on this host, with the plan of ``machine``'s target.

    Parameters
    ----------
    machine : Machine, str or Path
        Must be this host.
    min_seconds : float
        Calls are repeated for so long at least.
    check : bool
        Compare with a float64 reference; the error is in ``notes``.

    Other arguments as in :func:`predict`; the interval is the 5th to 95th percentile of calls.

    Raises
    ------
    HostMismatchError
        The machine is not this host.
    """
    from archsim.host import require_host

    machine = as_machine(machine)
    require_host(machine)
    request = make_request(
        layer, machine, method=method, density=density, pattern=pattern,
        density_domain=density_domain, schedule=schedule, partition=partition, batch=batch,
        threads=threads, clock="sustained", isa=isa, seed=seed, model="native",
    )  # fmt: skip
    found = _answer(request, partial(by_native, min_seconds=min_seconds, check=check))
    return replace(found, baseline=partial(_native_dense, found, request, min_seconds))


Run = Callable[[Request], Result]


def _answer(request: Request, run: Run) -> Result:
    """Run one method, or all and keep the fastest; attach the dense baseline."""
    names = [request.method] if request.method != "auto" else list(METHODS)
    results = [_attempt(_by(request, name), run) for name in names]
    possible = [result for result in results if result.seconds is not None]
    for result in possible:
        if not math.isfinite(result.seconds or 0.0):
            raise input_error(
                f"machine {request.machine.name}",
                f"its numbers give {result.method} of layer {result.layer} no finite time",
                found=result.seconds,
            )
    best = min(possible, key=lambda r: r.seconds or 0.0) if possible else results[0]
    return replace(best, baseline=partial(best_dense, request, run))


def _by(request: Request, method: str) -> Request:
    return request if request.method == method else replace(request, method=method)


def measure_together(
    layer: Layer,
    cases: Sequence[tuple[str, Sparsity]],
    machine: Machine | str | Path = HOST,
    *,
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    isa: str | None = None,
    seed: int = 0,
    min_seconds: float = 0.1,
    check: bool = False,
) -> list[Result]:
    """Time several methods and sparsities of a layer in turns, so that ratios can be trusted.

    Parameters
    ----------
    cases : sequence of (str, Sparsity)
        Method and sparsity of each run; a dense method among them is everybody's baseline.

    Other arguments as in :func:`measure`; the results are in the order of the cases.
    """
    from archsim.host import require_host

    machine = as_machine(machine)
    require_host(machine)
    requests = [
        fitted(
            make_request(
                layer, machine, method=method, density=None, pattern=sparsity,
                density_domain="spatial", schedule=schedule, partition=partition, batch=batch,
                threads=threads, clock="sustained", isa=isa, seed=seed, model="native",
            )
        )
        for method, sparsity in cases
    ]  # fmt: skip
    reasons = [get_method(r.method).reason(r.layer, r.sparsity) for r in requests]
    timed = iter(
        by_native_interleaved(
            [r for r, reason in zip(requests, reasons, strict=True) if reason is None],
            min_seconds=min_seconds,
            check=check,
        )
    )
    results = [
        next(timed) if reason is None else request.result(reason=reason)
        for request, reason in zip(requests, reasons, strict=True)
    ]
    return share_baseline(results)


def share_baseline(results: Sequence[Result]) -> list[Result]:
    """Give results of one layer, machine and model their common dense baseline."""
    dense = [r for r in results if get_method(r.method).dense and r.seconds]
    if not dense:
        return list(results)
    best = min(dense, key=lambda r: r.seconds or 0.0)
    known = partial(_same, (best.method, best.seconds or 0.0))
    return [replace(r, baseline=known) for r in results]


def _same(value: tuple[str, float]) -> tuple[str, float]:
    return value


def _attempt(request: Request, run: Run) -> Result:
    """Run one method; where it does not apply, the result carries the reason."""
    request = fitted(request)
    try:
        with np.errstate(over="ignore"):  # an infinite time is refused by name
            return run(request)
    except MemoryError:
        raise input_error(
            f"layer {request.layer.name}", f"is too large for {request.method} on this computer"
        ) from None
    except NotApplicableError as error:
        return request.result(reason=str(error))


def best_dense(request: Request, run: Run) -> tuple[str, float] | None:
    """Find the fastest dense method of our own for the same machine, model, batch, threads."""
    found = [
        _attempt(replace(request, method=name, schedule="auto"), run)
        for name, method in METHODS.items()
        if method.dense
    ]
    timed = [(result.seconds, result.method) for result in found if result.seconds]
    if not timed:
        return None
    seconds, name = min(timed)
    return name, seconds


def _native_dense(result: Result, request: Request, min_seconds: float) -> tuple[str, float] | None:
    """Find the dense baseline of a measurement: both are run again, in turns.

    The baseline is given on the clock of the measurement, so that the speedup is the ratio
    inside the one interleaved run.
    """
    cases = [
        (result.method, request.sparsity),
        *((name, request.sparsity) for name, method in METHODS.items() if method.dense),
    ]
    again, *_ = found = measure_together(
        request.layer, cases, request.machine, schedule=request.schedule,
        partition=request.partition, batch=request.batch, threads=request.threads,
        isa=request.isa, seed=request.seed, min_seconds=min_seconds,
    )  # fmt: skip
    dense = [r for r in found[1:] if r.seconds]
    if not dense or not again.seconds or not result.seconds:
        return None
    best = min(dense, key=lambda r: r.seconds or 0.0)
    return best.method, (best.seconds or 0.0) * result.seconds / again.seconds
