"""Machine: what a YAML file says of the hardware, and nothing else.

One frozen class is the schema, the defaults, the documentation and the rules at once; its parts
are in :mod:`archsim.machineblocks`.  Reading files, merging ``base:`` and keeping track of sources
is in :mod:`archsim.machinefile`.
Numbers are in base units: hertz, bytes, bytes per second, cycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import Field, PrivateAttr, model_validator

from archsim.errors import input_error
from archsim.machineblocks import (
    Block,
    Cache,
    Core,
    Count,
    CyclesOrZero,
    Frequency,
    InstructionSet,
    Kind,
    Memory,
    Rates,
    SecondsOrZero,
    Size,
    Source,
)
from archsim.plan import Target
from archsim.schema import RuleError

FORMAT: Final = 1
MAX_THREADS: Final = 2**16


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one number comes from.

    ``low`` and ``high`` are the range in base units, or None where none is stated.
    """

    kind: Kind
    text: str
    key: str | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None
    where: str | None = None


class Machine(Block):
    """A processor as its file describes it.

    Read one with :func:`archsim.load_machine`.  ``provenance`` maps dotted paths of the file
    (``core.isa.avx2.loads``) to where the number comes from.
    """

    format: Literal[1] = Field(1, description="Version of this file format.")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the machine.")
    description: str = Field("", description="One or two lines on what it is.")
    base: str | None = Field(None, description="Name or file of the machine this one starts from.")
    identity: str | None = Field(
        None, description="Digest of the hardware that the file was read off, where it was."
    )
    clock_hz: Frequency = Field(alias="clock", description="Nominal clock.")
    sockets: Count = Field(1, description="Sockets.")
    cores: Count = Field(description="Cores per socket.")
    threads_per_core: Count = Field(1, description="Hardware threads per core.")
    page_bytes: Size = Field(
        4096.0,
        alias="page",
        description="Page.",
        validate_default=False,
        json_schema_extra={"default": "4 KiB"},
    )
    barrier_cycles: CyclesOrZero = Field(
        alias="barrier", description="Barrier over all threads of the machine, in core cycles."
    )
    fork_join_s: SecondsOrZero | None = Field(
        None,
        alias="fork_join",
        description="What a call on all cores costs more than one on one core: to begin, to end.",
    )
    call_overhead_s: SecondsOrZero | None = Field(
        None,
        alias="call_overhead",
        description="What a call of a prepared layer costs besides its kernel.",
    )
    blas_overhead_s: SecondsOrZero | None = Field(
        None,
        alias="blas_overhead",
        description="What a call costs besides where its products are a BLAS library's.",
    )
    core: Core
    caches: tuple[Cache, ...] = Field(min_length=1, description="Levels, inside out.")
    memory: tuple[Memory, ...] = Field(min_length=1, description="Memories, the preferred first.")
    rates: Rates = Field(default_factory=lambda: Rates.model_validate({}))
    sources: Mapping[str, Source] = Field(default_factory=dict, description="Key to source.")

    _provenance: Mapping[str, Provenance] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Machine:
        self.check_rules()
        return self

    def check_rules(self) -> None:
        """Check the rules between fields.

        Raises
        ------
        RuleError
            The first one that is broken.
        """
        if self.total_threads > MAX_THREADS:
            raise RuleError(
                ("cores",),
                f"sockets x cores x threads_per_core must not exceed {MAX_THREADS}; "
                f"found {self.total_threads}",
            )
        _check_names(self.caches, self.memory)
        for index, cache in enumerate(self.caches):
            _check_cache(index, cache, self.cores)
            if index:
                _check_outer(index, self.caches[index - 1], cache)
        if not _power_of_two(self.page_bytes) or self.page_bytes < self.caches[0].line_bytes:
            raise RuleError(
                ("page",),
                "must be a power of two of bytes, and no less than a cache line "
                f"({self.caches[0].line_bytes:.0f} B); found {self.page_bytes:g} B",
            )
        for name, isa in self.core.isa.items():
            if not _power_of_two(isa.lanes):
                raise RuleError(
                    ("core", "isa", name, "lanes"), f"must be a power of two; found {isa.lanes}"
                )

    def __hash__(self) -> int:
        return hash((self.name, self.clock_hz, self.sockets, self.cores))

    @property
    def provenance(self) -> Mapping[str, Provenance]:
        """Dotted path of each number of the file -> where it comes from."""
        return MappingProxyType(dict(self._provenance))

    @property
    def total_cores(self) -> int:
        """Physical cores of the whole machine."""
        return self.sockets * self.cores

    @property
    def total_threads(self) -> int:
        """Hardware threads of the whole machine."""
        return self.total_cores * self.threads_per_core

    @property
    def default_isa(self) -> str:
        """Name of the widest instruction set; of two equally wide ones, the one named last."""
        return max(
            enumerate(self.core.isa), key=lambda item: (self.core.isa[item[1]].lanes, item[0])
        )[1]

    def instruction_set(self, isa: str | None = None) -> InstructionSet:
        """Return the instruction set called ``isa`` (default: the widest)."""
        name = isa or self.default_isa
        try:
            return self.core.isa[name]
        except KeyError:
            raise input_error(
                f"isa of {self.name}",
                "unknown instruction set",
                found=name,
                allowed=", ".join(self.core.isa),
                near=(name, self.core.isa),
            ) from None

    def clock_for(self, isa: str | None = None, clock: str = "sustained") -> float:
        """Return the clock in hertz that a model should use.

        Parameters
        ----------
        isa : str, optional
            Instruction set (default: the widest).
        clock : {"sustained", "nominal"}
            ``sustained`` takes the instruction set's ``vector_clock`` where the file gives one.
        """
        if clock not in ("sustained", "nominal"):
            raise input_error("clock", "unknown clock", found=clock, allowed="sustained, nominal")
        vector_clock = self.instruction_set(isa).vector_clock_hz
        return vector_clock if clock == "sustained" and vector_clock else self.clock_hz

    def peak_flops_per_s(self, isa: str | None = None, clock: str = "sustained") -> float:
        """Return lanes x ports x clock x cores, counting a multiply-add as two."""
        unit = self.instruction_set(isa)
        if unit.fma or not (unit.shared_arithmetic or unit.pairs):
            per_cycle = 2 * min(unit.multiply, unit.add)
        elif unit.pairs:
            per_cycle = 2 * unit.pairs
        else:
            per_cycle = 2 / (1 / unit.multiply + 1 / unit.add)
        return per_cycle * unit.lanes * self.clock_for(isa, clock) * self.total_cores

    def target(self, isa: str | None = None) -> Target:
        """Return the little of this machine that a method's blocking depends on."""
        name = isa or self.default_isa
        unit = self.instruction_set(name)
        first, second = self.caches[0], self.caches[min(1, len(self.caches) - 1)]
        return Target(
            isa=name,
            lanes=unit.lanes,
            registers=unit.registers,
            fma=unit.fma,
            line_bytes=int(first.line_bytes),
            page_bytes=int(self.page_bytes),
            l1_bytes=int(first.size_bytes),
            l1_sharers=first.shared_by * self.threads_per_core,
            l2_bytes=int(second.size_bytes),
            l2_sharers=second.shared_by * self.threads_per_core,
            last_bytes=int(self.caches[-1].size_bytes),
            threads_per_core=self.threads_per_core,
        )

    def describe(self) -> dict[str, Any]:
        """Return the machine as plain data in base units, as ``--json`` prints it."""
        return self.model_dump(mode="json", exclude_none=True)


