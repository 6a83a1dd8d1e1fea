"""Pruning by masks that are drawn, tried on validation images, and kept where they do best.

What Anwar, Hwang and Sung's particle filter and Anwar and Sung's best of random masks share: stages
of one granularity each, feature maps before kernels before kernel positions; in each stage a mask
for all layers at once is looked for, applied, and the loop retrains until the next.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.filters import find_producers, with_readers
from archsim.pruning.training.graph import Readers
from archsim.pruning.training.protocol import PrunedLayer, Pruner, find_layers
from archsim.pruning.training.rounds import check_rounds, round_after
from archsim.pruning.training.strided import draw_offsets, move_offsets
from archsim.pruning.training.structured_masks import (
    GRANULARITIES,
    Granularity,
    compose,
    give_back,
    input_maps,
)

#: what is drawn for a layer: which maps (K,) or kernels (K, C / groups) stay, bool; or the offset
#: of each input map (C,), long
Choice = Tensor
#: a choice for each layer of a stage
Choices = dict[str, Choice]


@dataclass(frozen=True)
class Stage:
    """One step of pruning.

    Attributes
    ----------
    granularity : {"output-map", "kernel", "intra-kernel-strided"}
    amount : float
        Share of the maps or kernels still there that goes, 0 to below 1; of positions the stride,
        a whole number from 2.
    layers : tuple of str, optional
        Default: every convolution that can lose such things.
    """

    granularity: Granularity
    amount: float
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise input_error("granularity", "unknown", found=self.granularity,
                              allowed=", ".join(GRANULARITIES))  # fmt: skip
        where = f"amount of {self.granularity}"
        if self.granularity == "intra-kernel-strided":
            if self.amount != int(self.amount) or self.amount < 2:
                raise input_error(
                    where, "a stride is due, a whole number from 2", found=self.amount
                )
        elif not 0.0 <= self.amount < 1.0:
            raise input_error(where, "must lie in 0..1, below 1", found=self.amount)

    @property
    def stride(self) -> int:
        """The amount as a stride."""
        return int(self.amount)


def alive(layer: PrunedLayer, granularity: Granularity) -> Tensor:
    """Return which maps (K,) or kernels (K, C / groups) have any weight left, bool."""
    kernels = layer.mask.reshape(*layer.mask.shape[:2], -1).any(dim=2).cpu()
    return kernels.any(dim=1) if granularity == "output-map" else kernels


def draw(layer: PrunedLayer, stage: Stage, generator: torch.Generator) -> Choice:
    """Return a random choice for a layer: of what is alive the stage's share goes."""
    if stage.granularity == "intra-kernel-strided":
        return draw_offsets(input_maps(layer), stage.stride, generator)
    there = alive(layer, stage.granularity)
    places = there.flatten().nonzero()[:, 0]
    count = max(1, round((1.0 - stage.amount) * len(places)))
    kept = torch.zeros(there.numel(), dtype=torch.bool)
    kept[places[torch.randperm(len(places), generator=generator)[:count]]] = True
    return kept.reshape(there.shape)


def perturb(
    choice: Choice, layer: PrunedLayer, stage: Stage, share: float, generator: torch.Generator
) -> Choice:
    """Return a choice nearby, with as much left: a share of what stays changes places.

    At least one kept map (kernel) is exchanged for one that went, or the offsets of one pair of
    input maps move (`archsim.pruning.training.strided.move_offsets`).
    """
    if stage.granularity == "intra-kernel-strided":
        moves = max(1, round(share * len(choice) / 2))
        kernel = layer.mask[0, 0].numel()
        return move_offsets(choice, stage.stride, kernel, moves, generator)
    gone = (alive(layer, stage.granularity) & ~choice).flatten().nonzero()[:, 0]
    kept = choice.flatten().nonzero()[:, 0]
    moves = min(max(1, round(share * len(kept))), len(gone), len(kept))
    near = choice.flatten().clone()
    near[kept[torch.randperm(len(kept), generator=generator)[:moves]]] = False
    near[gone[torch.randperm(len(gone), generator=generator)[:moves]]] = True
    return near.reshape(choice.shape)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that a model puts into the right class, in evaluation mode."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    with torch.no_grad():
        right = (model(images).argmax(dim=1) == labels).sum()
    for module, was in training.items():
        module.training = was
    return float(right) / len(labels)


