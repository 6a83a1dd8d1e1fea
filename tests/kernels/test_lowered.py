"""LoweredSparse and StructuredKernels compute the convolution, for every shape and blocking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, LoweredSparse, StructuredKernels, _native, isa_table
from archsim.kernels.pack import pack_kernels

KINDS = pytest.mark.parametrize("kind", ["lowered", "kernels"])


@KINDS
def test_every_edge(kit: Any, edge_shape: ConvShape, isa: str, kind: str) -> None:
    case = kit.case(edge_shape, batch=2)
    case.assert_right(kit.pack(kind, case, isa=isa).run(case.x))


@KINDS
def test_every_edge_with_bias_and_relu(
    kit: Any, edge_shape: ConvShape, isa: str, kind: str
) -> None:
    case = kit.case(edge_shape)
    layer = kit.pack(kind, case, isa=isa, bias=True, relu=True, pixel_vectors=1)
    case.assert_right(layer.run(case.x), bias=True, relu=True)


@KINDS
def test_every_register_block(kit: Any, isa: str, kind: str) -> None:
    """One block exactly, one pixel less, and a second block of one pixel."""
    info = next(i for i in isa_table() if i.name == isa)
    for vectors in range(1, info.accumulators + 1):
        for pixels in (vectors * info.lanes + d for d in (-1, 0, 1)):
            case = kit.case(ConvShape(2, 1, pixels, 2, 1, 1), density=0.8)
            layer = kit.pack(kind, case, isa=isa, bias=True, pixel_vectors=vectors)
            case.assert_right(layer.run(case.x), bias=True)


@KINDS
def test_every_way_to_lower(kit: Any, isa: str, kind: str) -> None:
    """Neighbours and others, with many blocks that begin anywhere in a row."""
    for changes in (
        {"pad": (1, 1)},
        {"pad": (2, 1), "dilation": (2, 1)},
        {"pad": (0, 2)},  # wider than the picture
        {"stride": (2, 1), "pad": (1, 1)},
        {"stride": (1, 3), "pad": (2, 2), "dilation": (1, 2)},
    ):
        case = kit.case(ConvShape(4, 13, 23, 6, 3, 3, groups=2, **changes), batch=2)
        for vectors in (1, 3):
            layer = kit.pack(kind, case, isa=isa, pixel_vectors=vectors)
            case.assert_right(layer.run(case.x))
            shared = kit.pack(
                kind, case, isa=isa, pixel_vectors=vectors, threads=2, threads_per_image=2
            )
            case.assert_right(shared.run(case.x))


@KINDS
@pytest.mark.parametrize("vectors", [1, 2, 4, 9])
def test_panels_in_turn(kit: Any, vectors: int, kind: str) -> None:
    """Odd and even numbers of blocks: nobody overwrites what a colleague still reads."""
    case = kit.case(ConvShape(8, 12, 12, 30, 3, 3, pad=(1, 1)), batch=6)
    alone = kit.pack(kind, case, pixel_vectors=vectors).run(case.x)
    layer = kit.pack(kind, case, pixel_vectors=vectors, threads=3, threads_per_image=3)
    taking = (LoweredSparse if kind == "lowered" else StructuredKernels)(
        case.weights, case.shape, threads=3, part_ptr=[0, 1, 9, 20, 30],
        blocking=kit.blocking(kind, case.shape, None, pixel_vectors=vectors,
                              threads_per_image=3, partition="dynamic"),
    )  # fmt: skip
    for _ in range(5):
        np.testing.assert_array_equal(layer.run(case.x), alone)
        np.testing.assert_array_equal(taking.run(case.x), alone)


@KINDS
@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
def test_threads_do_not_change_a_bit(kit: Any, threads: int, per_image: int, kind: str) -> None:
    case = kit.case(ConvShape(6, 9, 9, 20, 3, 3, pad=(1, 1), groups=2), batch=5)
    alone = kit.pack(kind, case, bias=True).run(case.x)
    layer = kit.pack(kind, case, bias=True, threads=threads, threads_per_image=per_image)
    for _ in range(3):
        np.testing.assert_array_equal(layer.run(case.x), alone)


def test_nan_reaches_what_it_must_and_no_more(kit: Any, isa: str) -> None:
    case = kit.case(ConvShape(3, 6, 11, 4, 3, 3, pad=(1, 1)), density=1.0)
    case.x[0, 1, 2, 0] = np.nan
    out = kit.pack("lowered", case, isa=isa, relu=True).run(case.x)
    hurt = np.zeros(out.shape[2:], dtype=bool)
    hurt[1:4, 0:2] = True
    assert np.isnan(out[..., hurt]).all()
    assert np.isfinite(out[..., ~hurt]).all()


def test_whole_kernels_are_packed() -> None:
    shape = ConvShape(4, 5, 5, 3, 3, 3, pad=(1, 1), groups=1)
    weights = np.zeros(shape.weight_shape, np.float32)
    weights[0, 2, 1, 1], weights[2, 0], weights[2, 3, 0, 0] = 1.0, 2.0, 3.0
    packed = pack_kernels(weights, shape, pitch=32, channel_block=3, ahead=4)
    assert packed.ptr.tolist() == [0, 1, 1, 2, 2, 2, 3]
    assert packed.off.tolist() == [2 * 9 * 32, 0, 0, 0, 0, 0, 0]
    assert packed.val.reshape(-1, 9).sum(axis=1).tolist() == [1.0, 18.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    assert packed.last_offset == 2 * 9 * 32


def test_a_kernel_s_zeros_are_weights(kit: Any) -> None:
    """They look at their inputs, where a dropped kernel's do not; nnz counts neither."""
    case = kit.case(ConvShape(2, 6, 11, 2, 3, 3, pad=(1, 1)), density=0.0)
    case.weights[:, 0, 1, 1] = 1.0
    case.x[0, 0, 2, 2] = case.x[0, 1, 3, 8] = np.nan
    layer = kit.pack("kernels", case)
    assert layer.nnz == 2
    hurt = np.zeros((6, 11), dtype=bool)
    hurt[1:4, 1:4] = True
    np.testing.assert_array_equal(np.isnan(layer.run(case.x))[0, 0], hurt)


def test_the_binding_checks_entries() -> None:
    shape = ConvShape(2, 3, 3, 1, 2, 2)
    team = _native.Team(1, 1, np.array([0, 1]), 1)
    ptr, off = np.array([0, 1]), np.zeros(5, np.int32)
    bias = np.zeros(1, np.float32)
    blocking = {"pixel_vectors": 1, "channel_block": 2, "lowered_size": 999, "sums_size": 99}

    def packed(values: int, each: int) -> Any:
        streams = _native.Streams(ptr, off, np.ones(values, np.float32), 1, 4, 4, each)
        return _native.Lowered(shape, team, streams, bias, 0, blocking, False)

    packed(20, 4)
    for wrong in (0, 1):  # none; two blocks, of which lists of one are there
        blocking["channel_block"] = wrong
        with pytest.raises(ValueError, match=r"channel_block|ptr"):
            packed(20, 4)
    blocking["channel_block"] = 2
    for values, each in ((19, 4), (20, 0), (20, -4), (15, 3)):
        with pytest.raises(ValueError, match="val: got"):
            packed(values, each)
