"""Layout of the shifts schedule: windows of whole rows, and how a block's vectors leave.

Planes, slabs and residues are those of :mod:`archsim.kernels.lanes_layout`. A *column tile* is so
many vectors of each row; its last lanes are what the kernel reaches beyond the tile's outputs.
The columns by which a kernel moves along a row come one after the other, as *parts* of an output
channel's nonzeros: the sums move, not the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from archsim.kernels.lanes_layout import AHEAD, Ints, Residues
from archsim.kernels.pack import PackedStreams, list_ptr, offset_limit
from archsim.kernels.shapes import ConvShape


@dataclass(frozen=True, eq=False)
class ShiftsLayout:
    """Sizes in floats unless said otherwise; names as in archsim_native.h."""

    lanes: int
    residues: Residues
    plane_row: Ints
    plane_column: Ints
    reach_rows: int
    slab_block: int
    slab_pitch: int
    vectors: int
    parts: int
    block: Ints
    piece: Ints
    most_vectors: int

    @property
    def window(self) -> int:
        """Floats of the window of a block of slabs."""
        return self.slab_block * self.slab_pitch


def tile_outputs(shape: ConvShape, number: Mapping[str, int]) -> int:
    """Return the output columns of a column tile; may be less than 1."""
    return number["tile_columns"] * number["lanes"] - Residues.of(shape).reach_columns


def shifts_layout(shape: ConvShape, number: Mapping[str, int]) -> ShiftsLayout:
    """Return the layout of a checked blocking (see DirectSparseLanes)."""
    lanes, vectors, residues = number["lanes"], number["tile_columns"], Residues.of(shape)
    outputs = tile_outputs(shape, number)
    blocks: list[tuple[int, ...]] = []
    pieces: list[tuple[int, int]] = []
    for top in range(0, shape.out_h, number["reg_rows"]):
        rows = min(number["reg_rows"], shape.out_h - top)
        for tile in range(number["grid_columns"]):
            end = min((tile + 1) * outputs, shape.out_w)
            first_piece = len(pieces)
            for row, vector in np.ndindex(rows, vectors):
                column = tile * outputs + vector * lanes
                used = max(0, min(lanes, end - column))
                pieces.append(((top + row) * shape.out_w + column, (1 << used) - 1))
            whole = rows == 1 and end - tile * outputs == vectors * lanes
            blocks.append((rows, vectors, top, tile * outputs, first_piece, int(whole)))
    planes = np.array([(a, b) for a in residues.rows for b in residues.columns], dtype=np.int64)
    return ShiftsLayout(
        lanes=lanes,
        residues=residues,
        plane_row=planes[:, 0].copy(),
        plane_column=planes[:, 1].copy(),
        reach_rows=residues.reach_rows,
        slab_block=number["slab_block"],
        slab_pitch=number["slab_pitch"] * lanes,
        vectors=vectors,
        parts=residues.reach_columns + 1,
        block=np.array(blocks, dtype=np.int64),
        piece=np.array(pieces, dtype=np.int64),
        most_vectors=number["reg_rows"] * vectors,
    )


def in_one_row(shape: ConvShape, number: Mapping[str, int]) -> tuple[ConvShape, Mapping[str, int]]:
    """Return a "pointwise" layer as one row of all its pixels, with the blocking for that."""
    walk = replace(shape, height=1, width=shape.height * shape.width)
    vectors = number["reg_vectors"]
    return walk, {
        **number,
        "grid_columns": -(-number["tile_columns"] // vectors),
        "tile_columns": vectors,
        "slab_pitch": vectors,
    }


def pack_shifts(
    weights: npt.NDArray[np.float32], shape: ConvShape, layout: ShiftsLayout
) -> PackedStreams:
    """Order the nonzeros: group, slab block, output channel, part; see archsim_native.h.

    AHEAD entries of nothing follow the last list.
    """
    residues = layout.residues
    slab_blocks = -(-shape.group_channels * residues.count // layout.slab_block)
    k, c, r, s = np.nonzero(weights)
    slab = c * residues.count + residues.plane[r, s]
    group, k_in_group = np.divmod(k, shape.group_out_channels)
    lists = (group * slab_blocks + slab // layout.slab_block) * shape.group_out_channels
    # the furthest column first: its sums move furthest
    lists = (lists + k_in_group) * layout.parts + residues.reach_columns - residues.right[s]
    order = np.argsort(lists, kind="stable")
    row_floats = layout.vectors * layout.lanes
    off = slab % layout.slab_block * layout.slab_pitch + residues.down[r] * row_floats
    last = (layout.slab_block - 1) * layout.slab_pitch + residues.reach_rows * row_floats
    last_offset = offset_limit(4 * last, "bytes")
    nothing = np.zeros(AHEAD)
    return PackedStreams(
        ptr=list_ptr(lists, shape.out_channels * slab_blocks * layout.parts),
        off=np.concatenate([4 * off[order], nothing]).astype(np.int32),
        val=np.concatenate([weights[k, c, r, s][order], nothing]).astype(np.float32),
        last_offset=last_offset,
    )
