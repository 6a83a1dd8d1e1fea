"""What a plan asks of the cores of a machine: operations, and bytes over each boundary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import log2

import numpy as np
from numpy.typing import NDArray

from archsim.analytic.rates import Costs
from archsim.analytic.seats import Placement, placement, seats
from archsim.coherence import with_handed
from archsim.machine import Machine
from archsim.network import FLOAT_BYTES
from archsim.plan import OPERATIONS, Counts, Phase, Plan

# rows of Work.counts: the last two are mispredicts and the longest chain
_CHAIN = slice(OPERATIONS.index("chain_multiply_adds"), len(OPERATIONS))
_SPLITS = OPERATIONS.index("split_misses")
_WAITS = slice(OPERATIONS.index("mispredicts"), len(OPERATIONS))


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """What the cores are asked for; of several densities there is a leading axis.

    Attributes
    ----------
    phases : tuple of int
        The phase of each loop. A phase is one loop, or several (:attr:`Phase.loops`) where a core
        has no other thread to run meanwhile.
    of_cores : ndarray of shape (..., loops, operations + 2 x boundaries, core kinds)
        Operations of a core's threads, bytes that they read over each boundary, and write back.
        Chains (and mispredicts, where threads hide them) are those of the thread that has most.
    moved : ndarray of shape (..., loops, levels)
        Bytes that each level hands inwards, all threads; L1 first, the memory last.
    cores : ndarray of shape (core kinds,)
        Cores of each kind.
    """

    phases: tuple[int, ...]
    of_cores: Counts
    moved: Counts
    cores: Counts

    def terms(self, cycles: Counts) -> Counts:
        """Return what it costs, by :attr:`Costs.cycles`: (terms, core kinds, loops, ...)."""
        found: Counts = cycles @ self.of_cores
        return found.transpose(-2, -1, -3, *range(found.ndim - 3))


def demand(
    plan: Plan,
    machine: Machine,
    cost: Costs,
    *,
    memory: bool = True,
    counted: Mapping[str, tuple[Counts, Counts]] | None = None,
) -> Demand:
    """Return what a plan asks for; without ``memory`` all data is in L1.

    ``counted`` holds, for phases by name, what :func:`traffic` returns, found in another way.
    """
    place = placement(plan.threads, machine)
    seated = seats(plan, machine.total_cores)
    rows, boundaries, cores = len(OPERATIONS), len(machine.caches), seated[0].cores
    lead = np.shape(plan.nonzeros)[:-1]
    loops = _loops(plan, place)
    asked = np.zeros((*lead, len(loops), rows + 2 * boundaries, len(cores)))
    longest = []
    for index, (number, kinds) in enumerate(loops):
        phase, seat = plan.phases[number], seated[number]
        tiles = phase.tiles.count.T.astype(np.float64)  # (kinds, classes)
        if kinds is not None:
            tiles *= kinds[:, None]
        counts = with_handed(phase, plan, machine) if memory else phase.work.counts
        here, work = asked[..., index, :, :], counts @ tiles
        here[..., :rows, :] = seat.sums(work)
        if memory:
            known = counted.get(phase.name) if counted else None
            read, written, split = _traffic(phase, plan, machine, place)
            if known is not None:
                split = split * (known[0][..., 0, :] / np.maximum(read[..., 0, :], 1.0))
                read, written = known
            here[..., rows:, :] = seat.sums(np.concatenate([read, written], axis=-2) @ tiles)
            here[..., _SPLITS, :] = seat.sums(split / machine.caches[0].line_bytes @ tiles)
        longest.append((here, seat, work))
    total = asked @ cores  # of all threads
    moved = np.empty((*total.shape[:-1], boundaries + 1))
    moved[..., 0] = total[..., :rows] @ _bytes_of_operations(plan.target.lanes)
    moved[..., 1:] = total[..., rows : rows + boundaries] + total[..., rows + boundaries :]
    # threads of a core wait beside each other
    alone = _WAITS if cost.threads_hide_stalls else _CHAIN
    for here, seat, work in longest:
        here[..., alone, :] = seat.longest(work[..., alone, :])
    return Demand(tuple([number for number, _ in loops]), asked, moved, cores)


def _loops(plan: Plan, place: Placement) -> list[tuple[int, NDArray[np.bool_] | None]]:
    """Return the phase of each loop, and which kinds of its tiles are in it (None: all).

    Threads of one core are in different loops at a time and fill each other's gaps: theirs are one.
    """
    found: list[tuple[int, NDArray[np.bool_] | None]] = []
    for number, phase in enumerate(plan.phases):
        count = max(phase.loops, default=0) + 1 if plan.threads <= place.cores else 1
        if count == 1:
            found.append((number, None))
        else:
            loops = np.array(phase.loops)
            found += [(number, loops == loop) for loop in range(count)]
    return found


@lru_cache(maxsize=16)
def _bytes_of_operations(lanes: int) -> Counts:
    """Bytes between the core and L1 of each operation."""
    width, each = float(lanes * FLOAT_BYTES), float(FLOAT_BYTES)
    of = dict.fromkeys(("loads_aligned", "loads_unaligned", "stores"), width)
    of |= dict.fromkeys(("broadcasts", "gathered", "scalar_loads", "scalar_stores"), each)
    return np.array([of.get(name, 0.0) for name in OPERATIONS])


def traffic(phase: Phase, plan: Plan, machine: Machine, place: Placement) -> tuple[Counts, Counts]:
    """Return bytes per tile read and written back, each of shape (..., boundaries, kinds).

    Boundary i lies outside cache i: its bytes come from cache i + 1, or from memory.
    """
    read, written, _ = _traffic(phase, plan, machine, place)
    return read, written


def _traffic(
    phase: Phase, plan: Plan, machine: Machine, place: Placement
) -> tuple[Counts, Counts, Counts]:
    """As :func:`traffic`; and what loads across lines fetch over boundary 0, (..., kinds)."""
    streams = phase.streams
    if not streams:
        nothing = np.zeros((len(machine.caches), phase.tiles.count.shape[1]))
        return nothing, nothing, nothing[0]
    limits, weights, anew = _limits(
        tuple([(s.access, s.shared, s.handed, s.crossing, s.bytes.shape[-2]) for s in streams]),
        place, plan.threads, plan.threads_per_image,
        machine.memory[home_of(plan, machine)].write_allocate,
    )  # fmt: skip
    moved = _joined([stream.bytes for stream in streams])
    distance = _joined([stream.reuse_distance_bytes for stream in streams])
    missed = moved[..., None, :, :] * (distance[..., None, :, :] > limits)
    if anew is not None:
        missed = np.maximum(missed, moved[..., None, :, :] * anew)
    found = weights @ missed
    return found[..., 0, :], found[..., 1, :], found[..., 0, 2, :]


def _joined(rows: list[Counts]) -> Counts:
    lead = max([row.ndim for row in rows])
    if lead > 2:
        shape = next(row.shape[:-2] for row in rows if row.ndim == lead)
        rows = [np.broadcast_to(row, (*shape, *row.shape[-2:])) for row in rows]
    return np.concatenate(rows, axis=-2)


@lru_cache(maxsize=256)
def _limits(
    streams: tuple[tuple[str, str, float, float, int], ...], place: Placement, threads: int,
    sharers: int, write_allocate: bool,
) -> tuple[Counts, Counts, Counts | None]:  # fmt: skip
    """Return for the rows of streams the distance up to which each level holds them.

    And the shares of their bytes that a tile reads of what it misses, writes back, and reads by
    loads across lines; and those
    that it misses at any distance, because threads on other caches of the level touched the lines
    last (None: no row has any).  Shapes (boundaries, rows, 1), (boundaries, 3, rows) and
    (boundaries, rows, 1).
    """
    rows = [row for *_, row in streams]
    # one copy serves all of its readers that live on the same cache: they have room for it
    # together, and what one of them fetched the others find there
    readers = {"no": 1, "image": sharers, "part": threads // sharers}
    most = np.repeat([readers[shared] for _, shared, *_ in streams], rows)
    copies = np.minimum(most, np.array(place.sharers)[:, None])
    past = np.repeat([access == "past" for access, *_ in streams], rows)
    reads = np.repeat([access in ("read", "update") for access, *_ in streams], rows)
    writes = np.repeat([access != "read" for access, *_ in streams], rows)
    handed = np.repeat([share for _, _, share, *_ in streams], rows)
    crossing = np.repeat([share for *_, share, _ in streams], rows)
    elsewhere = 1.0 - np.minimum(sharers, np.array(place.sharers)[:, None]) / sharers
    # of what is written all lines were read on other caches, of what is read some written there
    anew = handed * np.where(writes, elsewhere > 0.0, elsewhere)
    fetched = np.ones((len(place.sharers), 1)) * ~past
    if not write_allocate:
        fetched[-1] = reads
    limits = np.array(place.capacities)[:, None] * copies
    # what goes past the caches crosses the last boundary only, and always
    limits[:, past], copies[:, past] = np.inf, 1
    limits[-1, past] = -1.0
    shares = np.stack([fetched / copies, writes / copies, fetched / copies * crossing], axis=1)
    return limits[:, :, None], shares, anew[:, :, None] if anew.any() else None


def home_of(plan: Plan, machine: Machine) -> int:
    """Return the index of the memory that holds the data: the first one that it fits into."""
    layer = plan.layer
    footprint = plan.batch * (layer.input_bytes + layer.output_bytes) + layer.dense_bytes
    for index, memory in enumerate(machine.memory):
        if memory.size_bytes is None or footprint <= memory.size_bytes:
            return index
    return len(machine.memory) - 1


def barrier_cycles(plan: Plan, machine: Machine) -> Counts:
    """Return the cycles that each phase's barriers take, shape (phases,)."""
    share = barrier_share(plan, machine)
    if not share:
        return np.zeros(len(plan.phases))
    return np.array([phase.barriers for phase in plan.phases]) * share * machine.barrier_cycles


def barrier_share(plan: Plan, machine: Machine) -> float:
    """Return what a barrier of the threads of one image takes, of one of all the machine's.

    A tree over fewer threads is so much flatter.
    """
    sharers, total = plan.threads_per_image, machine.total_threads
    if sharers < 2 or total < 2:
        return 0.0
    return min(1.0, log2(sharers) / log2(total))
