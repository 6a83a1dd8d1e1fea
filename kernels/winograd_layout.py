"""Winograd's tiles in lanes: where they begin, where their outputs go, weights in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.kernels.pack import PackedStreams, list_ptr, offset_limit
from archsim.kernels.shapes import ConvShape
from archsim.kernels.winograd_matrices import VARIANTS, find_variant

AHEAD = 4  # entries that the kernels read behind the last list: AS_LANES_AHEAD in lanes.h
PLACE = np.dtype([("place", np.int64), ("rows", np.int32), ("columns", np.int32)])
_OVER_READ = 3  # floats that a transposition reads behind a tile's row
_LINE_FLOATS = 16

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class WinogradLayout:
    """Sizes in floats unless said otherwise; names as in archsim_native.h."""

    variant: int
    tile_outputs: int
    tile: int
    tile_rows: int
    tile_columns: int
    images: int
    plane_pitch: int
    plane_size: int
    transformed_pitch: int
    sums_pitch: int
    start: npt.NDArray[np.int64]
    place: npt.NDArray[np.void]
    whole: npt.NDArray[np.int64]


def tile_grid(shape: ConvShape, variant: str) -> tuple[int, int]:
    """Return how many tiles an output plane has: down, across."""
    m = find_variant(variant).outputs
    return -(-shape.out_h // m), -(-shape.out_w // m)


def odd_lines(floats: int) -> int:
    """Return the next number of floats that fills an odd number of lines.

    The positions of a tile are written at once: a power of two between them would put them all
    into a few sets of the first level.
    """
    return (-(-floats // _LINE_FLOATS) | 1) * _LINE_FLOATS


def winograd_layout(shape: ConvShape, number: Mapping[str, int], variant: str) -> WinogradLayout:
    """Return the layout of a checked blocking (see Winograd)."""
    chosen, lanes, images = find_variant(variant), number["lanes"], number["images"]
    m, t = chosen.outputs, chosen.tile
    down, across = tile_grid(shape, variant)
    pitch = m * across + t - m + _OVER_READ
    plane = (m * down + t - m) * pitch
    vectors = -(-images * down * across // lanes)
    chunk = number["chunk_vectors"]

    tile = np.arange(vectors * lanes)
    image, in_image = np.divmod(np.minimum(tile, images * down * across - 1), down * across)
    row, column = np.divmod(in_image, across)
    place = np.zeros(len(tile), dtype=PLACE)
    out_plane = shape.out_h * shape.out_w
    place["place"] = image * shape.out_channels * out_plane + m * (row * shape.out_w + column)
    there = tile < images * down * across
    place["rows"] = np.where(there, np.minimum(m, shape.out_h - m * row), 0)
    place["columns"] = np.where(there, np.minimum(m, shape.out_w - m * column), 0)
    whole = (place["rows"] == m) & (place["columns"] == m)
    return WinogradLayout(
        variant=list(VARIANTS).index(variant),
        tile_outputs=m,
        tile=t,
        tile_rows=down,
        tile_columns=across,
        images=images,
        plane_pitch=pitch,
        plane_size=plane,
        transformed_pitch=odd_lines(shape.group_channels * chunk * lanes),
        sums_pitch=odd_lines(min(number["out_block"], shape.group_out_channels) * chunk * lanes),
        start=(image * plane + m * (row * pitch + column)).astype(np.int64).reshape(-1, lanes),
        place=place.reshape(-1, lanes),
        whole=whole.reshape(-1, lanes).all(axis=1).astype(np.int64),
    )


def pack_sparse(weights: Weights, shape: ConvShape, number: Mapping[str, int]) -> PackedStreams:
    """Order the nonzeros: channel block, position, output channel; see archsim_native.h.

    AHEAD entries of nothing follow the last list.
    """
    tile = len(weights)
    positions, in_group, block = tile * tile, shape.group_out_channels, number["out_block"]
    u, v, k, c = np.nonzero(weights)
    group, k_in_group = np.divmod(k, in_group)
    first = k_in_group // block * block
    size = np.minimum(block, in_group - first)
    lists = (group * in_group + first) * positions + (u * tile + v) * size + k_in_group - first
    order = np.argsort(lists, kind="stable")
    step = 4 * number["chunk_vectors"] * number["lanes"]
    last = offset_limit((shape.group_channels - 1) * step, "bytes")
    nothing = np.zeros(AHEAD)
    return PackedStreams(
        ptr=list_ptr(lists, positions * shape.out_channels),
        off=np.concatenate([(c * step)[order], nothing]).astype(np.int32),
        val=np.concatenate([weights[u, v, k, c][order], nothing]).astype(np.float32),
        last_offset=last,
    )


def pack_dense(weights: Weights, shape: ConvShape, number: Mapping[str, int]) -> Weights:
    """Order all weights: channel block, position, register block, input channel, channel."""
    flat = weights.reshape(-1, shape.out_channels, shape.group_channels)
    in_group, count = shape.group_out_channels, number["reg_count"]
    parts = []
    for group in range(0, shape.out_channels, in_group):
        for first in range(group, group + in_group, number["out_block"]):
            last = min(first + number["out_block"], group + in_group)
            blocks = [
                flat[:, k : min(k + count, last)].transpose(0, 2, 1).reshape(len(flat), -1)
                for k in range(first, last, count)
            ]
            parts.append(np.concatenate(blocks, axis=1).reshape(-1))
    return np.concatenate(parts)
