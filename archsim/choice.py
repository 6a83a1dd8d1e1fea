"""What ``auto`` is: of a method's schedules the one that the closed form finds fastest.

The models, the simulator and native runs all ask here, so that they speak of the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from archsim.analytic import ecm
from archsim.errors import NotApplicableError, input_error
from archsim.machine import Machine
from archsim.methods import METHODS, get_method
from archsim.request import Request, default_threads
from archsim.sparsity import LayerSparsities, Sparsity
from archsim.targetsfile import Way


def ways_on(
    sparsities: LayerSparsities, machine: Machine, *, batch: int, threads: int | None
) -> tuple[dict[str, Way], tuple[str, ...]]:
    """Return how pruning targets have layers run on a machine, and what there is to say of it.

    Targets of another machine say nothing, and a method that is none of ours is left to the
    closed form.

    Raises
    ------
    InputError
        A schedule that its method does not have.
    """
    given = sparsities.ways
    if given is None:
        return {}, ()
    if given.machine != machine.name:
        return {}, (
            f"{given.label} is of {given.machine}: its methods and schedules are not taken",
        )
    found = {name: way for name, way in given.layers.items() if way.method in METHODS}
    for name, way in found.items():
        known = METHODS[way.method].schedules
        if way.schedule not in ("auto", *known):
            raise input_error(
                f"{given.label}: {name}: schedule of {way.method}", "unknown", found=way.schedule,
                allowed=", ".join(known), near=(way.schedule, known),
            )  # fmt: skip
    said = [f"methods and schedules are those of {given.label}"] if found else []
    strange = sorted({w.method for w in given.layers.values() if w.method not in METHODS})
    if strange:
        said.append(f"methods of {given.label} that archsim has not: {', '.join(strange)}")
    here = {"batch": batch, "threads": default_threads(machine) if threads is None else threads}
    made = {"batch": given.batch, "threads": given.threads}
    other = [f"{key} {made[key]}, not {here[key]}" for key in here
             if found and made[key] not in (None, here[key])]  # fmt: skip
    if other:
        said.append(f"they were found for {', '.join(other)}")
    return found, tuple(said)


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
