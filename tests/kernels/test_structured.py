"""Structured computes the convolution from what the weights leave; maps go from two layers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from archsim.kernels import ConvShape, Structured, _native, blas, conv2d, remove_maps
from archsim.kernels.structured import GRANULARITIES, kept

Floats = npt.NDArray[np.float32]


def thin(case: Any, kind: str, seed: int = 0) -> Any:
    """Make the case's weights structured, dense where they stay."""
    rng = np.random.default_rng(seed)
    weights, shape = case.weights, case.shape
    weights[:] = rng.standard_normal(weights.shape)
    maps = rng.random(shape.group_channels) < 0.5
    if kind == "outputs":
        weights[rng.random(len(weights)) < 0.5] = 0.0
    elif kind == "inputs":
        weights[:, maps] = 0.0
    elif kind == "strided":
        flat = weights.reshape(*weights.shape[:2], -1)
        place = np.arange(flat.shape[2]) - rng.integers(0, 2, (flat.shape[1], 1))
        flat[:, (place < 0) | (place % 2 != 0)] = 0.0
    elif kind == "all":
        weights[:, maps] = 0.0
        weights[:, :, 0] = 0.0
        weights[rng.random(len(weights)) < 0.5] = 0.0
    elif kind == "nothing":
        weights[:] = 0.0
    return case


