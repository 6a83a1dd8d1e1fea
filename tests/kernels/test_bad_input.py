"""Wrong arguments are refused, with their name, before any native code runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.kernels import ConvShape, _native, isa_table

SHAPE = ConvShape(4, 6, 7, 8, 3, 3, pad=(1, 1), groups=2)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"channels": 0}, ValueError, "channels: must be at least 1; got 0"),
        ({"height": -3}, ValueError, "height: must be at least 1; got -3"),
        ({"pad": (0, 2**31)}, ValueError, "pad: must be at most 2147483647; got 2147483648"),
        ({"width": 2.0}, TypeError, "width: must be an integer; got 2.0"),
        ({"width": True}, TypeError, "width: must be an integer; got True"),
        ({"groups": 3}, ValueError, r"groups: got 3; must divide channels \(4\)"),
        ({"out_channels": 7}, ValueError, r"groups: got 2; must divide out_channels \(7\)"),
        ({"stride": (0, 1)}, ValueError, "stride: must be at least 1; got 0"),
        ({"stride": 2}, TypeError, "stride: must be two integers"),
        ({"dilation": (1, 1, 1)}, TypeError, "dilation: must be two integers"),
        ({"pad": (-1, 0)}, ValueError, "pad: must be at least 0; got -1"),
        ({"kernel_h": 9}, ValueError, "the output would be 0 x 7"),
        ({"dilation": (1, 5)}, ValueError, "the output would be 6 x -1"),
    ],
)
def test_shape(changes: dict[str, Any], error: type[Exception], match: str) -> None:
    sizes = {name: getattr(SHAPE, name) for name in SHAPE.__dataclass_fields__}
    with pytest.raises(error, match=match):
        ConvShape(**(sizes | changes))


def test_a_shape_takes_numpy_integers_and_lists() -> None:
    channels: Any = np.int64(4)
    stride: Any = [np.int32(2), 1]
    shape = ConvShape(channels, 6, 7, 8, 3, 3, stride=stride)
    assert shape == ConvShape(4, 6, 7, 8, 3, 3, stride=(2, 1))
    assert type(shape.channels) is int
    assert hash(shape) == hash(ConvShape(4, 6, 7, 8, 3, 3, stride=(2, 1)))


def wrong_x(x: Any) -> list[tuple[Any, type[Exception], str]]:
    bytes_ = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = bytes_[1:].view(np.float32).reshape(x.shape)
    return [
        (x.tolist(), TypeError, "x: must be an ndarray; got list"),
        (x.astype(np.float64), TypeError, "x: must be float32; got float64"),
        (x.astype(">f4"), TypeError, "x: must be float32; got >f4"),
        (x[:, :3], ValueError, "x: must be C-contiguous"),
        (x[:1, :3].copy(), ValueError, r"shape \(N >= 1, 4, 6, 7\); got \(1, 3, 6, 7\)"),
        (x[0], ValueError, "x: must have shape"),
        (x[None], ValueError, "x: must have shape"),
        (x[:0], ValueError, "x: must have shape"),
        (np.asfortranarray(x), ValueError, "x: must be C-contiguous"),
        (x[::-1], ValueError, "x: must be C-contiguous"),
        (unaligned, ValueError, "x: must be C-contiguous and aligned"),
    ]


def test_x(kit: Any, method: str) -> None:
    case = kit.case(SHAPE, batch=2)
    layer = kit.pack(method, case)
    for x, error, match in wrong_x(case.x):
        with pytest.raises(error, match=match):
            layer.run(x)
    case.assert_right(layer.run(case.x))


class Likeness:
    """No array, but something that NumPy would make one of."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._array


def test_arrays_that_are_more_or_less(kit: Any, method: str, tmp_path: Path) -> None:
    """A mask or a meaning would be lost; a file's memory is an array like any other."""
    case = kit.case(SHAPE, batch=2)
    layer = kit.pack(method, case, bias=True)
    for name, array in (
        ("Likeness", Likeness(case.x)),
        ("MaskedArray", np.ma.masked_array(case.x, case.x > 0)),
        ("recarray", case.x.view(np.recarray)),
    ):
        with pytest.raises(TypeError, match=f"x: must be an ndarray; got {name}"):
            layer.run(array)
    hidden = np.ma.masked_invalid(np.full(SHAPE.weight_shape, np.nan, dtype=np.float32))
    with pytest.raises(TypeError, match="weights: must be an ndarray; got MaskedArray"):
        packed(kit, method, hidden)

    file = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=case.x.shape)
    file[:] = case.x
    case.assert_right(layer.run(file), bias=True)


def test_what_a_layer_keeps_cannot_be_changed(kit: Any, method: str) -> None:
    layer = kit.pack(method, kit.case(SHAPE), bias=True)
    with pytest.raises(ValueError, match="read-only"):
        layer.bias[0] = 1.0


