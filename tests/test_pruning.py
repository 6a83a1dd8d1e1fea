"""Magnitude pruning."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.pruning import magnitude_prune


def test_the_largest_stay() -> None:
    weights = np.array([[0.1, -3.0], [2.0, -0.2]])
    pruned = magnitude_prune(weights, 0.5)
    assert pruned.tolist() == [[0.0, -3.0], [2.0, 0.0]]
    assert pruned.dtype == np.float32
    assert weights[0, 0] == 0.1  # the input is left alone


def test_ties_keep_the_earlier_and_counts_are_exact() -> None:
    assert magnitude_prune(np.ones(5), 0.4).tolist() == [1, 1, 0, 0, 0]
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((7, 5, 3, 3))
    for density in (0.0, 0.13, 1.0):
        kept = np.count_nonzero(magnitude_prune(weights, density))
        assert kept == round(density * weights.size)


@pytest.mark.parametrize(
    ("weights", "density"),
    [(np.ones(3), 1.5), (np.ones(3), float("nan")), (np.ones(3, dtype=int), 0.5),
     (np.empty(0), 0.5), (np.array([1.0, np.inf]), 0.5)],
)  # fmt: skip
def test_bad_input(weights: np.ndarray[tuple[int], np.dtype[np.float64]], density: float) -> None:
    with pytest.raises(InputError):
        magnitude_prune(weights, density)
