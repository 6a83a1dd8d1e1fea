"""What holds for every kind of packed layer."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, aligned_empty

SHAPE = ConvShape(6, 9, 9, 10, 3, 3, pad=(1, 1), groups=2)


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
def test_all_zero_nearly_zero_and_fully_dense(
    kit: Any, method: str, isa: str, density: float
) -> None:
    case = kit.case(SHAPE, density=density)
    case.weights[3] = 0.0  # an output channel of nothing, and an input channel that nobody sees
    case.weights[:, 1] = 0.0
    layer = kit.pack(method, case, isa=isa, bias=True)
    assert layer.nnz == np.count_nonzero(case.weights)
    case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_on_one_object(kit: Any, method: str, batch: int, threads: int) -> None:
    """A larger batch, then a smaller one: nothing of an earlier run stays."""
    layer = kit.pack(method, kit.case(SHAPE), threads=threads)
    for seed, images in enumerate((batch, 4, 1, batch)):
        new = kit.case(SHAPE, batch=images, seed=seed)
        case = type(new)(SHAPE, layer.weights, new.x, new.bias)
        case.assert_right(layer.run(case.x))


def test_out_is_filled_and_returned(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=2)
    layer = kit.pack(method, case)
    out = np.full((2, 10, 9, 9), np.nan, dtype=np.float32)
    assert layer.run(case.x, out) is out
    case.assert_right(out)


def test_a_new_output_is_aligned(kit: Any, method: str) -> None:
    case = kit.case(ConvShape(3, 5, 7, 4, 3, 3), batch=3)
    layer = kit.pack(method, case)
    outs = [layer.run(case.x) for _ in range(20)]  # kept: each has its own memory
    for out in outs:
        assert out.ctypes.data % 64 == 0
        assert out.flags.c_contiguous
        assert out.shape == (3, 4, 3, 5)
        case.assert_right(out)


@pytest.mark.parametrize("shape", [(), (1,), (5, 3), (1, 1, 1, 1), (2, 3, 5, 7), (0, 3)])
def test_aligned_empty(shape: tuple[int, ...]) -> None:
    arrays = [aligned_empty(shape) for _ in range(20)]
    for array in arrays:
        array[...] = 1.0
        assert array.shape == shape
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert array.size == 0 or array.ctypes.data % 64 == 0
    assert not any(np.may_share_memory(arrays[0], other) for other in arrays[1:])


def test_nothing_is_written_around_out(kit: Any, method: str) -> None:
    case = kit.case(ConvShape(3, 5, 7, 4, 3, 3))
    guarded = np.full((3, 4, 3, 5), 7.0, dtype=np.float32)
    for threads in (1, 2):
        kit.pack(method, case, threads=threads, threads_per_image=threads).run(case.x, guarded[1:2])
        case.assert_right(guarded[1:2])
        assert (guarded[0] == 7.0).all()
        assert (guarded[2] == 7.0).all()


def test_read_only_input(kit: Any, method: str) -> None:
    case = kit.case(SHAPE)
    case.x.flags.writeable = False
    case.weights.flags.writeable = False
    case.assert_right(kit.pack(method, case).run(case.x))


def test_weights_are_kept_not_referred_to(kit: Any, method: str) -> None:
    case = kit.case(SHAPE)
    layer = kit.pack(method, case, bias=True)
    before = layer.run(case.x)
    np.testing.assert_array_equal(layer.weights, case.weights)
    case.weights[:] = 9.0
    case.bias[:] = 9.0
    np.testing.assert_array_equal(layer.run(case.x), before)


def test_pickle(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=3)
    layer = kit.pack(method, case, bias=True, relu=True, threads=2)
    copy = pickle.loads(pickle.dumps(layer))
    assert type(copy) is type(layer)
    assert (copy.shape, copy.threads, copy.isa, copy.nnz, dict(copy.blocking)) == (
        layer.shape,
        layer.threads,
        layer.isa,
        layer.nnz,
        dict(layer.blocking),
    )
    np.testing.assert_array_equal(copy.run(case.x), layer.run(case.x))


def test_phase_seconds(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=2)
    layer = kit.pack(method, case, bias=True, relu=True)
    assert layer.phase_seconds == {"input": 0.0, "products": 0.0, "output": 0.0}
    products = []
    for _ in range(9):
        layer.run(case.x)
        seconds = layer.phase_seconds
        products.append(seconds["products"] + seconds["output"])
        assert seconds["input"] > 0.0
        assert (seconds["output"] > 0.0) == (method in ("dense", "flat", "tiles", "images"))
        assert sum(seconds.values()) < 10.0
    # windows, and sums that leave lane layout, are timed by samples, which may take all of a short
    # time, though not every time
    assert max(products) > 0.0


def test_a_blocking_cannot_be_changed_afterwards(kit: Any, method: str) -> None:
    layer = kit.pack(method, kit.case(SHAPE))
    with pytest.raises(TypeError):
        layer.blocking["threads_per_image"] = 2
