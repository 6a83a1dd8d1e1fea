"""Element-wise methods: lasso with gradient-dependent thresholds, network surgery, gradual."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training import rules
from archsim.pruning.training.protocol import PrunedLayer, Pruner, find_layers

Layers = Iterable[str] | Mapping[str, float] | None

#: Park et al. (ICLR 2017): the decay they recommend, and the multiplier that the authors' runs
#: give fully connected layers (fc6, fc7 of CaffeNet)
DECAY: Final = 5e-5
FC_STRENGTH: Final = 0.1


def default_strengths(
    model: nn.Module, conv: float = 1.0, fc: float = FC_STRENGTH
) -> dict[str, float]:
    """Return strengths by layer: convolutions are pruned for time, fully connected ones for size.

    Two strengths trade one for the other, as in Holistic SparseCNN (1608.01409, first version).
    """
    return {
        name: fc if isinstance(layer.module, nn.Linear) else conv
        for name, layer in find_layers(model).items()
    }


class GradientThresholds(Pruner):
    """Lasso and thresholds that fall where the gradient is large: what `ESL` says, on any weights.

    Parameters
    ----------
    layers : dict of str to PrunedLayer
    decay, threshold, factor : float
        See `ESL`.
    """

    def __init__(
        self,
        layers: dict[str, PrunedLayer],
        decay: float,
        threshold: float,
        factor: float,
        *,
        seed: int = 0,
    ) -> None:
        not_negative(decay=decay, threshold=threshold)
        if not factor >= 2.0:  # SkimCaffe applies the rule from 2 on
            raise input_error("factor", "must be at least 2", found=factor)
        super().__init__(layers, seed=seed)
        self.decay, self.threshold, self.factor = decay, threshold, factor

    def before_step(self) -> None:
        """Add the penalties; see the class."""
        with torch.no_grad():
            for layer in self.layers.values():
                if not layer.active and layer.weight.grad is not None:
                    layer.weight.grad.add_(layer.weight, alpha=self.decay)
        super().before_step()

    def regularise(self, layer: PrunedLayer) -> None:
        """Add the lasso's gradient."""
        assert layer.weight.grad is not None  # noqa: S101 - the caller's promise
        layer.weight.grad.add_(layer.weight.sign(), alpha=self.decay * layer.strength)

    def prune(self, layer: PrunedLayer) -> None:
        """Keep what is above its threshold."""
        if layer.weight.grad is None:
            return
        limit = rules.gradient_threshold(layer.weight.grad, self.threshold, self.factor)
        layer.mask.copy_(layer.weight.abs() > limit * self.scale(layer))

    def scale(self, layer: PrunedLayer) -> Tensor | float:  # noqa: ARG002 - what others need
        """Return the factor on a layer's thresholds."""
        return 1.0


