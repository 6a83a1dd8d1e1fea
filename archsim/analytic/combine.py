"""How the terms of a phase make its time: which run beside each other, and which add up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.analytic.rates import Rules
from archsim.plan import Counts

_MANY = 4096  # numbers from which on a loop over few rows is faster
_LEAST = 1e-300  # of what is divided by: nothing of nothing is nothing


@dataclass(frozen=True, slots=True, eq=False)
class Spent:
    """Cycles of phases; arrays of shape (...) with the axes of the points that are asked for.

    Attributes
    ----------
    cycles : of the slowest core
    mean : of all cores in use
    terms : ndarray of shape (terms, ...)
        Busy cycles of the slowest core.
    exposed : ndarray of shape (terms, ...)
        Those of them that its time consists of; the others are hidden behind them.
    place : ndarray of shape (...), or None
        Which kind of core is the slowest; None where there is one only.
    """

    cycles: Counts
    mean: Counts
    terms: Counts
    exposed: Counts
    place: NDArray[np.intp] | None


def combine(terms: Counts, rules: Rules, cores: Counts) -> Spent:
    """Return what the slowest core spends.

    Parameters
    ----------
    terms : ndarray of shape (terms, core kinds, ...)
        Busy cycles of each term on each kind of core.
    rules : Rules
    cores : ndarray of shape (core kinds,)
        Cores of each kind.
    """
    serial, beside = terms[rules.serial].sum(axis=0), terms[rules.beside]
    hidden = beside.max(axis=0)
    cycles = np.maximum(serial, hidden) + terms[rules.waits].sum(axis=0)
    if len(cores) == 1:
        at_slowest, slowest, serial, hidden = terms[:, 0], cycles[0], serial[0], hidden[0]
        mean, place = slowest, None
    else:
        place = cycles.argmax(axis=0)
        at_slowest = np.take_along_axis(terms, place[None, None], axis=1)[:, 0]
        slowest, serial, hidden = (
            np.take_along_axis(each, place[None], axis=0)[0] for each in (cycles, serial, hidden)
        )
        mean = np.tensordot(cores / cores.sum(), cycles, 1)
    exposed = at_slowest.copy()
    by_serial = serial >= hidden
    exposed[rules.serial] *= by_serial
    # of terms beside each other the longest shows, of equals the first
    beside = exposed[rules.beside]
    longest = first_largest(beside) == _numbers(beside)
    beside *= longest & ~by_serial
    return Spent(slowest, mean, at_slowest, exposed, place)


def first_largest(rows: Counts) -> NDArray[np.intp]:
    """Return which of the rows is largest, of equals the first: (rows, ...) to (...)."""
    if rows.size < _MANY:
        found: NDArray[np.intp] = rows.argmax(axis=0)
        return found
    largest, found = rows[0].copy(), np.zeros(rows.shape[1:], dtype=np.intp)
    for place, row in enumerate(rows[1:], 1):  # argmax along a first axis is ten times slower
        np.copyto(found, place, where=row > largest)
        np.maximum(largest, row, out=largest)
    return found


def _numbers(terms: Counts) -> Counts:
    found: Counts = np.arange(float(len(terms))).reshape(-1, *[1] * (terms.ndim - 1))
    return found


def seconds_of(spent: Spent, hertz: Counts | float) -> tuple[Counts, Counts]:
    """Return the seconds of loops, and what they consist of.

    Parameters
    ----------
    spent : Spent
    hertz : float or ndarray
        To broadcast to the axes (...) of ``spent``.

    Returns
    -------
    seconds : ndarray of shape (...)
    parts : ndarray of shape (terms + 3, ...)
        Seconds of each term that show, of imbalance (what only the slowest core pays); and room
        for barriers and the call, which is of no phase.
    """
    scale = spent.mean / np.maximum(spent.cycles * hertz, _LEAST)
    parts = np.zeros((len(spent.exposed) + 3, *scale.shape))
    np.multiply(spent.exposed, scale, out=parts[:-3])
    seconds: Counts = spent.cycles / hertz
    np.subtract(seconds, spent.mean / hertz, out=parts[-3])
    return seconds, parts


def by_chip(seconds: Counts, parts: Counts, chip_seconds: Counts, home: int) -> Counts:
    """Return the seconds of phases, none below what the memory of the whole chip takes.

    Of a phase, not of its loops: cores are in different ones at a time.

    Parameters
    ----------
    seconds, parts : ndarray
        Of :func:`seconds_of`, loops of a phase added up; ``parts`` is changed in place.
    chip_seconds : ndarray
        The time below which the memory cannot hand out all bytes of the phase to all cores.
    home : int
        Which of the terms is the memory's.
    """
    longer = chip_seconds > seconds
    if longer.any():
        parts *= ~longer
        parts[home] += chip_seconds * longer
        seconds = np.maximum(seconds, chip_seconds)
    return seconds
