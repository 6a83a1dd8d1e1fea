"""What Winograd convolution touches, dense (kernels/csrc/run_winograd.c)."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from archsim.kernels.winograd_layout import winograd_layout
from archsim.native import conv_shape
from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
    OUTPUT,
    PRODUCTS,
    UPDATE,
    WRITE,
    Array,
    Script,
    Segments,
    Stage,
    in_turn,
    parts_of,
    table,
    touches,
)

_WEIGHTS, _PLANES, _TRANSFORMED, _SUMS, _SCRATCH, _IN, _OUT = range(7)
_F = FLOAT_BYTES


def script(plan: Plan) -> Script:
    """Return the script of a ``winograd`` plan."""
    walk = _Walk(plan)
    layer, layout = plan.layer, walk.layout
    positions = layout.tile**2
    pictures = layout.images
    arrays = (
        Array("weights", _F * walk.weights, "layer", "part"),
        Array("padded input", _F * pictures * layout.plane_size, "thread"),
        Array("transformed input", _F * positions * layout.transformed_pitch, "thread"),
        Array("sums", _F * positions * layout.sums_pitch, "thread"),
        Array("scratch", _F * positions * walk.lanes, "thread"),
        Array("input", pictures * layer.input_bytes, "turn"),
        Array("output", pictures * layer.output_bytes, "turn"),
    )
    return Script(arrays, walk.steps, (Stage(walk.chunks),))


class _Walk:
    """Chunk of tiles -> group: its input, then block of output channels by block."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.shape = plan, conv_shape(plan.layer)
        self.number = {k: int(v) for k, v in plan.blocking.items() if isinstance(v, int)}
        variant = str(plan.blocking["variant"])
        self.layout = winograd_layout(self.shape, self.number, variant)
        self.lanes, self.chunk = self.number["lanes"], self.number["chunk_vectors"]
        self.weights = self.layout.tile**2 * self.shape.out_channels * self.shape.group_channels
        step = _F * self.chunk * self.lanes
        self.steps, (self.first,) = table(np.arange(self.shape.group_channels) * step)

    def chunks(self, rank: int) -> Iterator[Segments]:
        layout = self.layout
        tiles = layout.images * layout.tile_rows * layout.tile_columns
        every = ceil(tiles / self.lanes)
        in_group, block = self.shape.group_out_channels, self.number["out_block"]
        for start, stop in parts_of(self.plan, rank):
            for unit in range(start, stop):
                first = unit * self.chunk
                vectors = min(self.chunk, every - first)
                if vectors <= 0:
                    break
                runs = self._runs(first * self.lanes, min((first + vectors) * self.lanes, tiles))
                for group in range(self.shape.groups):
                    yield self._in(group, vectors, runs)
                    for k in range(0, in_group, block):
                        count = min(block, in_group - k)
                        yield self._dense(group, k, count, vectors)
                        yield self._out(group * in_group + k, count, vectors, runs)

    def _runs(self, first: int, last: int) -> np.ndarray:
        """Image, tile row, first and last tile column of each run of tiles, shape (4, runs)."""
        layout = self.layout
        tile = np.arange(first, last)
        image, at = np.divmod(tile, layout.tile_rows * layout.tile_columns)
        row, column = np.divmod(at, layout.tile_columns)
        begin = np.flatnonzero(np.diff(row, prepend=-1) | np.diff(image, prepend=-1))
        end = np.append(begin[1:], len(tile)) - 1
        return np.stack([image[begin], row[begin], column[begin], column[end]])

    def _in(self, group: int, vectors: int, runs: np.ndarray) -> Segments:
        """Tiles of the pictures, or of padded planes that their rows are copied to, transformed."""
        s, layout = self.shape, self.layout
        c = np.arange(s.group_channels)[:, None]
        wait = touches(_SCRATCH, INPUT, touch=UPDATE, width=_F * layout.tile**2 * self.lanes)
        write = touches(
            _TRANSFORMED, INPUT, touch=WRITE, rows=layout.tile**2,
            pitch=_F * layout.transformed_pitch, width=_F * vectors * self.lanes,
            offset=_F * c * self.chunk * self.lanes,
        )  # fmt: skip
        read = self._through_planes(group, runs) if layout.into is None else self._seen(group, runs)
        return np.concatenate([read, np.broadcast_to(wait, c.shape), write], axis=1).reshape(-1)

    def _seen(self, group: int, runs: np.ndarray) -> Segments:
        """What the tiles see of their pictures, (channel, run)."""
        s, layout = self.shape, self.layout
        m, t = layout.tile_outputs, layout.tile
        channel = group * s.group_channels + np.arange(s.group_channels)[:, None]
        top, left = (np.maximum(m * runs[1 + i] - s.pad[i], 0) for i in (0, 1))
        bottom = np.minimum(m * runs[1] - s.pad[0] + t, s.height)
        right = np.minimum(m * runs[3] - s.pad[1] + t, s.width)
        rows, columns = np.maximum(bottom - top, 0), np.maximum(right - left, 0)
        picture = (runs[0] * s.channels + channel) * s.height * s.width
        return touches(
            _IN, INPUT, rows=np.maximum(rows, 1), pitch=_F * s.width,
            width=_F * columns * (rows > 0),
            offset=_F * (picture + (rows > 0) * (columns > 0) * (top * s.width + left)),
        )  # fmt: skip

    def _through_planes(self, group: int, runs: np.ndarray) -> Segments:
        """Rows of the pictures into padded planes, and what tiles see there."""
        s, layout = self.shape, self.layout
        c = np.arange(s.group_channels)[:, None]
        images = np.unique(runs[0])
        low = np.array([runs[1, runs[0] == i].min() for i in images])
        high = np.array([runs[1, runs[0] == i].max() for i in images])
        top = np.maximum(low * layout.tile_outputs - s.pad[0], 0)
        bottom = np.minimum(high * layout.tile_outputs + layout.tile - s.pad[0], s.height)
        channel = group * s.group_channels + c
        picture = (images * s.channels + channel) * s.height * s.width
        rows = np.maximum(bottom - top, 0)
        copy = in_turn(
            touches(_IN, INPUT, offset=_F * (picture + top * s.width),
                    width=_F * rows * s.width),
            touches(
                _PLANES, INPUT, touch=UPDATE, rows=rows, width=_F * s.width,
                pitch=_F * layout.plane_pitch,
                offset=_F * (images * layout.plane_size + (top + s.pad[0]) * layout.plane_pitch
                             + s.pad[1] + 0 * c),
            ),
        ).reshape(len(c), -1)  # fmt: skip
        read = touches(
            _PLANES, INPUT, rows=layout.tile, pitch=_F * layout.plane_pitch,
            width=_F * ((runs[3] - runs[2]) * layout.tile_outputs + layout.tile),
            offset=_F * (runs[0] * layout.plane_size + 0 * c
                         + layout.tile_outputs * (runs[1] * layout.plane_pitch + runs[2])),
        )  # fmt: skip
        return np.concatenate([copy, read], axis=1)

    def _dense(self, group: int, k: int, count: int, vectors: int) -> Segments:
        """Position -> register block of output channels -> vectors -> input channel."""
        layout, depth = self.layout, self.shape.group_channels
        reg, reg_count = self.number["reg_vectors"], self.number["reg_count"]
        q = np.arange(layout.tile**2)[:, None, None]
        i = np.arange(0, count, reg_count)[:, None]
        v = np.arange(0, vectors, reg)
        channels = np.minimum(reg_count, count - i)
        width = _F * self.lanes * np.minimum(reg, vectors - v)
        first = (group * self.shape.group_out_channels + k) * layout.tile**2
        walk = touches(
            _TRANSFORMED, PRODUCTS, width=width,
            offset=_F * (q * layout.transformed_pitch + v * self.lanes),
            first=self.first, last=self.first + depth,
            side=_WEIGHTS, sides=1, side_step=_F * channels,
            side_offset=_F * depth * (first + q * count + i),
        )  # fmt: skip
        write = touches(
            _SUMS, PRODUCTS, touch=WRITE, rows=channels, width=width,
            pitch=_F * self.chunk * self.lanes,
            offset=_F * (q * layout.sums_pitch + (i * self.chunk + v) * self.lanes),
        )  # fmt: skip
        return in_turn(walk, write)

    def _out(self, k: int, count: int, vectors: int, runs: np.ndarray) -> Segments:
        """Sums of a block back to pixels, channel by channel."""
        s, layout, m = self.shape, self.layout, self.layout.tile_outputs
        i = np.arange(count)[:, None]
        read = touches(
            _SUMS, OUTPUT, rows=layout.tile**2, pitch=_F * layout.sums_pitch,
            width=_F * vectors * self.lanes, offset=_F * i * self.chunk * self.lanes,
        )  # fmt: skip
        wait = touches(_SCRATCH, OUTPUT, touch=UPDATE, width=_F * layout.tile**2 * self.lanes)
        plane = s.out_h * s.out_w
        write = touches(
            _OUT, OUTPUT, touch=WRITE, rows=np.minimum(m, s.out_h - m * runs[1]),
            pitch=_F * s.out_w,
            width=_F * (np.minimum(m * (runs[3] + 1), s.out_w) - m * runs[2]),
            offset=_F * ((runs[0] * s.out_channels + k + i) * plane
                         + m * (runs[1] * s.out_w + runs[2])),
        )  # fmt: skip
        return np.concatenate([read, np.broadcast_to(wait, i.shape), write], axis=1).reshape(-1)