def pack(case: Any, granularity: str, *, threads: int = 1, per_image: int = 1, **more: Any) -> Any:
    channels, rows = kept(case.weights, case.shape, granularity)
    blocking: dict[str, int | str] = {
        "granularity": granularity,
        "kept_rows": int(rows.sum()),
        "kept_channels": int(channels.sum()),
        "threads_per_image": per_image,
    }
    units = case.shape.out_channels
    return Structured(
        case.weights,
        case.shape,
        blocking=blocking | more.pop("changes", {}),
        part_ptr=[units * rank // per_image for rank in range(per_image + 1)],
        threads=threads,
        **more,
    )


@pytest.mark.parametrize("kind", ["outputs", "inputs", "strided", "all", "nothing", "dense"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_edge(kit: Any, edge_shape: ConvShape, granularity: str, kind: str) -> None:
    for seed in range(2):
        case = thin(kit.case(edge_shape, batch=2), kind, seed)
        case.assert_right(pack(case, granularity).run(case.x))
        layer = pack(case, granularity, bias=case.bias, relu=True)
        case.assert_right(layer.run(case.x), bias=True, relu=True)
        assert layer.nnz == np.count_nonzero(case.weights)


SHAPE = ConvShape(6, 9, 9, 20, 3, 3, pad=(1, 1), groups=2)


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("kind", ["outputs", "all", "nothing"])
def test_threads(kit: Any, threads: int, per_image: int, kind: str) -> None:
    case = thin(kit.case(SHAPE, batch=5), kind)
    layer = pack(case, "intra-kernel", threads=threads, per_image=per_image, bias=case.bias)
    for _ in range(3):
        out = np.full((5, 20, 9, 9), np.nan, dtype=np.float32)
        case.assert_right(layer.run(case.x, out), bias=True)


def test_nothing_is_written_around_out(kit: Any) -> None:
    case = thin(kit.case(SHAPE, batch=1), "outputs")
    guarded = np.full((3, 20, 9, 9), 7.0, dtype=np.float32)
    pack(case, "feature-map", threads=2, per_image=2).run(case.x, guarded[1:2])
    case.assert_right(guarded[1:2])
    assert (guarded[[0, 2]] == 7.0).all()


def test_what_is_left(kit: Any) -> None:
    """Strided kernels leave the formula's rows; by feature maps they leave all."""
    case = kit.case(ConvShape(4, 6, 6, 5, 3, 3), density=1.0)
    flat = case.weights.reshape(5, 4, 9)
    offsets = np.array([0, 1, 1, 0])
    for c, offset in enumerate(offsets):
        gone = (np.arange(9) < offset) | ((np.arange(9) - offset) % 2 != 0)
        flat[:, c, gone] = 0.0
    _, rows = kept(case.weights, case.shape, "intra-kernel")
    assert rows.sum() == sum(-(-(9 - offset) // 2) for offset in offsets) == 18
    _, rows = kept(case.weights, case.shape, "feature-map")
    assert rows.sum() == 36
    case.assert_right(pack(case, "intra-kernel").run(case.x))


def test_pickle(kit: Any) -> None:
    case = thin(kit.case(SHAPE, batch=2), "all")
    layer = pack(case, "intra-kernel", threads=2, per_image=2, bias=case.bias, relu=True)
    copy = pickle.loads(pickle.dumps(layer))
    assert dict(copy.blocking) == dict(layer.blocking)
    np.testing.assert_array_equal(copy.run(case.x), layer.run(case.x))
    np.testing.assert_array_equal(copy.weights, case.weights)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"granularity": "kernel"}, "must be one of"),
        ({"kept_rows": 1}, r"kept_rows'\]: the weights leave"),
        ({"kept_channels": 19}, r"kept_channels'\]: the weights leave"),
        ({"kept_rows": -1}, r"kept_rows'\]: must be 0 to"),
    ],
)
def test_bad_blocking(kit: Any, changes: dict[str, Any], match: str) -> None:
    case = thin(kit.case(SHAPE), "outputs")
    with pytest.raises(ValueError, match=match):
        pack(case, "feature-map", changes=changes)


def test_the_binding_checks_once_more() -> None:
    shape = ConvShape(2, 3, 3, 2, 1, 1)
    team = _native.Team(1, 1, np.array([0, 2]), 2)
    row, ptr, kept_ptr = np.array([0, 1]), np.array([0, 2]), np.array([0, 1, 2])
    weights = np.ones(4, dtype=np.float32)
    good: list[Any] = [shape, team, row, ptr, kept_ptr, np.array([0, 4]), weights, None,
                       blas.load_sgemm(), 16, False]  # fmt: skip
    _native.Structured(*good)
    for place, wrong in (
        (2, np.array([0, 2])), (2, np.array([-1, 1])), (3, np.array([0, 1])),
        (4, np.array([0, 2, 2])), (4, kept_ptr[:2]), (5, np.array([0, 3])), (6, weights[:3]),
        (7, weights[:1]), (9, 8),
    ):  # fmt: skip
        arguments = [*good[:place], wrong, *good[place + 1 :]]
        with pytest.raises(ValueError, match=r".+"):
            _native.Structured(*arguments)


def two_layers(seed: int) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((8, 3, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(8).astype(np.float32)
    second = rng.standard_normal((5, 8, 3, 3)).astype(np.float32)
    first[[1, 4, 6]] = 0.0
    bias[[1, 4]] = -0.5, 0.0
    bias[6] = 0.25  # zero weights, but the map is not zero
    second[:, 7] = 0.0  # nobody reads it
    return first, bias, second


def run_two(first: Floats, bias: Floats, second: Floats, x: Floats) -> npt.NDArray[np.float64]:
    maps = len(first)
    middle = conv2d(x, first, ConvShape(3, 9, 9, maps, 3, 3, pad=(1, 1)), bias, relu=True)
    return conv2d(middle, second, ConvShape(maps, 9, 9, 5, 3, 3, pad=(1, 1)))


def test_removed_maps_take_the_next_layer_s_kernels_along() -> None:
    first, bias, second = two_layers(0)
    x = np.random.default_rng(1).standard_normal((2, 3, 9, 9)).astype(np.float32)
    left = remove_maps(first, bias, second, relu=True)
    assert left.maps.tolist() == [0, 2, 3, 5, 6]
    assert left.weights.shape == (5, 3, 3, 3)
    assert left.next_weights.shape == (5, 5, 3, 3)
    assert left.bias is not None
    np.testing.assert_allclose(
        run_two(left.weights, left.bias, left.next_weights, x), run_two(first, bias, second, x),
        rtol=1e-12, atol=1e-12,
    )  # fmt: skip


def test_without_relu_a_negative_bias_stays() -> None:
    first, bias, second = two_layers(0)
    left = remove_maps(first, bias, second, relu=False)
    assert left.maps.tolist() == [0, 1, 2, 3, 5, 6]
    assert remove_maps(first, None, second, relu=False).maps.tolist() == [0, 2, 3, 5]


def test_maps_of_several_inputs_of_a_connected_layer() -> None:
    first, bias, _ = two_layers(0)
    rng = np.random.default_rng(2)
    connected = rng.standard_normal((6, 8 * 4, 1, 1)).astype(np.float32)
    left = remove_maps(first, bias, connected, relu=True, pixels=4)
    assert left.maps.tolist() == [0, 2, 3, 5, 6, 7]
    maps = np.maximum(rng.standard_normal((8, 4)), 0.0)
    maps[[1, 4]] = 0.0
    whole = connected[:, :, 0, 0] @ maps.reshape(-1)
    np.testing.assert_allclose(left.next_weights[:, :, 0, 0] @ maps[left.maps].reshape(-1), whole)


def test_one_map_always_stays() -> None:
    first, bias, second = two_layers(0)
    left = remove_maps(np.zeros_like(first), np.zeros_like(bias), second, relu=True)
    assert left.maps.tolist() == [0]


def test_shapes_that_do_not_belong_together() -> None:
    first, bias, second = two_layers(0)
    for wrong in (
        (first, bias[:3], second, 1), (first, bias, second[:, :7], 1), (first, bias, second, 2),
        (first[0], bias, second, 1), (first, bias, second, 0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must have 4 axes|the first layer has"):
            remove_maps(*wrong[:3], relu=True, pixels=wrong[3])
