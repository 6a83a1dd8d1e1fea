"""Ways to answer a request: ecm, park, the simulator, and a native run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from archsim.analytic import ecm, park
from archsim.analytic.interval import interval
from archsim.errors import InputError, NotApplicableError
from archsim.machine import Machine
from archsim.methods import get_method, structured
from archsim.network import Layer
from archsim.plan import Plan
from archsim.request import Request
from archsim.result import PhaseResult, Result
from archsim.sparsity import Sparsity
from archsim.traffic import Counted, NotCountedError, counted

if TYPE_CHECKING:
    from archsim.native import Measurement
    from archsim.quiet import Watch
    from archsim.simulator.outcome import Simulation

#: density at which the in-core model takes alpha for a layer that is given as dense
_ALPHA_DENSITY: Final = 0.1
#: counted bytes this far from the rule's are said, unless they are so small a share of all
TOLERATED: Final = 0.1
LISTED_SHARE: Final = 0.001
_NOT_IN_PARK: Final = ("winograd", "sparse_winograd")


@dataclass(frozen=True, slots=True)
class ParkGiven:
    """Parameters of the published model that the caller gives; None: the machine's."""

    alpha: float | None = None
    beta: float = 2.0
    sgemm_flops_per_s: float | None = None
    stream_bytes_per_s: float | None = None


def by_ecm(request: Request, *, intervals: bool = True) -> Result:
    """Predict with our white-box closed form."""
    return _by_ecm(request, request.plan(), None, (), intervals=intervals)


def by_ecm_counted(request: Request) -> Result:
    """Predict with our closed form, its traffic counted; a density is drawn as a pattern first."""
    plan = request.plan()  # refuses before weights are drawn
    if not get_method(request.method).dense and request.sparsity.weights is None:
        drawn = request.sparsity.draw(request.layer, request.seed, plan.weight_shape)
        request = replace(request, sparsity=drawn)
        plan = request.plan()
    try:
        found = counted(plan, request.machine)
    except NotCountedError as error:
        return _by_ecm(request, plan, None, (str(error),))
    by_rule = ecm.estimate(plan, request.machine, isa=request.isa, clock=request.clock).bytes
    answer = _by_ecm(request, plan, found, ())
    return replace(answer, notes=(*answer.notes, *differences(by_rule, answer.bytes)))


def _by_ecm(
    request: Request, plan: Plan, found: Counted | None, notes: tuple[str, ...], *,
    intervals: bool = True,
) -> Result:  # fmt: skip
    made = ecm.estimate(
        plan, request.machine, isa=request.isa, clock=request.clock,
        counted=found.phases if found else None,
    )  # fmt: skip
    low = high = None
    if intervals:
        low, high = interval(
            plan, request.machine, made.seconds, isa=plan.target.isa, clock=request.clock
        )
    return request.result(
        schedule=plan.schedule, seconds=made.seconds, seconds_low=low, seconds_high=high,
        actual_flop=plan.actual_flop, bound_by=made.bound_by, bytes=made.bytes,
        phases=made.phases, notes=(*plan_notes(plan), *notes),
        traffic="counted" if found else "rule",
    )  # fmt: skip


def differences(by_rule: Mapping[str, float], found: Mapping[str, float]) -> tuple[str, ...]:
    """Say where the counted bytes are more than 10 % from the rule's."""
    least = LISTED_SHARE * max(found.values(), default=0.0)
    far = []
    for level, number in found.items():
        rule = by_rule.get(level, 0.0)
        if max(rule, number) > least and abs(number - rule) > TOLERATED * rule:
            far.append(f"{level} {number / 1e6:.3g} MB (rule {rule / 1e6:.3g})")
    said = f"traffic counted; beyond 10 % of the rule: {', '.join(far)}" if far else ""
    return (said or "traffic counted; the rule agrees within 10 %",)


def plan_notes(plan: Plan) -> tuple[str, ...]:
    """Say what structured sparsity leaves of the weights' and the lowered matrix."""
    if plan.method != structured.NAME or not isinstance(plan.sparsity, Sparsity):
        return ()
    return (structured.shapes_left(plan.layer, plan.sparsity, plan.schedule),)


def by_simulator(request: Request, **settings: Any) -> Result:
    """Run the plan's tiles as events in time; settings of the engine."""
    from archsim.simulator.engine import simulate

    plan = request.plan()
    found = simulate(plan, request.machine, isa=request.isa, clock=request.clock, **settings)
    return simulated(request, plan, found)


def simulated(request: Request, plan: Plan, found: Simulation) -> Result:
    """Return a simulation as a result."""
    return request.result(
        schedule=plan.schedule, seconds=found.seconds, actual_flop=plan.actual_flop,
        bound_by=found.bound_by, bytes=found.bytes, phases=found.phases,
        notes=(*plan_notes(plan), f"{found.tiles} tiles in {found.runs} events"),
    )  # fmt: skip


