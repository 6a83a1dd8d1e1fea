"""The papers' rules as functions of tensors; who trains, and when, is not known here."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

#: Park et al. (ICLR 2017), code and README of SkimCaffe: tau0 = 1e-4, max_threshold_factor = 10
THRESHOLD: Final = 1e-4
THRESHOLD_FACTOR: Final = 10.0
#: Dynamic Network Surgery's code: a weight goes below 0.9 t and comes back above 1.1 t
DNS_BELOW: Final = 0.9
DNS_ABOVE: Final = 1.1


def gradient_threshold(
    gradient: Tensor, threshold: float = THRESHOLD, factor: float = THRESHOLD_FACTOR
) -> Tensor:
    """Return the threshold of each weight: ``threshold / (|g| + 1 / factor)``.

    A weight that the loss pulls at is pruned less; without a gradient the threshold is ``factor *
    threshold``.  SkimCaffe's README takes the gradient; so do we.  (Its code takes the buffer that
    holds the step already, which is smaller.)

    Parameters
    ----------
    gradient : Tensor
        Of the loss, by the weights.
    threshold : float
        tau0.
    factor : float
        Largest threshold over tau0.

    Returns
    -------
    Tensor of the gradient's shape
    """
    return threshold / (gradient.abs() + 1.0 / factor)


def dns_threshold(weights: Tensor, rate: float) -> float:
    """Return Dynamic Network Surgery's t: ``max(mean + rate * deviation, 0)`` of magnitudes.

    Its code takes them once, at the start, with the biases; weights alone are taken here.  The
    deviation is that of the whole set (divided by n).
    """
    magnitudes = weights.abs()
    return max(float(magnitudes.mean() + rate * magnitudes.std(correction=0)), 0.0)


def dns_mask(weights: Tensor, mask: Tensor, threshold: float) -> Tensor:
    """Return the spliced mask: False at or below 0.9 t, True above 1.1 t, else unchanged.

    Parameters
    ----------
    weights : Tensor
        The full ones, masked ones among them.
    mask : Tensor of bool
    threshold : float
        t.
    """
    magnitudes = weights.abs()
    keep = mask & (magnitudes > DNS_BELOW * threshold)
    return keep | (magnitudes > DNS_ABOVE * threshold)


def dns_updates(step: int, gamma: float, power: float, draw: float) -> bool:
    """Whether masks are updated in a step: ``(1 + gamma * step) ** -power > draw``."""
    return (1.0 + gamma * step) ** -power > draw


def cubic_sparsity(step: int, final: float, begin: int, end: int, initial: float = 0.0) -> float:
    """Return the sparsity that a step is to have (Zhu & Gupta, 2017, equation 1).

    ``final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3`` from ``begin`` to
    ``end``.  From memory, medium certainty; the paper was not at hand.
    """
    if step >= end:
        return final
    if step < begin:
        return initial
    left = 1.0 - (step - begin) / (end - begin)
    return final + (initial - final) * left**3


def magnitude_mask(weights: Tensor, density: float) -> Tensor:
    """Return the mask of the ``round(density * size)`` largest magnitudes.

    Of equal ones the earlier is kept, as ``archsim.pruning.magnitude_prune`` does.
    """
    flat = weights.abs().flatten()
    order = torch.argsort(-flat, stable=True)
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[order[: round(density * flat.numel())]] = True
    return mask.view_as(weights)
