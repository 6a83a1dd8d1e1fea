"""What fully connected layers touch, sparse and dense (kernels/csrc/run_fc.c)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from math import ceil

import numpy as np

from archsim.kernels.fc import pack_fc
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
    cut_even,
    in_turn,
    pattern_of,
    pieces,
    table,
    touches,
)

_WEIGHTS, _LANE_IN, _SUMS, _IN, _OUT = range(5)
_F = FLOAT_BYTES
_NONZERO = FLOAT_BYTES + 2


def _images(plan: Plan) -> int:
    return min(plan.images_per_turn, plan.batch)


def _arrays(plan: Plan, weights: int, turned: bool, sums: int) -> tuple[Array, ...]:
    layer, images = plan.layer, plan.images_per_turn
    lanes = _F * layer.C * (images + 16) if turned else 0
    return (
        Array("weights", weights, "layer"),
        Array("lane input", lanes, "group", "image"),
        Array("sums", sums, "group"),
        Array("input", images * layer.input_bytes, "turn", "no" if turned else "image"),
        Array("output", images * layer.output_bytes, "turn"),
    )


def sparse(plan: Plan) -> Script:
    """Return the script of an ``fc_sparse`` plan with a pattern."""
    layer, number, weights = plan.layer, plan.blocking, pattern_of(plan)
    vectors, block = int(number["vectors"]), int(number["input_block"])
    images = plan.images_per_turn
    ptr = np.array(plan.part_ptr)
    packed = pack_fc(
        weights, input_block=block, unit=max(1, images // 2 if vectors else 1),
        lists=int(number["lists"]), part_ptr=ptr if vectors else None,
    )  # fmt: skip
    unit = 2 * _F if vectors else _F  # bytes that an offset counts
    steps, (first,) = table(packed.off.astype(np.int64) * unit)
    arrays = _arrays(
        plan, _NONZERO * len(packed.off), vectors > 0, _F * layer.K * images if vectors else 0
    )

    def products(rank: int) -> Iterator[Segments]:
        width = _F * images if vectors else _F
        start, stop = plan.part_ptr[rank], plan.part_ptr[rank + 1]
        for b in range(ceil(layer.C / block)):
            for piece in pieces(stop - start, 3):
                i = b * layer.K + np.arange(start + piece.start, start + piece.stop)
                place = width * packed.row[i].astype(np.int64)
                walk = touches(
                    _LANE_IN if vectors else _IN, PRODUCTS, width=width,
                    offset=b * block * width, first=first + packed.ptr[i],
                    last=first + packed.ptr[i + 1], side=_WEIGHTS, sides=1,
                    side_offset=_NONZERO * packed.ptr[i], side_step=_NONZERO,
                )  # fmt: skip
                sums = _SUMS if vectors else _OUT
                yield in_turn(
                    touches(sums, PRODUCTS, offset=place, width=width, last=int(b > 0)),
                    walk,
                    touches(sums, PRODUCTS, offset=place, width=width, touch=UPDATE),
                )

    stages = [Stage(products)]
    if vectors:
        stages.insert(0, Stage(partial(_into_lanes, plan, images), meets=True))
        stages.append(Stage(partial(_out_of_lanes, plan, images)))
    return Script(arrays, steps, tuple(stages))


def _into_lanes(plan: Plan, pitch: int, rank: int) -> Iterator[Segments]:
    """Inputs of a rank to [input][image], some at a time."""
    lanes, inputs = int(plan.blocking["lanes"]), plan.layer.C
    first, last = cut_even(inputs, plan, rank)
    c = np.arange(first, last, lanes)
    count = np.minimum(lanes, last - c)
    yield in_turn(
        touches(_IN, INPUT, rows=_images(plan), pitch=_F * inputs, offset=_F * c,
                width=_F * count),
        touches(_LANE_IN, INPUT, touch=WRITE, offset=_F * c * pitch, width=_F * count * pitch),
    )  # fmt: skip


def _out_of_lanes(plan: Plan, pitch: int, rank: int) -> Iterator[Segments]:
    lanes, outputs = int(plan.blocking["lanes"]), plan.layer.K
    first, last = plan.part_ptr[rank], plan.part_ptr[rank + 1]
    k = np.arange(first, last, lanes)
    count = np.minimum(lanes, last - k)
    yield in_turn(
        touches(_SUMS, OUTPUT, offset=_F * k * pitch, width=_F * count * pitch),
        touches(_OUT, OUTPUT, touch=UPDATE, rows=_images(plan), pitch=_F * outputs,
                offset=_F * k, width=_F * count),
    )  # fmt: skip


def dense(plan: Plan) -> Script:
    """Return the script of an ``fc_dense`` plan."""
    layer, number = plan.layer, plan.blocking
    wide = int(number["reg_vectors"]) * int(number["lanes"])
    images, block = _images(plan), int(number["reg_images"])
    turned = plan.images_per_turn > 1
    units = ceil(layer.K / wide)
    arrays = _arrays(plan, _F * units * wide * layer.C, turned, 0)
    blocks = np.arange(0, images, block)
    counts = np.minimum(block, images - blocks)
    steps, (first,) = table(np.arange(layer.C) * _F * block)

    def products(rank: int) -> Iterator[Segments]:
        start, stop = plan.part_ptr[rank], plan.part_ptr[rank + 1]
        unit = np.arange(start, stop)[:, None]
        if not unit.size:
            return
        walk = touches(
            _LANE_IN if turned else _IN, PRODUCTS, width=_F * counts,
            offset=_F * blocks * layer.C, first=first, last=first + layer.C,
            side=_WEIGHTS, sides=1, side_step=_F * wide,
            side_offset=_F * unit * wide * layer.C,
        )  # fmt: skip
        write = touches(
            _OUT, PRODUCTS, touch=UPDATE, rows=counts, pitch=_F * layer.K,
            offset=_F * (blocks * layer.K + unit * wide),
            width=_F * np.minimum(wide, layer.K - unit * wide),
        )  # fmt: skip
        yield in_turn(walk, write)

    stages = [Stage(products)]
    if turned:
        stages.insert(0, Stage(partial(_into_lanes, plan, block), meets=True))
    return Script(arrays, steps, tuple(stages))
