"""Winograd convolution, dense and sparse: tiles in lanes, products position by position."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from archsim.kernels import _native
from archsim.kernels.checks import FloatArray, check_lanes, check_values
from archsim.kernels.isa import IsaInfo, find_isa, isa_index
from archsim.kernels.packed import PackedDenseLayer, PackedLayer, PackedSparseLayer
from archsim.kernels.winograd_layout import (
    pack_dense,
    pack_sparse,
    tile_grid,
    winograd_layout,
)
from archsim.kernels.winograd_matrices import VARIANTS, find_variant, transform_weights

_MOST_VECTORS = 2  # AS_WINOGRAD_BLOCK_VECTORS


class _WinogradLayer(PackedLayer):
    """What both kinds share: weights of the Winograd domain, chunks of vectors of tiles."""

    _WORDS: ClassVar[Mapping[str, tuple[str, ...]]] = {"variant": tuple(VARIANTS)}

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self._word["variant"]

    def _check_weights(self, weights: FloatArray) -> FloatArray:
        shape, tile = self.shape, find_variant(self.variant).tile
        own = (tile, tile, shape.out_channels, shape.group_channels)
        if isinstance(weights, np.ndarray) and weights.shape == shape.weight_shape:
            spatial = check_values("weights", weights, shape.weight_shape)
            return check_values("weights", transform_weights(spatial, self.variant), own)
        return check_values("weights", weights, own)

    def _check_blocking(self) -> None:
        number, shape, info = self._number, self.shape, find_isa(self.isa)
        chosen = find_variant(self.variant)
        kernel = (chosen.kernel, chosen.kernel)
        found = (shape.kernel_h, shape.kernel_w)
        if found != kernel or shape.stride != (1, 1) or shape.dilation != (1, 1):
            raise ValueError(
                f"blocking['variant']: {self.variant} needs a kernel of {kernel}, stride 1 and "
                f"dilation 1; got {shape}"
            )
        check_lanes(number["lanes"], info)
        _at_most("reg_vectors", number, number["chunk_vectors"], "blocking['chunk_vectors']")
        _at_most("out_block", number, shape.group_out_channels, "the output channels of a group")
        self._check_register_block(info)
        down, across = tile_grid(shape, self.variant)
        outputs = number["images"] * down * across * chosen.outputs**2
        if outputs > _native.MOST_FLOATS:  # before tables of all these tiles are made
            raise MemoryError(f"no memory for planes of {outputs} floats and more")

    @abstractmethod
    def _check_register_block(self, info: IsaInfo) -> None:
        """Raise ValueError for a register block that the instruction set has no room for."""

    def _units(self) -> int:
        down, across = tile_grid(self.shape, self.variant)
        vectors = -(-self._number["images"] * down * across // self._number["lanes"])
        return -(-vectors // self._number["chunk_vectors"])


class SparseWinograd(_WinogradLayer, PackedSparseLayer):
    """Winograd convolution with weights that are sparse in the Winograd domain.

    Tiles of a picture (or of several) lie in lanes: a vector holds one position of neighbouring
    tiles, row after row. A thread takes a chunk of such vectors through all phases: it transforms
    all input channels of a group; then, block by block of output channels, it multiplies every
    position's sparse matrix (K x C) with that position of the chunk, and transforms back. All
    loads of the products are aligned. NaN spreads inside its tile.

    Parameters
    ----------
    weights : ndarray of shape (t, t, K, C / groups), float32
        In the Winograd domain, one matrix for each position of a tile; t = m + r - 1 of the
        variant. Finite. The zeros are dropped. Spatial ones, of shape (K, C / groups, R, S), are
        transformed: their zeros do not stay.
    shape : ConvShape
        Stride 1, dilation 1, and the kernel of the variant.
    blocking : mapping
        lanes : floats in a vector; must be those of *isa*
        variant : "f2x2_3x3", "f4x4_3x3" or "f4x4_5x5"
        images : pictures of a turn, whose tiles fill vectors together
        chunk_vectors : vectors of tiles that a thread takes through all phases
        reg_lists, reg_vectors : register block, lists (output channels) side by side x vectors;
            fewer vectors at the end of a chunk
        in_block : input channels (of one group) that a list passes over at once
        out_block : output channels (of one group) whose sums wait for their transformation
        threads_per_image : threads that share a turn
    part_ptr : sequence of int
        Chunks of a turn: rank r of a turn's threads computes [part_ptr[r], part_ptr[r + 1]).
    threads, isa, bias, relu
        As in `DirectSparseRow`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {
        "lanes": 1,
        "images": 1,
        "chunk_vectors": 1,
        "reg_vectors": 1,
        "reg_lists": 1,
        "in_block": 1,
        "out_block": 1,
        "threads_per_image": 1,
    }

    @property
    def weights(self) -> FloatArray:
        """The weights in the Winograd domain, (t, t, K, C / groups), made anew."""
        tile, shape = find_variant(self.variant).tile, self.shape
        dense = np.zeros((tile, tile, shape.out_channels, shape.group_channels), np.float32)
        dense.reshape(-1)[self._where] = self._values
        return dense

    def _check_register_block(self, info: IsaInfo) -> None:
        number = self._number
        _at_most("in_block", number, self.shape.group_channels, "the input channels of a group")
        if not _native.winograd_lists_exist(
            isa_index(info), number["reg_lists"], number["reg_vectors"]
        ):
            raise ValueError(
                f"blocking: {info.name} has no register block of {number['reg_lists']} lists "
                f"(blocking['reg_lists']) x {number['reg_vectors']} vectors "
                "(blocking['reg_vectors'])"
            )

    def _pack(self, weights: FloatArray) -> _native.SparseWinograd:
        packed = pack_sparse(weights, self.shape, self._number)
        return _native.SparseWinograd(
            *self._parts(packed.streams),
            packed.row,
            winograd_layout(self.shape, self._number, self.variant),
            dict(self._number),
            self.relu,
        )


