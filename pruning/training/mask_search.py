"""Pruning by masks that are drawn, tried on validation images, and kept where they do best.

What Anwar, Hwang and Sung's particle filter and Anwar and Sung's best of random masks share: stages
of one granularity each, feature maps before kernels before kernel positions; in each stage a mask
for all layers at once is looked for, applied, and the loop retrains until the next.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.filters import find_producers, with_readers
from archsim.pruning.training.protocol import PrunedLayer, Pruner, find_layers
from archsim.pruning.training.rounds import check_rounds, round_after
from archsim.pruning.training.strided import draw_offsets, move_offsets
from archsim.pruning.training.structured_masks import (
    Granularity,
    compose,
    give_back,
    input_maps,
)
from archsim.torchnetwork import evaluating

#: what is drawn for a layer: which maps (K,) or kernels (K, C / groups) stay, bool; or the offset
#: of each input map (C,), long
Choice: TypeAlias = Tensor
#: a choice for each layer of a stage
Choices = dict[str, Choice]


@dataclass(frozen=True)
class Stage:
    """One step of pruning.

    Attributes
    ----------
    granularity : {"output-map", "kernel", "intra-kernel-strided"}
    amount : float
        Share of the maps or kernels still there that goes, 0 to below 1; of positions the stride.
    layers : tuple of str
    """

    granularity: Granularity
    amount: float
    layers: tuple[str, ...]

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
    with torch.no_grad(), evaluating(model):
        right = (model(images).argmax(dim=1) == labels).sum()
    return float(right) / len(labels)


class MaskSearch(Pruner):
    """Stages of masks; how one is looked for, `search`, is the method's own.

    Parameters
    ----------
    model : Module
        Where output maps go, followed by ``torch.fx``.
    layers : iterable of str, optional
        Convolutions; default: all of them, and of output maps those that can go.
    validation : (Tensor of shape (N, C, H, W), Tensor of shape (N,), long)
        Images and labels on which masks are tried, all at once; not those on which the result is
        judged.
    maps, kernels : float
        Share of the output maps that goes, and of the kernels between those that stay; 0 to below
        1, 0: none.
    stride : int
        Of the positions that the kernels of an input map keep; 1: all.
    rounds : int
        Stages for maps, and stages for kernels, each taking the same share of what is left.
    every : int
        Steps of retraining between stages; the first comes after the first step.
    seed : int

    Attributes
    ----------
    stages : tuple of Stage
        Maps, then kernels, then positions.
    readers : dict of str to Readers
        Who reads maps that can go; `layers` holds those, too.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | None = None,
        *,
        validation: tuple[Tensor, Tensor],
        maps: float = 0.0,
        kernels: float = 0.0,
        stride: int = 1,
        rounds: int = 1,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        check_rounds(every, rounds)
        _check_amounts(maps, kernels, stride, validation)
        self.model, self.validation, self.every = model, validation, every
        wanted = None if layers is None else list(layers)
        found = find_layers(model, wanted, (nn.Conv2d,))
        self.readers = find_producers(model, wanted) if maps else {}
        stages = [("output-map", maps, tuple(self.readers)), ("kernel", kernels, tuple(found))]
        self.stages = tuple(
            Stage(granularity, 1.0 - (1.0 - share) ** (1.0 / rounds), names)  # type: ignore[arg-type]
            for granularity, share, names in stages
            if share
            for _ in range(rounds)
        )
        if stride > 1:
            sizes = {name: layer.mask[0, 0].numel() for name, layer in found.items()}
            names = tuple(name for name, size in sizes.items() if size >= stride)
            if not names:
                raise input_error("stride", "is above the positions of every kernel", found=stride,
                                  allowed=f"1..{max(sizes.values())}")  # fmt: skip
            self.stages += (Stage("intra-kernel-strided", stride, names),)
        both = list(dict.fromkeys([*found, *with_readers(self.readers)]))
        super().__init__(find_layers(model, both), seed=seed)

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
            stage = self.stages[due - 1]
            names = [name for name in stage.layers if self.layers[name].active]
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


def _check_amounts(
    maps: float, kernels: float, stride: int, validation: tuple[Tensor, Tensor]
) -> None:
    for name, value in (("maps", maps), ("kernels", kernels)):
        if not 0.0 <= value < 1.0:
            raise input_error(name, "must lie in 0..1, below 1", found=value)
    if stride < 1 or stride != int(stride):
        raise input_error("stride", "a whole number from 1 is due", found=stride)
    if not maps and not kernels and stride == 1:
        raise input_error("maps, kernels, stride", "nothing is to go")
    images, labels = (len(part) for part in validation)
    if images != labels or not images:
        raise input_error("validation", "as many labels as images are due", found=(images, labels))


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
