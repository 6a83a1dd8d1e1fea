"""Structured sparsity learning: a lasso on groups of weights.

Wen, Wu, Wang, Chen, Li, "Learning Structured Sparsity in Deep Neural Networks" (NIPS 2016); written
from memory (high certainty for the groups and the penalty, medium for the thresholds: the paper was
not at hand).  The penalty of a layer is ``lambda * sum over groups of ||w_g||``, for groups that
are filters (all weights of an output map), channels (all weights of an input map) or columns (one
position of an input map's kernels in all filters, the paper's *shapes*: what takes a row from the
lowered matrix).  Groups of several kinds overlap; a weight stays where all of its groups do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.elementwise import not_negative
from archsim.pruning.training.protocol import PRUNABLE, PrunedLayer, Pruner, find_layers
from archsim.pruning.training.structured_masks import groups_of

Kind = Literal["filters", "channels", "columns"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


def group_norms(weight: Tensor, kind: Kind, groups: int = 1) -> Tensor:
    """Return the Euclidean norm of the group that each weight belongs to, of its shape.

    Parameters
    ----------
    weight : Tensor of shape (K, C / groups, R, S) or (K, C)
    kind : {"filters", "channels", "columns"}
    groups : int
        Of the convolution: an input map's weights are those of its group's filters.
    """
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    axes = {"filters": (2, 3), "channels": (1, 3), "columns": (1,)}[kind]
    norms = parts.square().sum(dim=axes, keepdim=True).sqrt()
    return norms.expand_as(parts).reshape(weight.shape)


def group_sizes(weight: Tensor, kind: Kind, groups: int = 1) -> int:
    """Return how many weights a group has."""
    filters = weight.shape[0] // groups
    return {
        "filters": weight[0].numel(),
        "channels": filters * weight[0, 0].numel(),
        "columns": filters,
    }[kind]


class GroupLasso(Pruner):
    """Group lasso by its subgradient, with groups cut off below a threshold.

    Active layers get ``strength * lambda * w / ||w_g||`` added to their gradient for each kind of
    group; after a step a group whose root mean square is at most ``threshold`` times that of the
    layer's nonzeros becomes zero, and may grow again.  (The subgradient alone makes groups small,
    never zero.  That the threshold goes with the layer is ours: no layer can vanish as a whole, and
    behind a normalisation, where the scale of weights means nothing, it still selects.)

    Parameters
    ----------
    model : Module
    layers : iterable of str, or mapping of str to strength, optional
        Default: every convolution.
    filters, channels, columns : float
        The lambda of each kind of group; 0: no such groups.
    threshold : float
        Root mean squares, not norms: the same for small groups and large ones (a choice).
    seed : int
        Unused: nothing is random here.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | Mapping[str, float] | None = None,
        *,
        filters: float = 0.0,
        channels: float = 0.0,
        columns: float = 0.0,
        threshold: float = 0.1,
        seed: int = 0,
    ) -> None:
        not_negative(filters=filters, channels=channels, columns=columns, threshold=threshold)
        strengths = {"filters": filters, "channels": channels, "columns": columns}
        self.strengths: dict[Kind, float] = {k: strengths[k] for k in KINDS if strengths[k] > 0.0}
        if not self.strengths:
            raise input_error("filters, channels, columns", "one must be above 0")
        types = (nn.Conv2d,) if layers is None else PRUNABLE
        super().__init__(find_layers(model, layers, types), seed=seed)
        self.threshold = threshold

    def regularise(self, layer: PrunedLayer) -> None:
        """Add the penalties' subgradient; of a group of zeros that is 0."""
        assert layer.weight.grad is not None  # noqa: S101 - the caller's promise
        for kind, strength in self.strengths.items():
            norms = group_norms(layer.weight, kind, groups_of(layer))
            slope = (layer.weight / norms).masked_fill(norms == 0.0, 0.0)
            layer.weight.grad.add_(slope, alpha=strength * layer.strength)

    def prune(self, layer: PrunedLayer) -> None:
        """Keep the weights whose groups are all above the threshold."""
        there = layer.weight[layer.weight != 0]
        limit = self.threshold * float(there.square().mean().sqrt()) if len(there) else 0.0
        layer.mask.fill_(True)
        for kind in self.strengths:
            size = group_sizes(layer.weight, kind, groups_of(layer))
            norms = group_norms(layer.weight, kind, groups_of(layer))
            layer.mask &= norms > limit * size**0.5
