"""Element-wise magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from archsim.errors import input_error


def magnitude_prune(weights: NDArray[np.floating], density: float) -> NDArray[np.float32]:
    """Return a copy of ``weights`` that keeps the ``round(density * size)`` largest magnitudes.

    Parameters
    ----------
    weights : ndarray of any shape, floating
    density : float
        Share of weights to keep, 0 to 1.

    Returns
    -------
    ndarray of the same shape, float32
        Ties are broken by position: the earlier weight is kept.

    Raises
    ------
    InputError
        Density outside 0..1, empty weights, NaN or infinite weights.
    """
    if not (math.isfinite(density) and 0.0 <= density <= 1.0):
        raise input_error("density", "must lie in 0..1", found=density)
    array = np.asarray(weights)
    if array.dtype.kind != "f" or array.size == 0:
        raise input_error(
            "weights", "floating-point weights are due",
            found=f"{array.dtype} of shape {array.shape}",
        )  # fmt: skip
    flat = array.astype(np.float32).ravel()
    if not np.isfinite(flat).all():
        raise input_error("weights", "weights hold NaN or infinite values")
    keep = np.argsort(-np.abs(flat), kind="stable")[: round(density * flat.size)]
    pruned = np.zeros_like(flat)
    pruned[keep] = flat[keep]
    return pruned.reshape(array.shape)
