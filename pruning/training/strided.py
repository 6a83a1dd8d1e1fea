"""Intra-kernel strided masks: which positions of its kernels an input map keeps.

Anwar, Hwang, Sung (ACM JETC 13(3), 2017), by second-hand accounts: all kernels of an input map keep
the positions offset, offset + stride, ... of the flattened kernel, so that both lowered matrices
lose the others.  How positions are counted is from memory, medium certainty.
"""

from __future__ import annotations

import torch
from torch import Tensor


def strided_positions(strides: Tensor, offsets: Tensor, kernel: int) -> Tensor:
    """Return which positions of the kernels of an input map stay, shape (C, kernel), bool.

    Parameters
    ----------
    strides, offsets : Tensor of shape (C,), long
        Stride at least 1, offset 0 to stride - 1.
    kernel : int
        Positions of a kernel, R * S.
    """
    place = torch.arange(kernel, device=offsets.device) - offsets[:, None]
    return (place >= 0) & (place % strides[:, None] == 0)


def kept_positions(strides: Tensor, offsets: Tensor, kernel: int) -> Tensor:
    """Return how many positions stay, ``ceil((kernel - offset) / stride)``, shape (C,), long."""
    return (kernel - offsets + strides - 1).div(strides, rounding_mode="floor")


def draw_offsets(maps: int, stride: int, generator: torch.Generator) -> Tensor:
    """Return an offset, 0 to stride - 1, for each of ``maps`` input maps, shape (C,), long."""
    return torch.randint(stride, (maps,), generator=generator)


def move_offsets(
    offsets: Tensor, stride: int, kernel: int, moves: int, generator: torch.Generator
) -> Tensor:
    """Return offsets where ``moves`` pairs of input maps have changed, as many positions kept.

    The maps of a pair exchange how many positions they keep; among the offsets that keep as many
    each takes one at random.
    """
    every = torch.arange(stride)
    kept = kept_positions(torch.full_like(every, stride), every, kernel)
    moved = offsets.clone()
    for _ in range(moves):
        pair = torch.randint(len(offsets), (2,), generator=generator)
        for to, source in zip(pair, pair.flip(0), strict=True):
            same = every[kept == kept[offsets[source]]]
            moved[to] = same[torch.randint(len(same), (), generator=generator)]
        offsets = moved.clone()
    return moved