class MaskSearch(Pruner):
    """Stages of masks; how one is looked for, `search`, is the method's own.

    Parameters
    ----------
    model : Module
        Where output maps go, followed by ``torch.fx``.
    stages : sequence of Stage
        The first comes after the first step.  Maps and kernels may have several stages each,
        strided positions one.
    validation : (Tensor of shape (N, C, H, W), Tensor of shape (N,), long)
        Images and labels on which masks are tried, all at once; not those of the training, nor
        those on which the result is judged.
    every : int
        Steps of retraining between stages.
    seed : int
    """

    def __init__(
        self,
        model: nn.Module,
        stages: Sequence[Stage],
        validation: tuple[Tensor, Tensor],
        *,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        check_rounds(every, len(stages))
        if len(validation[0]) != len(validation[1]) or not len(validation[0]):
            raise input_error("validation", "as many labels as images are due",
                              found=(len(validation[0]), len(validation[1])))  # fmt: skip
        self.model, self.validation, self.every = model, validation, every
        convolutions = [n for n, m in model.named_modules() if n and isinstance(m, nn.Conv2d)]
        self.readers: dict[str, Readers] = {}
        self.stages: list[tuple[Stage, tuple[str, ...]]] = []
        names: list[str] = []
        for stage in stages:
            chosen = stage.layers or tuple(convolutions)
            if stage.granularity == "output-map":
                found = find_producers(model, stage.layers)
                self.readers |= found
                chosen = tuple(found)
                names += with_readers(found)
            self.stages.append((stage, chosen))
            names += chosen
        super().__init__(find_layers(model, list(dict.fromkeys(names))), seed=seed)
        self._check_strides()

    def _check_strides(self) -> None:
        strided = [stage for stage, _ in self.stages if stage.granularity == GRANULARITIES[2]]
        if len(strided) > 1:
            raise input_error("stages", "strided positions may have one stage", found=len(strided))
        for place, (stage, chosen) in enumerate(self.stages):
            if stage in strided:
                able = tuple(n for n in chosen if self.layers[n].mask[0, 0].numel() > 1)
                most = min((self.layers[n].mask[0, 0].numel() for n in able), default=0)
                if stage.stride > most:
                    raise input_error("stride", "is above the positions of a kernel",
                                      found=stage.stride, allowed=f"2..{most}")  # fmt: skip
                self.stages[place] = (stage, able)

    @abstractmethod
    def search(
        self, stage: Stage, names: Sequence[str], score: Callable[[Choices], float]
    ) -> Choices:
        """Return the choices of the layers ``names`` that a stage is to apply.

        ``score`` tries choices: 1 - misclassification rate on the validation images.
        """

    def after_step(self) -> None:
        """Look for the masks of a stage that is due, and apply the best."""
        due = round_after(self.steps + 1, self.every, len(self.stages))
        if due is not None:
            stage, chosen = self.stages[due - 1]
            names = [name for name in chosen if self.layers[name].active]
            if names:
                with torch.no_grad():
                    self._run(stage, names)
        super().after_step()

    def _run(self, stage: Stage, names: Sequence[str]) -> None:
        whole = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}
        before = {name: dict(self.layers[name].extras) for name in names}
        there = {name: alive(self.layers[name], "kernel") for name in names}

        def put(choices: Choices) -> None:
            for name, choice in choices.items():
                layer = self.layers[name]
                found = _pattern(stage, choice, before[name], there[name])
                moved = {key: value.to(layer.mask.device) for key, value in found.items()}
                layer.extras = before[name] | moved
            compose(self.layers, self.readers)

        def score(choices: Choices) -> float:
            put(choices)
            for name, layer in self.layers.items():
                layer.weight.copy_(whole[name] * layer.mask)
            found = accuracy(self.model, *self.validation)
            for name in names:  # draws and moves ask what was alive before
                self.layers[name].extras = dict(before[name])
            compose(self.layers, self.readers)
            return found

        best = self.search(stage, names, score)
        put(best)
        for name, layer in self.layers.items():
            layer.weight.copy_(whole[name])  # masked by the caller

    def restore(self, name: str) -> None:
        """Give a layer its weights back, and what reads its maps."""
        give_back(name, self.layers, self.readers)
        self.stop(name)


#: key of a granularity's choice in `PrunedLayer.extras`
_KEYS: Final[Mapping[Granularity, str]] = {
    "output-map": "outputs", "kernel": "kernels", "intra-kernel-strided": "offsets",
}  # fmt: skip


def _pattern(
    stage: Stage, choice: Choice, before: Mapping[str, Tensor], there: Tensor
) -> dict[str, Tensor]:
    """Return the extras that a choice changes: what was gone before stays gone.

    Kernels that are not ``there`` because their maps went are those maps' matter, not the
    pattern's own.
    """
    key = _KEYS[stage.granularity]
    if stage.granularity == "intra-kernel-strided":
        return {key: choice, "strides": torch.full_like(choice, stage.stride)}
    own = choice | ~there if stage.granularity == "kernel" else choice
    return {key: own & before[key].cpu() if key in before else own}
