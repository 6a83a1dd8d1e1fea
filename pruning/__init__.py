"""Pruning for a machine.

Today: magnitude pruning of weights at hand, which turns dense weights into real patterns for
predictions and native runs::

    magnitude (weights -> pruned weights)  ->  archsim.Sparsity  ->  predict, measure
"""

from __future__ import annotations

if __name__ != "archsim.pruning":
    raise ImportError(
        "import archsim.pruning, not pruning (that name may belong to another distribution)"
    )

from archsim.pruning.magnitude import magnitude_prune

__all__ = ["magnitude_prune"]
