"""From one layer to the next in lane layout: which vectors of its slab a vector of sums becomes.

Both layers cut the picture in the same way, so an output position of a lane is the same pixel as
an input position of the next layer, moved by that layer's padding. A vector of its slab is
therefore *one* vector of sums. In the interior every lane stays where it is; around it, in the
halo that the kernel reaches, the lanes hold the beginning or the end of a neighbouring piece, so
that they change places: lane l takes what lane l + m has. Lanes whose position lies outside the
picture become zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.kernels.lanes_layout import Ints, LanesLayout, Residues, places
from archsim.kernels.pack import offset_limit
from archsim.kernels.shapes import ConvShape


@dataclass(frozen=True, eq=False)
class LanesLink:
    """How a layer's sums become the next layer's slabs; names and units as in archsim_native.h."""

    whole: bool
    """Whether slabs are made whole, by the layer's register blocks; else by those of the next."""
    pitch: int
    first: Ints
    """Where each register block of the layer has its sums of a channel, shape (blocks)."""
    ptr: Ints
    """Moves of register block i: [ptr[i], ptr[i + 1])."""
    move: npt.NDArray[np.int32]
    """from, to and order of each, shape (moves, 3), in floats."""
    order: npt.NDArray[np.int32]
    """Lanes, or -1 for zero, shape (orders, lanes)."""


def lanes_link(
    shape: ConvShape,
    number: Mapping[str, int],
    mode: str,
    layout: LanesLayout,
    next_shape: ConvShape,
    next_layout: LanesLayout,
    *,
    whole: bool,
) -> LanesLink:
    """Return how a layer's sums become the slabs of the next layer.

    Parameters
    ----------
    shape, number, mode, layout
        Of the layer that computes; number is its blocking's integers.
    next_shape, next_layout
        Of the next layer, whose blocking cuts the picture alike.
    whole
        See LanesLink.
    """
    lanes = layout.lanes
    row, column, order = _sources(
        number, mode, places(shape, number, mode), next_shape, next_layout
    )
    offset_limit(4 * lanes * order.shape[0], "bytes")  # a move counts in 32 bits
    first, vector = _sums(layout, number["tile_rows"], number["tile_columns"])
    orders, which = np.unique(order, axis=0, return_inverse=True)
    moves = np.stack([vector[row, column], np.arange(len(row)), which.reshape(-1)], axis=1)
    filled = (order >= 0).any(axis=1)
    if whole:
        block = np.searchsorted(first, moves[:, 0], side="right") - 1
        moves[:, 0] -= first[block]
        cut = [moves[(block == i) & filled] for i in range(len(first))]
    else:
        cut = [moves[seen & filled] for seen in _seen(next_shape, next_layout)]
    pitch = number["tile_rows"] * number["tile_columns"] * lanes
    return LanesLink(
        whole=whole,
        pitch=next_layout.slab_pitch if whole else pitch,
        first=first * lanes,
        ptr=np.cumsum([0, *map(len, cut)], dtype=np.int64),
        move=(np.concatenate(cut) * lanes).astype(np.int32),
        order=np.ascontiguousarray(orders, dtype=np.int32),
    )


def _sums(layout: LanesLayout, rows: int, columns: int) -> tuple[Ints, Ints]:
    """Return the first vector of each register block, and the vector of each tile position."""
    high, wide = layout.block[:, 1], layout.block[:, 2]
    first = np.cumsum(high * wide) - high * wide
    vector = np.empty((rows, columns), dtype=np.int64)
    for begin, (place, high, wide) in zip(first, layout.block[:, :3].tolist(), strict=True):
        top, left = divmod(place // layout.lanes, layout.in_columns)
        here = np.arange(high * wide).reshape(high, wide)
        vector[top : top + high, left : left + wide] = begin + here
    return first, vector


def _seen(shape: ConvShape, layout: LanesLayout) -> npt.NDArray[np.bool_]:
    """Return the vectors of a slab that each register block looks at, shape (blocks, vectors)."""
    residues = Residues.of(shape)
    reach = (residues.down[:, None] * layout.down + residues.right).reshape(-1)
    seen = np.zeros((len(layout.block), layout.in_rows * layout.in_columns), dtype=np.bool_)
    for found, (place, high, wide) in zip(seen, layout.block[:, :3].tolist(), strict=True):
        corner = place // layout.lanes + np.arange(high)[:, None] * layout.in_columns
        found[((corner + np.arange(wide)).reshape(-1)[:, None] + reach).reshape(-1)] = True
    return seen


def _sources(
    number: Mapping[str, int],
    mode: str,
    place: Ints,
    shape: ConvShape,
    layout: LanesLayout,
) -> tuple[Ints, Ints, Ints]:
    """Return for each vector of a slab the tile's row and column that it is made of, and lanes.

    Shapes are (vectors), (vectors) and (vectors, lanes). Lane l of the vector is that lane of the
    source; -1: it lies outside of the picture.
    """
    lanes, rows, columns = place.shape
    y, x = np.divmod(np.arange(layout.in_rows * layout.in_columns), layout.in_columns)
    if mode == "flat":  # one row of chunks: rows of the plane follow each other
        x -= shape.pad[0] * number["plane_pitch"] + shape.pad[1]
    else:
        y, x = y - shape.pad[0], x - shape.pad[1]
    (down, row), (right, column) = np.divmod(y, rows), np.divmod(x, columns)
    lane = np.arange(lanes)
    if mode == "images":
        inside = np.broadcast_to(((down == 0) & (right == 0))[:, None], (len(y), lanes))
        source = np.broadcast_to(lane, inside.shape)
    else:
        grid_rows, grid_columns = number["grid_rows"], number["grid_columns"]
        from_row = lane // grid_columns + down[:, None]
        from_column = lane % grid_columns + right[:, None]
        inside = (from_row >= 0) & (from_row < grid_rows)
        inside &= (from_column >= 0) & (from_column < grid_columns)
        source = np.where(inside, from_row * grid_columns + from_column, 0)
    inside = inside & (place[source, row[:, None], column[:, None]] >= 0)
    return row, column, np.where(inside, source, -1)