def test_out(kit: Any, method: str) -> None:
    case = kit.case(ConvShape(4, 6, 7, 4, 3, 3, pad=(1, 1)), batch=2)
    layer = kit.pack(method, case)
    out = np.zeros_like(case.x)
    locked = out.copy()
    locked.flags.writeable = False
    wrong: list[tuple[Any, type[Exception], str]] = [
        (out.tolist(), TypeError, "out: must be an ndarray"),
        (out.astype(np.float64), TypeError, "out: must be float32"),
        (out[:1], ValueError, r"out: must have shape \(2, 4, 6, 7\); got \(1, 4, 6, 7\)"),
        (np.asfortranarray(out), ValueError, "out: must be C-contiguous"),
        (locked, ValueError, "out: must be writeable"),
        (case.x, ValueError, "out: must not share memory with x"),
    ]
    for bad, error, match in wrong:
        with pytest.raises(error, match=match):
            layer.run(case.x, bad)
    both = np.zeros((3, 4, 6, 7), dtype=np.float32)
    with pytest.raises(ValueError, match="share memory"):
        layer.run(both[:2], both[1:])
    case.assert_right(layer.run(case.x, out))


def keywords(kit: Any, method: str) -> dict[str, Any]:
    blocking = kit.blocking(method, SHAPE, None)
    return {"blocking": blocking, "part_ptr": [0, kit.units(method, SHAPE, blocking)]}


def packed(kit: Any, method: str, weights: Any, **changes: Any) -> Any:
    cls = type(kit.pack(method, kit.case(SHAPE)))
    shape = changes.pop("shape", SHAPE)
    return cls(weights, shape, **(keywords(kit, method) | changes))


