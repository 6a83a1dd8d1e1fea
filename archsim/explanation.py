"""explain: where the cycles of a prediction go, phase by phase and term by term."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

import archsim
from archsim.analytic.assumed import assumptions
from archsim.analytic.ecm import Evaluation, evaluate
from archsim.analytic.rates import BARRIER, CALL, IMBALANCE
from archsim.api import predict
from archsim.choice import fitted
from archsim.errors import NotApplicableError
from archsim.incore import ROWS, cycles_of_operations
from archsim.machine import Machine
from archsim.methods.sharing import Partition
from archsim.network import Layer
from archsim.plan import OPERATIONS, Plan
from archsim.request import make_request
from archsim.result import SCHEMA, Result
from archsim.sparsity import Domain, Sparsity

Rule = Literal["adds up", "beside", "waits", "whole chip"]

#: what the terms of the core are
_CORE: Final[Mapping[str, tuple[Rule, str]]] = {
    "load": ("adds up", "load ports: vectors, broadcasts, indices, data in L1"),
    "arithmetic": ("beside", "multiply and add ports"),
    "shuffle": ("beside", "shuffle port"),
    "store": ("beside", "store port"),
    "issue": ("beside", "slots of the front end"),
    "scalar": ("beside", "ports of index arithmetic and branches"),
    "latency": ("beside", "longest run of multiply-adds that wait for each other"),
    "mispredict": ("waits", "restart after mispredicted ends of loops"),
    IMBALANCE: ("waits", "what the slowest core takes longer than all on average"),
    BARRIER: ("waits", "threads wait for each other"),
    CALL: ("waits", "what a call costs besides its kernel"),
}
_RULES: Final[Mapping[str, Rule]] = {
    "serial": "adds up", "overlapped": "beside", "latency": "waits",
}  # fmt: skip
_LOADS: Final[Mapping[str, tuple[str, ...]]] = {
    "vector loads": ("loads_aligned", "loads_unaligned"),
    "beside multiply-adds": ("folded_in_line",),
    "line crossings": ("loads_line_crossing", "loads_page_crossing"),
    "broadcasts": ("broadcasts",),
    "lines asked for early": ("early_lines",),
    "lines under crossings": ("split_misses",),
    "lines of other cores": ("handed_reads",),
    "index loads": ("scalar_loads",),
    "gathers": ("gathered",),
    "stores on the same port": (
        "stores",
        "stores_line_crossing",
        "stores_page_crossing",
        "scalar_stores",
    ),
}


@dataclass(frozen=True, slots=True)
class Term:
    """One resource in one phase.

    Attributes
    ----------
    name : str
        As in ``bound_by`` of a result: a resource of the core, or the level that hands lines in.
    rule : {"adds up", "beside", "waits", "whole chip"}
        Terms that add up run one after the other; those beside run at the same time as their sum,
        and only the longest shows; waits come on top.
    busy_seconds : float
        For which the resource of the slowest core works, shown or hidden.
    shown_seconds : float
        What of the phase's time it is.
    parts : mapping of str to float
        Seconds of what the busy time consists of, where that is known (loads).
    """

    name: str
    what: str
    rule: Rule
    busy_seconds: float
    shown_seconds: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PhaseExplanation:
    """One phase: its terms' ``shown_seconds`` add up to its ``seconds``.

    ``bytes`` are what each level hands to the level inside it, all threads.
    """

    name: str
    seconds: float
    terms: tuple[Term, ...]
    bytes: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A prediction of ``ecm``, taken apart; ``phases`` add up to the result's seconds.

    ``assumed`` names what the machine's file leaves out, for which term it is needed, and what
    stands in for it.
    """

    result: Result
    hertz: float
    phases: tuple[PhaseExplanation, ...]
    assumed: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the machine-readable form."""
        return {
            "result": self.result.as_dict(),
            "clock_hz": self.hertz,
            "assumed": list(self.assumed),
            "phases": [
                {
                    "name": phase.name,
                    "seconds": phase.seconds,
                    "bytes": dict(phase.bytes),
                    "terms": [
                        {
                            "name": term.name, "what": term.what, "rule": term.rule,
                            "busy_seconds": term.busy_seconds,
                            "shown_seconds": term.shown_seconds, "parts": dict(term.parts),
                        }
                        for term in phase.terms
                    ],
                }
                for phase in self.phases
            ],
        }  # fmt: skip


def document(explanations: Iterable[Explanation]) -> dict[str, Any]:
    """Return the JSON document of several explanations."""
    return {
        "schema": SCHEMA,
        "archsim": archsim.__version__,
        "explanations": [each.as_dict() for each in explanations],
    }


def explain(
    layer: Layer,
    machine: Machine | str | Path,
    *,
    method: str = "auto",
    density: float | None = None,
    pattern: np.ndarray[Any, Any] | Sparsity | None = None,
    density_domain: Domain = "spatial",
    schedule: str = "auto",
    partition: Partition = "nnz",
    batch: int = 1,
    threads: int | None = None,
    clock: str = "sustained",
    isa: str | None = None,
) -> Explanation:
    """Explain what :func:`archsim.predict` says with ``ecm`` and ``traffic="rule"``.

    Arguments are those of that function.

    Raises
    ------
    InputError
        An argument is wrong.
    NotApplicableError
        The method cannot compute this layer.
    """
    result = predict(
        layer, machine, method=method, density=density, pattern=pattern,
        density_domain=density_domain, schedule=schedule, partition=partition, batch=batch,
        threads=threads, clock=clock, isa=isa, traffic="rule",
    )  # fmt: skip
    if result.seconds is None:
        raise NotApplicableError(result.reason or "no method applies")
    request = make_request(
        layer, machine, method=result.method, density=density, pattern=pattern,
        density_domain=density_domain, schedule=schedule, partition=partition, batch=batch,
        threads=threads, clock=clock, isa=isa, seed=0, model="ecm",
    )  # fmt: skip
    request = fitted(request)
    plan = request.plan()
    found = evaluate(plan, request.machine, isa=request.isa, clock=clock)
    return Explanation(
        result, found.cost.hertz, tuple(_phases(plan, request.machine, found)),
        assumptions(request.machine, plan.target.isa, clock),
    )  # fmt: skip


def _phases(plan: Plan, machine: Machine, found: Evaluation) -> Iterator[PhaseExplanation]:
    for index, phase in enumerate(plan.phases):
        moved = dict(zip(found.cost.levels, found.moved[index].tolist(), strict=True))
        yield PhaseExplanation(
            phase.name, float(found.seconds[index]),
            tuple(_terms(plan, machine, found, index)), moved,
        )  # fmt: skip
    if found.join_seconds:
        yield _once("join", BARRIER, "all threads wait for each other", found.join_seconds)
    if found.call_seconds:
        yield _once("call", CALL, _CORE[CALL][1], found.call_seconds)


def _once(phase: str, name: str, what: str, seconds: float) -> PhaseExplanation:
    """Return what a call pays once."""
    term = Term(name, what, "waits", seconds, seconds, {})
    return PhaseExplanation(phase, seconds, (term,), {})


def _terms(plan: Plan, machine: Machine, found: Evaluation, phase: int) -> Iterator[Term]:
    names, shown = found.cost.terms, found.parts[:, phase].tolist()
    busy = [*(found.busy[:, phase] / found.cost.hertz).tolist(), *shown[-3:]]
    for name in dict.fromkeys(names):
        places = [place for place, other in enumerate(names) if other == name]
        rule, what = _CORE.get(name) or _transfer(machine, found, name)
        works, time = max(busy[p] for p in places), sum(shown[p] for p in places)
        if name == found.cost.levels[-1] and time > works * (1 + 1e-9):
            rule, works = "whole chip", time
        if works or time:
            parts = _loads(plan, machine, found, phase) if name == "load" else {}
            yield Term(name, what, rule, works, time, parts)


def _transfer(machine: Machine, found: Evaluation, name: str) -> tuple[Rule, str]:
    """Return the rule of the lines that a level hands to the level inside it, and what they are."""
    place = found.cost.levels.index(name)
    inner = machine.caches[place - 1]
    return _RULES[inner.overlap], f"lines between {name} and {inner.name}"


def _loads(plan: Plan, machine: Machine, found: Evaluation, phase: int) -> dict[str, float]:
    """Return the seconds of the load ports by what is loaded."""
    row = cycles_of_operations(machine, plan.target.isa)[ROWS.index("load")]
    counts = np.zeros(len(OPERATIONS))
    for loop, of_phase in enumerate(found.asked.phases):
        if of_phase == phase:
            core = 0 if found.spent.place is None else int(found.spent.place[loop])
            counts += found.asked.of_cores[loop, : len(OPERATIONS), core]
    seconds = dict(zip(OPERATIONS, (row * counts / found.cost.hertz).tolist(), strict=True))
    sums = {name: sum(seconds[o] for o in operations) for name, operations in _LOADS.items()}
    return {name: value for name, value in sums.items() if value}
