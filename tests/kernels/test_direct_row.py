"""DirectSparseRow computes the convolution, for every shape, blocking and instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, isa_table


def test_every_edge(kit: Any, edge_shape: ConvShape, isa: str) -> None:
    case = kit.case(edge_shape)
    case.assert_right(kit.pack("direct", case, isa=isa).run(case.x))


def test_every_edge_spilling_to_the_output_with_bias_and_relu(
    kit: Any, edge_shape: ConvShape, isa: str
) -> None:
    case = kit.case(edge_shape, batch=2)
    layer = kit.pack(
        "direct", case, isa=isa, bias=True, relu=True, spill="output", channel_block=1, prefetch=1
    )
    case.assert_right(layer.run(case.x), bias=True, relu=True)


def test_every_edge_pixel_by_pixel(kit: Any, edge_shape: ConvShape, isa: str) -> None:
    case = kit.case(edge_shape)
    layer = kit.pack("direct", case, isa=isa, bias=True, relu=True, vectorised=0)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize("spill", ["scratch", "output"])
@pytest.mark.parametrize("short", [0, 1])
@pytest.mark.parametrize("prefetch", [0, 1])
def test_every_register_block(kit: Any, isa: str, spill: str, short: int, prefetch: int) -> None:
    """Each rows x vectors that fits, its last vector full and not; one more pass at each edge."""
    info = next(i for i in isa_table() if i.name == isa)
    for vectors in range(1, info.accumulators + 1):
        rows = range(1, info.accumulators // vectors + 1)
        width = vectors * info.lanes - short
        case = kit.case(ConvShape(2, rows[-1], width, 1, 1, 2, pad=(0, 1)), density=0.8)
        for count in rows:
            layer = kit.pack(
                "direct", case, isa=isa, bias=True, channel_block=1, spill=spill,
                reg_rows=count, reg_vectors=vectors, prefetch=prefetch,
            )  # fmt: skip
            case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"oc_block": 1},
        {"oc_block": 16},
        {"oc_block": 100},
        {"channel_block": 1},
        {"channel_block": 4},
        {"channel_block": 5},
        {"channel_block": 9},
        {"reg_rows": 1, "reg_vectors": 1},
        {"reg_rows": 5, "reg_vectors": 1},
        {"reg_rows": 100, "reg_vectors": 1, "vectorised": 0},
        {"reg_rows": 13, "reg_vectors": 1, "prefetch": 1},
        {"reg_rows": 3, "prefetch": 1},
        {"reg_vectors": 1, "reg_rows": 2, "prefetch": 1},
        {"row_pitch": 15},
        {"row_pitch": 16},
        {"row_pitch": 64},
    ],
)
@pytest.mark.parametrize("spill", ["scratch", "output"])
def test_blockings(kit: Any, changes: dict[str, int], spill: str) -> None:
    case = kit.case(ConvShape(9, 13, 13, 37, 3, 3, pad=(1, 1)), batch=2)
    layer = kit.pack("direct", case, bias=True, relu=True, spill=spill, **changes)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_threads_do_not_change_a_bit(kit: Any, threads: int, per_image: int, stride: int) -> None:
    case = kit.case(ConvShape(6, 9, 9, 20, 3, 3, (stride, stride), (1, 1), groups=2), batch=5)
    alone = kit.pack("direct", case, bias=True).run(case.x)
    layer = kit.pack("direct", case, bias=True, threads=threads, threads_per_image=per_image)
    for _ in range(3):
        np.testing.assert_array_equal(layer.run(case.x), alone)


def test_uneven_and_empty_parts(kit: Any) -> None:
    case = kit.case(ConvShape(4, 6, 6, 20, 3, 3, pad=(1, 1)), batch=3)
    layer = kit.pack("direct", case, threads=3, threads_per_image=3)
    for part_ptr in ([0, 0, 5, 5], [0, 5, 5, 5], [0, 4, 4, 5]):
        keywords = layer._keywords() | {"part_ptr": part_ptr}
        case.assert_right(type(layer)(case.weights, case.shape, **keywords).run(case.x))


def test_relu_lets_nan_pass_and_over_read_lanes_reach_nothing(kit: Any, isa: str) -> None:
    """With dense weights the outputs that NaN must reach are those of the definition, no others."""
    case = kit.case(ConvShape(3, 6, 11, 4, 3, 3, pad=(1, 1)), density=1.0)
    case.x[0, 1, 2, 0] = case.x[0, 2, 5, 10] = np.nan
    for spill in ("scratch", "output"):
        layer = kit.pack("direct", case, isa=isa, relu=True, spill=spill, reg_rows=2)
        pixels = kit.pack("direct", case, isa=isa, relu=True, vectorised=0)
        for out in (layer.run(case.x), pixels.run(case.x)):
            unhurt = np.ones(out.shape[2:], dtype=bool)
            unhurt[1:4, 0:2] = unhurt[4:6, 9:11] = False
            assert np.isnan(out[..., ~unhurt]).all()
            assert np.isfinite(out[..., unhurt]).all()


def test_columns_without_nonzeros_are_not_touched(kit: Any) -> None:
    """Channel blocks that leave lists empty, and inputs that no weight looks at."""
    case = kit.case(ConvShape(8, 7, 7, 9, 3, 3, pad=(1, 1)))
    case.weights[:, 2:4] = 0.0  # a whole column block
    case.weights[:4, 6:] = 0.0  # the last one, of one block of output channels
    case.weights[5] = 0.0  # a whole output channel
    layer = kit.pack("direct", case, bias=True)
    case.assert_right(layer.run(case.x), bias=True)
    right = layer.run(case.x)
    case.x[:, 2:4] = np.nan
    np.testing.assert_array_equal(layer.run(case.x), right)