def test_weights(kit: Any, method: str) -> None:
    good = kit.case(SHAPE).weights
    infinite, nan = good.copy(), good.copy()
    infinite[0, 0, 0, 0], nan[7, 1, 2, 2] = np.inf, np.nan
    for weights, error, match in (
        (good.tolist(), TypeError, "weights: must be an ndarray; got list"),
        (good.astype(np.float64), TypeError, "weights: must be an ndarray of float32; got float64"),
        (good[:7], ValueError, r"weights: must have shape \(8, 2, 3, 3\); got \(7, 2, 3, 3\)"),
        (infinite, ValueError, "weights: must be finite"),
        (nan, ValueError, "weights: must be finite"),
    ):
        with pytest.raises(error, match=match):
            packed(kit, method, weights)
    packed(kit, method, np.asfortranarray(good))


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"shape": (4, 6, 7)}, TypeError, "shape: must be a ConvShape; got tuple"),
        ({"bias": np.zeros(7, np.float32)}, ValueError, r"bias: must have shape \(8,\)"),
        ({"bias": np.zeros(8)}, TypeError, "bias: must be an ndarray of float32; got float64"),
        ({"bias": np.full(8, np.inf, np.float32)}, ValueError, "bias: must be finite"),
        ({"threads": 0}, ValueError, "threads: must be 1 to 1024; got 0"),
        ({"threads": 1025}, ValueError, "threads: must be 1 to 1024; got 1025"),
        ({"threads": 1.5}, TypeError, "threads: must be an integer"),
        ({"threads": True}, TypeError, "threads: must be an integer; got True"),
        ({"threads": -(2**70)}, ValueError, "threads: must be 1 to 1024; got -118059162071741"),
        ({"part_ptr": [0]}, ValueError, "part_ptr: must have 2 values"),
        ({"part_ptr": [0, 1]}, ValueError, "part_ptr: must rise from 0 to"),
        ({"part_ptr": [1, 8]}, ValueError, "part_ptr: must rise from 0 to"),
        ({"part_ptr": [0.0, 8.0]}, TypeError, "part_ptr: must be a sequence of integers"),
        ({"blocking": None}, TypeError, "blocking: must be a mapping; got NoneType"),
        ({"blocking": {}}, ValueError, r"blocking: got the keys \[\]; must be \["),
    ],
)
def test_arguments(
    kit: Any, method: str, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        packed(kit, method, kit.case(SHAPE).weights, **changes)


def test_falling_part_ptr(kit: Any, method: str) -> None:
    blocking = kit.blocking(method, SHAPE, None, threads_per_image=3)
    units = keywords(kit, method)["part_ptr"][1]
    with pytest.raises(ValueError, match=f"part_ptr: must rise from 0 to {units}"):
        packed(
            kit, method, kit.case(SHAPE).weights,
            blocking=blocking, threads=3, part_ptr=[0, units, 1, units],
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "changes", "error", "match"),
    [
        ("direct", {"oc_block": 0}, ValueError, r"\['oc_block'\]: must be 1 to 2147483647; got 0"),
        ("direct", {"oc_block": 2**31}, ValueError, "must be 1 to 2147483647; got 2147483648"),
        ("direct", {"oc_block": "16"}, TypeError, r"blocking\['oc_block'\]: must be an integer"),
        ("direct", {"channel_block": 3}, ValueError, r"the channels of a group \(2\); got 3"),
        ("direct", {"row_pitch": 7}, ValueError, r"at least width \+ pad \(8\); got 7"),
        ("direct", {"spill": "stack"}, ValueError, r"blocking\['spill'\]: must be one of"),
        ("direct", {"vectorised": 2}, ValueError, r"blocking\['vectorised'\]: must be 0 or 1"),
        ("direct", {"reg_rows": 0}, ValueError, r"blocking\['reg_rows'\]: must be 1 to"),
        ("direct", {"prefetch": 2}, ValueError, r"blocking\['prefetch'\]: must be 0 or 1"),
        ("direct", {"vectorised": True}, TypeError, r"\['vectorised'\]: must be an integer"),
        ("direct", {"spill": np.array("output")}, ValueError, "must be one of"),
        ("direct", {"extra": 1}, ValueError, "blocking: got the keys"),
        ("direct", {"threads_per_image": 2}, ValueError, r"must be at most threads \(1\); got 2"),
        ("lowered", {"pixel_vectors": 0}, ValueError, "must be 1 to"),
        ("dense", {"threads_per_image": 0}, ValueError, "must be 1 to"),
    ],
)
def test_blocking(
    kit: Any, kind: str, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        packed(
            kit, kind, kit.case(SHAPE).weights, blocking=kit.blocking(kind, SHAPE, None, **changes)
        )


def test_vectors_and_strides_do_not_go_together(kit: Any) -> None:
    case = kit.case(ConvShape(4, 6, 7, 8, 3, 3, stride=(1, 2)))
    with pytest.raises(ValueError, match=r"when a stride is above 1; got stride \(1, 2\)"):
        kit.pack("direct", case, vectorised=1)


def test_a_fully_connected_layer_takes_all_threads(kit: Any) -> None:
    case = kit.case(ConvShape(4, 1, 1, 8, 1, 1))
    with pytest.raises(ValueError, match=r"must be threads \(2\) .* got 1"):
        kit.pack("dense", case, threads=2)


def test_a_layer_that_fits_no_machine(kit: Any) -> None:
    """One output pixel of a huge padded image."""
    far = 2**31 - 1
    padded = ConvShape(1, 1, 1, 1, 1, 1, stride=(far, far), pad=(far // 2, far // 2))
    with pytest.raises(MemoryError, match="no memory for a buffer of"):
        kit.pack("direct", kit.case(padded), vectorised=0)
    with pytest.raises(ValueError, match="this layer needs offsets up to"):
        kit.pack("lowered", kit.case(padded))


def test_a_plane_that_fits_no_machine(kit: Any) -> None:
    """No table of its positions is made first."""
    shape = ConvShape(1, 1, 1, 1, 1, 1, pad=(2**28, 0))
    with pytest.raises(MemoryError, match="no memory for a plane of"):
        kit.pack("images", kit.case(shape), plane_pitch=2**31 - 1)


def test_a_set_that_this_cpu_lacks(kit: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method == "dense":
        pytest.skip("BLAS chooses for itself")
    missing = next(isa.name for isa in isa_table() if not isa.supported)
    weights = kit.case(SHAPE).weights
    with pytest.raises(ValueError, match=f"isa: '{missing}': (not in this build|this CPU lacks)"):
        packed(kit, method, weights, isa=missing)
    given = keywords(kit, method)
    monkeypatch.setenv("ARCHSIM_ISA", missing)
    with pytest.raises(ValueError, match=f"ARCHSIM_ISA: '{missing}': "):
        type(kit.pack(method, kit.case(SHAPE), isa="baseline"))(weights, SHAPE, **given)


def test_the_binding_guards_itself() -> None:
    """Wrong packing would be a mistake of ours; C must not see it either."""
    two, zeros = np.array([0, 2], dtype=np.int64), np.zeros(2, dtype=np.float32)
    for ptr, off, val in (
        (np.array([0, 3], dtype=np.int64), [0, 1], zeros),
        (np.array([0, 3, 2], dtype=np.int64), [0, 1], zeros),
        (two, [0, 10], zeros),
        (two, [-1, 0], zeros),
        (two, [0, 1], zeros[:1]),
    ):
        with pytest.raises(ValueError, match=r"^(ptr|off|val)"):
            _native.Streams(ptr, np.array(off, dtype=np.int32), val, len(ptr) - 1, 9)
    with pytest.raises(ValueError, match="threads"):
        _native.Team(1, 2, np.array([0, 1, 2], dtype=np.int64), 2)
