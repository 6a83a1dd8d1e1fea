"""Whether predictions choose well: order of methods, regret, and whole networks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np

from archsim.validate.points import Point

#: Methods whose measured times differ by less are not a choice that matters.
DIFFERENCE: Final = 0.10


def choices(points: Sequence[Point]) -> dict[str, Any]:
    """Return how well predictions order the contestants of each group.

    Returns
    -------
    dict
        ``ranking_accuracy``: share of pairs, measured more than 10 % apart, whose order is
        predicted right; ``pairs``: how many there are; ``regret``, ``regret_max``: time of the
        contestant that is predicted to be fastest over that of the fastest, less 1, mean and
        worst over groups; ``network_total_error``: median absolute error of sums over the layers
        of a network, by method; ``network_totals``: how many. None where there is nothing to tell.
    """
    right, pairs, regrets = 0, 0, []
    for group in _groups(points):
        for a, b in combinations(group, 2):
            fast, slow = sorted((a, b), key=lambda p: p.measured)
            if _apart(a, b) or slow.measured <= fast.measured * (1 + DIFFERENCE):
                continue
            pairs += 1
            right += fast.predicted < slow.predicted
        spatial = [p for p in group if p.density_domain == "spatial"]
        if len(spatial) > 1:
            chosen = min(spatial, key=lambda p: p.predicted)
            regrets.append(chosen.measured / min(p.measured for p in spatial) - 1.0)
    totals = _total_errors(points)
    return {
        "ranking_accuracy": right / pairs if pairs else None,
        "pairs": pairs,
        "regret": float(np.mean(regrets)) if regrets else None,
        "regret_max": float(np.max(regrets)) if regrets else None,
        "network_total_error": float(np.median(np.abs(totals))) if totals else None,
        "network_totals": len(totals),
    }


def _apart(a: Point, b: Point) -> bool:
    """Whether the zeros of two sparse methods are of different domains: no choice between them."""
    sparse = [p for p in (a, b) if p.sparsity]
    return len({p.density_domain for p in sparse}) > 1


def _groups(points: Iterable[Point]) -> list[list[Point]]:
    found: dict[tuple[Any, ...], list[Point]] = defaultdict(list)
    for p in points:
        found[(p.network, p.layer, p.figure)].append(p)
    return list(found.values())


def _total_errors(points: Iterable[Point]) -> list[float]:
    """Signed errors of the sums over layers, by network, setting and method; of three at least."""
    found: dict[tuple[Any, ...], list[Point]] = defaultdict(list)
    for p in points:
        found[(p.network, p.figure, p.method, p.schedule.split(":")[0])].append(p)
    return [
        sum(p.predicted for p in group) / sum(p.measured for p in group) - 1.0
        for group in found.values()
        if len(group) >= 3
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None for fewer than three values."""
    if len(a) < 3:
        return None
    ranks = np.argsort(np.argsort(np.array([a, b], dtype=np.float64), axis=1), axis=1)
    return float(np.asarray(np.corrcoef(ranks))[0, 1])