def _power_of_two(value: float) -> bool:
    return value == int(value) and int(value) & (int(value) - 1) == 0


def _check_names(caches: Sequence[Cache], memory: Sequence[Memory]) -> None:
    names: list[str] = []
    places = [("caches", index, cache.name) for index, cache in enumerate(caches)]
    places += [("memory", index, entry.name) for index, entry in enumerate(memory)]
    for key, index, name in places:
        if name in names:
            found = ", ".join([*names, name])
            raise RuleError((key, index, "name"), f"level names must differ; found {found}")
        names.append(name)


def _check_cache(index: int, cache: Cache, cores: int) -> None:
    if not _power_of_two(cache.line_bytes) or cache.line_bytes < 4:
        raise RuleError(
            ("caches", index, "line"),
            f"{cache.name}: must be a power of two of at least 4 B; found {cache.line_bytes:g} B",
        )
    if cache.shared_by > cores or cores % cache.shared_by:
        raise RuleError(
            ("caches", index, "shared_by"),
            f"{cache.name}: must divide cores ({cores}); found {cache.shared_by}",
        )
    if cache.size_bytes % (cache.line_bytes * cache.ways):
        raise RuleError(
            ("caches", index, "size"),
            f"{cache.name}: must be a multiple of line x ways "
            f"({cache.line_bytes:.0f} B x {cache.ways}); found {cache.size_bytes:.0f} B",
        )


def _check_outer(index: int, inner: Cache, outer: Cache) -> None:
    """Check a cache against the one inside it."""
    if inner.line_bytes != outer.line_bytes:
        raise RuleError(
            ("caches", index, "line"),
            f"lines of {inner.name} and {outer.name} must be of one size; "
            f"found {inner.line_bytes:.0f} B and {outer.line_bytes:.0f} B",
        )
    if outer.size_bytes / outer.shared_by < inner.size_bytes / inner.shared_by / 4:
        raise RuleError(
            ("caches", index, "size"),
            f"{outer.name} is far smaller than {inner.name}, inside it; "
            f"found {outer.size_bytes:.0f} B",
        )