class Winograd(_WinogradLayer, PackedDenseLayer):
    """Winograd convolution with all weights, dense in the Winograd domain.

    As `SparseWinograd`, but each position's product is dense: a register block is reg_vectors
    vectors of tiles x reg_count output channels, whose weights are splatted.

    Parameters
    ----------
    weights : ndarray of shape (K, C / groups, R, S) or (t, t, K, C / groups), float32
        Spatial, or in the Winograd domain already. Finite. Spatial ones are transformed in float64
        and rounded once.
    shape : ConvShape
        Stride 1, dilation 1, and the kernel of the variant.
    blocking : mapping
        As of `SparseWinograd` without reg_lists and in_block, and: reg_count : output channels of
        a register block, at most (registers - 3) // 2; reg_vectors is at most 2.
    part_ptr, threads, isa, bias, relu
        As in `SparseWinograd`.

    Raises
    ------
    ValueError, TypeError
        For any argument that is not as said here.
    """

    _LEAST: ClassVar = {
        "lanes": 1,
        "images": 1,
        "chunk_vectors": 1,
        "reg_vectors": 1,
        "reg_count": 1,
        "out_block": 1,
        "threads_per_image": 1,
    }

    def _check_register_block(self, info: IsaInfo) -> None:
        _at_most("reg_vectors", self._number, _MOST_VECTORS, "what there are registers for")
        most = (info.registers - 3) // 2
        _at_most("reg_count", self._number, most, f"what {info.name} has registers for")

    def _pack(self, weights: FloatArray) -> _native.Winograd:
        bias = self.bias
        if bias is None:
            bias = np.zeros(self.shape.out_channels, dtype=np.float32)
        return _native.Winograd(
            self.shape,
            self._team,
            pack_dense(weights, self.shape, self._number),
            bias,
            isa_index(find_isa(self.isa)),
            winograd_layout(self.shape, self._number, self.variant),
            dict(self._number),
            self.relu,
        )


def _at_most(name: str, number: Mapping[str, int], most: int, what: str) -> None:
    if number[name] > most:
        raise ValueError(f"blocking[{name!r}]: must be at most {what} ({most}); got {number[name]}")
