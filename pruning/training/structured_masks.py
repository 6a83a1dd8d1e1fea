"""Masks of structured sparsity: what removed maps, kernels and kernel positions leave of weights.

A layer's *pattern* says which of its output maps and kernels stay, and which positions of the
kernels of each input map: offset, offset + stride, ... of the flattened kernel, the same for all
output maps (Anwar, Hwang, Sung, "Structured Pruning of Deep Convolutional Neural Networks", ACM
JETC 13(3), 2017; positions as `archsim.sparsity.Sparsity.structured` has them).  A removed output
map takes the kernels of its readers along, so nothing of it is left in what follows, whatever its
bias or a normalisation adds.

Patterns are tensors in `PrunedLayer.extras`, so that they are saved with the layer:
``outputs`` (K,), ``kernels`` (K, C / groups), both bool; ``strides`` and ``offsets`` (C,), long.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import torch
from torch import Tensor, nn

from archsim.pruning.training.graph import Readers
from archsim.pruning.training.protocol import PrunedLayer
from archsim.pruning.training.strided import strided_positions

Granularity = Literal["output-map", "kernel", "intra-kernel-strided"]
GRANULARITIES: Final[tuple[Granularity, ...]] = ("output-map", "kernel", "intra-kernel-strided")


def groups_of(layer: PrunedLayer) -> int:
    """Return the groups of a convolution; a fully connected layer has one."""
    return layer.module.groups if isinstance(layer.module, nn.Conv2d) else 1


def input_maps(layer: PrunedLayer) -> int:
    """Return C, the input maps of all groups."""
    return layer.weight.shape[1] * groups_of(layer)


def spread_inputs(values: Tensor, outputs: int, groups: int) -> Tensor:
    """Return values of input maps, shape (C,), as each output map meets them, (K, C / groups).

    >>> spread_inputs(torch.tensor([1, 2, 3, 4]), 2, 2).tolist()
    [[1, 2], [3, 4]]
    """
    return values.reshape(groups, -1).repeat_interleave(outputs // groups, dim=0)


def pattern_mask(layer: PrunedLayer) -> Tensor:
    """Return the mask that a layer's own pattern makes, of the shape of its weights, bool."""
    mask, extras = torch.ones_like(layer.mask), layer.extras
    if "outputs" in extras:
        mask &= _behind(extras["outputs"], mask.ndim)
    if "kernels" in extras:
        mask &= _behind(extras["kernels"], mask.ndim)
    if "offsets" in extras:
        kept = strided_positions(extras["strides"], extras["offsets"], mask[0, 0].numel())
        by_map = torch.arange(len(kept), device=mask.device)
        spread = kept[spread_inputs(by_map, len(mask), groups_of(layer))]
        mask &= spread.reshape(mask.shape)
    return mask


def read_mask(outputs: Tensor, reader: PrunedLayer) -> Tensor:
    """Return which weights of a reader meet kept maps; broadcasts to its weights' shape.

    A fully connected reader has several weights for each map: the pixels of it.
    """
    maps = outputs.repeat_interleave(input_maps(reader) // len(outputs))
    kept = spread_inputs(maps, reader.weight.shape[0], groups_of(reader))
    return _behind(kept, reader.mask.ndim)


def _behind(kept: Tensor, axes: int) -> Tensor:
    return kept.reshape(*kept.shape, *[1] * (axes - kept.ndim))


def compose(layers: Mapping[str, PrunedLayer], readers: Mapping[str, Readers]) -> None:
    """Set every layer's mask to its own pattern and what its producers' removed maps leave."""
    for layer in layers.values():
        layer.mask.copy_(pattern_mask(layer))
    for name, found in readers.items():
        if name in layers and "outputs" in layers[name].extras:
            for reader in found.layers:
                layers[reader].mask &= read_mask(layers[name].extras["outputs"], layers[reader])


def give_back(name: str, layers: Mapping[str, PrunedLayer], readers: Mapping[str, Readers]) -> None:
    """Take a layer's pattern away: its weights, and what reads its maps, are those of the start.

    What producers' removed maps took from it stays away.
    """
    before = {other: layer.mask.clone() for other, layer in layers.items()}
    for key in ("outputs", "kernels", "strides", "offsets"):
        layers[name].extras.pop(key, None)
    compose(layers, readers)
    with torch.no_grad():
        for other, layer in layers.items():
            free = layer.mask if other == name else layer.mask & ~before[other]
            layer.weight.copy_(torch.where(free, layer.dense, layer.weight))
            layer.apply_mask()
