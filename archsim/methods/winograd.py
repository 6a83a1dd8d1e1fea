"""Dense Winograd convolution: fewer products than the definition has, and transformations.

F(4x4, 3x3) needs 36 products for 16 outputs where the definition has 144 (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", CVPR 2016).  ``auto`` takes the variant whose counted
operations cost least (:mod:`archsim.methods.winograd_blocking`).
"""

from __future__ import annotations

from typing import Final

from archsim.methods import winograd_blocking
from archsim.methods.winograd_plan import make_plan
from archsim.network import Layer
from archsim.plan import Plan, Target
from archsim.sparsity import Densities, Sparsity

NAME: Final = "winograd"
SCHEDULES: Final = winograd_blocking.SCHEDULES


def reason(layer: Layer, sparsity: Sparsity | Densities) -> str | None:
    """Return why the method does not apply, or None."""
    del sparsity
    return winograd_blocking.reason(layer)


def plan(
    layer: Layer, sparsity: Sparsity, *, batch: int, threads: int, schedule: str, target: Target
) -> Plan:
    """Plan the convolution; see :func:`archsim.api.make_plan` for the arguments."""
    cut = winograd_blocking.choose(
        layer, schedule, None, batch=batch, threads=threads, target=target
    )
    products = cut.variant.positions * layer.weights / (layer.R * layer.S)
    return make_plan(
        NAME, layer, sparsity, cut, float(products), batch=batch, threads=threads, target=target
    )
