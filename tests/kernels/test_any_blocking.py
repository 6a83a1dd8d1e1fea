"""Any blocking that is valid, not only those that a planner makes, gives the convolution.

Shapes, blockings, parts, threads, batches and where the arrays begin in memory are random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.kernels import ConvShape, IsaInfo, active_isa, isa_table
from archsim.kernels.lanes_layout import Residues, flat_pitch

PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))
Draw = Callable[[Any], Any]
Changes = dict[str, Any]


def _up(a: int, b: int) -> int:
    return -(-a // b)


@st.composite
def shapes(draw: Draw, pointwise: bool) -> ConvShape:
    """Small layers; half of the strides and dilations are 1."""
    kernel, pad = draw(PAIRS), (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    ones = st.just((1, 1))
    stride, dilation = draw(ones | PAIRS), draw(ones | PAIRS)
    if pointwise:
        kernel, stride, pad = (1, 1), (1, 1), (0, 0)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, pad, strict=True)]
    height, width = draw(st.integers(least[0], least[0] + 9)), draw(st.integers(least[1], 40))
    groups, inputs, outputs = (draw(st.integers(1, n)) for n in (3, 4, 19))
    return ConvShape(
        groups * inputs, height, width, groups * outputs, kernel[0], kernel[1],
        stride=stride, pad=pad, dilation=dilation, groups=groups,
    )  # fmt: skip


def row_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    vectorised = draw(st.integers(0, 1)) if shape.stride == (1, 1) else 0
    vectors = draw(st.integers(1, info.accumulators))
    return {
        "oc_block": draw(st.integers(1, shape.group_out_channels + 2)),
        "channel_block": draw(st.integers(1, shape.group_channels)),
        "reg_rows": draw(st.integers(1, info.accumulators // vectors if vectorised else 99)),
        "reg_vectors": vectors,
        "row_pitch": shape.width + shape.pad[1] + draw(st.integers(0, 5)),
        "spill": draw(st.sampled_from(["scratch", "output"])),
        "vectorised": vectorised,
        "prefetch": draw(st.integers(0, 1)),
    }


def lowered_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    return {"pixel_vectors": draw(st.integers(1, info.accumulators))}


def kernels_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    block = draw(st.integers(1, shape.group_channels + 2))
    return {"channel_block": block, **lowered_blocking(draw, shape, info)}


def dense_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    return {}


def dense_direct_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    in_lanes = draw(st.sampled_from(["channels", "pixels"]))
    vectors = draw(st.integers(1, 2 if in_lanes == "channels" else 4))
    most = (info.registers - 1 - max(2, vectors)) // max(2, vectors)
    rows = draw(st.integers(1, most)) if in_lanes == "channels" else 1
    image = shape.pad == (0, 0) and shape.stride[1] == 1 and draw(st.booleans())
    pitch, height = shape.width, shape.height
    if not image:
        pitch = _up(shape.width + 2 * shape.pad[1], shape.stride[1]) * shape.stride[1]
        pitch += draw(st.integers(0, 5))
        height += 2 * shape.pad[0]
    flat = int(shape.stride[0] * pitch == shape.out_w and draw(st.booleans()))
    columns = shape.out_h * shape.out_w if flat else shape.out_w
    band_rows = draw(st.integers(1, shape.out_h + 2))
    source = "image" if image else "padded"
    kernel = (shape.kernel_h, shape.kernel_w)
    if image and flat and kernel == (1, 1) and in_lanes == "pixels" and draw(st.booleans()):
        source = "panels"
    return {
        "in_lanes": in_lanes,
        "source": source,
        "flat": flat,
        "reg_vectors": vectors,
        "reg_rows": rows,
        "reg_count": draw(st.integers(1, most // rows)),
        "channel_block": draw(st.integers(1, shape.group_channels + 2)),
        "band_rows": band_rows,
        "band_columns": draw(st.integers(columns if band_rows > 1 else 1, columns + 2)),
        "row_pitch": pitch,
        "channel_pitch": height * pitch + (0 if image else draw(st.integers(0, 9))),
    }


def _lanes_blocks(draw: Draw, info: IsaInfo, rows: int, columns: int, slabs: int) -> Changes:
    """What all modes have: the register block, and how many slabs are worked on at once."""
    vectors = draw(st.integers(1, min(columns, info.accumulators)))
    return {
        "tile_rows": rows,
        "tile_columns": columns,
        "reg_vectors": vectors,
        "reg_rows": draw(st.integers(1, min(rows, info.accumulators // vectors))),
        "slab_block": draw(st.integers(1, slabs)),
    }


def flat_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    residues = Residues.of(shape)
    least = flat_pitch(shape, residues)
    pitch = draw(st.integers(least, max(least, shape.out_w + residues.reach_columns)))
    positions = (shape.out_h - 1) * pitch + shape.out_w
    needed = _up(positions, info.lanes)
    columns = draw(st.integers(needed, min(needed + 2, positions)))
    size = columns + residues.reach_columns + residues.reach_rows * pitch
    return {
        **_lanes_blocks(draw, info, 1, columns, shape.group_channels * residues.count),
        "plane_pitch": pitch,
        "slab_pitch": size + draw(st.integers(0, 3)),
    }


def _tiles(draw: Draw, shape: ConvShape, info: IsaInfo, grid: tuple[int, int]) -> Changes:
    residues = Residues.of(shape)
    needed = _up(shape.out_h, grid[0]), _up(shape.out_w, grid[1])
    rows = draw(st.integers(needed[0], min(needed[0] + 1, shape.out_h)))
    columns = draw(st.integers(needed[1], min(needed[1] + 1, shape.out_w)))
    size = (rows + residues.reach_rows) * (columns + residues.reach_columns)
    pitch = grid[1] * columns + residues.reach_columns
    return {
        **_lanes_blocks(draw, info, rows, columns, shape.group_channels * residues.count),
        "grid_rows": grid[0],
        "grid_columns": grid[1],
        "plane_pitch": pitch + draw(st.integers(0, 3)),
        "slab_pitch": size + draw(st.integers(0, 3)),
    }


def tiles_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    rows = draw(st.sampled_from([n for n in range(1, info.lanes + 1) if info.lanes % n == 0]))
    return _tiles(draw, shape, info, (rows, info.lanes // rows))


def images_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    return _tiles(draw, shape, info, (1, 1))


def pointwise_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    vectors = _up(shape.height * shape.width, info.lanes)
    return {
        **_lanes_blocks(draw, info, 1, vectors, shape.group_channels),
        "slab_pitch": vectors + draw(st.integers(0, 2)),
        "past_caches": draw(st.integers(0, 1)),
    }


def shifts_blocking(draw: Draw, shape: ConvShape, info: IsaInfo) -> Changes:
    residues = Residues.of(shape)
    reach = residues.reach_columns
    least = reach // info.lanes + 1  # room for one output
    vectors = draw(st.integers(least, min(least + 4, info.accumulators)))
    rows = draw(st.integers(1, min(shape.out_h, info.accumulators // vectors)))
    return {
        "grid_rows": 1,
        "grid_columns": _up(shape.out_w, vectors * info.lanes - reach),
        "tile_rows": shape.out_h,
        "tile_columns": vectors,
        "reg_rows": rows,
        "reg_vectors": vectors,
        "slab_block": draw(st.integers(1, shape.group_channels * residues.count)),
        "slab_pitch": (rows + residues.reach_rows) * vectors + draw(st.integers(0, 3)),
    }


BLOCKINGS = {
    "direct": row_blocking,
    "lowered": lowered_blocking,
    "kernels": kernels_blocking,
    "dense": dense_blocking,
    "dense_direct": dense_direct_blocking,
    "flat": flat_blocking,
    "tiles": tiles_blocking,
    "images": images_blocking,
    "pointwise": pointwise_blocking,
    "shifts": shifts_blocking,
}


def _threads(draw: Draw, kind: str, shape: ConvShape) -> tuple[int, int]:
    threads = draw(st.integers(1, 4))
    sizes = (shape.height, shape.width, shape.kernel_h, shape.kernel_w)
    if kind == "dense" and sizes == (1, 1, 1, 1):  # fully connected: all share the batch
        return threads, threads
    return threads, draw(st.integers(1, threads))


def _somewhere(draw: Draw, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """An array that begins anywhere in memory, as floats do, and all of the memory around it."""
    size, shift = int(np.prod(shape)), draw(st.integers(0, 17))
    room = np.full(size + 64, 7.0, dtype=np.float32)
    return room[shift : shift + size].reshape(shape), room


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
@pytest.mark.parametrize("kind", BLOCKINGS)
def test_any_blocking(kit: Any, kind: str, data: st.DataObject) -> None:
    draw = data.draw
    shape = draw(shapes(pointwise=kind == "pointwise" or draw(st.integers(0, 9)) == 0))
    info = draw(st.sampled_from([i for i in isa_table() if i.supported]))
    if kind == "dense":
        info = next(i for i in isa_table() if i.name == active_isa())
    threads, per_image = _threads(draw, kind, shape)
    base = kit.blocking(kind, shape, info.name)
    changes = BLOCKINGS[kind](draw, shape, info) | {"threads_per_image": per_image}
    changes["partition"] = draw(st.sampled_from(["nnz", "rows", "dynamic"]))
    changes = {name: value for name, value in changes.items() if name in base}
    units = kit.units(kind, shape, base | changes)
    parts = per_image  # or, if they are taken by whoever is free, any number of them
    if changes.get("partition") == "dynamic":
        parts = draw(st.integers(1, units + 2))
    inner = draw(st.lists(st.integers(0, units), min_size=parts - 1, max_size=parts - 1))
    case = kit.case(shape, density=draw(st.sampled_from([0.0, 0.3, 1.0])),
                    batch=draw(st.integers(1, 5) | st.just(info.lanes + 1)))  # fmt: skip
    bias, relu = draw(st.booleans()), draw(st.booleans())
    layer = kit.pack(
        kind, case, isa=info.name, threads=threads, bias=bias, relu=relu,
        part_ptr=[0, *sorted(inner), units], **changes,
    )  # fmt: skip

    x, _ = _somewhere(draw, case.x.shape)
    x[:] = case.x
    out, room = _somewhere(draw, (len(x), shape.out_channels, shape.out_h, shape.out_w))
    layer.run(x, out)
    case.assert_right(out, bias=bias, relu=relu)
    out[:] = 7.0
    assert (room == 7.0).all(), "wrote around out"
