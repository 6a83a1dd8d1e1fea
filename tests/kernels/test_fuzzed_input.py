"""Whatever is passed, native code runs with it correctly or Python refuses it; nothing crashes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archsim.kernels import (
    ConvShape,
    FcDense,
    FcSparse,
    PackedLayer,
    SparseWinograd,
    Structured,
    Winograd,
    _native,
    active_isa,
    conv2d,
    conv2d_winograd,
    isa_table,
    transform_weights,
)
from archsim.kernels.isa import find_isa, isa_index
from archsim.kernels.winograd_matrices import error_bound

SHAPE = ConvShape(4, 6, 7, 6, 3, 2, pad=(1, 1), groups=2)
REFUSED = (TypeError, ValueError, MemoryError)
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

INTEGERS = st.integers(-2, 40) | st.sampled_from(
    [-(2**63), -(2**31), 2**24, 2**31 - 1, 2**31, 2**32 + 1, 2**63 - 1, 2**64, 10**30]
)
JUNK = st.one_of(
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.binary(max_size=2),
    st.lists(st.integers(0, 3), max_size=2),
    st.sampled_from([np.float32(3.0), np.bool_(True), np.array([1, 2]), np.array("scratch"), 1j]),
)
WORDS = st.sampled_from(["scratch", "output", "channels", "pixels", "padded", "image", "flat",
                         "tiles", "images", "pointwise", "shifts", "nnz", "rows", "dynamic", "FLAT",
                         ""])  # fmt: skip


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is valid but huge is refused before it takes the machine's memory."""
    monkeypatch.setattr(_native, "MOST_FLOATS", 2**20)


def run_if_accepted(kit: Any, kind: str, case: Any, blocking: Any, **keywords: Any) -> None:
    cls = type(kit.pack(kind, case))
    if "part_ptr" not in keywords:
        try:
            units = kit.units(kind, case.shape, blocking)
            parts = min(int(blocking["threads_per_image"]), 9)
            keywords["part_ptr"] = kit.parts(units, parts)
        except (ArithmeticError, LookupError, AttributeError, *REFUSED):
            keywords["part_ptr"] = [0, 6]
    layer = None
    with suppress(*REFUSED):
        layer = cls(case.weights, case.shape, blocking=blocking, **keywords)
    if layer is not None:
        case.assert_right(layer.run(case.x))


@FUZZ
@given(data=st.data())
def test_blockings(kit: Any, method: str, data: st.DataObject) -> None:
    """A legal one with up to three changes; those that are still legal must be right."""
    case = kit.case(SHAPE, batch=2)
    blocking = dict(kit.blocking(method, SHAPE, None))
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from([*sorted(blocking), "extra"]))
        blocking[name] = data.draw(INTEGERS | WORDS | JUNK)
    if data.draw(st.integers(0, 9)) == 0:
        del blocking[data.draw(st.sampled_from(sorted(blocking)))]
    run_if_accepted(kit, method, case, blocking, threads=data.draw(st.integers(1, 3)))


@FUZZ
@given(data=st.data())
def test_other_arguments(kit: Any, method: str, data: st.DataObject) -> None:
    case = kit.case(SHAPE, batch=2)
    blocking = kit.blocking(method, SHAPE, None)
    units = kit.units(method, SHAPE, blocking)
    threads = st.integers(-2, 4) | st.sampled_from([2**31, 2**64]) | JUNK
    part_ptr = st.lists(st.integers(-1, units + 1) | INTEGERS | JUNK, max_size=4) | JUNK
    keywords: dict[str, Any] = {"threads": data.draw(threads)}
    keywords["part_ptr"] = data.draw(part_ptr | st.just([0, units]))
    if method != "dense" and data.draw(st.booleans()):
        keywords["isa"] = data.draw(st.sampled_from(["baseline", "neon", "avx2", ""]) | JUNK)
    run_if_accepted(kit, method, case, blocking, **keywords)


