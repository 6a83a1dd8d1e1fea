"""Winograd's tiles in lanes: where they begin, where their outputs go, weights in their order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from archsim.kernels.pack import PackedStreams, offset_limit
from archsim.kernels.shapes import ConvShape
from archsim.kernels.winograd_matrices import VARIANTS, Variant, find_variant

PLACE = np.dtype([("place", np.int64), ("rows", np.int32), ("columns", np.int32)])
PIECE = np.dtype(
    [
        ("first", np.int64), ("second", np.int64), ("first_bits", "u2"), ("second_bits", "u2"),
        ("first_rows", "u2"), ("second_rows", "u2"),
    ]
)  # fmt: skip
WINDOW = np.dtype(
    [
        ("first", np.int64), ("second", np.int64), ("first_bits", "u2", (2,)),
        ("second_bits", "u2", (2,)), ("first_rows", "u1"), ("second_rows", "u1"),
    ],
    align=True,
)  # fmt: skip
_PIECES = 16  # AS_WINOGRAD_PIECES
_EDGE = 16  # AS_WINOGRAD_EDGE
_PIECES_LANES = 16  # the vectors that are loaded as pieces: winograd_pieces.h
_OVER_READ = 3  # floats that a transposition reads behind a tile's row
_LINE_FLOATS = 16

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Which tiles of a vector are neighbours: as_winograd_piece and _window in winograd.h."""

    piece: npt.NDArray[np.void]  # (vectors, m)
    kind: npt.NDArray[np.int64]  # (vectors,)


@dataclass(frozen=True, eq=False)
class WinogradLayout:
    """Sizes in floats unless said otherwise; names as in products.h."""

    variant: int
    tile_outputs: int
    tile: int
    tile_rows: int
    tile_columns: int
    images: int
    plane_pitch: int
    plane_size: int
    transformed_pitch: int
    step_size: int
    sums_pitch: int
    start: npt.NDArray[np.int64]
    place: npt.NDArray[np.void]
    whole: npt.NDArray[np.int64]
    into: Pieces | None  # None: through padded planes
    out_of: Pieces
    groups: int  # of lists; 0: dense


