"""Sparse Winograd with the ReLU behind the input transformation.

Liu, Pool, Han, Dally, "Efficient Sparse-Winograd Convolutional Neural Networks" (ICLR 2018): layers
compute ``A^T [sum over channels of W (.) ReLU(B^T d B)] A`` with coefficients W as parameters, so
that inputs are sparse where they meet the weights, too.  Such a network is no spatial one: it is
trained from scratch, and then pruned to lower and lower densities, the same in every layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from torch import nn

from archsim.errors import input_error
from archsim.pruning.training import rules
from archsim.pruning.training.graph import relus_before
from archsim.pruning.training.protocol import PrunedLayer, Pruner
from archsim.pruning.training.rounds import check_rounds, round_after
from archsim.pruning.training.winograd_layer import WinogradConv2d, replace_convolutions, unfit
from archsim.pruning.training.winograd_prune import find_winograd_layers

#: F(2x2, 3x3), as published
VARIANT: Final = "f2x2_3x3"

#: Densities of the scripts published with the paper; what they have between 0.35 and 0.12 was not
#: at hand, and is interpolated here in their steps.
DENSITIES: Final = (0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.12, 0.1)


def move_relus(model: nn.Module, skip: Collection[str] = ()) -> dict[str, WinogradConv2d]:
    """Put Winograd layers with their own ReLU in place of ReLU and 3x3 convolution, in ``model``.

    Only where a `torch.nn.ReLU` stands before a convolution, alone or with maximum pooling or
    dropout between, and nothing else reads it; the first convolution of a network stays as it is.

    Returns
    -------
    dict of name to module
        The convolutions that were replaced.

    Raises
    ------
    InputError
        ``torch.fx`` cannot trace the model, or there is no such place.
    """
    convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    moved = {
        conv: relu
        for conv, relu in relus_before(model).items()
        if conv not in skip and unfit(convolutions[conv], VARIANT) is None
    }
    if not moved:
        raise input_error("model", "no 3x3 convolution of stride 1 has a ReLU module of its own")
    replaced = replace_convolutions(
        model, VARIANT, [name for name in convolutions if name not in moved], relu_inputs=True
    )
    for relu in moved.values():
        parent, _, attribute = relu.rpartition(".")
        setattr(model.get_submodule(parent), attribute, nn.Identity())
    return replaced


class DensitySteps(Pruner):
    """The largest coefficients of each layer stay, of a density that falls from round to round.

    Parameters
    ----------
    model : Module
        With `WinogradConv2d` in it, trained already.
    layers : iterable of str, optional
        Default: all of them.
    density : float
        The last one, above 0; before it come those of `DENSITIES` that are larger.
    every : int
        Steps of retraining between two densities; the first comes after the first step.
    seed : int
        Unused: nothing is random here.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | None = None,
        *,
        density: float = DENSITIES[-1],
        every: int = 1,
        seed: int = 0,
    ) -> None:
        if not 0.0 < density <= 1.0:
            raise input_error("density", "must lie in 0..1, above 0", found=density)
        self.densities_due = (*(step for step in DENSITIES if step > density), density)
        check_rounds(every, len(self.densities_due))
        super().__init__(find_winograd_layers(model, layers), seed=seed)
        self.every = every

    def after_step(self) -> None:
        """Lower the density when a round is due."""
        self._due = round_after(self.steps + 1, self.every, len(self.densities_due))
        super().after_step()

    def prune(self, layer: PrunedLayer) -> None:
        """Mask all but the largest of what is left."""
        if self._due is not None:
            left = layer.weight.masked_fill(~layer.mask, 0.0)
            layer.mask.copy_(rules.magnitude_mask(left, self.densities_due[self._due - 1]))

    def regularise(self, layer: PrunedLayer) -> None:
        """Mask the gradient: what is gone stays gone."""
        if layer.weight.grad is not None:
            layer.weight.grad.masked_fill_(~layer.mask, 0.0)