@FUZZ
@given(data=st.data())
def test_shapes(data: st.DataObject) -> None:
    """A shape is refused, or is what its sizes say."""
    names = ("channels", "height", "width", "out_channels", "kernel_h", "kernel_w", "groups")
    sizes: dict[str, Any] = {name: data.draw(st.integers(1, 5) | INTEGERS | JUNK) for name in names}
    for name in ("stride", "pad", "dilation"):
        pair = st.tuples(st.integers(0, 3) | INTEGERS, st.integers(0, 3) | INTEGERS)
        sizes[name] = data.draw(pair | pair.map(list) | JUNK)
    shape = None
    with suppress(TypeError, ValueError):
        shape = ConvShape(**sizes)
    if shape is not None:
        assert shape.out_h >= 1
        assert shape.out_w >= 1
        assert shape.channels == sizes["channels"]
        assert shape.group_channels * shape.groups == shape.channels


class _Fancy(np.ndarray[Any, Any]):
    """A subclass that means more than its values."""


def _swapped(x: Any) -> Any:
    return x.astype(x.dtype.newbyteorder())


def _unaligned(x: Any) -> Any:
    room = np.zeros(x.nbytes + 1, np.uint8)
    room[1:].view(x.dtype)[:] = x.reshape(-1)
    return room[1:].view(x.dtype).reshape(x.shape)


TRANSFORMS = [
    lambda x: x.astype(np.float64),
    lambda x: x.astype(np.int32),
    lambda x: x.astype(np.complex64),
    lambda x: x.astype(object),
    _swapped,
    _unaligned,
    lambda x: x[::-1],
    lambda x: x[..., ::2],
    lambda x: x[:0],
    lambda x: x[:1],
    lambda x: x[None],
    lambda x: x.reshape(-1),
    lambda x: x.transpose(0, 1, 3, 2) if x.ndim == 4 else x,
    lambda x: np.asfortranarray(x),
    lambda x: np.broadcast_to(x[:1], x.shape),
    lambda x: x.view(_Fancy),
    lambda x: np.ma.masked_array(x, x > 0),
    lambda x: np.ascontiguousarray(x).data,
    lambda x: np.asarray(x).tolist(),
    lambda x: np.lib.stride_tricks.as_strided(x, x.shape, (0,) * x.ndim),
]


def _transformed(data: st.DataObject, array: Any) -> Any:
    for change in data.draw(st.lists(st.sampled_from(TRANSFORMS), min_size=1, max_size=2)):
        try:
            array = change(array)
        except Exception:  # a change that the last one's result does not have
            return array
    return array


@FUZZ
@given(data=st.data())
def test_arrays(kit: Any, method: str, data: st.DataObject) -> None:
    """Input, output, weights and bias; what is accepted must be used as it is."""
    case = kit.case(SHAPE, batch=2)
    cls = type(kit.pack(method, case))
    blocking = kit.blocking(method, SHAPE, None)
    given_to = data.draw(st.sampled_from(["x", "out", "weights", "bias"]))
    arrays: dict[str, Any] = {
        "x": case.x, "weights": case.weights, "bias": case.bias,
        "out": np.zeros((2, 6, SHAPE.out_h, SHAPE.out_w), dtype=np.float32),
    }  # fmt: skip
    arrays[given_to] = _transformed(data, arrays[given_to])
    out, refusal = None, ""
    try:
        layer = cls(
            arrays["weights"], SHAPE, blocking=blocking, bias=arrays["bias"],
            part_ptr=[0, kit.units(method, SHAPE, blocking)],
        )  # fmt: skip
        out = layer.run(arrays["x"], arrays["out"])
    except REFUSED as error:
        refusal = str(error)
    if out is None:
        assert refusal.startswith(("x: ", "out: ", "weights: ", "bias: "))
        return
    right = conv2d(arrays["x"], arrays["weights"], SHAPE, arrays["bias"])
    assert out is arrays["out"]
    np.testing.assert_allclose(out, right, rtol=1e-4, atol=1e-5)


# ---- methods that are not for every shape ----