@dataclass(frozen=True, eq=False)
class WinogradLists:
    """Nonzeros in groups of lists, and the output channel (in its block) of each list."""

    streams: PackedStreams
    row: npt.NDArray[np.int32]


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
    pitch = -(-pitch // _LINE_FLOATS) * _LINE_FLOATS
    plane = (m * down + t - m) * pitch
    vectors = -(-images * down * across // lanes)
    chunk, step = number["chunk_vectors"], number["reg_vectors"]
    slots = shape.group_channels
    rows, groups = min(number["out_block"], shape.group_out_channels), 0
    if number.get("reg_lists"):
        slots += -(-shape.group_channels // number["in_block"])
        rows += 1  # of lists that only fill a group
        groups = int(chosen.tile**2 * shape.groups * list_groups(shape, number).sum())
        groups *= -(-shape.group_channels // number["in_block"])

    tile = np.arange(vectors * lanes)
    image, in_image = np.divmod(np.minimum(tile, images * down * across - 1), down * across)
    row, column = np.divmod(in_image, across)
    place = np.zeros(len(tile), dtype=PLACE)
    out_plane = shape.out_h * shape.out_w
    place["place"] = image * shape.out_channels * out_plane + m * (row * shape.out_w + column)
    there = tile < images * down * across
    place["rows"] = np.where(there, np.minimum(m, shape.out_h - m * row), 0)
    place["columns"] = np.where(there, np.minimum(m, shape.out_w - m * column), 0)
    start = image * plane + m * (row * pitch + column)
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
        transformed_pitch=odd_lines(-(-chunk // step) * slots * step * lanes),
        step_size=slots * step * lanes,
        sums_pitch=odd_lines(rows * chunk * lanes),
        into=_windows(shape, chosen, lanes, image, row, column, there)
        if lanes == _PIECES_LANES and neighbours(across, lanes // m)
        else None,
        out_of=_pieces(place["place"], place["rows"], place["columns"], m, lanes),
        groups=groups,
        start=start.astype(np.int64).reshape(-1, lanes),
        place=place.reshape(-1, lanes),
        whole=whole.reshape(-1, lanes).all(axis=1).astype(np.int64),
    )


def neighbours(across: int, tiles: int) -> bool:
    """Whether no more than two rows of `across` tiles meet in any piece of `tiles` tiles."""
    return all(tiles * i % across + tiles <= 2 * across for i in range(across))


def _windows(
    shape: ConvShape,
    variant: Variant,
    lanes: int,
    image: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    column: npt.NDArray[np.int64],
    there: npt.NDArray[np.bool_],
) -> Pieces:
    """Say which floats of the pictures each vector's pieces look at.

    Parameters
    ----------
    image, row, column : where each lane's tile stands
    there : lanes with a tile
    """
    m, t = variant.outputs, variant.tile
    tiles = lanes // m
    y, x = m * row - shape.pad[0], m * column - shape.pad[1]  # a tile's first row and column
    plane = shape.height * shape.width
    begin = (image * shape.channels * plane + y * shape.width + x).reshape(-1, tiles)
    of_row = (image * (row.max() + 1) + row).reshape(-1, tiles)
    y, x, there = y.reshape(-1, tiles), x.reshape(-1, tiles), there.reshape(-1, tiles)
    side_by_side = begin - m * np.arange(tiles)  # the same for neighbours
    in_first = there & (of_row == of_row[:, :1])
    rest = there & ~in_first
    at = np.where(rest.any(axis=1), rest.argmax(axis=1), 0)
    each = np.arange(len(begin))

    window = np.zeros(len(begin), WINDOW)
    window["first"], window["second"] = side_by_side[:, 0], side_by_side[each, at]
    bit = (1 << np.arange(lanes)).reshape(tiles, m)
    for j in range(-(-t // m)):
        here = x[:, :, None] + j * m + np.arange(m)
        inside = (here >= 0) & (here < shape.width)
        for name, lane in (("first_bits", in_first), ("second_bits", rest)):
            window[name][:, j] = (bit * (inside & lane[:, :, None])).sum(axis=(1, 2))
    for name, of in (("first_rows", y[:, 0]), ("second_rows", y[each, at])):
        here = of[:, None] + np.arange(t)
        window[name] = ((1 << np.arange(t)) * ((here >= 0) & (here < shape.height))).sum(axis=1)
    groups = -(-t // m)
    cut = (window["first_bits"][:, :groups] != 2**lanes - 1).any(axis=1)
    edge = (window["first_rows"] != 2**t - 1) | (
        rest.any(axis=1) & (window["second_rows"] != 2**t - 1)
    )
    cut, edge = (cut | edge).reshape(-1, m), edge.reshape(-1, m)
    kind = (cut << np.arange(m)).sum(axis=1) + _EDGE * edge.any(axis=1)
    return Pieces(window.reshape(-1, m), kind.astype(np.int64))


def _pieces(
    start: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    columns: npt.NDArray[np.int32],
    m: int,
    lanes: int,
) -> Pieces:
    """Cut vectors of tiles into m pieces of neighbours.

    Parameters
    ----------
    start, rows, columns : where a lane's tile begins, and what of it counts (0: no tile)
    """
    tiles = max(1, lanes // m)
    begin, tall, count = (a.reshape(-1, tiles).astype(np.int64) for a in (start, rows, columns))
    there = count > 0
    side_by_side = begin - m * np.arange(tiles)  # the same for neighbours
    first = side_by_side[:, :1]
    in_first = there & (side_by_side == first) & (tall == tall[:, :1])
    rest = there & ~in_first
    at = np.arange(len(begin)), rest.argmax(axis=1)
    second = np.where(rest.any(axis=1), side_by_side[at], first[:, 0])
    height = tall[:, 0], np.where(rest.any(axis=1), tall[at], 0)
    in_second = (side_by_side == second[:, None]) & (tall == height[1][:, None])
    good = (in_first | ~there | in_second).all(axis=1)

    column = np.arange(m)
    bit = np.uint32(1) << (m * np.arange(tiles)[:, None] + column).astype(np.uint32)
    inside = column < count[:, :, None]
    piece = np.zeros(len(begin), PIECE)
    piece["first"], piece["second"] = first[:, 0], second
    for name, lane in (("first_bits", in_first), ("second_bits", rest)):
        piece[name] = (bit * (inside & lane[:, :, None])).sum(axis=(1, 2))
    piece["first_rows"], piece["second_rows"] = ((1 << each) - 1 for each in height)
    per_vector = piece.reshape(-1, lanes // tiles)
    cut = (per_vector["first_bits"] != (1 << tiles * m) - 1) | (
        per_vector["first_rows"] != (1 << m) - 1
    )
    good = good.reshape(per_vector.shape).all(axis=1)
    kind = np.where(good, _PIECES + (cut << np.arange(cut.shape[1])).sum(axis=1), 0)
    return Pieces(per_vector, kind.astype(np.int64))


def list_groups(shape: ConvShape, number: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Return how many groups of lists each block of a group's output channels has.

    At one position, for one block of input channels.
    """
    first = np.arange(0, shape.group_out_channels, number["out_block"])
    channels = np.minimum(number["out_block"], shape.group_out_channels - first)
    return -(-channels // number["reg_lists"])


def pack_sparse(weights: Weights, shape: ConvShape, number: Mapping[str, int]) -> WinogradLists:
    """Put the nonzeros into groups of equally long lists; see products.h.

    The lists of a panel (position, block of output and of input channels) are sorted by length:
    then few zeros fill them up, and loops end where a branch predictor expects it.
    """
    beside, in_group, block = number["reg_lists"], shape.group_out_channels, number["out_block"]
    panels = len(weights) ** 2 * -(-shape.group_channels // number["in_block"])
    of_block = list_groups(shape, number) * beside
    begin = np.concatenate([[0], np.cumsum(of_block)]) * panels  # lists before a block

    # each panel's lists, those that fill the last group included
    sizes = np.tile(np.repeat(of_block, panels), shape.groups)
    panel = np.repeat(np.arange(len(sizes)), sizes)
    row = np.arange(len(panel)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    there = np.minimum(block, in_group - block * np.arange(len(of_block)))
    row = np.minimum(row, np.tile(np.repeat(there, panels), shape.groups)[panel])

    u, v, k, c = np.nonzero(weights)
    group, k = np.divmod(k, in_group)
    k_block, k = np.divmod(k, block)
    c_block, c = np.divmod(c, number["in_block"])
    at = (u * len(weights) + v) * (panels // len(weights) ** 2) + c_block
    lists = group * begin[-1] + begin[k_block] + at * of_block[k_block] + k
    length = np.bincount(lists, minlength=len(panel))

    order = np.lexsort((length, panel))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    rounds = length[order].reshape(-1, beside).max(axis=1, initial=0)
    ptr = np.concatenate([[0], np.cumsum(rounds * beside)])

    # a list that is shorter meets the slot behind its block of channels, which stays 0
    last = -(-shape.group_channels // number["in_block"]) - 1
    blocks = np.arange(len(sizes)) % (last + 1)
    behind = np.minimum(number["in_block"], shape.group_channels - blocks * number["in_block"])
    off = np.repeat(behind[panel[order[::beside]]], rounds * beside)
    val = np.zeros(len(off), np.float32)
    by_list = np.argsort(lists, kind="stable")
    of = lists[by_list]
    turn = np.arange(len(of)) - (np.cumsum(length) - length)[of]
    entry = ptr[place[of] // beside] + turn * beside + place[of] % beside
    off[entry] = c[by_list]
    val[entry] = weights[np.nonzero(weights)][by_list]

    step = 4 * number["reg_vectors"] * number["lanes"]
    return WinogradLists(
        streams=PackedStreams(
            ptr=ptr.astype(np.int64),
            off=(off * step).astype(np.int32),
            val=val,
            last_offset=offset_limit(min(number["in_block"], shape.group_channels) * step, "bytes"),
        ),
        row=row[order].astype(np.int32),
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