def by_park(request: Request, given: ParkGiven) -> Result:
    """Predict with the published model."""
    why = get_method(request.method).reason(request.layer, request.sparsity)
    if why is not None:
        raise NotApplicableError(why)
    if request.method in _NOT_IN_PARK:
        raise NotApplicableError("the published model knows no transformations of tiles")
    parameters, notes = park_parameters(request, given)
    layer, density = request.layer, request.sparsity.density
    if get_method(request.method).dense:
        seconds = request.batch * park.dense_seconds(layer, parameters)
        bound: tuple[str, ...] = ("compute",)
        moved = {}
        schedule = "sgemm rate"
    else:
        lowered = request.method == "lowered_sparse"
        compute = float(park.compute_seconds(layer, density, parameters))
        memory = float(park.memory_seconds(layer, density, parameters, lowered=lowered))
        seconds = request.batch * max(compute, memory)
        bound = ("compute", "memory") if compute >= memory else ("memory", "compute")
        home = request.machine.memory[0].name
        moved = {home: request.batch * memory * parameters.stream_bytes_per_s}
        schedule = "lowered" if lowered else "direct"
    return request.result(
        schedule=schedule, seconds=seconds, bound_by=bound, bytes=moved, isa=None, notes=notes,
        phases=(PhaseResult("products", seconds, bound),),
    )  # fmt: skip


def park_parameters(
    request: Request, given: ParkGiven
) -> tuple[park.ParkParameters, tuple[str, ...]]:
    """Return the published model's parameters for a machine, and notes on derived ones.

    F and B are the machine's published rates, F scaled to the cores in use; without them the
    peak and the memory's bandwidth.  Alpha is the published one, or the in-core model's.
    """
    machine, notes = request.machine, []
    sgemm = given.sgemm_flops_per_s
    if sgemm is None:
        sgemm = machine.rates.sgemm_flops_per_s
        if sgemm is None:
            sgemm = machine.peak_flops_per_s(request.isa, request.clock)
            notes.append("F derived: peak of the cores, no published SGEMM rate")
        sgemm *= min(1.0, request.threads / machine.total_cores)
    stream = given.stream_bytes_per_s
    if stream is None:
        stream = machine.rates.stream_bytes_per_s
        if stream is None:
            stream = machine.memory[0].bandwidth_bytes_per_s * machine.sockets
            notes.append("B derived: memory bandwidth of the machine, no published STREAM rate")
    alpha = given.alpha
    if alpha is None:
        alpha = machine.rates.alpha
        if alpha is None:
            density = request.sparsity.density
            rate = machine.rates.sgemm_flops_per_s or machine.peak_flops_per_s(
                request.isa, request.clock
            )
            alpha = in_core_alpha(
                machine, request.layer, density if 0 < density < 1 else _ALPHA_DENSITY, rate,
                request.isa, request.clock,
            )  # fmt: skip
            notes.append("alpha derived: in-core model, none published")
    return park.ParkParameters(sgemm, stream, alpha, given.beta), tuple(notes)


@lru_cache(maxsize=4096)
def in_core_alpha(
    machine: Machine, layer: Layer, density: float, rate: float, isa: str | None, clock: str
) -> float:
    """Return alpha from the in-core cycles of the direct sparse products, data in L1.

    The time of a nonzero's multiply-add over that of a dense one at the machine's ``rate``,
    every hardware thread at work on an image of its own.
    """
    uniform = Sparsity(density)
    method = get_method("direct_sparse")
    if method.reason(layer, uniform) is not None:
        return 1.0
    threads = machine.total_threads
    plan = method.plan(
        layer, uniform, batch=threads, threads=threads, schedule="row",
        target=machine.target(isa),
    )  # fmt: skip
    found = ecm.estimate(plan, machine, isa=isa, clock=clock, memory=False)
    products = next(phase for phase in found.phases if phase.name == "products")
    return products.seconds * rate / plan.actual_flop


def by_native(request: Request, *, min_seconds: float, check: bool) -> Result:
    """Run the plan's kernel on this host."""
    (result,) = by_native_interleaved([request], min_seconds=min_seconds, check=check)
    return result


def by_native_interleaved(
    requests: Sequence[Request],
    *,
    min_seconds: float,
    check: bool,
    watch: Watch | None = None,
) -> list[Result]:
    """Run the kernels of several requests in turns, so that their ratios can be trusted.

    With a ``watch`` only calls count that nobody disturbed, if there are enough.
    """
    from archsim import native

    prepared = [_native_job(request) for request in requests]
    jobs = [native.Job(plan, weights) for _, plan, weights in prepared]
    seed = requests[0].seed if requests else 0
    timed = native.run_interleaved(
        jobs, seed=seed, min_seconds=min_seconds, check=check, watch=watch
    )
    return [
        request.result(
            schedule=plan.schedule, seconds=found.seconds, seconds_low=found.seconds_low,
            seconds_high=found.seconds_high, actual_flop=plan.actual_flop, phases=found.phases,
            isa=found.isa, max_error=found.max_error,
            notes=(*_calls(found), *plan_notes(plan)),
        )
        for (request, plan, _), found in zip(prepared, timed, strict=True)
    ]  # fmt: skip


def _calls(found: Measurement) -> tuple[str, ...]:
    if found.disturbed:
        return f"{found.calls} calls", "disturbed"
    return (f"{found.calls} calls",)


def _native_job(request: Request) -> tuple[Request, Plan, NDArray[np.float32]]:
    """Make the plan and the weights to run: a density is drawn as a pattern first."""
    plan = request.plan()  # refuses before weights are drawn
    drawn = request.sparsity.draw(request.layer, request.seed, plan.weight_shape)
    if drawn.weights is None:
        raise InputError("pattern: no weights to run")
    if not get_method(request.method).dense:
        request = replace(request, sparsity=drawn)
    return request, request.plan(), drawn.weights


#: Models that need no parameters besides the machine's, by name.
MODELS: Final[Mapping[str, Callable[[Request], Result]]] = {
    "ecm": by_ecm,
    "ecm:counted": by_ecm_counted,
    "simulator": by_simulator,
}
