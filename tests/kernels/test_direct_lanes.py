"""DirectSparseLanes computes the convolution, for every mode, shape, blocking, instruction set."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, isa_table
from archsim.kernels.lanes_layout import Residues

MODES = ("flat", "tiles", "images", "shifts")
POINTWISE = [
    ConvShape(1, 1, 1, 1, 1, 1),
    ConvShape(3, 1, 15, 4, 1, 1),
    ConvShape(5, 4, 4, 7, 1, 1),
    ConvShape(4, 16, 16, 6, 1, 1, groups=2),
    ConvShape(8, 7, 7, 8, 1, 1),
    ConvShape(3, 23, 29, 5, 1, 1, dilation=(2, 2)),
]


def _pack(kit: Any, case: Any, mode: str, **keywords: Any) -> Any:
    return kit.pack(mode, case, **keywords)


@pytest.mark.parametrize("mode", MODES)
def test_every_edge(kit: Any, edge_shape: ConvShape, isa: str, mode: str) -> None:
    case = kit.case(edge_shape)
    case.assert_right(_pack(kit, case, mode, isa=isa).run(case.x))


@pytest.mark.parametrize("mode", MODES)
def test_every_edge_in_one_block_with_bias_and_relu(
    kit: Any, edge_shape: ConvShape, isa: str, mode: str
) -> None:
    case = kit.case(edge_shape, batch=3)
    slabs = edge_shape.group_channels * Residues.of(edge_shape).count
    layer = _pack(kit, case, mode, isa=isa, bias=True, relu=True, slab_block=slabs)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (4, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("pad", [(0, 0), (1, 2), (3, 3)])
def test_strides_dilations_and_pads(
    kit: Any, mode: str, stride: tuple[int, int], dilation: tuple[int, int], pad: tuple[int, int]
) -> None:
    case = kit.case(ConvShape(2, 11, 13, 3, 3, 4, stride, pad, dilation), density=0.6)
    case.assert_right(_pack(kit, case, mode).run(case.x))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "shifts"])
def test_every_register_block(kit: Any, isa: str, mode: str) -> None:
    info = next(i for i in isa_table() if i.name == isa)
    grid = {"tiles": (2, info.lanes // 2), "flat": (1, 1), "images": (1, 1)}[mode]
    for vectors in range(1, info.accumulators + 1):
        rows = 1 if mode == "flat" else info.accumulators // vectors
        shape = ConvShape(2, grid[0] * rows, grid[1] * vectors, 2, 1, 2, pad=(0, 1))
        if mode == "flat":
            shape = ConvShape(2, 3, max(1, vectors * info.lanes // 3 - 2), 2, 3, 2, pad=(1, 1))
        case = kit.case(shape, density=0.8)
        columns = kit.blocking(mode, shape, isa)["tile_columns"]
        height = kit.blocking(mode, shape, isa)["tile_rows"]
        width = min(vectors, columns)
        layer = _pack(kit, case, mode, isa=isa, bias=True, reg_vectors=width,
                      reg_rows=min(height, info.accumulators // width), slab_block=1)  # fmt: skip
        case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_every_register_block_of_shifts(kit: Any, isa: str, columns: int) -> None:
    """Rows of one vector and more, in one column tile and in several, the last one not full."""
    info = next(i for i in isa_table() if i.name == isa)
    for vectors in range(1, info.accumulators + 1):
        outputs = vectors * info.lanes - 2
        for rows in {1, info.accumulators // vectors}:
            shape = ConvShape(2, 2 * rows + 1, columns * outputs - 1, 2, 3, 3, pad=(1, 1))
            case = kit.case(shape, density=0.6)
            layer = _pack(kit, case, "shifts", isa=isa, bias=True, relu=True, slab_block=1,
                          grid_columns=columns, tile_columns=vectors, reg_vectors=vectors,
                          reg_rows=rows, slab_pitch=(rows + 2) * vectors)  # fmt: skip
            case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("off_by", [-1, 0, 1])
def test_batches_around_the_lanes(kit: Any, isa: str, mode: str, off_by: int) -> None:
    lanes = next(i for i in isa_table() if i.name == isa).lanes
    case = kit.case(ConvShape(3, 5, 6, 4, 3, 3, pad=(1, 1)), batch=lanes + off_by)
    layer = _pack(kit, case, mode, isa=isa, threads=2)
    case.assert_right(layer.run(case.x))
    small = type(case)(case.shape, case.weights, case.x[:1].copy(), case.bias)
    small.assert_right(layer.run(small.x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("slab_block", [1, 3])
def test_more_output_channels_than_leave_at_once(
    kit: Any, isa: str, mode: str, slab_block: int
) -> None:
    """The sums of 128 vectors wait to leave lane layout (AS_LANES_READY): several rounds, one
    of them cut short, and empty lists among them."""
    case = kit.case(ConvShape(3, 5, 6, 301, 3, 3, pad=(1, 1)), density=0.2)
    case.weights[::7] = 0.0
    layer = _pack(kit, case, mode, isa=isa, bias=True, relu=True, slab_block=slab_block)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_all_zero_nearly_zero_and_fully_dense(kit: Any, mode: str, density: float) -> None:
    case = kit.case(ConvShape(6, 9, 9, 10, 3, 3, pad=(1, 1), groups=2), density=density)
    case.weights[3] = 0.0
    layer = _pack(kit, case, mode, bias=True)
    assert layer.nnz == np.count_nonzero(case.weights)
    case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("mode", [*MODES, "pointwise"])
def test_threads_do_not_change_a_bit(kit: Any, threads: int, per_image: int, mode: str) -> None:
    kernel = 1 if mode == "pointwise" else 3
    pad = kernel // 2
    case = kit.case(ConvShape(6, 9, 9, 20, kernel, kernel, pad=(pad, pad), groups=2), batch=5)
    alone = _pack(kit, case, mode, bias=True).run(case.x)
    layer = _pack(kit, case, mode, bias=True, threads=threads, threads_per_image=per_image)
    for _ in range(3):
        np.testing.assert_array_equal(layer.run(case.x), alone)
    assert layer.phase_seconds["products"] >= 0.0


@pytest.mark.parametrize("shape", POINTWISE, ids=str)
@pytest.mark.parametrize("shift", [0, 1, 4])
@pytest.mark.parametrize("past_caches", [0, 1])
def test_pointwise(kit: Any, isa: str, shape: ConvShape, shift: int, past_caches: int) -> None:
    """Wherever the picture begins in memory, and nothing is written around the output."""
    case = kit.case(shape, batch=2, density=0.6)
    room = np.full(case.x.size + 64, np.nan, dtype=np.float32)
    start = (-room.ctypes.data // 4) % 16 + shift
    x = room[start : start + case.x.size].reshape(case.x.shape)
    x[:] = case.x
    image = shape.out_channels * shape.out_h * shape.out_w
    room = np.full(4 * image + 64, 7.0, dtype=np.float32)
    start = (-room.ctypes.data // 4 - image) % 16 + shift
    guarded = room[start : start + 4 * image].reshape(4, -1, shape.out_h, shape.out_w)
    layer = _pack(kit, case, "pointwise", isa=isa, bias=True, relu=True, past_caches=past_caches)
    layer.run(x, guarded[1:3])
    case.assert_right(guarded[1:3], bias=True, relu=True)
    assert (guarded[[0, 3]] == 7.0).all()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_written_around_out(kit: Any, isa: str, mode: str) -> None:
    case = kit.case(ConvShape(3, 5, 7, 4, 3, 3))
    guarded = np.full((3, 4, 3, 5), 7.0, dtype=np.float32)
    for threads in (1, 2):
        layer = _pack(kit, case, mode, isa=isa, threads=threads, threads_per_image=threads)
        layer.run(case.x, guarded[1:2])
        case.assert_right(guarded[1:2])
        assert (guarded[0] == 7.0).all()
        assert (guarded[2] == 7.0).all()


@pytest.mark.parametrize("mode", MODES)
def test_nan_reaches_only_what_looks_at_it(kit: Any, isa: str, mode: str) -> None:
    case = kit.case(ConvShape(3, 6, 11, 4, 3, 3, pad=(1, 1)), density=1.0)
    layer = _pack(kit, case, mode, isa=isa, relu=True)
    hurt = case.x.copy()
    hurt[0, 1, 2, 0] = hurt[0, 2, 5, 10] = np.nan
    out = layer.run(hurt)
    unhurt = np.ones(out.shape[2:], dtype=bool)
    unhurt[1:4, 0:2] = unhurt[4:6, 9:11] = False
    assert np.isnan(out[..., ~unhurt]).all()
    assert np.isfinite(out[..., unhurt]).all()
    case.assert_right(layer.run(case.x), relu=True)  # nothing of it stays


@pytest.mark.parametrize("mode", MODES)
def test_pickles(kit: Any, mode: str) -> None:
    case = kit.case(ConvShape(4, 9, 9, 6, 3, 3, pad=(1, 1)), batch=2)
    layer = _pack(kit, case, mode, bias=True, relu=True)
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.run(case.x), layer.run(case.x))
    assert again.blocking == layer.blocking


@pytest.mark.parametrize(
    ("mode", "changes", "text"),
    [
        ("flat", {"plane_pitch": 6}, "'plane_pitch'.*at least 7"),
        ("flat", {"tile_columns": 1, "reg_vectors": 1}, "'tile_columns'.*at least"),
        ("flat", {"grid_columns": 1}, "flat needs"),
        ("flat", {"tile_rows": 2}, "flat needs 1; got 2"),
        ("flat", {"slab_pitch": 8}, "'slab_pitch'.*at least"),
        ("tiles", {"tile_rows": 2, "reg_rows": 2}, "'tile_rows'.*at least 3"),
        ("tiles", {"grid_rows": 3}, "sub-images together; got"),
        ("tiles", {"plane_pitch": 7}, "'plane_pitch'.*at least"),
        ("images", {"tile_columns": 5}, "'tile_columns'.*at least 6"),
        (
            "images",
            {"reg_rows": 1, "reg_vectors": 7},
            r"at most blocking\['tile_columns'\] \(6\); got 7",
        ),
        ("images", {"reg_rows": 6, "reg_vectors": 6}, "a block of 36 vectors"),
        ("images", {"slab_block": 5}, "the slabs of a group"),
        ("images", {"lanes": 3}, "another instruction set"),
        ("flat", {"past_caches": 1}, r"\['past_caches'\]: must be at most what flat allows \(0\)"),
        ("pointwise", {}, "pointwise needs a 1x1 kernel"),
        ("shifts", {"grid_rows": 2}, r"\['grid_rows'\]: shifts needs 1; got 2"),
        ("shifts", {"tile_rows": 7}, r"\['tile_rows'\]: shifts needs 6; got 7"),
        ("shifts", {"tile_columns": 2}, r"\['reg_vectors'\]: shifts needs 2; got 1"),
        ("shifts", {"grid_columns": 9}, "9 tiles of 1 vectors.*do not cut 6 columns"),
        ("shifts", {"slab_pitch": 5, "reg_rows": 4}, "'slab_pitch'.*at least 6"),
    ],
)
def test_bad_blockings(kit: Any, mode: str, changes: dict[str, Any], text: str) -> None:
    case = kit.case(ConvShape(4, 6, 6, 6, 3, 3, pad=(1, 1)))
    with pytest.raises(ValueError, match=text):
        _pack(kit, case, mode, **changes)


def test_offsets_beyond_32_bits_are_refused(kit: Any) -> None:
    case = kit.case(ConvShape(4, 6, 6, 6, 3, 3, pad=(1, 1)))
    with pytest.raises(ValueError, match=r"up to \d+ bytes; they are 32-bit"):
        _pack(kit, case, "tiles", slab_pitch=2**30)
