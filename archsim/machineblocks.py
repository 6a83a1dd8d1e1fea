"""Parts of a machine file: a core and its instruction sets, caches, memories, published rates.

Each class is schema, defaults and documentation at once.  Numbers are in base units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from archsim.units import Unit

Kind = Literal["datasheet", "measured", "published", "assumed", "derived"]

Frequency = Annotated[float, Unit("frequency")]
Size = Annotated[float, Unit("size")]
Bandwidth = Annotated[float, Unit("bandwidth")]
BytesPerCycle = Annotated[float, Unit("bandwidth per cycle")]
Cycles = Annotated[float, Unit("cycles")]
CyclesOrZero = Annotated[float, Unit("cycles", allow_zero=True)]
PerCycle = Annotated[float, Unit("rate per cycle")]
Seconds = Annotated[float, Unit("time")]
SecondsOrZero = Annotated[float, Unit("time", allow_zero=True)]
FlopRate = Annotated[float, Unit("flop rate")]
Count = Annotated[int, Field(ge=1, le=2**20, strict=True)]
Registers = Annotated[int, Field(ge=4, le=2**20, strict=True)]  # a kernel needs as many
IsaName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class Block(BaseModel):
    """Base of every part of a machine file: frozen, unknown keys refused, a source of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str | None = Field(
        None, description="Key in `sources` of the numbers of this block that name none themselves."
    )
    note: str | None = Field(None, description="Anything that a reader should know.")


