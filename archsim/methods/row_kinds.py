"""The output-channel blocks of the ``row`` schedule: those that ask for the same are one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from archsim.methods.sharing import Cut, Partition, alike, cut, cut_alike, total_of
from archsim.methods.streams import comes_back
from archsim.network import Layer
from archsim.plan import Counts, Expected, Stream, first
from archsim.sparsity import Densities, Sparsity

OC_BLOCK: Final = 16  # output channels of a block in the published code


@dataclass(frozen=True, slots=True)
class Kinds:
    """The distinct output-channel blocks; arrays of shape (kinds,), of densities (..., kinds)."""

    unit_kind: NDArray[np.int64]  # (blocks of all groups,)
    channels: Counts  # output channels of the block
    nonzeros: Counts
    kernels: Counts  # (output, input) channel pairs with at least one nonzero
    inputs: Counts  # input channels with at least one nonzero in the block
    all_inputs: float  # input channels of a group

    @property
    def total(self) -> Expected:
        """Nonzeros of the layer."""
        return total_of(self.nonzeros, self.unit_kind)


def find_kinds(layer: Layer, sparsity: Sparsity | Densities) -> Kinds:
    """Return the kinds of a layer's output-channel blocks."""
    per_group = layer.K // layer.groups
    group_channels, area = layer.C // layer.groups, layer.R * layer.S
    channels, unit_kind = alike(per_group, OC_BLOCK, layer.groups)
    if sparsity.weights is not None:
        nonzero = (sparsity.weights != 0).reshape(layer.groups, per_group, group_channels, area)
        count = nonzero.sum(axis=3)
        starts = np.arange(0, per_group, OC_BLOCK)
        nonzeros = np.add.reduceat(count.sum(axis=2), starts, axis=1)
        kernels = np.add.reduceat((count > 0).sum(axis=2), starts, axis=1)
        inputs = (np.add.reduceat(count, starts, axis=1) > 0).sum(axis=2)
        return Kinds(
            np.arange(len(unit_kind)), channels[unit_kind],
            nonzeros.ravel().astype(float), kernels.ravel().astype(float),
            inputs.ravel().astype(float), float(group_channels),
        )  # fmt: skip
    density = sparsity.density
    empty = 1.0 - density
    return Kinds(
        unit_kind,
        channels,
        channels * group_channels * area * density,
        channels * group_channels * (1.0 - empty**area),
        group_channels * (1.0 - empty ** (area * channels)),
        float(group_channels),
    )


def cut_kinds(layer: Layer, kinds: Kinds, sparsity: Sparsity | Densities, partition: Partition,
         sharers: int) -> Cut:  # fmt: skip
    """Cut the blocks among the threads that share an image."""
    if sparsity.weights is not None:
        return cut(partition, kinds.nonzeros, kinds.unit_kind, sharers, channels=kinds.channels)
    each = layer.weights / layer.K * first(sparsity.density) if partition == "dynamic" else 0.0
    return cut_alike(partition, each, (layer.K // layer.groups, OC_BLOCK, layer.groups), sharers)


def plane_stream(kinds: Kinds, group: float, window: float, beside: Counts, line: float) -> Stream:
    """Second and later uses of an input channel's plane inside a tile.

    Output channels follow each other and each touches a plane with probability p, the share of
    its kernels that are not empty (:func:`archsim.methods.streams.comes_back`).

    ``group`` and ``window`` are the bytes of all planes of a group and of a column block,
    ``beside`` those of an output channel's partial sums and weights there.
    """
    n = kinds.channels
    p = np.minimum(kinds.kernels / np.maximum(n * kinds.all_inputs, 1.0), 1.0)
    share, times = comes_back(p, n)
    between = window * share + beside[..., None, :]
    return Stream("padded input", "read", group * n * times, between, shared="image", crossing=line)
