"""The instruction sets that kernels were compiled for, and the one in use."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache

from archsim.kernels import _native

ENVIRONMENT_VARIABLE = "ARCHSIM_ISA"


@dataclass(frozen=True)
class IsaInfo:
    """One instruction set."""

    name: str
    lanes: int
    """Floats in a vector register."""
    registers: int
    """Vector registers."""
    fma: bool
    """Whether multiply-add is one instruction."""
    built: bool
    """Whether this build has kernels for it."""
    supported: bool
    """Whether it is built and this CPU can run it."""

    @property
    def accumulators(self) -> int:
        """Largest register block: all registers but one for the weight and one for the input."""
        return self.registers - 2


@cache
def isa_table() -> tuple[IsaInfo, ...]:
    """Return every instruction set that archsim knows, worst to best on each architecture."""
    return tuple(IsaInfo(*row) for row in _native.isa_rows())


def supported_isas() -> tuple[str, ...]:
    """Return the names of those that this build has and this CPU can run, worst to best."""
    return tuple(isa.name for isa in isa_table() if isa.supported)


_chosen: str | None = None


def active_isa() -> str:
    """Return the set that new packed weights use when none is named.

    That of `set_isa`, else that of the environment variable ARCHSIM_ISA, else the best one that
    can run here.
    """
    if _chosen is not None:
        return _chosen
    forced = os.environ.get(ENVIRONMENT_VARIABLE)
    if forced:
        return find_isa(forced, ENVIRONMENT_VARIABLE).name
    return supported_isas()[-1]


def set_isa(name: str | None) -> None:
    """Make *name* the active set; None: ARCHSIM_ISA or the best again.

    Raise ValueError, naming those that work, if it cannot run here.
    """
    global _chosen
    _chosen = None if name is None else find_isa(name, "isa").name


def find_isa(name: str | None, what: str = "isa") -> IsaInfo:
    """Return the set called *name* (None: the active one).

    Raise ValueError, naming those that work, if it cannot run here; *what* is what was set wrong.
    """
    wanted = active_isa() if name is None else name
    for isa in isa_table():
        if isa.name == wanted and isa.supported:
            return isa
    known = {isa.name: isa for isa in isa_table()}
    if wanted not in known:
        why = "unknown"
    elif not known[wanted].built:
        why = "not in this build"
    else:
        why = "this CPU lacks it"
    raise ValueError(f"{what}: {wanted!r}: {why}; those that work: {', '.join(supported_isas())}")


def multiply_add_roof(isa: str | None = None, *, steps: int = 100_000) -> float:
    """Return FLOP per second of one thread that does nothing but multiply-adds in registers.

    One short run (some 100 microseconds per 10 000 steps at most): take the best of several.
    """
    index = isa_index(find_isa(isa))
    start = time.perf_counter()
    flop = _native.run_roof(index, steps)
    return flop / (time.perf_counter() - start)


def isa_index(isa: IsaInfo) -> int:
    """Return the place of *isa* in the table, which is its number in C."""
    return isa_table().index(isa)


def load_roof(isa: str | None = None, *, size_bytes: int = 24 << 10, aligned: bool = True) -> float:
    """Return the FLOP/s of multiply-adds that each load a vector, the sparse kernels' limit.

    *size_bytes* are walked again and again (default: what any first level holds). Unaligned, every
    vector as wide as a line crosses one. A call takes about a millisecond.
    """
    info = find_isa(isa)
    vectors = max(12, size_bytes // (4 * info.lanes) // 12 * 12)
    repeats = max(1, 500_000 // vectors)
    seconds = _native.load_roof(isa_index(info), vectors, repeats, aligned)
    return 2.0 * info.lanes * vectors * repeats / seconds