class Source(BaseModel):
    """Where numbers come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind = Field(description="How sure a number from here is.")
    text: str = Field(description="Document and table, command and date, or the reason.")


class InstructionSet(Block):
    """One SIMD instruction set of the core, single precision."""

    lanes: Count = Field(description="Single-precision numbers in a vector register.")
    registers: Registers = Field(description="Architectural vector registers.")
    fma: bool = Field(description="Whether multiply-add is one instruction.", strict=True)
    multiply: PerCycle = Field(
        alias="multiply", description="Vector multiplies started per cycle (FMAs where fma)."
    )
    sustained_multiply: PerCycle | None = Field(
        None,
        description=(
            "Vector multiplies (FMAs where fma) per cycle of vector_clock over many milliseconds, "
            "less where power limits hold the core back (default: as many as `multiply`)."
        ),
    )
    add: PerCycle = Field(description="Vector additions started per cycle (FMAs where fma).")
    multiply_latency_cycles: Cycles = Field(
        alias="multiply_latency", description="Latency of a multiply (of an FMA where fma)."
    )
    add_latency_cycles: Cycles = Field(
        alias="add_latency", description="Latency of an addition (of an FMA where fma)."
    )
    shared_arithmetic: bool = Field(
        True,
        strict=True,
        description="Multiplies and additions use the same ports (false: one port each).",
    )
    loads: PerCycle = Field(description="Aligned vector loads per cycle, data in L1.")
    broadcasts: PerCycle | None = Field(
        None,
        description="Numbers from L1 into all lanes per cycle (default: as many as vector loads).",
    )
    folded_loads: PerCycle | None = Field(
        None,
        description=(
            "Multiply-adds per cycle that each load an aligned vector from L1 (default: as many as "
            "vector loads)."
        ),
    )
    blas_multiply_adds: PerCycle | None = Field(
        None,
        description=(
            "Vector multiply-adds per cycle inside of products of the BLAS library, packing left "
            "out (default: as many as the ports start)."
        ),
    )
    gathers: PerCycle | None = Field(
        None,
        description=(
            "Numbers gathered per cycle, data in L1 (default: as many as scalar loads, which is "
            "what code without such an instruction does)."
        ),
    )
    shuffles: PerCycle | None = Field(
        None, description="Vector shuffles of two sources per cycle (default: one)."
    )
    stores: PerCycle = Field(description="Aligned vector stores per cycle.")
    line_crossing_cycles: Cycles = Field(
        alias="line_crossing", description="Load-port time of a load that crosses a cache line."
    )
    page_crossing_cycles: Cycles = Field(
        alias="page_crossing", description="Load-port time of a load that crosses a page."
    )
    store_line_crossing_cycles: Cycles | None = Field(
        None,
        alias="store_line_crossing",
        description="Store-port time of a store that crosses a cache line (default: two stores).",
    )
    store_page_crossing_cycles: Cycles | None = Field(
        None,
        alias="store_page_crossing",
        description="Store-port time of a store that crosses a page (default: as a line).",
    )
    broadcast_uops: Count = Field(
        1, description="Micro-operations that fill a register with one number from memory."
    )
    folded_load: bool = Field(
        True,
        strict=True,
        description="An unaligned load can be the operand of the arithmetic instruction.",
    )
    pairs: PerCycle | None = Field(
        None,
        description=(
            "Multiplies with as many additions, pairs started per cycle, where multiply-add is "
            "two instructions (default: from multiply, add and shared_arithmetic)."
        ),
    )
    vector_clock_hz: Frequency | None = Field(
        None, alias="vector_clock", description="Sustained clock under this vector load."
    )


class Core(Block):
    """One core: what it can start per cycle, and what stops it."""

    issue_width: PerCycle = Field(description="Micro-operations issued per cycle.")
    scalar: PerCycle = Field(description="Integer and index micro-operations per cycle.")
    scalar_loads: PerCycle = Field(description="Scalar loads per cycle.")
    scalar_stores: PerCycle | None = Field(
        None, description="Stores of one number each, per cycle (default: as of vectors)."
    )
    early_lines: PerCycle | None = Field(
        None, description="Prefetches of lines that are in L1, per cycle (default: for nothing)."
    )
    shared_load_store: bool = Field(
        False, strict=True, description="Loads and stores go through one port together."
    )
    split_miss_cycles: CyclesOrZero | None = Field(
        None, alias="split_miss", description="What a line costs more that split loads bring to L1."
    )
    handed_read_cycles: CyclesOrZero | None = Field(
        None,
        alias="handed_read",
        description="What reading a line costs more that another core wrote a moment ago.",
    )
    handed_write_cycles: CyclesOrZero | None = Field(
        None,
        alias="handed_write",
        description="What writing a line costs more that another core has read since.",
    )
    handed_split_write_cycles: CyclesOrZero | None = Field(
        None,
        alias="handed_split_write",
        description="The same where stores lie across two lines (default: `handed_write`).",
    )
    handed_size_bytes: Size | None = Field(
        None,
        alias="handed_size",
        description="Bytes written between two reads up to which that is so (default: any).",
    )
    store_overlap: Literal["serial", "overlapped"] = Field(
        "overlapped",
        description=(
            "Stores run beside lines of `serial` caches, and lines written back add to loads "
            "(overlapped); or stores and all lines add up, beside loads and fetched ones (serial)."
        ),
    )
    load_latency_cycles: Cycles = Field(
        alias="load_latency", description="Load to use, vector, data in L1."
    )
    mispredict_cycles: CyclesOrZero = Field(
        alias="mispredict", description="Cycles lost by a mispredicted branch."
    )
    reorder_window: Count = Field(description="Micro-operations in flight (reorder buffer).")
    threads_hide_stalls: bool = Field(
        False,
        strict=True,
        description="Another hardware thread works while one waits for a mispredicted branch.",
    )
    isa: Mapping[IsaName, InstructionSet] = Field(
        description="Instruction sets by name: sse42, avx2, avx512, neon, or one of your own.",
        min_length=1,
    )


class Cache(Block):
    """One cache level; the list goes from inside out."""

    name: str = Field(pattern=r"^L[1-9]$", description="L1, L2, L3: the level name in results.")
    size_bytes: Size = Field(alias="size", description="Capacity of one instance.")
    line_bytes: Size = Field(
        64.0,
        alias="line",
        description="Cache line.",
        validate_default=False,
        json_schema_extra={"default": "64 B"},
    )
    ways: Count = Field(description="Associativity.")
    shared_by: Count = Field(1, description="Cores that share one instance.")
    latency_cycles: Cycles = Field(alias="latency", description="Load to use on a hit here.")
    bandwidth_bytes_per_cycle: BytesPerCycle = Field(
        alias="bandwidth",
        description=(
            "Rate of the step from here to the level inside, for one core. A measured stream of "
            "loads from here also pays the levels inside: take the difference of the times."
        ),
    )
    write_bytes_per_cycle: BytesPerCycle | None = Field(
        None, alias="write_bandwidth", description="Write-back rate from inside (default: as read)."
    )
    shared_bandwidth_bytes_per_cycle: BytesPerCycle | None = Field(
        None,
        alias="shared_bandwidth",
        description=(
            "Rate at which one instance feeds streams of loads of all cores that share it, "
            "together (default: as many times `bandwidth` as cores)."
        ),
    )
    outstanding: Count = Field(
        10, description="Misses of this level that one core keeps in flight."
    )
    overlap: Literal["serial", "overlapped", "latency"] = Field(
        "serial",
        description=(
            "How the time to fetch what misses here combines with the core's loads: added to it "
            "(serial), hidden behind it (overlapped), or paid as one latency a line (latency)."
        ),
    )


class Memory(Block):
    """One memory; with several (MCDRAM beside DDR) the first one holds what fits into it."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$", description="The level name in results.")
    size_bytes: Size | None = Field(None, alias="size", description="Capacity, all sockets.")
    bandwidth_bytes_per_s: Bandwidth = Field(
        alias="bandwidth",
        description="Sustained rate of one socket, lines read and lines written back.",
    )
    core_bandwidth_bytes_per_s: Bandwidth | None = Field(
        None,
        alias="core_bandwidth",
        description="Rate of the step from memory to the last cache, for one core.",
    )
    core_write_bytes_per_s: Bandwidth | None = Field(
        None,
        alias="core_write_bandwidth",
        description="Rate at which one core's lines are written back (default: as read).",
    )
    latency_s: Seconds = Field(alias="latency", description="Load to use.")
    write_allocate: bool = Field(
        True, strict=True, description="A store first reads the line that it writes to."
    )


class Rates(Block):
    """Rates published for the whole machine; the published model needs them."""

    sgemm_flops_per_s: FlopRate | None = Field(
        None, alias="sgemm", description="Dense single-precision matrix product (F)."
    )
    stream_bytes_per_s: Bandwidth | None = Field(
        None, alias="stream", description="Sustained memory bandwidth (B)."
    )
    alpha: float | None = Field(
        None,
        ge=1e-6,
        le=1e6,
        strict=True,
        description="Published overhead of a sparse multiply-add against a dense one.",
    )
