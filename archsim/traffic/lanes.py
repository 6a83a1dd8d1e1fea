"""What the lane layouts of direct sparse convolution touch (kernels/csrc/run_direct_lanes.c)."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final

import numpy as np

from archsim.kernels.lanes_layout import LanesLayout, lanes_layout, pack_lanes, pointwise_layout
from archsim.kernels.shapes import ConvShape
from archsim.native import conv_shape
from archsim.network import FLOAT_BYTES
from archsim.plan import Plan
from archsim.traffic.script import (
    INPUT,
    OUTPUT,
    PAST,
    PRODUCTS,
    UPDATE,
    WRITE,
    Array,
    Script,
    Segments,
    Stage,
    cut_even,
    in_turn,
    parts_of,
    pattern_of,
    pieces,
    table,
    touches,
)
from archsim.traffic.shifts import inside

_OFF, _VAL, _SLABS, _SUMS, _PLANES, _READY, _IN, _OUT = range(8)
_F = FLOAT_BYTES
_READY_VECTORS: Final = 128  # AS_LANES_READY: sums that wait to leave lane layout


def script(plan: Plan) -> Script:
    """Return the script of a plan in the modes ``tiles``, ``flat``, ``images``, and of
    ``pointwise`` where pixels are read where they stand."""
    layer, weights = plan.layer, pattern_of(plan)
    shape, mode = conv_shape(layer), str(plan.blocking["mode"])
    number = {k: int(v) for k, v in plan.blocking.items() if isinstance(v, int)}
    pointwise = mode == "pointwise"
    layout = pointwise_layout(shape, number) if pointwise else lanes_layout(shape, number, mode)
    packed = pack_lanes(weights, shape, layout, number["slab_block"])
    nonzeros = int(packed.ptr[-1])
    planes = len(layout.plane_row)
    sums = layer.K // layer.groups * layout.most_vectors * layout.lanes
    ready = (_READY_VECTORS + layout.most_vectors) * layout.lanes
    slabs = layer.C * planes * layout.slab_pitch
    pictures = layout.images
    arrays = (
        Array("weights", _F * nonzeros, "layer", "part"),
        Array("weights", _F * nonzeros, "layer", "part"),
        Array("lane input", _F * (slabs + 64), "group", "image"),
        Array("partial sums", _F * sums, "thread"),
        Array("padded input", _F * pictures * planes * layout.plane_size, "thread"),
        Array("sums", _F * ready, "thread"),
        Array("input", pictures * layer.input_bytes, "turn", "image" if pointwise else "no"),
        Array("output", pictures * layer.output_bytes, "turn"),
    )
    steps, (first,) = table(packed.off[:nonzeros].astype(np.int64))
    walk = _Walk(plan, shape, layout, packed.ptr, first)
    stages: tuple[Stage, ...] = (Stage(walk.products),)
    if not pointwise:
        stages = (Stage(walk.into_lanes, meets=True), *stages)
    return Script(arrays, steps, stages)


class _Walk:
    """Group -> register block -> block of slabs -> output channel -> nonzero."""

    def __init__(
        self, plan: Plan, shape: ConvShape, layout: LanesLayout, ptr: np.ndarray, first: int
    ) -> None:
        self.plan, self.shape, self.layout, self.ptr, self.first = plan, shape, layout, ptr, first
        self.planes = len(layout.plane_row)
        self.slab_block = int(plan.blocking["slab_block"])
        self.slab_blocks = ceil(shape.group_channels * self.planes / self.slab_block)
        self.pointwise = plan.blocking["mode"] == "pointwise"

    def into_lanes(self, rank: int) -> Iterator[Segments]:
        """Each channel into padded planes, and these into slabs."""
        s, layout, planes = self.shape, self.layout, self.planes
        channels = np.arange(*cut_even(s.channels, self.plan, rank))
        image = np.arange(layout.images)[:, None]
        plane = np.arange(planes)
        rows = [self._filled(p) for p in range(planes)]
        top, bottom, left, right, at = (np.array(x) for x in zip(*rows, strict=True))
        there = (bottom > top) & (right > left)
        buffer = (image * planes + plane) * layout.plane_size
        for piece in pieces(len(channels), 2 * layout.images * planes + 2 * planes):
            c = channels[piece][:, None, None]
            picture = (image * s.channels + c) * s.height * s.width
            copy = in_turn(
                touches(
                    _IN, INPUT, offset=_F * np.maximum(picture + at, 0), rows=bottom - top,
                    pitch=_F * s.stride[0] * s.width, last=there,
                    width=_F * np.maximum((right - left - 1) * s.stride[1] + 1, 0),
                ),
                touches(
                    _PLANES, INPUT, touch=UPDATE, rows=bottom - top, last=there,
                    offset=_F * (buffer + top * layout.plane_pitch + left + 0 * c),
                    pitch=_F * layout.plane_pitch, width=_F * np.maximum(right - left, 0),
                ),
            ).reshape(len(c), -1)  # fmt: skip
            c = channels[piece][:, None]
            turned = in_turn(
                touches(
                    _PLANES, INPUT, offset=_F * (plane + 0 * c) * layout.plane_size,
                    rows=layout.images, pitch=_F * planes * layout.plane_size,
                    width=_F * layout.plane_size,
                ),
                touches(
                    _SLABS, INPUT, touch=WRITE,
                    offset=_F * (c * planes + plane) * layout.slab_pitch,
                    width=_F * layout.in_rows * layout.in_columns * layout.lanes,
                ),
            ).reshape(len(c), -1)  # fmt: skip
            yield np.concatenate([copy, turned], axis=1).reshape(-1)

    def _filled(self, plane: int) -> tuple[int, int, int, int, int]:
        """Rows and columns of a plane that the image fills, and where it begins to read."""
        s, layout = self.shape, self.layout
        row = int(layout.plane_row[plane]) - s.pad[0]
        column = int(layout.plane_column[plane]) - s.pad[1]
        y0, y1 = inside(row, s.stride[0], s.height, layout.fill_rows)
        x0, x1 = inside(column, s.stride[1], s.width, layout.fill_columns)
        at = (y0 * s.stride[0] + row) * s.width + x0 * s.stride[1] + column
        return y0, y1, x0, x1, at

    def products(self, rank: int) -> Iterator[Segments]:
        in_group = self.shape.group_out_channels
        for start, stop in parts_of(self.plan, rank):
            for group in range(self.shape.groups):
                first = max(start - group * in_group, 0)
                last = min(in_group, stop - group * in_group)
                if first >= last:
                    continue
                channels = np.arange(first, last)
                for block in self.layout.block:
                    for b in range(self.slab_blocks):
                        yield from self._channels(group, channels, block, b)

    def _channels(
        self, group: int, channels: np.ndarray, block: np.ndarray, b: int
    ) -> Iterator[Segments]:
        s, layout, lanes = self.shape, self.layout, self.layout.lanes
        rows, vectors = int(block[1]), int(block[2])
        width = _F * vectors * lanes
        lists = (group * self.slab_blocks + b) * s.group_out_channels + channels
        slab = group * s.group_channels * self.planes + b * self.slab_block
        walk = touches(
            _IN if self.pointwise else _SLABS, PRODUCTS, rows=rows, width=width,
            pitch=_F * layout.in_columns * lanes,
            offset=_F * (slab * layout.slab_pitch + int(block[0])),
            first=self.first + self.ptr[lists], last=self.first + self.ptr[lists + 1],
            side=_OFF, sides=2, side_offset=_F * self.ptr[lists], side_step=_F,
        )  # fmt: skip
        sums = _F * (channels - channels[0]) * layout.most_vectors * lanes
        read = touches(_SUMS, PRODUCTS, offset=sums, width=rows * width, last=int(b > 0))
        if b < self.slab_blocks - 1:
            write = touches(_SUMS, PRODUCTS, touch=UPDATE, offset=sums, width=rows * width)
            yield in_turn(read, walk, write)
            return
        k = group * s.group_out_channels + channels
        if self.pointwise:
            past = bool(self.plan.blocking["past_caches"]) and block[5] == lanes
            write = touches(
                _OUT, PRODUCTS, touch=PAST if past else WRITE,
                offset=_F * (k * s.out_h * s.out_w + int(block[0])),
                width=_F * ((vectors - 1) * lanes + int(block[5])),
            )  # fmt: skip
            yield in_turn(read, walk, write)
            return
        yield from self._finish(read, walk, k, block)

    def _finish(
        self, read: Segments, walk: Segments, k: np.ndarray, block: np.ndarray
    ) -> Iterator[Segments]:
        """The last block of slabs: sums wait, and leave lane layout some channels at a time."""
        layout, lanes = self.layout, self.layout.lanes
        width = _F * int(block[1]) * int(block[2]) * lanes
        most = max(1, ceil(_READY_VECTORS / layout.most_vectors))
        chunks = layout.chunk[int(block[3]) : int(block[4])]
        piece = layout.piece[int(chunks[0, 2]) : int(chunks[-1, 3])]
        bits = piece["bits"].astype(np.int64)
        low = np.log2(bits & -bits).astype(np.int64)
        high = np.log2(bits).astype(np.int64)
        plane = self.shape.out_h * self.shape.out_w
        for cut in pieces(len(k), 4 + len(piece)):
            found = []
            for first in range(cut.start, cut.stop, most):
                some = slice(first, min(cut.stop, first + most))
                ready = _F * np.arange(some.stop - first) * layout.most_vectors * lanes
                keep = touches(_READY, PRODUCTS, touch=WRITE, offset=ready, width=width)
                found.append(in_turn(read[some], np.broadcast_to(walk, k.shape)[some], keep))
                leave = touches(_READY, OUTPUT, offset=ready, width=width)[:, None]
                out = touches(
                    _OUT, OUTPUT, touch=WRITE, width=_F * (high - low + 1),
                    offset=_F * (k[some, None] * plane + piece["place"] + low),
                )  # fmt: skip
                found.append(np.concatenate([leave, out], axis=1).reshape(-1))
            yield np.concatenate(found)
