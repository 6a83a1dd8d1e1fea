"""What comes of a layer that ran: its times, bytes and waits, put together."""

from __future__ import annotations

from typing import Any, Final

from archsim.machine import Machine
from archsim.result import PhaseResult
from archsim.simulator.layer import LayerRun, Link, ThreadState
from archsim.simulator.outcome import CoreUse, LevelUse, MemoryUse, Simulation, Step

_LISTED_SHARE: Final = 0.05  # a resource is named in bound_by from this share of the time on
_STEPS_KEPT: Final = 64


def outcome(layer: LayerRun, machine: Machine) -> Simulation:
    """Put together what came of it."""
    seconds = layer.ended - layer.began
    levels = _levels(layer, machine)
    last = max(layer.threads, key=lambda me: (me.end, -me.thread))
    spent = _spent(layer)
    total = sum(spent.values()) or 1.0
    memory = machine.memory[layer.home]
    terms = [_terms([costs], memory.name) for costs in layer.costs]
    return Simulation(
        layer=layer.plan.layer.name,
        seconds=seconds,
        start_seconds=layer.began,
        phases=tuple(
            PhaseResult(costs.name, seconds * spent[costs.name] / total, _ranked(term))
            for costs, term in zip(layer.costs, terms, strict=True)
        ),
        bound_by=_ranked(_all_terms(layer, memory.name, last.end)),
        bytes={machine.caches[0].name: _core_bytes(layer)}
        | {level.name: level.read_bytes + level.written_bytes for level in levels[1:]},
        tiles=round(sum(c.tiles for costs in layer.costs for c in costs.found.values())),
        runs=sum(me.runs for me in layer.threads),
        cores=_cores(layer, seconds),
        levels=levels,
        memories=tuple(
            MemoryUse(server.name, served / (server.bandwidth * seconds) if seconds else 0.0,
                      served, slow, server.busiest)
            for server, served, slow in layer.served
        ),
        critical_path=_steps(layer, last.path),
        path_steps=last.path.length if last.path else 0,
    )  # fmt: skip


def _spent(layer: LayerRun) -> dict[str, float]:
    """Return seconds of all threads, by phase.

    What threads of a core wait for each other is shared out by the time that tiles take alone: a
    short tile may wait for the port until a long one of another phase has passed, and is none the
    longer.
    """
    found = [(costs.name, c) for costs in layer.costs for c in costs.found.values()]
    alone = sum(c.tiles * c.alone for _, c in found)
    longer = sum(c.seconds for _, c in found) / alone if alone else 1.0
    spent = {costs.name: 0.0 for costs in layer.costs}
    for name, c in found:
        spent[name] += c.tiles * c.alone * longer + c.stall
    return spent


def _core_bytes(layer: LayerRun) -> float:
    return sum(
        c.tiles * float(costs.core_bytes[c.kind])
        for costs in layer.costs
        for c in costs.found.values()
    )


def _levels(layer: LayerRun, machine: Machine) -> tuple[LevelUse, ...]:
    found = [c for costs in layer.costs for c in costs.found.values()]
    read = [sum(c.tiles * c.touched for c in found)]
    written = [0.0]
    for level in range(len(machine.caches)):
        read.append(sum(c.tiles * float(c.read[level]) for c in found))
        written.append(sum(c.tiles * float(c.written[level]) for c in found))
    names = [cache.name for cache in machine.caches] + [machine.memory[layer.home].name]
    return tuple(
        LevelUse(
            name,
            asked_bytes=read[level],
            read_bytes=read[level],
            written_bytes=written[level],
            hits=(
                1.0 - min(1.0, read[level + 1] / read[level])
                if level + 1 < len(names) and read[level]
                else None
            ),
        )
        for level, name in enumerate(names)
    )


def _cores(layer: LayerRun, seconds: float) -> tuple[CoreUse, ...]:
    by_core: dict[int, list[ThreadState]] = {}
    for me in layer.threads:
        by_core.setdefault(me.core, []).append(me)
    found = []
    for core in sorted(by_core):
        here = by_core[core]
        n = len(here)
        working, queued = (
            sum(m.working for m in here) / n,
            sum(m.working - m.alone_seconds for m in here) / n,
        )
        stalled, waiting = sum(m.stalled for m in here) / n, sum(m.waiting for m in here) / n
        idle = max(0.0, seconds - working - stalled - waiting)
        busy = min(max(here[0].busy), seconds)
        found.append(CoreUse(core, n, busy, working, queued, stalled, waiting, idle))
    return tuple(found)


def _terms(phases: list[Any], memory: str) -> dict[str, float]:
    """Seconds of all threads by what they were spent on."""
    terms: dict[str, float] = {}
    for costs in phases:
        for cost in costs.found.values():
            for name, share in cost.shares.items():
                terms[name] = terms.get(name, 0.0) + share * cost.seconds
            terms[memory] = terms.get(memory, 0.0) + cost.stall
    return terms


def _all_terms(layer: LayerRun, memory: str, last: float) -> dict[str, float]:
    terms, threads = _terms(layer.costs, memory), len(layer.threads)
    barriers = layer.barrier_seconds * sum(me.meets for me in layer.threads)
    terms["imbalance"] = sum(me.waiting + last - me.end for me in layer.threads) - barriers
    terms["barrier"] = barriers + layer.joined * threads
    return terms


def _ranked(terms: dict[str, float]) -> tuple[str, ...]:
    total = sum(terms.values())
    listed = sorted(terms, key=lambda name: (-terms[name], name))
    return tuple(n for n in listed if terms[n] > 0 and terms[n] >= _LISTED_SHARE * total)


def _steps(layer: LayerRun, link: Link | None) -> tuple[Step, ...]:
    found: list[Step] = []
    while link is not None and len(found) < _STEPS_KEPT:
        found.append(
            Step(layer.plan.layer.name, layer.plan.phases[link.phase].name, link.kind,
                 link.thread, int(layer.seats.core[link.thread]), link.start, link.end)
        )  # fmt: skip
        link = link.before
    return tuple(reversed(found))
