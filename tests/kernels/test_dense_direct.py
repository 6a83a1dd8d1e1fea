"""DenseDirect computes the convolution, whatever the blocking, set, threads and edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.kernels import ConvShape, isa_table

METHOD = "dense_direct"
MORE_SHAPES = {
    "stride 4": ConvShape(3, 23, 19, 6, 5, 5, stride=(4, 4), pad=(1, 2)),
    "stride 4 on columns": ConvShape(2, 6, 33, 5, 3, 3, stride=(1, 4), pad=(1, 3)),
    "stride beyond the kernel": ConvShape(3, 13, 14, 5, 1, 2, stride=(3, 4), pad=(0, 1)),
    "stride 2, dilation 2": ConvShape(3, 15, 17, 5, 3, 3, (2, 2), pad=(2, 2), dilation=(2, 2)),
    "strided depthwise": ConvShape(6, 11, 12, 6, 3, 3, stride=(2, 2), pad=(1, 1), groups=6),
    "vectors of channels, one more": ConvShape(4, 5, 6, 33, 3, 3, pad=(1, 1)),
    "groups of a vector and one more": ConvShape(4, 5, 6, 34, 3, 3, pad=(1, 1), groups=2),
    "three vectors of channels": ConvShape(5, 7, 14, 48, 3, 3, pad=(1, 1)),
}  # fmt: skip


def _most(isa: str, vectors: int = 2) -> int:
    registers = next(i for i in isa_table() if i.name == isa).registers
    return (registers - 1 - max(2, vectors)) // max(2, vectors)


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
def test_every_edge(kit: Any, edge_shape: ConvShape, isa: str, in_lanes: str) -> None:
    case = kit.case(edge_shape, batch=2, density=1.0)
    layer = kit.pack(METHOD, case, isa=isa, in_lanes=in_lanes)
    assert (layer.isa, layer._native.isa) == (isa, isa)
    case.assert_right(layer.run(case.x))


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
def test_every_edge_with_bias_and_relu(
    kit: Any, edge_shape: ConvShape, isa: str, in_lanes: str
) -> None:
    case = kit.case(edge_shape)
    layer = kit.pack(METHOD, case, isa=isa, in_lanes=in_lanes, bias=True, relu=True)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
@pytest.mark.parametrize("shape", MORE_SHAPES.values(), ids=MORE_SHAPES.keys())
def test_strides_and_uneven_channels(kit: Any, shape: ConvShape, isa: str, in_lanes: str) -> None:
    case = kit.case(shape, batch=2, density=1.0)
    layer = kit.pack(METHOD, case, isa=isa, in_lanes=in_lanes, bias=True)
    case.assert_right(layer.run(case.x), bias=True)


def test_the_image_itself(kit: Any, edge_shape: ConvShape, isa: str) -> None:
    """Without a copy; and with neighbouring output rows seen as one, where they are neighbours."""
    if edge_shape.pad != (0, 0) or edge_shape.stride[1] != 1:
        pytest.skip("needs a copy")
    case = kit.case(edge_shape, batch=3)
    flat = int(edge_shape.stride[0] * edge_shape.width == edge_shape.out_w)
    for in_lanes in ("channels", "pixels"):
        for changes in ({}, {"flat": flat, "band_rows": 1, "band_columns": 7}):
            layer = kit.pack(
                METHOD, case, isa=isa, in_lanes=in_lanes, source="image", bias=True, **changes
            )
            case.assert_right(layer.run(case.x), bias=True)
            assert layer.phase_seconds["input"] == 0.0


@pytest.mark.parametrize("vectors", [1, 2])
def test_every_register_block(kit: Any, isa: str, vectors: int) -> None:
    """Each rows x count that fits; a rest of channels, rows and columns at each edge."""
    info = next(i for i in isa_table() if i.name == isa)
    for rows in range(1, _most(isa) + 1):
        for count in range(1, _most(isa) // rows + 1):
            shape = ConvShape(3, rows + 2, 2 * count + 1, 2 * info.lanes + 3, 2, 1)
            case = kit.case(shape, density=1.0)
            layer = kit.pack(
                METHOD, case, isa=isa, bias=True, reg_vectors=vectors, reg_rows=rows,
                reg_count=count, band_rows=100,
            )  # fmt: skip
            case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
@pytest.mark.parametrize("short", [0, 1])
def test_every_register_block_of_pixels(kit: Any, isa: str, vectors: int, short: int) -> None:
    info = next(i for i in isa_table() if i.name == isa)
    for count in range(1, _most(isa, vectors) + 1):
        shape = ConvShape(3, 3, vectors * info.lanes - short + 1, 2 * count + 1, 2, 2)
        case = kit.case(shape, density=1.0)
        layer = kit.pack(
            METHOD, case, isa=isa, bias=True, in_lanes="pixels", source="image",
            reg_vectors=vectors, reg_count=count,
        )  # fmt: skip
        case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize("vectors", [1, 3, 4])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (3, 2)])
def test_panels(
    kit: Any, isa: str, vectors: int, groups: int, threads: int, per_image: int
) -> None:
    """The first output channels of each group and band fill the panel that the others read."""
    lanes = next(i for i in isa_table() if i.name == isa).lanes
    for columns in (5, vectors * lanes + 3, 3 * vectors * lanes):
        case = kit.case(ConvShape(6 * groups, 9, 11, 7 * groups, 1, 1, groups=groups), batch=3)
        layer = kit.pack(
            METHOD, case, isa=isa, bias=True, relu=True, in_lanes="pixels", source="panels",
            flat=1, reg_vectors=vectors, reg_count=2, channel_block=4, band_rows=1,
            band_columns=columns, threads=threads, threads_per_image=per_image,
        )  # fmt: skip
        for _ in range(2):
            case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"channel_block": 1},
        {"channel_block": 9},
        {"channel_block": 100},
        {"band_rows": 1},
        {"band_rows": 13},
        {"band_rows": 100, "band_columns": 100},
        {"band_rows": 1, "band_columns": 1},
        {"band_rows": 1, "band_columns": 6},
        {"row_pitch": 15, "channel_pitch": 225},
        {"row_pitch": 64, "channel_pitch": 1000},
    ],
    ids=str,
)
@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
def test_blockings(kit: Any, changes: dict[str, int], in_lanes: str) -> None:
    case = kit.case(ConvShape(9, 13, 13, 37, 3, 3, pad=(1, 1)), batch=2)
    layer = kit.pack(METHOD, case, bias=True, relu=True, in_lanes=in_lanes, **changes)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_do_not_change_a_bit(
    kit: Any, threads: int, per_image: int, stride: int, in_lanes: str
) -> None:
    shape = ConvShape(6, 9, 9, 100, 3, 3, (stride, stride), (1, 1), groups=2)
    case = kit.case(shape, batch=5)
    alone = kit.pack(METHOD, case, bias=True, in_lanes=in_lanes).run(case.x)
    layer = kit.pack(
        METHOD, case, bias=True, in_lanes=in_lanes, threads=threads, threads_per_image=per_image
    )
    for _ in range(3):
        np.testing.assert_array_equal(layer.run(case.x), alone)


def test_uneven_and_empty_parts(kit: Any) -> None:
    case = kit.case(ConvShape(4, 6, 6, 26, 3, 3, pad=(1, 1), groups=2), batch=3)
    layer = kit.pack(METHOD, case, threads=3, threads_per_image=3, isa="baseline")
    for part_ptr in ([0, 0, 5, 8], [0, 8, 8, 8], [0, 1, 1, 8]):
        keywords = layer._keywords() | {"part_ptr": part_ptr}
        case.assert_right(type(layer)(case.weights, case.shape, **keywords).run(case.x))


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
def test_nan_reaches_what_it_must_and_passes_relu(kit: Any, isa: str, in_lanes: str) -> None:
    case = kit.case(ConvShape(3, 6, 11, 4, 3, 3, pad=(1, 1)), density=1.0)
    case.x[0, 1, 2, 0] = case.x[0, 2, 5, 10] = np.nan
    out = kit.pack(METHOD, case, isa=isa, relu=True, in_lanes=in_lanes).run(case.x)
    unhurt = np.ones(out.shape[2:], dtype=bool)
    unhurt[1:4, 0:2] = unhurt[4:6, 9:11] = False
    assert np.isnan(out[..., ~unhurt]).all()
    assert np.isfinite(out[..., unhurt]).all()


PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), kernel=PAIRS, stride=PAIRS, dilation=PAIRS,
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    in_lanes=st.sampled_from(["channels", "pixels"]),
)  # fmt: skip
def test_random_shapes(
    kit: Any,
    data: st.DataObject,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pad: tuple[int, int],
    in_lanes: str,
) -> None:
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, pad, strict=True)]
    height, width = (data.draw(st.integers(n, n + 20)) for n in least)
    groups, inputs, outputs = (data.draw(st.integers(1, n)) for n in (3, 5, 20))
    shape = ConvShape(
        groups * inputs, height, width, groups * outputs, *kernel,
        stride=stride, pad=pad, dilation=dilation, groups=groups,
    )  # fmt: skip
    case = kit.case(shape, density=1.0)
    layer = kit.pack(METHOD, case, bias=True, relu=True, in_lanes=in_lanes)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lanes": 3}, "another instruction set"),
        ({"in_lanes": "rows"}, "must be one of"),
        ({"reg_vectors": 3}, "must be 1 to 2"),
        ({"reg_rows": 3, "reg_count": 5}, "must be at most"),
        ({"in_lanes": "pixels", "reg_rows": 2, "reg_count": 2}, "must be 1 with pixels"),
        ({"source": "image"}, "must be 'padded'"),
        ({"row_pitch": 8}, "row_pitch'.: must be at least 11"),
        ({"channel_pitch": 120}, "channel_pitch'.: must be at least 132"),
        ({"flat": 1}, "must be 0 where"),
        ({"flat": 2}, "must be 0 or 1"),
        ({"band_columns": 8}, "must be at least 9"),
        ({"channel_block": 0}, "must be 1 to"),
    ],
    ids=str,
)
def test_bad_blockings(kit: Any, changes: dict[str, Any], message: str) -> None:
    case = kit.case(ConvShape(3, 9, 9, 4, 3, 3, pad=(1, 1)))
    with pytest.raises(ValueError, match=message):
        kit.pack(METHOD, case, **changes)


@pytest.mark.parametrize("in_lanes", ["channels", "pixels"])
def test_one_row_of_all_pixels_with_padding(kit: Any, in_lanes: str) -> None:
    """Output rows differ in the kernel rows that meet padding alone; the one row is all of them."""
    for rows, pad in ((1, 1), (3, 1), (3, 4)):
        case = kit.case(ConvShape(2, 9, 5, 7, rows, 1, pad=(pad, 0)), density=1.0, batch=2)
        columns = case.shape.out_h * case.shape.out_w
        for band in (1, 7, columns):
            layer = kit.pack(METHOD, case, in_lanes=in_lanes, flat=1, row_pitch=5, band_rows=1,
                             band_columns=band, channel_pitch=5 * (9 + 2 * pad))  # fmt: skip
            case.assert_right(layer.run(case.x))


def test_the_image_s_own_pitches(kit: Any) -> None:
    case = kit.case(ConvShape(3, 9, 9, 4, 3, 3))
    with pytest.raises(ValueError, match=r"must be \(9, 81\)"):
        kit.pack(METHOD, case, source="image", row_pitch=10)
