"""Who computes what: images over groups of threads, units of an image over the threads of a group.

The native driver follows the same rule: of T threads, T // t groups of t threads take images
g, g + G, g + 2G, ...; inside a group each thread takes its own part of the units.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from archsim.plan import Tiles


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
    total = np.concatenate(([0.0], np.cumsum(weights)))
    if total[-1] == 0:
        return even_parts(len(weights), threads)
    cuts = np.searchsorted(total, total[-1] * np.arange(1, threads) / threads)
    # of the two places around the ideal cut, the nearer one
    ideal = total[-1] * np.arange(1, threads) / threads
    lower = np.maximum(cuts - 1, 0)
    cuts = np.where(ideal - total[lower] < total[cuts] - ideal, lower, cuts)
    return (0, *(int(cut) for cut in np.maximum.accumulate(cuts)), len(weights))


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
    groups = max(1, threads // threads_per_image)
    fewer, extra = divmod(batch, groups)  # the first `extra` groups take one image more
    images = [n for n, some in ((fewer + 1, extra > 0), (fewer, fewer > 0)) if some]
    count = np.concatenate([n * parts for n in images])
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
    return Tiles(count, thread_class)


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
