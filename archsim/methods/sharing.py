"""Who computes what: images over groups of threads, units of an image over the threads of a group.

The native driver follows the same rule: of T threads, T // t groups of t threads take images
g, g + G, g + 2G, ...; inside a group each thread makes its own part of the units or, with the
partition ``dynamic``, takes part after part until none is left.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from archsim.plan import Counts, Expected, Target, Tiles

#: How the output channels of an image are cut among the threads that share it.
Partition = Literal["nnz", "rows", "dynamic"]
PARTITIONS: Final[tuple[Partition, ...]] = get_args(Partition)

#: Parts that threads take: in each round one for every thread, all rounds' shares of the work
#: here.  Large parts first, because a part begins with cold caches; small ones last, so that
#: whoever comes last holds the others up by no more than about an eighth of a thread's work
#: (factoring: Hummel, Schonberg, Flynn, Communications of the ACM 35(8), 1992).
_ROUNDS: Final = (1 / 2, 1 / 4, 1 / 8, 1 / 8)
_ROUNDING: Final = 1e-9  # lengths below are none
_FEW: Final = 2048  # counts of tiles up to which they are remembered


def even_parts(units: int, threads: int) -> tuple[int, ...]:
    """Cut ``units`` into contiguous parts of equal size, the longer ones last.

    >>> even_parts(5, 2)
    (0, 2, 5)
    """
    return tuple(units * rank // threads for rank in range(threads + 1))


def balanced_parts(weights: NDArray[np.float64], threads: int) -> tuple[int, ...]:
    """Cut units into contiguous parts of about equal total weight (nonzeros).

    >>> balanced_parts(np.array([4.0, 1.0, 1.0, 2.0]), 2)
    (0, 1, 4)
    """
    if not weights.any():
        return even_parts(len(weights), threads)
    return _cut_at(weights, np.arange(1, threads) / threads)


def _cut_at(weights: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[int, ...]:
    """Cut units where about these shares of the total weight are reached."""
    total = np.concatenate(([0.0], np.cumsum(weights)))
    ideal = total[-1] * shares
    cuts = np.searchsorted(total, ideal)
    # of the two places around the ideal cut, the nearer one
    lower = np.maximum(cuts - 1, 0)
    cuts = np.where(ideal - total[lower] < total[cuts] - ideal, lower, cuts)
    return (0, *(int(cut) for cut in np.maximum.accumulate(cuts)), len(weights))


@dataclass(frozen=True, slots=True)
class Cut:
    """The units of an image, cut into parts, and how many each thread is expected to make."""

    part_ptr: tuple[int, ...]
    counts: NDArray[np.int64]  # units of each kind for one image, (threads of an image, kinds)

    @property
    def parts(self) -> int:
        """Times that some thread walks through a part of the units."""
        return len(self.part_ptr) - 1


def cut(
    partition: Partition,
    nonzeros: NDArray[np.float64],
    kind_of_unit: NDArray[np.int64],
    threads: int,
    *,
    channels: NDArray[np.float64] | float = 1.0,
) -> Cut:
    """Cut units among the threads that share an image.

    Parameters
    ----------
    partition : {"nnz", "rows", "dynamic"}
        ``nnz``: each thread has a part, of about equal nonzeros; ``rows``: of equally many
        units; ``dynamic``: smaller and smaller parts, which threads take at run time.
    nonzeros : ndarray of shape (kinds,)
        Of one unit of each kind.
    kind_of_unit : ndarray of shape (units,), int64
    threads : int
        That share an image.
    channels : ndarray of shape (kinds,)
        Output channels of one unit of each kind.

    Notes
    -----
    Who takes a part at run time depends on how fast everybody is.  The counts are those of
    equally fast threads: greedy list scheduling, the next part to whoever has had the least
    work so far.  Work is vector operations for each vector of output: a multiply-add for each
    nonzero, a store for each output channel.
    """
    if partition == "dynamic" and threads > 1:
        work = (nonzeros + channels)[kind_of_unit]
        shares = np.cumsum(np.repeat(_ROUNDS, threads))[:-1] / threads
        part_ptr = tuple(sorted(set(_cut_at(work, shares))))
        counts = part_counts(part_ptr, kind_of_unit)
        return Cut(part_ptr, _taken(counts, np.add.reduceat(work, part_ptr[:-1]), threads))
    if partition == "rows":
        part_ptr = even_parts(len(kind_of_unit), threads)
    else:
        part_ptr = balanced_parts(nonzeros[kind_of_unit], threads)
    return Cut(part_ptr, part_counts(part_ptr, kind_of_unit))


@lru_cache(maxsize=1024)
def alike(per_group: int, block: int, groups: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cut the output channels of each group into blocks; all channels are alike.

    Returns
    -------
    channels : ndarray of shape (kinds,)
        Output channels of a block of each kind: full ones, and a last one that is smaller.
    kind_of_unit : ndarray of shape (blocks of all groups,), int64
    """
    blocks = -(-per_group // block)
    sizes = np.full(blocks, float(block))
    sizes[-1] = per_group - block * (blocks - 1)
    channels, kind = np.unique(sizes, return_inverse=True)
    return _fixed(channels), _fixed(np.tile(kind.astype(np.int64), groups))


def alike_places(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the places of equal keys, group by group."""
    found: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        found.setdefault(key, []).append(place)
    return list(found.values())


def cut_alike(
    partition: Partition,
    nonzeros_per_channel: float,
    blocks: tuple[int, int, int],
    threads: int,
) -> Cut:
    """Cut blocks of channels that are all alike: as :func:`cut`, ``blocks`` as for :func:`alike`.

    Only ``dynamic`` looks at how many nonzeros there are.
    """
    if partition == "dynamic":
        channels, kind_of_unit = alike(*blocks)
        nonzeros = channels * nonzeros_per_channel
        return cut(partition, nonzeros, kind_of_unit, threads, channels=channels)
    return _cut_alike(partition, blocks, threads)


@lru_cache(maxsize=1024)
def _cut_alike(partition: Partition, blocks: tuple[int, int, int], threads: int) -> Cut:
    channels, kind_of_unit = alike(*blocks)
    found = cut(partition, channels, kind_of_unit, threads, channels=channels)
    return Cut(found.part_ptr, _fixed(found.counts))


def total_of(nonzeros: Counts, kind_of_unit: NDArray[np.int64]) -> Expected:
    """Return the nonzeros of all units, from those of a unit of each kind."""
    if nonzeros.shape[-1] == 1:
        total: Counts = nonzeros * len(kind_of_unit)
    else:
        total = nonzeros[..., kind_of_unit].sum(axis=-1, keepdims=True)
    return float(total[0]) if total.ndim == 1 else total


def _fixed(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _taken(counts: NDArray[np.int64], work: NDArray[np.float64], threads: int) -> NDArray[np.int64]:
    """Deal parts (parts, kinds) out to threads; return what each has, (threads, kinds)."""
    taken = np.zeros((threads, counts.shape[1]), dtype=np.int64)
    busy = np.zeros(threads)
    for part, operations in zip(counts, work, strict=True):
        free = int(np.argmin(busy))
        taken[free] += part
        busy[free] += operations
    return taken


#: threads up to which each makes a copy of its own: with more the copies crowd what they share.
#: A choice: measured on two (docs/threads.md)
_OWN_COPIES: Final = 4


def own_input(sharers: int, target: Target) -> bool:
    """Return whether each thread of an image copies the picture for itself, as far as it needs it.

    Where a line that another core wrote is dearer to read than the copy is to make: on cores with
    a second level of their own (a Xeon of the Sapphire Rapids generation: 5.7 ns against 2.2,
    ``python -m benchmarks.copies``).
    """
    alone = target.threads_per_core == 1 and target.l2_sharers == 1
    return alone and 1 < sharers <= _OWN_COPIES


def taken_or(parts: Cut, partition: Partition) -> tuple[int, ...]:
    """Return the units of each thread, or nothing where they take parts at run time."""
    return () if partition == "dynamic" else parts.part_ptr


def input_counts(
    pieces: int, sharers: int, groups: int, own: tuple[int, ...] | None
) -> NDArray[np.int64]:
    """Count the pieces of input that each thread of an image makes, shape (sharers, 1).

    Parameters
    ----------
    pieces : int
        Of the layer, those of its ``groups`` one after the other.
    own : tuple of int or None
        The units of output that each thread makes, [own[r], own[r + 1]), if it copies for itself
        the groups that they are in; empty: all groups, for parts are taken at run time.  None: each
        makes an even share.
    """
    if own is None:
        return np.diff(even_parts(pieces, sharers))[:, None].astype(np.int64)
    if not own:
        return np.full((sharers, 1), pieces, dtype=np.int64)
    in_group = own[-1] // groups
    needed = [
        (end - 1) // in_group + 1 - begin // in_group if end > begin else 0
        for begin, end in pairwise(own)
    ]
    return np.array(needed, dtype=np.int64)[:, None] * (pieces // groups)


class Handed(NamedTuple):
    """Shares of a picture's copy that its threads hand to each other, as :class:`Stream` has them.

    ``read`` of 1: all parts of what a thread reads were made by one thread each, its own among
    them; ``written`` of 1: some other thread reads each line that a thread makes.
    """

    read: float
    written: float


@lru_cache(maxsize=1024)
def handed(sharers: int, groups: int, ends: tuple[float, ...] | None = None) -> Handed:
    """Return what threads that each make a part of the input channels hand to each other.

    Parameters
    ----------
    sharers : int
        Threads of an image; each makes as many input channels as the others.
    groups : int
        Of the layer: a thread reads those that its output channels are in.
    ends : tuple of float, optional
        Where the output channels of each thread begin and end, shares of all (default: they are cut
        evenly). Empty: who makes what shows at run time, and anybody may read anything.

    Examples
    --------
    >>> handed(4, 1), handed(2, 2), handed(1, 1)
    (Handed(read=1.0, written=1.0), Handed(read=0.0, written=0.0), Handed(read=0.0, written=0.0))
    >>> handed(2, 2, (0.0, 0.6, 1.0))  # the first thread reads the second one's group as well
    Handed(read=0.6666666666666666, written=0.5)
    """
    if sharers == 1:
        return Handed(0.0, 0.0)
    if ends is None:
        ends = tuple(rank / sharers for rank in range(sharers + 1))
    elif not ends:
        return Handed(1.0, 1.0)
    group_at = np.arange(groups + 1) / groups
    cut_at = np.arange(sharers + 1) / sharers
    # of all input channels, what a thread makes of a group: (threads, groups)
    made = _overlap(cut_at, group_at)
    readers = _overlap(np.array(ends), group_at) > _ROUNDING
    looked_at = readers.sum(axis=1) / groups
    of_others = looked_at - (made * readers).sum(axis=1)
    read = float(of_others.sum() / max(looked_at.sum(), _ROUNDING))
    others = readers.sum(axis=0) - readers > 0
    written = float((made * others).sum())
    return Handed(min(1.0, read * sharers / (sharers - 1)), min(1.0, written))


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths that pieces of two cuts have in common, (pieces, pieces)."""
    begin = np.maximum(first[:-1, None], second[:-1])
    end = np.minimum(first[1:, None], second[1:])
    found: NDArray[np.float64] = np.maximum(end - begin, 0.0)
    return found


def ends_of(parts: Cut, sharers: int, channels: NDArray[np.float64]) -> tuple[float, ...]:
    """Return where the output channels of each thread end, for :func:`handed`.

    ``channels`` are those of each unit, (units,).
    """
    if parts.parts != sharers:
        return ()
    before = np.concatenate(([0.0], np.cumsum(channels)))
    return tuple((before[list(parts.part_ptr)] / before[-1]).tolist())


def share(batch: int, threads: int, threads_per_image: int, parts: NDArray[np.int64]) -> Tiles:
    """Spread the tiles of ``batch`` images over ``threads``.

    Parameters
    ----------
    parts : ndarray of shape (threads_per_image, kinds), int64
        Tiles of each kind that each rank of a group runs for one image.

    Returns
    -------
    Tiles
        One class per (number of images, rank) that occurs.
    """
    if parts.size <= _FEW:
        return _share(batch, threads, threads_per_image, parts.tobytes(), parts.shape[1])
    images, thread_class = _images(batch, threads, threads_per_image)
    return Tiles(np.concatenate([n * parts for n in images]), thread_class)


@lru_cache(maxsize=4096)
def _share(batch: int, threads: int, threads_per_image: int, parts: bytes, kinds: int) -> Tiles:
    images, thread_class = _images(batch, threads, threads_per_image)
    one = np.frombuffer(parts, dtype=np.int64).reshape(threads_per_image, kinds)
    return Tiles(_fixed(np.concatenate([n * one for n in images])), thread_class)


@lru_cache(maxsize=256)
def _images(
    batch: int, threads: int, threads_per_image: int
) -> tuple[list[int], NDArray[np.int64]]:
    """Return the images that threads of each class take, and the class of each thread."""
    groups = max(1, threads // threads_per_image)
    fewer, extra = divmod(batch, groups)  # the first `extra` groups take one image more
    images = [n for n, some in ((fewer + 1, extra > 0), (fewer, fewer > 0)) if some]
    first_class = np.zeros(groups, dtype=np.int64)
    if fewer == 0:
        first_class[extra:] = -1
    elif extra:
        first_class[extra:] = threads_per_image
    thread_class = np.full(threads, -1, dtype=np.int64)
    ranks = np.arange(threads_per_image)
    thread_class[: groups * threads_per_image] = np.where(
        first_class[:, None] < 0, -1, first_class[:, None] + ranks
    ).ravel()
    return images, _fixed(thread_class)


def part_counts(part_ptr: tuple[int, ...], kind_of_unit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the kinds in each part: shape (len(part_ptr) - 1, kinds)."""
    kinds = int(kind_of_unit.max(initial=0)) + 1
    return np.array(
        [
            np.bincount(kind_of_unit[start:stop], minlength=kinds)
            for start, stop in pairwise(part_ptr)
        ],
        dtype=np.int64,
    )