def _up(a: int, b: int) -> int:
    return -(-a // b)


def _connected(kit: Any) -> Any:
    return kit.case(ConvShape(37, 1, 1, 29, 1, 1), batch=20)


def _fc_sparse(kit: Any, vectors: int) -> tuple[type[PackedLayer], Any, dict[str, Any], int]:
    lanes = next(i.lanes for i in isa_table() if i.name == active_isa())
    lists = _native.fc_lists(isa_index(find_isa(active_isa())), vectors) if vectors else 1
    blocking = {"lanes": lanes, "vectors": vectors, "lists": lists, "input_block": 9,
                "threads_per_image": 1}  # fmt: skip
    return FcSparse, _connected(kit), blocking, 29


def _fc_dense(kit: Any) -> tuple[type[PackedLayer], Any, dict[str, Any], int]:
    lanes = next(i.lanes for i in isa_table() if i.name == active_isa())
    blocking = {"lanes": lanes, "images": 7, "reg_images": 3, "reg_vectors": 2,
                "threads_per_image": 1}  # fmt: skip
    return FcDense, _connected(kit), blocking, _up(29, 2 * lanes)


def _structured(kit: Any) -> tuple[type[PackedLayer], Any, dict[str, Any], int]:
    case = kit.case(SHAPE, density=1.0, batch=2)
    case.weights[2] = 0.0
    case.weights[:3, 1] = 0.0
    blocking = {"granularity": "feature-map", "kept_rows": 18, "kept_channels": 5,
                "threads_per_image": 1}  # fmt: skip
    return Structured, case, blocking, 6


def _winograd(
    kit: Any, cls: type[PackedLayer]
) -> tuple[type[PackedLayer], Any, dict[str, Any], int]:
    lanes = next(i.lanes for i in isa_table() if i.name == active_isa())
    case = kit.case(ConvShape(4, 9, 10, 6, 3, 3, pad=(1, 1), groups=2), batch=3)
    blocking = {"lanes": lanes, "variant": "f4x4_3x3", "images": 2, "chunk_vectors": 2,
                "reg_vectors": 2, "out_block": 2, "threads_per_image": 1}  # fmt: skip
    if cls is Winograd:
        blocking["reg_count"] = 3
    else:
        blocking |= {"reg_lists": 2, "in_block": 1}
    return cls, case, blocking, _up(_up(2 * 9, lanes), 2)


SPECIAL: dict[str, Any] = {
    "fc gather": lambda kit: _fc_sparse(kit, 0),
    "fc images": lambda kit: _fc_sparse(kit, 2),
    "fc dense": _fc_dense,
    "structured": _structured,
    "Winograd": lambda kit: _winograd(kit, Winograd),
    "sparse Winograd": lambda kit: _winograd(kit, SparseWinograd),
}
SPECIAL_WORDS = st.sampled_from(["f2x2_3x3", "f4x4_3x3", "f4x4_5x5", "feature-map", "intra-kernel"])


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("name", SPECIAL)
def test_special_methods(kit: Any, name: str, data: st.DataObject) -> None:
    """A legal blocking and parts with up to three changes; what is still legal must be right."""
    cls, case, blocking, units = SPECIAL[name](kit)
    keywords: dict[str, Any] = {"threads": None, "part_ptr": [0, units]}
    for _ in range(data.draw(st.integers(0, 3))):
        key = data.draw(st.sampled_from([*sorted(blocking), *keywords, "extra"]))
        value = data.draw(INTEGERS | WORDS | SPECIAL_WORDS | JUNK)
        if key == "part_ptr":
            value = data.draw(st.lists(st.integers(-1, units + 1) | INTEGERS, max_size=5) | JUNK)
        (keywords if key in keywords else blocking)[key] = value
    threads = data.draw(st.integers(1, 3))
    if keywords["threads"] is None:
        keywords["threads"] = threads
    layer = None
    with suppress(*REFUSED):
        layer = cls(case.weights, case.shape, blocking=blocking, bias=case.bias, **keywords)
    if layer is None:
        return
    out = layer.run(case.x)
    if "Winograd" not in name:
        case.assert_right(out, bias=True)
        return
    variant = str(layer.blocking["variant"])
    own = transform_weights(case.weights, variant)
    right = conv2d_winograd(case.x, own, case.shape, variant, case.bias)
    bound = error_bound(case.x, own, case.shape, variant, case.bias)
    np.testing.assert_array_less(abs(out - right), bound)
