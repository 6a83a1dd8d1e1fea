"""FcSparse and FcDense compute x . W', for every size, blocking and instruction set."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, FcDense, FcSparse, PackedLayer, _native, isa_table
from archsim.kernels.fc import pack_fc
from archsim.kernels.isa import find_isa, isa_index

BATCHES = [1, 2, 15, 16, 17]
SIZES = [(1, 1), (1, 37), (41, 1), (3, 5), (33, 64), (130, 47), (300, 131)]


def connected(inputs: int, outputs: int) -> ConvShape:
    return ConvShape(inputs, 1, 1, outputs, 1, 1)


def lanes_of(isa: str) -> int:
    return next(i.lanes for i in isa_table() if i.name == isa)


def lists_of(isa: str, vectors: int) -> int:
    return _native.fc_lists(isa_index(find_isa(isa)), vectors) if vectors else 1


def parts(units: int, ranks: int) -> list[int]:
    return [units * rank // ranks for rank in range(ranks + 1)]


def sparse(
    case: Any, isa: str, vectors: int, *, block: int = 64, threads: int = 1, **more: Any
) -> FcSparse:
    blocking = {
        "lanes": lanes_of(isa),
        "vectors": vectors,
        "lists": lists_of(isa, vectors),
        "input_block": block,
        "threads_per_image": more.pop("per_image", threads),
    }
    units = parts(case.shape.out_channels, blocking["threads_per_image"])
    return FcSparse(case.weights, case.shape, blocking=blocking, part_ptr=units, threads=threads,
                    isa=isa, **more)  # fmt: skip


def dense(
    case: Any, isa: str, images: int, reg: tuple[int, int], *, threads: int = 1, **more: Any
) -> FcDense:
    blocking = {
        "lanes": lanes_of(isa),
        "images": images,
        "reg_images": reg[0],
        "reg_vectors": reg[1],
        "threads_per_image": more.pop("per_image", threads),
    }
    units = -(-case.shape.out_channels // (reg[1] * lanes_of(isa)))
    return FcDense(case.weights, case.shape, blocking=blocking, threads=threads, isa=isa,
                   part_ptr=parts(units, blocking["threads_per_image"]), **more)  # fmt: skip


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sparse_sizes_and_batches(kit: Any, isa: str, size: tuple[int, int], batch: int) -> None:
    for seed, density in enumerate((0.0, 0.1, 0.7, 1.0)):
        case = kit.case(connected(*size), density, batch, seed)
        for vectors in range(5):
            layer = sparse(case, isa, vectors, bias=case.bias)
            case.assert_right(layer.run(case.x), bias=True)
            layer = sparse(case, isa, vectors, block=7, bias=case.bias, relu=True)
            case.assert_right(layer.run(case.x), bias=True, relu=True)


def blocks_of(isa: str) -> list[tuple[int, int]]:
    index = [i.name for i in isa_table()].index(isa)
    return [(i, v) for i in range(1, 15) for v in range(1, 9)
            if _native.fc_tile_exists(index, i, v)]  # fmt: skip


def test_every_dense_register_block(kit: Any, isa: str) -> None:
    found = blocks_of(isa)
    assert {(1, 1), (1, 8), (6, 2)} <= set(found)
    for images, vectors in found:
        # whole units and one that is nearly empty; a block of images, and one that is not full
        case = kit.case(connected(19, vectors * lanes_of(isa) + 3), 0.9, images + 1)
        for turn in (images, images + 1):
            layer = dense(case, isa, turn, (images, vectors), bias=case.bias)
            case.assert_right(layer.run(case.x), bias=True)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dense_sizes_and_batches(kit: Any, isa: str, size: tuple[int, int], batch: int) -> None:
    case = kit.case(connected(*size), 0.5, batch)
    for images, reg in ((1, (1, 8)), (5, (3, 2)), (16, (6, 2)), (40, (6, 1))):
        case.assert_right(dense(case, isa, images, reg).run(case.x))
        layer = dense(case, isa, images, reg, bias=case.bias, relu=True)
        case.assert_right(layer.run(case.x), bias=True, relu=True)


@pytest.mark.parametrize(("threads", "per_image"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize("batch", [1, 17])
def test_threads_do_not_change_a_bit(kit: Any, threads: int, per_image: int, batch: int) -> None:
    case = kit.case(connected(130, 61), 0.3, batch)
    isa = [i.name for i in isa_table() if i.supported][-1]
    team = {"threads": threads, "per_image": per_image, "bias": case.bias}
    for make in (
        lambda **more: sparse(case, isa, 0, **more),
        lambda **more: sparse(case, isa, 1, block=50, **more),
        lambda **more: dense(case, isa, 1, (1, 1), **more),
        lambda **more: dense(case, isa, 8, (3, 2), **more),
    ):
        alone = make(bias=case.bias).run(case.x)
        case.assert_right(alone, bias=True)
        layer = make(**team)
        for _ in range(3):
            np.testing.assert_array_equal(layer.run(case.x), alone)


def test_a_smaller_batch_after_a_larger_one(kit: Any, isa: str) -> None:
    large, small = (kit.case(connected(40, 33), 0.4, batch) for batch in (37, 2))
    for layer in (sparse(large, isa, 2), dense(large, isa, 16, (6, 2))):
        large.assert_right(layer.run(large.x))
        small.assert_right(layer.run(small.x))


def test_more_inputs_than_an_offset_counts(kit: Any, isa: str) -> None:
    case = kit.case(connected(70_000, 3), 0.01, 2)
    case.assert_right(sparse(case, isa, 0, block=65_536).run(case.x))
    unit = max(1, lanes_of(isa) // 2)
    case.assert_right(sparse(case, isa, 1, block=65_536 // unit).run(case.x))


@pytest.mark.parametrize("vectors", [0, 1])
def test_nan_reaches_what_it_must_and_no_more(kit: Any, isa: str, vectors: int) -> None:
    case = kit.case(connected(50, 20), 0.3, 3)
    case.x[1, 7] = np.nan
    out = sparse(case, isa, vectors, relu=True).run(case.x)[..., 0, 0]
    looks = case.weights[:, 7, 0, 0] != 0
    assert 0 < looks.sum() < 20
    assert np.isnan(out[1, looks]).all()
    assert np.isfinite(out[1, ~looks]).all()
    assert np.isfinite(out[[0, 2]]).all()


def test_nan_in_dense(kit: Any, isa: str) -> None:
    case = kit.case(connected(50, 20), 1.0, 3)
    case.x[1, 7] = np.nan
    out = dense(case, isa, 3, (3, 2), relu=True).run(case.x)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


def test_pickle_and_weights(kit: Any, isa: str) -> None:
    case = kit.case(connected(33, 17), 0.4, 3)
    layers: list[PackedLayer] = [
        sparse(case, isa, 0, bias=case.bias),
        sparse(case, isa, 1, threads=2, relu=True),
        dense(case, isa, 3, (3, 2), threads=2, bias=case.bias),
    ]
    for layer in layers:
        copy = pickle.loads(pickle.dumps(layer))
        assert (type(copy), copy.isa, copy.threads) == (type(layer), layer.isa, layer.threads)
        assert dict(copy.blocking) == dict(layer.blocking)
        np.testing.assert_array_equal(copy.run(case.x), layer.run(case.x))
        np.testing.assert_array_equal(layer.weights, case.weights)
        assert layer.nnz == np.count_nonzero(case.weights)


def test_nothing_is_written_around_out(kit: Any, isa: str) -> None:
    case = kit.case(connected(21, 19), 0.5, 5)
    for layer in (sparse(case, isa, 0), sparse(case, isa, 2), dense(case, isa, 5, (3, 2))):
        guarded = np.full((7, 19, 1, 1), 7.0, dtype=np.float32)
        layer.run(case.x, guarded[1:6])
        case.assert_right(guarded[1:6])
        assert (guarded[[0, 6]] == 7.0).all()


def walk(ptr: Any) -> Iterator[tuple[int, int]]:
    """List of a group, and entry: those that all lists have in turn, then what is left of each."""
    entry, common = int(ptr[0]), int(ptr[1] - ptr[0])
    for _ in range(common):
        for k in range(len(ptr) - 1):
            yield k, entry
            entry += 1
    for k, length in enumerate(np.diff(ptr)):
        for _ in range(int(length) - common):
            yield k, entry
            entry += 1
    assert entry == ptr[-1]


def test_packing_keeps_every_nonzero_once(kit: Any) -> None:
    case = kit.case(connected(50, 12), 0.3)
    part_ptr = np.array([0, 5, 12])
    packed = pack_fc(case.weights, input_block=16, unit=8, lists=4, part_ptr=part_ptr)
    again = np.zeros((12, 50), dtype=np.float32)
    row = packed.row.reshape(4, 12)
    for block in range(4):
        for first, last in ((0, 5), (5, 12)):
            assert sorted(row[block, first:last]) == list(range(first, last))
            at = packed.ptr[block * 12 + first : block * 12 + last + 1]
            assert (np.diff(np.diff(at)) >= 0).all()  # the shorter lists first
        for i, count in ((0, 4), (4, 1), (5, 4), (9, 2), (11, 1)):  # groups
            for k, e in walk(packed.ptr[block * 12 + i : block * 12 + i + count + 1]):
                place = row[block, i + k], block * 16 + packed.off[e] // 8
                assert again[place] == 0.0
                again[place] = packed.val[e]
    np.testing.assert_array_equal(again, case.weights[:, :, 0, 0])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"vectors": 5}, r"vectors'\]: must be 0 to 4"),
        ({"lists": 3}, r"lists'\]: must be 1 for 0 vectors"),
        ({"vectors": 1}, r"lists'\]: must be \d+ for 1 vectors"),
        ({"input_block": 0}, r"input_block'\]: must be 1 to"),
        ({"input_block": 65_537}, r"input_block'\]: must be at most 65536"),
        ({"lanes": 3}, "this blocking is for another instruction set"),
        ({"extra": 1}, "blocking: got the keys"),
    ],
)
def test_bad_sparse_blocking(kit: Any, isa: str, changes: dict[str, int], match: str) -> None:
    case = kit.case(connected(9, 4))
    blocking = {
        "lanes": lanes_of(isa), "vectors": 0, "lists": 1, "input_block": 9, "threads_per_image": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=match):
        FcSparse(case.weights, case.shape, blocking=blocking | changes, part_ptr=[0, 4], isa=isa)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"reg_vectors": 3}, "no block of 1 x 3"),
        ({"reg_vectors": 2**31 - 1}, "no block of"),
        ({"reg_images": 2}, r"reg_images'\]: must be at most images \(1\)"),
        ({"images": 99, "reg_images": 15}, "no block of 15"),
    ],
)
def test_bad_dense_blocking(kit: Any, isa: str, changes: dict[str, int], match: str) -> None:
    case = kit.case(connected(9, 4))
    blocking = {"lanes": lanes_of(isa), "images": 1, "reg_images": 1, "reg_vectors": 1,
                "threads_per_image": 1}  # fmt: skip
    with pytest.raises(ValueError, match=match):
        FcDense(case.weights, case.shape, blocking=blocking | changes, part_ptr=[0, 1], isa=isa)


def test_convolutions_are_refused(kit: Any, isa: str) -> None:
    case = kit.case(ConvShape(4, 3, 3, 4, 1, 1))
    with pytest.raises(ValueError, match="a fully connected layer has height"):
        sparse(case, isa, 0)
    with pytest.raises(ValueError, match="a fully connected layer has height"):
        dense(case, isa, 1, (1, 1))


def test_the_binding_checks_once_more(kit: Any) -> None:
    """Lists that would make C leave its arrays never reach it."""
    shape = connected(10, 3)
    team = _native.Team(1, 1, np.array([0, 3]), 3)
    ptr = np.array([0, 1, 2, 3])
    row, off = np.arange(3, dtype=np.int32), np.zeros(3, dtype=np.uint16)
    val, bias = np.ones(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
    good: list[Any] = [shape, team, ptr, row, off, val, bias, 0, 0, 10, False]
    _native.FcSparse(*good)
    for place, wrong in (
        (2, np.array([0, 2, 1, 3])), (2, ptr[:3]), (3, row + 1), (3, row[:2]), (4, off + 10),
        (5, val[:2]), (6, bias[:2]), (7, 99), (8, 9), (9, 0),
    ):  # fmt: skip
        arguments = [*good[:place], wrong, *good[place + 1 :]]
        with pytest.raises(ValueError, match=r".+"):
            _native.FcSparse(*arguments)
