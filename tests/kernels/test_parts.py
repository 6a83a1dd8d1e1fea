"""Parts of an image's units: made by ranks, or taken by whoever is free."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, _native

SHAPE = ConvShape(4, 9, 11, 14, 3, 3, pad=(1, 1), groups=2)
METHODS = ("direct", "lowered")


def pack(kit: Any, kind: str, case: Any, part_ptr: list[int], **changes: Any) -> Any:
    threads = changes.pop("threads", 3)
    changes = {"partition": "dynamic", "threads_per_image": threads, **changes}
    blocking = kit.blocking(kind, case.shape, None, **changes)
    cls = type(kit.pack(kind, case))
    return cls(case.weights, case.shape, blocking=blocking, part_ptr=part_ptr, threads=threads)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_parts(kit: Any, kind: str, threads: int) -> None:
    """More parts than threads and fewer, empty ones, one for each unit."""
    case = kit.case(SHAPE, batch=4)
    units = kit.units(kind, SHAPE, kit.blocking(kind, SHAPE, None))
    for part_ptr in ([0, units], [0, 0, 1, 1, units], list(range(units + 1)), [0, units, units]):
        layer = pack(kit, kind, case, part_ptr, threads=threads)
        for _ in range(5):
            case.assert_right(layer.run(case.x))


def test_parts_of_the_scalar_loop(kit: Any) -> None:
    case = kit.case(ConvShape(3, 9, 11, 14, 3, 3, stride=(2, 2)), batch=2)
    layer = pack(kit, "direct", case, [0, 1, 2, 3, 4])
    case.assert_right(layer.run(case.x))


@pytest.mark.parametrize("kind", METHODS)
def test_many_runs_and_callers(kit: Any, kind: str) -> None:
    case = kit.case(SHAPE, batch=3)
    units = kit.units(kind, SHAPE, kit.blocking(kind, SHAPE, None))
    layer = pack(kit, kind, case, list(range(units + 1)), threads=2)
    right = layer.run(case.x)

    def work(_: int) -> None:
        for _ in range(50):
            np.testing.assert_array_equal(layer.run(case.x), right)

    with ThreadPoolExecutor(3) as callers:
        list(callers.map(work, range(3)))


def test_taken_parts_pickle(kit: Any) -> None:
    case = kit.case(SHAPE)
    layer = pack(kit, "lowered", case, [0, 3, 5, 9, 14])
    copy = pickle.loads(pickle.dumps(layer))
    assert copy.blocking["partition"] == "dynamic"
    np.testing.assert_array_equal(copy.run(case.x), layer.run(case.x))


@pytest.mark.parametrize("kind", METHODS)
def test_wrong_parts(kit: Any, kind: str) -> None:
    case = kit.case(SHAPE)
    units = kit.units(kind, SHAPE, kit.blocking(kind, SHAPE, None))
    for part_ptr, match in (
        ([0], "part_ptr: must have at least 2 values; got 1"),
        ([0, units - 1], f"part_ptr: must rise from 0 to {units}"),
        ([0, 2, 1, units], f"part_ptr: must rise from 0 to {units}"),
    ):
        with pytest.raises(ValueError, match=match):
            pack(kit, kind, case, part_ptr)
    with pytest.raises(ValueError, match=r"threads_per_image \+ 1"):
        pack(kit, kind, case, [0, 1, 2, units], threads=2, partition="rows")
    with pytest.raises(ValueError, match=r"blocking\['partition'\]: must be one of"):
        pack(kit, kind, case, [0, units], partition="guided")


def test_the_binding_guards_itself() -> None:
    for part_ptr in ([0], [0, 3, 2, 4], [0, 3]):
        with pytest.raises(ValueError, match="part_ptr"):
            _native.Team(2, 2, np.array(part_ptr, dtype=np.int64), 4, True)
