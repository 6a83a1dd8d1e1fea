"""What ``auto`` is: of a method's schedules the one that the closed form finds fastest.

The models, the simulator and native runs all ask here, so that they speak of the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.analytic import ecm
from archsim.errors import NotApplicableError
from archsim.methods import METHODS, get_method
from archsim.request import Request
from archsim.sparsity import Sparsity


def fitted(request: Request) -> Request:
    """Turn what was asked for into what the method computes, its schedule named.

    ``auto`` stays with methods that do not apply, and with ``park``, which knows no schedules.
    """
    method, sparsity, schedule = get_method(request.method), request.sparsity, request.schedule
    if method.dense:  # zeros are computed like any other weight
        spatial = sparsity.domain == "spatial"
        sparsity = Sparsity(1.0, sparsity.weights if spatial else None, label="dense")
    if schedule not in method.schedules and any(schedule in m.schedules for m in METHODS.values()):
        schedule = "auto"  # another method's schedule; one that nobody knows is refused later
    if sparsity is not request.sparsity or schedule != request.schedule:
        request = replace(request, sparsity=sparsity, schedule=schedule)
    return request if request.model == "park" else _fastest(request)


def _fastest(request: Request) -> Request:
    method = get_method(request.method)
    if method.reason(request.layer, request.sparsity) is not None:
        return request
    candidates = method.candidates(
        request.layer, request.schedule, batch=request.batch, threads=request.threads,
        target=request.machine.target(request.isa),
    )  # fmt: skip
    possible: list[tuple[float, int, Request]] = []
    for candidate in candidates:
        named = replace(request, schedule=candidate.schedule, blocks_for=candidate.blocks_for)
        if len(candidates) == 1:
            return named
        try:
            plan = named.plan()
        except NotApplicableError:
            continue
        found = ecm.estimate(plan, request.machine, isa=request.isa, clock=request.clock)
        possible.append((found.seconds, len(possible), named))
    return min(possible)[2] if possible else request
