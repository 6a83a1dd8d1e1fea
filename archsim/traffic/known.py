"""Which plans can be counted, and what was counted already."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from archsim.machine import Machine
from archsim.methods.dense_gemm import is_one_product
from archsim.plan import Plan
from archsim.traffic import dense_direct, fc, gemm, lanes, lowered, row, shifts, winograd
from archsim.traffic.count import Counted, count
from archsim.traffic.script import NotCountedError, Script

_KEPT: Final = 256  # plans whose counts are remembered
_remembered: OrderedDict[tuple[object, ...], Counted] = OrderedDict()


def script_of(plan: Plan) -> Script:
    """Return what the threads of a plan touch.

    Raises
    ------
    NotCountedError
        There is no script for the plan, or it has no pattern.
    """
    make = _maker(plan)
    if make is None:
        raise NotCountedError(f"traffic of {plan.method} {plan.schedule} is not counted")
    return make(plan)


_SCRIPTS: Final[dict[str, Callable[[Plan], Script]]] = {
    "dense_direct": dense_direct.script,
    "dense_gemm": gemm.script,
    "fc_dense": fc.dense,
    "fc_sparse": fc.sparse,
    "lowered_sparse": lowered.script,
    "structured": gemm.script,
    "winograd": winograd.script,
}


def _maker(plan: Plan) -> Callable[[Plan], Script] | None:
    if plan.method == "direct_sparse":
        mode = plan.blocking.get("mode")
        if mode is None:
            return row.script
        copied = plan.layer.H * plan.layer.W % int(plan.blocking["lanes"]) != 0
        if mode == "shifts" or (mode == "pointwise" and copied):
            return shifts.script
        return lanes.script
    if plan.method == "dense_gemm" and is_one_product(plan.layer):
        return None  # how BLAS cuts a product with few columns is not modelled
    if plan.method == "structured" and plan.schedule == "kernel":
        return None
    if plan.method == "dense_direct" and plan.blocking["source"] == "panels":
        return None  # the first channels of a band copy what the others read: not written yet
    return _SCRIPTS.get(plan.method)


def counted(plan: Plan, machine: Machine) -> Counted:
    """Return what the plan moves on the machine; plans and cache geometries are remembered.

    Raises
    ------
    NotCountedError
        The plan cannot be counted.
    """
    key = _key(plan, machine)
    if key in _remembered:
        _remembered.move_to_end(key)
        return _remembered[key]
    found = count(plan, machine, script_of(plan))
    _remembered[key] = found
    if len(_remembered) > _KEPT:
        _remembered.popitem(last=False)
    return found


def _key(plan: Plan, machine: Machine) -> tuple[object, ...]:
    caches = tuple((c.size_bytes, c.line_bytes, c.ways, c.shared_by) for c in machine.caches)
    allocate = tuple(memory.write_allocate for memory in machine.memory)
    return (
        plan.method, plan.schedule, plan.layer, plan.sparsity.pattern_key, plan.batch,
        plan.threads, tuple(sorted(plan.blocking.items())), plan.part_ptr, plan.target,
        machine.total_cores, caches, allocate,
    )  # fmt: skip
