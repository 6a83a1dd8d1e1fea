"""Native pruning in Winograd's domain.

Li, Park, Tang, "Enabling Sparse Winograd Convolution by Native Pruning" (2017); the rules are those
of the code that its authors published (SkimCaffe), for the text was not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from archsim.kernels.winograd_matrices import Variant
from archsim.pruning.training import rules
from archsim.pruning.training.elementwise import DECAY, GradientThresholds
from archsim.pruning.training.protocol import PrunedLayer, find_layers
from archsim.pruning.training.winograd_layer import (
    DEFAULT_VARIANTS,
    WinogradConv2d,
    replace_convolutions,
    unfit,
)


def find_winograd_layers(
    model: nn.Module, layers: Iterable[str] | Mapping[str, float] | None = None
) -> dict[str, PrunedLayer]:
    """Return the `WinogradConv2d` of a model, as `archsim.pruning.training.find_layers` does."""
    found = find_layers(model, layers, (WinogradConv2d,))
    for layer in found.values():
        layer.domain = "winograd"
    return found


def position_scales(variant: Variant) -> Tensor:
    """Return the factor on the threshold of each coefficient, shape (t, t, 1, 1), float64.

    ``1 / ||row i of A (x) A||``: a coefficient that moves the outputs much is pruned less.  The
    norms of a variant's rows multiply, 1, 2, 2, 9.2, 9.2, 1 each way for F(4x4, 3x3).
    """
    norms = np.linalg.norm(variant.output_rows, axis=0)  # of A's rows: A^T has them as columns
    return torch.from_numpy(1.0 / np.outer(norms, norms))[:, :, None, None]


class NativeWinograd(GradientThresholds):
    """Lasso on the coefficients, thresholds by gradient and position.

    Active layers get ``strength * decay * sign(F)`` added to their gradient, and a coefficient of
    at most ``position_scales * threshold / (|g| + 1 / factor)`` becomes zero after a step; it may
    grow again.  Other layers get ``decay * F``, with their zeros frozen (fine-tuning).  The
    optimizer itself should have no weight decay on these weights.

    Parameters
    ----------
    model : Module
        With `WinogradConv2d` in it (`replace_convolutions`).
    layers : iterable of str, or mapping of str to strength, optional
        Default: all of them.
    decay : float
        The published value is for runs of a million steps at a learning rate of 1e-3.
    threshold, factor : float
        See `archsim.pruning.training.rules.gradient_threshold`.
    by_position : bool
        Scale thresholds by position.
    seed : int
        Unused: nothing is random here.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | Mapping[str, float] | None = None,
        *,
        decay: float = DECAY,
        threshold: float = rules.THRESHOLD,
        factor: float = rules.THRESHOLD_FACTOR,
        by_position: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(find_winograd_layers(model, layers), decay, threshold, factor, seed=seed)
        self.scales = {
            name: position_scales(layer.module.variant).to(layer.weight)
            for name, layer in self.layers.items()
            if by_position and isinstance(layer.module, WinogradConv2d)
        }

    def scale(self, layer: PrunedLayer) -> Tensor | float:
        """Return the factors of a layer's coefficients."""
        return self.scales.get(layer.name, 1.0)


def winograd_names(
    model: nn.Module,
    layers: Iterable[str] | None = None,
    variant: str | Sequence[str] = DEFAULT_VARIANTS,
) -> list[str]:
    """Return the layers that `winograd_pruner` prunes: of ``layers``, those that a variant fits.

    Without ``layers``, in a model that has Winograd layers already: those alone.
    """
    variants = (variant,) if isinstance(variant, str) else tuple(variant)
    modules = {n: m for n, m in model.named_modules() if n and (layers is None or n in layers)}
    found = [name for name, module in modules.items() if isinstance(module, WinogradConv2d)]
    if layers is None and found:
        return found
    return [
        name
        for name, m in modules.items()
        if isinstance(m, WinogradConv2d)
        or (isinstance(m, nn.Conv2d) and any(unfit(m, v) is None for v in variants))
    ]


def winograd_pruner(
    model: nn.Module,
    layers: Iterable[str] | Mapping[str, float] | None = None,
    *,
    variant: str | Sequence[str] = DEFAULT_VARIANTS,
    decay: float = DECAY,
    threshold: float = rules.THRESHOLD,
    factor: float = rules.THRESHOLD_FACTOR,
    by_position: bool = True,
    seed: int = 0,
) -> NativeWinograd:
    """Put a model's convolutions into Winograd's domain, and return their pruner.

    Parameters
    ----------
    model : Module
        Changed in place: optimizers must be made after it.
    layers : iterable of str, or mapping of str to strength, optional
        Default: see `winograd_names`.
    variant : str or sequence of str
        See `archsim.pruning.training.winograd_layer.replace_convolutions`.
    decay, threshold, factor, by_position, seed
        As in `NativeWinograd`.
    """
    spatial = [n for n, m in model.named_modules() if n and isinstance(m, nn.Conv2d)]
    wanted = winograd_names(model, layers, variant)
    if any(name in spatial for name in wanted):
        replace_convolutions(model, variant, [name for name in spatial if name not in wanted])
    return NativeWinograd(
        model, layers, decay=decay, threshold=threshold, factor=factor, by_position=by_position,
        seed=seed,
    )  # fmt: skip
