"""What ecm assumes where a machine's file does not say: which field, for which term, and what."""

from __future__ import annotations

from collections.abc import Iterator

from archsim.machine import Machine
from archsim.machineassume import NOT_IN_THE_FILE, TERMS
from archsim.machineblocks import Cache
from archsim.machinepath import value_at
from archsim.units import format_quantity


def assumptions(
    machine: Machine, isa: str | None = None, clock: str = "sustained"
) -> tuple[str, ...]:
    """Return one line for each number that a prediction needs and the file does not state.

    Fields without which there is no prediction at all have no default: their absence is an error
    when the file is read, which names the field.
    """
    return tuple(_found(machine, isa or machine.default_isa, clock))


def _found(machine: Machine, isa: str, clock: str) -> Iterator[str]:
    unit = machine.instruction_set(isa)
    for path, source in machine.provenance.items():
        if source.note is not None and source.note.startswith(NOT_IN_THE_FILE):
            term = TERMS.get(path.rsplit(".", 1)[-1], "predictions")
            value = value_at(machine, path)
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            yield f"{path}, for {term}: {shown}, {source.note}"
    if clock == "sustained" and unit.vector_clock_hz is None:
        nominal = format_quantity(machine.clock_hz, "frequency")
        yield f"core.isa.{isa}.vector_clock, for all terms: the nominal clock, {nominal}"
    if unit.gathers is None:
        yield f"core.isa.{isa}.gathers, for load: as many as scalar loads"
    if unit.shuffles is None:
        yield f"core.isa.{isa}.shuffles, for shuffle: one a cycle"
    for place, cache in enumerate(machine.caches):
        yield from _of_cache(cache, machine.caches[place - 1] if place else None)
    last = machine.caches[-1]
    for memory in machine.memory:
        where = f"memory.{memory.name}"
        if memory.core_bandwidth_bytes_per_s is None:
            rate = format_quantity(
                last.outstanding * last.line_bytes / memory.latency_s, "bandwidth"
            )
            latency = format_quantity(memory.latency_s, "time")
            yield (
                f"{where}.core_bandwidth, for {memory.name}: lines in flight over the latency, "
                f"{last.outstanding} x {last.line_bytes:.0f} B / {latency} = {rate}"
            )
            if "outstanding" not in last.model_fields_set:
                yield f"caches.{last.name}.outstanding, for {memory.name}: {last.outstanding}"
        if "write_allocate" not in memory.model_fields_set:
            yield f"{where}.write_allocate, for {memory.name}: a store first reads its line"
    if machine.fork_join_s is None:
        yield "fork_join, for barrier: a barrier of all threads at the end of a call"
    if machine.call_overhead_s is None:
        yield "call_overhead, for call: none"
    if machine.blas_overhead_s is None:
        yield "blas_overhead, for call of dense_gemm and structured: none"
    core = machine.core
    if "store_overlap" not in core.model_fields_set:
        yield f"core.store_overlap, for store: {core.store_overlap}"
    if core.split_miss_cycles is None:
        yield "core.split_miss, for load: none"
    if machine.total_cores > 1 and core.handed_read_cycles is None:
        yield "core.handed_read, for load: as from the cache that all share"
    if machine.total_cores > 1 and core.handed_write_cycles is None:
        yield "core.handed_write, for store: as to the cache that all share"
    if core.early_lines is None:
        yield "core.early_lines, for load: for nothing"
    if core.scalar_stores is None:
        yield "core.scalar_stores, for store: as many as vector stores"
    if unit.broadcasts is None:
        yield f"core.isa.{isa}.broadcasts, for load: as many as vector loads"
    if unit.folded_loads is None:
        yield f"core.isa.{isa}.folded_loads, for load: as many as vector loads"
    if unit.sustained_multiply is None:
        yield f"core.isa.{isa}.sustained_multiply, for arithmetic: as many as the ports start"
    if unit.blas_multiply_adds is None:
        yield f"core.isa.{isa}.blas_multiply_adds, for arithmetic: as many as the ports start"
    if unit.store_line_crossing_cycles is None:
        yield f"core.isa.{isa}.store_line_crossing, for store: two stores"
    if unit.store_page_crossing_cycles is None:
        yield f"core.isa.{isa}.store_page_crossing, for store: as a line"


def _of_cache(cache: Cache, inner: Cache | None) -> Iterator[str]:
    where = f"caches.{cache.name}"
    if "overlap" not in cache.model_fields_set:
        yield f"{where}.overlap, for what misses there: {cache.overlap}"
    if inner is None:
        return
    if cache.write_bytes_per_cycle is None:
        yield f"{where}.write_bandwidth, for {cache.name}: as read"
    if cache.shared_by > 1 and cache.shared_bandwidth_bytes_per_cycle is None:
        yield f"{where}.shared_bandwidth, for {cache.name}: each core has its own rate"
