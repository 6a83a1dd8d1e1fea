"""Script: what the threads of a plan touch, in the kernel's order, with no addresses in it.

A script names the arrays of a kernel and, stage by stage, what the thread of each rank does to
them in one turn.  The same script serves all threads of that rank and all turns:
:mod:`archsim.traffic.count` gives every thread its own places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.kernels.replay import PAST, READ, SEGMENT, UPDATE, WRITE, Segments
from archsim.plan import PHASES, Plan

__all__ = ["PAST", "READ", "UPDATE", "WRITE", "Array", "Script", "Segments", "Stage"]

Ints = NDArray[np.int64]
INPUT, PRODUCTS, OUTPUT = range(len(PHASES))
_MOST: Final = 400_000  # segments that are made at a time, about


class NotCountedError(InputError):
    """The traffic of a plan cannot be counted; the message says why."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a kernel.

    Attributes
    ----------
    name : what it is, as in :class:`archsim.plan.Stream`
    size : bytes; of a picture, those of one turn
    owner : who has one: the ``layer``, each ``turn`` (pictures), each ``group`` of threads that
        share an image, each ``thread``
    shared : who reads the same lines, as in :class:`archsim.plan.Stream`
    """

    name: str
    size: int
    owner: Literal["layer", "turn", "group", "thread"]
    shared: Literal["no", "image", "part"] = "no"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a rank does until it meets the others: segments, in pieces of bounded size.

    ``meets``: the ranks write an array that all of them read.
    """

    make: Callable[[int], Iterator[Segments]]
    meets: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """The arrays of a kernel, the table that walks step through, and the stages of a turn."""

    arrays: tuple[Array, ...]
    steps: Ints
    stages: tuple[Stage, ...]

    def place(self, name: str) -> int:
        """Return the index of the first array of a name."""
        return next(i for i, array in enumerate(self.arrays) if array.name == name)


def table(*steps: Any) -> tuple[Ints, list[int]]:
    """Join tables of steps, in bytes; return them, and where each begins.

    Step 0 of the whole is 0: what is touched in one step needs no table.
    """
    parts = [np.zeros(1, dtype=np.int64), *(np.asarray(s, dtype=np.int64).ravel() for s in steps)]
    begins = np.cumsum([len(part) for part in parts]).tolist()
    return np.concatenate(parts), begins[:-1]


def touches(array: Any, phase: int, *, width: Any, offset: Any = 0, **fields: Any) -> Segments:
    """Return segments of one array; fields are numbers or arrays, broadcast together.

    ``rows`` 1 and one step where nothing else is said.
    """
    given = {
        "rows": 1, "pitch": 0, "first": 0, "last": 1, "touch": READ,
        **fields, "width": width, "offset": offset, "array": array, "phase": phase,
    }  # fmt: skip
    shape = np.broadcast_shapes(*(np.shape(value) for value in given.values()))
    found = np.zeros(shape, dtype=SEGMENT)
    for name, value in given.items():
        found[name] = value
    return found


def in_turn(*parts: Segments) -> Segments:
    """Interleave: of each place one segment of every part, in the order of the last axes."""
    shape = np.broadcast_shapes(*(part.shape for part in parts))
    found = np.empty((*shape, len(parts)), dtype=SEGMENT)
    for index, part in enumerate(parts):
        found[..., index] = part
    return found.reshape(-1)


def pieces(count: int, each: int) -> Iterator[slice]:
    """Cut ``count`` things of ``each`` segments into pieces of bounded size."""
    step = max(1, _MOST // max(1, each))
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def pattern_of(plan: Plan) -> NDArray[np.float32]:
    """Return the weights of a plan whose method leaves zeros out.

    Raises
    ------
    NotCountedError
        There is only a density.
    """
    if plan.sparsity.weights is None:
        raise NotCountedError(
            f"traffic of {plan.method} is counted on a pattern; there is a density"
        )
    return plan.sparsity.weights


def parts_of(plan: Plan, rank: int) -> list[tuple[int, int]]:
    """Return the parts of the units that a rank makes.

    Those that threads take at run time are dealt out in turn: as if all were equally fast.
    """
    every = list(pairwise(plan.part_ptr))
    return every[rank :: plan.threads_per_image] if every else []


def of_copy(plan: Plan) -> tuple[Literal["group", "thread"], Literal["image", "no"]]:
    """Return who has a copy of the input, and who reads it: :class:`Array`'s owner and shared."""
    return ("thread", "no") if plan.blocking.get("own_input") else ("group", "image")


def cut_even(count: int, plan: Plan, rank: int) -> tuple[int, int]:
    """Return a rank's share of ``count`` pieces of input, those of groups one after the other.

    An even one or, where each copies for itself, the groups that its units are in.
    """
    ranks, ptr = plan.threads_per_image, plan.part_ptr
    if not plan.blocking.get("own_input"):
        return count * rank // ranks, count * (rank + 1) // ranks
    if plan.blocking.get("partition") == "dynamic":
        return 0, count
    begin, end, in_group = ptr[rank], ptr[rank + 1], ptr[-1] // plan.layer.groups
    each = count // plan.layer.groups
    return (begin // in_group * each, ((end - 1) // in_group + 1) * each) if end > begin else (0, 0)
