"""Lane layout: where positions of the picture stand in vectors, and how outputs leave them.

A *lane* holds a piece of the padded picture (mode ``tiles``: a grid of sub-images; ``flat``: equal
chunks of the plane, row after row) or a picture of a batch (``images``). A stride's residues take
the padded plane apart, so that every weight moves by whole positions: plane (a, b) holds rows
a, a + stride, ... and columns b, b + stride, ... One plane of one channel is a *slab*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.kernels.pack import PackedStreams, list_ptr, offset_limit
from archsim.kernels.shapes import ConvShape

Ints = npt.NDArray[np.int64]
PIECE = np.dtype([("place", np.int64), ("lane", np.int32), ("bits", np.uint32)])

AHEAD = 4  # entries that the kernels read behind the last list: AS_LANES_AHEAD in lanes.h
_OVER_READ = 3  # floats that a transposition reads behind a lane's last one


@dataclass(frozen=True)
class Residues:
    """How a stride and a dilation move the weights: planes, and positions inside them."""

    rows: tuple[int, ...]
    """Residues of the rows that some weight looks at."""
    columns: tuple[int, ...]
    plane: Ints
    """Plane of each weight, shape (R, S)."""
    down: Ints
    """Positions that each kernel row lies below the first, shape (R,)."""
    right: Ints
    reach_rows: int
    reach_columns: int

    @classmethod
    def of(cls, shape: ConvShape) -> Residues:
        """Return those of a layer."""
        down, row = np.divmod(np.arange(shape.kernel_h) * shape.dilation[0], shape.stride[0])
        right, column = np.divmod(np.arange(shape.kernel_w) * shape.dilation[1], shape.stride[1])
        rows, row_index = np.unique(row, return_inverse=True)
        columns, column_index = np.unique(column, return_inverse=True)
        return cls(
            rows=tuple(rows.tolist()),
            columns=tuple(columns.tolist()),
            plane=row_index[:, None] * len(columns) + column_index[None, :],
            down=down,
            right=right,
            reach_rows=int(down[-1]),
            reach_columns=int(right[-1]),
        )

    @property
    def count(self) -> int:
        """Planes of a channel."""
        return len(self.rows) * len(self.columns)


@dataclass(frozen=True, eq=False)
class LanesLayout:
    """Sizes in floats unless said otherwise; names as in archsim_native.h."""

    lanes: int
    images: int
    plane_row: Ints
    plane_column: Ints
    plane_pitch: int
    plane_size: int
    fill_rows: int
    fill_columns: int
    in_rows: int
    in_columns: int  # positions
    down: int  # positions from a row to the next
    slab_pitch: int
    lane_start: Ints
    block: Ints
    chunk: Ints
    piece: npt.NDArray[np.void]
    most_vectors: int


def flat_pitch(shape: ConvShape, residues: Residues) -> int:
    """Return the least row pitch at which the rows of a plane may share their padding.

    What a row reads behind its pitch must be zeros of the next row's left pad.
    """
    width = shape.out_w + residues.reach_columns
    pitch = shape.out_w
    for residue in residues.columns:
        begin = max(0, -((residue - shape.pad[1]) // shape.stride[1]))
        end = min(-((residue - shape.pad[1] - shape.width) // shape.stride[1]), width)
        if begin < end:
            pitch = max(pitch, end, width - begin)
    return pitch


def lanes_layout(shape: ConvShape, number: Mapping[str, int], mode: str) -> LanesLayout:
    """Return the layout of a checked blocking (see DirectSparseLanes)."""
    lanes, residues = number["lanes"], Residues.of(shape)
    pitch, tile_columns = number["plane_pitch"], number["tile_columns"]
    in_rows, in_columns = number["tile_rows"] + residues.reach_rows, tile_columns
    in_columns += residues.reach_columns
    if mode == "flat":
        in_rows, in_columns = 1, in_columns + residues.reach_rows * pitch
    lane = np.arange(lanes)
    if mode == "flat":
        start = lane * tile_columns
    else:
        start = lane // number["grid_columns"] * number["tile_rows"] * pitch
        start += lane % number["grid_columns"] * tile_columns
    if mode == "images":
        start[:] = 0
    end = int(start.max()) + (in_rows - 1) * pitch + in_columns + _OVER_READ
    plane_size = max(end, (shape.out_h + residues.reach_rows) * pitch)
    if mode == "images":
        start = lane * residues.count * plane_size
    blocks, chunks, pieces = _way_out(number, places(shape, number, mode), in_columns)
    planes = np.array([(a, b) for a in residues.rows for b in residues.columns], dtype=np.int64)
    return LanesLayout(
        lanes=lanes,
        images=lanes if mode == "images" else 1,
        plane_row=planes[:, 0].copy(),
        plane_column=planes[:, 1].copy(),
        plane_pitch=pitch,
        plane_size=plane_size,
        fill_rows=shape.out_h + residues.reach_rows,
        fill_columns=min(pitch, shape.out_w + residues.reach_columns),
        in_rows=in_rows,
        in_columns=in_columns,
        down=pitch if mode == "flat" else in_columns,
        slab_pitch=number["slab_pitch"] * lanes,
        lane_start=start.astype(np.int64),
        block=blocks,
        chunk=chunks,
        piece=pieces,
        most_vectors=int((blocks[:, 1] * blocks[:, 2]).max()),
    )


def pointwise_layout(shape: ConvShape, number: Mapping[str, int]) -> LanesLayout:
    """Return the layout of neighbouring pixels as lanes."""
    lanes, pixels = number["lanes"], shape.height * shape.width
    vectors, step = -(-pixels // lanes), number["reg_vectors"]
    first = np.arange(0, vectors, step)
    count = np.minimum(step, vectors - first)
    full = np.minimum(pixels, (first + count) * lanes)
    blocks = np.zeros((len(first), 6), dtype=np.int64)
    blocks[:, 0], blocks[:, 1], blocks[:, 2] = first * lanes, 1, count
    blocks[:, 5] = full - (first + count - 1) * lanes
    zero = np.zeros(1, dtype=np.int64)
    return LanesLayout(
        lanes=lanes, images=1, plane_row=zero, plane_column=zero, plane_pitch=0, plane_size=0,
        fill_rows=0, fill_columns=0, in_rows=1, in_columns=number["slab_pitch"], down=0,
        slab_pitch=number["slab_pitch"] * lanes, lane_start=np.zeros(lanes, dtype=np.int64),
        block=blocks, chunk=np.zeros((0, 4), dtype=np.int64), piece=np.zeros(0, dtype=PIECE),
        most_vectors=int(count.max()),
    )  # fmt: skip


def pointwise_slab_pitch(shape: ConvShape, lanes: int) -> int:
    """Return the vectors of a channel's pixels."""
    return -(-shape.height * shape.width // lanes)


def places(shape: ConvShape, number: Mapping[str, int], mode: str) -> Ints:
    """Return where each position of each lane goes in the output of a channel, or -1.

    Its shape is (lanes, tile_rows, tile_columns).
    """
    lane = np.arange(number["lanes"])[:, None, None]
    row = np.arange(number["tile_rows"])[:, None]
    column = np.arange(number["tile_columns"])
    if mode == "flat":
        p, q = np.divmod(lane * number["tile_columns"] + row + column, number["plane_pitch"])
    elif mode == "tiles":
        p = lane // number["grid_columns"] * number["tile_rows"] + row + 0 * column
        q = lane % number["grid_columns"] * number["tile_columns"] + 0 * row + column
    else:
        p, q = 0 * lane + row + 0 * column, 0 * lane + 0 * row + column
    place = p * shape.out_w + q
    if mode == "images":
        place += lane * shape.out_channels * shape.out_h * shape.out_w
    places: Ints = np.where((p < shape.out_h) & (q < shape.out_w), place, -1)
    return places


def _way_out(
    number: Mapping[str, int], places: Ints, in_columns: int
) -> tuple[Ints, Ints, npt.NDArray[np.void]]:
    """Return blocks, chunks and pieces."""
    lanes = number["lanes"]
    blocks: list[tuple[int, ...]] = []
    chunks: list[tuple[int, ...]] = []
    pieces: list[tuple[int, int, int]] = []
    for top in range(0, number["tile_rows"], number["reg_rows"]):
        rows = min(number["reg_rows"], number["tile_rows"] - top)
        for left in range(0, number["tile_columns"], number["reg_vectors"]):
            vectors = min(number["reg_vectors"], number["tile_columns"] - left)
            first_chunk = len(chunks)
            for row in range(rows):
                for begin in range(0, vectors, lanes):
                    count = min(lanes, vectors - begin)
                    start = left + begin
                    found = _pieces(places[:, top + row, start : start + count])
                    chunks.append(
                        (row * vectors + begin, count, len(pieces), len(pieces) + len(found))
                    )
                    pieces.extend(found)
            place = (top * in_columns + left) * lanes
            blocks.append((place, rows, vectors, first_chunk, len(chunks), 0))
    return (
        np.array(blocks, dtype=np.int64),
        np.array(chunks, dtype=np.int64),
        np.array(pieces, dtype=PIECE),
    )


def _pieces(places: Ints) -> list[tuple[int, int, int]]:
    """Return (place, lane, bits) of the runs in a chunk's places, shape (lanes, positions)."""
    found = []
    index = np.arange(places.shape[1])
    base = places - index
    for lane in range(len(places)):
        inside = places[lane] >= 0
        for place in np.unique(base[lane, inside]):
            bits = int((1 << index[inside & (base[lane] == place)]).sum())
            found.append((int(place), lane, bits))
    return found


def pack_lanes(
    weights: npt.NDArray[np.float32], shape: ConvShape, layout: LanesLayout, slab_block: int
) -> PackedStreams:
    """Order the nonzeros: group, slab block, output channel; see archsim_native.h.

    AHEAD entries of nothing follow the last list.
    """
    residues = Residues.of(shape)
    slabs = shape.group_channels * residues.count
    slab_blocks = -(-slabs // slab_block)
    k, c, r, s = np.nonzero(weights)
    slab = c * residues.count + residues.plane[r, s]
    group, k_in_group = np.divmod(k, shape.group_out_channels)
    lists = (group * slab_blocks + slab // slab_block) * shape.group_out_channels + k_in_group
    order = np.argsort(lists, kind="stable")
    position = residues.down[r] * layout.down + residues.right[s]
    off = 4 * (slab % slab_block * layout.slab_pitch + position * layout.lanes)
    reach = residues.reach_rows * layout.down + residues.reach_columns
    last = offset_limit(4 * ((slab_block - 1) * layout.slab_pitch + reach * layout.lanes), "bytes")
    nothing = np.zeros(AHEAD)
    return PackedStreams(
        ptr=list_ptr(lists, shape.groups * slab_blocks * shape.group_out_channels),
        off=np.concatenate([off[order], nothing]).astype(np.int32),
        val=np.concatenate([weights[k, c, r, s][order], nothing]).astype(np.float32),
        last_offset=last,
    )