class ESL(GradientThresholds):
    """Element-wise sparsity learning: lasso and gradient-dependent thresholds.

    Park et al. (ICLR 2017), section 2.3, with the rules of the authors' code: ``strength * decay *
    sign(w)`` is added to the gradient of layers that are pruned, and ``decay * w`` to that of
    layers that are not; after a step a weight of at most ``threshold / (|g| + 1 / factor)`` becomes
    zero, and may grow again.  The optimizer itself should have no weight decay on these weights.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, or mapping of str to strength, optional
        None: all, with :func:`default_strengths`.
    decay : float
        The published value is for runs of a million steps at a learning rate of 1e-3; short runs
        need more.
    threshold, factor : float
        See :func:`archsim.pruning.training.rules.gradient_threshold`.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers = None,
        *,
        decay: float = DECAY,
        threshold: float = rules.THRESHOLD,
        factor: float = rules.THRESHOLD_FACTOR,
        seed: int = 0,
    ) -> None:
        chosen = default_strengths(model) if layers is None else layers
        super().__init__(find_layers(model, chosen), decay, threshold, factor, seed=seed)


class DNS(Pruner):
    """Dynamic Network Surgery: masks with splicing.

    Guo, Yao, Chen (2016), with the rule and the example figures of their code (LeNet: rate 4, gamma
    1e-4, power 1, last update at 14000).  Pruned weights keep learning with the gradient at the
    masked weights, and come back when they have grown.

    Parameters
    ----------
    model : torch.nn.Module
    layers : iterable of str, or mapping, optional
        None: every convolution and fully connected layer.  A strength multiplies ``rate``.
    rate : float
        c_rate: how many deviations above the mean magnitude the threshold lies.
    gamma, power : float
        Masks are updated with probability ``(1 + gamma * step) ** -power``.
    until : int, optional
        No updates from this step on.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers = None,
        *,
        rate: float = 4.0,
        gamma: float = 1e-4,
        power: float = 1.0,
        until: int | None = 14_000,
        seed: int = 0,
    ) -> None:
        not_negative(gamma=gamma, power=power)
        super().__init__(find_layers(model, layers), seed=seed)
        self.gamma, self.power, self.until = gamma, power, until
        for layer in self.layers.values():
            threshold = rules.dns_threshold(layer.weight.detach(), rate * layer.strength)
            layer.extras["threshold"] = torch.tensor(threshold, dtype=torch.float64)
            layer.extras["full"] = layer.weight.detach().clone()
        self._updates = False

    def before_step(self) -> None:
        """Put the full weights in place, which the optimizer is to change."""
        super().before_step()
        with torch.no_grad():
            for layer in self.layers.values():
                if layer.active:
                    layer.weight.copy_(layer.extras["full"])

    def after_step(self) -> None:
        """Decide on an update, for all layers alike, and mask."""
        if self.until is None or self.steps < self.until:
            draw = float(torch.rand((), generator=self.generator, dtype=torch.float64))
            self._updates = rules.dns_updates(self.steps, self.gamma, self.power, draw)
        else:
            self._updates = False
        super().after_step()

    def prune(self, layer: PrunedLayer) -> None:
        """Remember the full weights and splice the mask."""
        layer.extras["full"].copy_(layer.weight)
        if self._updates:
            threshold = float(layer.extras["threshold"])
            layer.mask.copy_(rules.dns_mask(layer.weight, layer.mask, threshold))


class Gradual(Pruner):
    """Gradual magnitude pruning: the sparsity follows a cubic schedule.

    Zhu & Gupta (2017), from memory.  Every ``every`` steps from ``begin`` to ``end`` the smallest
    weights are masked until the sparsity is the schedule's; in between masked weights are frozen.

    Parameters
    ----------
    sparsity : float or mapping of str to float
        At the end; of every layer, or by layer (then those are the layers).
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers = None,
        *,
        sparsity: float | Mapping[str, float] = 0.8,
        begin: int = 0,
        end: int = 1000,
        every: int = 10,
        seed: int = 0,
    ) -> None:
        if isinstance(sparsity, Mapping) and layers is None:
            layers = list(sparsity)
        super().__init__(find_layers(model, layers), seed=seed)
        if not 0 <= begin < end:
            raise input_error("begin", "must lie in 0..end (below)", found=begin,
                              allowed=f"end is {end}")  # fmt: skip
        if every < 1:
            raise input_error("every", "must be at least 1", found=every)
        self.begin, self.end, self.every = begin, end, every
        self.final: dict[str, float] = {}
        for name in self.layers:
            value = sparsity.get(name) if isinstance(sparsity, Mapping) else sparsity
            if value is None or not 0.0 <= value < 1.0:
                raise input_error(f"sparsity of {name}", "must lie in 0..1 (below 1)", found=value)
            self.final[name] = float(value)

    def regularise(self, layer: PrunedLayer) -> None:
        """Mask the gradient."""
        assert layer.weight.grad is not None  # noqa: S101 - the caller's promise
        layer.weight.grad.masked_fill_(~layer.mask, 0.0)

    def prune(self, layer: PrunedLayer) -> None:
        """Mask the smallest weights when it is time."""
        done = self.steps + 1
        if (
            done < self.begin
            or (done > self.end)
            or ((done - self.begin) % self.every and done != self.end)
        ):
            return
        wanted = rules.cubic_sparsity(done, self.final[layer.name], self.begin, self.end)
        kept = layer.weight.masked_fill(~layer.mask, 0.0)
        layer.mask.copy_(layer.mask & rules.magnitude_mask(kept, 1.0 - wanted))


def not_negative(**values: float) -> None:
    """Refuse arguments below zero, or that are not numbers.

    Raises
    ------
    InputError
    """
    for name, value in values.items():
        if not value >= 0.0:
            raise input_error(name, "must be at least 0", found=value)
