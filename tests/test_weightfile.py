"""Weights from files: .npz and Matrix Market, whole, wrong and hostile."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.network import Layer, Network
from archsim.sparsity import load_sparsity
from tests.little_net import C1, C2, F1, NET, Array, pattern, refused, weights, write_mtx

# --- weights from .npz ------------------------------------------------------------------------


def test_npz_with_both_forms_of_keys(tmp_path: Path) -> None:
    one, two, three = weights(C1), weights(C2), weights(F1)
    arrays: dict[str, Any] = {"c1": one, "branch/c2.weight": two, "f1": three[:, :, 0, 0]}
    unrelated: dict[str, Any] = {"c1.bias": np.zeros(6), "names": np.array(["a"])}
    np.savez(tmp_path / "w.npz", **arrays, **unrelated)
    found = load_sparsity(str(tmp_path / "w.npz"), NET)
    for layer, array in [(C1, one), (C2, two), (F1, three)]:
        entry = found[layer.name]
        assert entry.density == np.count_nonzero(array) / array.size
        assert entry.weights is not None
        assert entry.weights.shape == layer.weight_shape
        assert np.array_equal(entry.weights, array)
        assert not entry.weights.flags.writeable
    assert found.label == "w.npz"


@pytest.mark.filterwarnings("ignore:.*layers without an array")
@pytest.mark.parametrize("dtype", ["f8", "f2", ">f4", "i1", "u2", "?"])
def test_npz_of_any_number_type(tmp_path: Path, dtype: str) -> None:
    array = (weights(C1) != 0).astype(dtype)
    np.savez_compressed(tmp_path / "w.npz", c1=np.asfortranarray(array))
    entry = load_sparsity(str(tmp_path / "w.npz"), NET)["c1"]
    assert entry.weights is not None
    assert entry.weights.dtype == np.float32
    assert np.array_equal(pattern(entry), array != 0)


def with_nan() -> Array:
    array = weights(C1)
    array[0, 0, 0, 0] = np.nan
    return array


BAD_ARRAYS = [
    ("wrong shape", weights(C2), ["c1", "wrong shape", "(5, 6, 1, 1)", "(6, 2, 3, 3)"]),
    ("turned", weights(C1).reshape(2, 6, 3, 3), ["c1", "wrong shape", "(2, 6, 3, 3)"]),
    ("flat", weights(C1).reshape(-1), ["c1", "wrong shape", "(108,)"]),
    ("scalar", np.float32(1), ["c1", "wrong shape", "()"]),
    ("NaN", with_nan(), ["c1", "NaN or infinite"]),
    ("infinite", np.full(C1.weight_shape, np.inf), ["c1", "NaN or infinite"]),
    ("too large", np.full(C1.weight_shape, 1e300), ["c1", "NaN or infinite"]),
    ("complex", np.zeros(C1.weight_shape, complex), ["c1", "must be numbers", "complex128"]),
    ("text", np.full(C1.weight_shape, "a"), ["c1", "must be numbers"]),
    ("records", np.zeros(C1.weight_shape, "f4,f4"), ["c1", "must be numbers"]),
]


@pytest.mark.parametrize(
    ("array", "fragments"), [c[1:] for c in BAD_ARRAYS], ids=[c[0] for c in BAD_ARRAYS]
)
def test_bad_arrays(tmp_path: Path, array: NDArray[np.generic], fragments: list[str]) -> None:
    np.savez(tmp_path / "w.npz", c1=array)
    error = refused(str(tmp_path / "w.npz"))
    assert "w.npz" in error
    for fragment in fragments:
        assert fragment in error


class Payload:
    """Unpickling one leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["c1", "unrelated"])
def test_pickles_are_never_loaded(tmp_path: Path, key: str) -> None:
    trap = tmp_path / "trap"
    array = np.empty(C1.weight_shape, dtype=object)
    array.fill(Payload(trap))
    arrays: dict[str, Any] = {key: array}
    np.savez(tmp_path / "w.npz", **arrays)
    assert "pickled objects, which are never loaded" in refused(str(tmp_path / "w.npz"))
    assert not trap.exists()
    with np.load(tmp_path / "w.npz", allow_pickle=True) as data:
        _ = data[key]
    assert trap.exists(), "the payload must work, or this test shows nothing"


def test_a_pickle_named_npz(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    array = np.empty(1, dtype=object)
    array[0] = Payload(trap)
    array.dump(tmp_path / "w.npz")
    assert "not a readable .npz file" in refused(str(tmp_path / "w.npz"))
    assert not trap.exists()


def test_not_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    assert "not a readable .npz file (No such file" in refused(str(path))
    path.write_bytes(b"")
    assert "not a readable .npz file" in refused(str(path))
    path.write_text("c1: 0.5\n", encoding="utf-8")
    assert "not a readable .npz file" in refused(str(path))
    with path.open("wb") as file:
        np.save(file, weights(C1))  # .npy inside
    assert "not a readable .npz file" in refused(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("c1.npy", b"no array")
    assert "not a readable .npz file" in refused(str(path))
    path.unlink()
    path.mkdir()
    assert "not a readable .npz file" in refused(str(path))


def test_an_npz_of_another_network(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", conv9=np.zeros(3))
    error = refused(str(tmp_path / "w.npz"))
    assert "no array belongs to a layer of net; found 'conv9'; allowed: c1, branch/c2, f1" in error


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    """A small file must not make us take terabytes."""
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        text = head.encode().ljust(117) + b"\n"
        archive.writestr("c1.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    assert "wrong shape; found (1000000, 1000000)" in refused(str(tmp_path / "w.npz"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("npz") / "w.npz"
    np.savez_compressed(path, c1=weights(C1))
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:.*layers without an array")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_truncated_or_damaged_npz(tmp_path: Path, sound: bytes, data: st.DataObject) -> None:
    """Cut it or flip a byte anywhere: it is refused, or holds finite weights of that shape."""
    broken = bytearray(sound)
    place = data.draw(st.integers(0, len(sound) - 1))
    if data.draw(st.booleans()):
        del broken[place:]
    else:
        broken[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "broken.npz"
    path.write_bytes(broken)
    error = ""
    try:
        found = load_sparsity(str(path), NET)["c1"].weights
        assert found is not None
        assert found.shape == C1.weight_shape
        assert np.isfinite(found).all()
    except InputError as refusal:
        error = str(refusal)
    assert "\n" not in error


# --- weights from Matrix Market ---------------------------------------------------------------


def test_a_folder_of_matrices(tmp_path: Path) -> None:
    one, two = weights(C1), weights(C2, seed=1)
    write_mtx(tmp_path / "c1.mtx", one)
    write_mtx(tmp_path / "branch_c2.mtx.gz", two)
    (tmp_path / "README").write_text("not a matrix", encoding="utf-8")
    found = load_sparsity(tmp_path, NET)
    for layer, array in [(C1, one), (C2, two)]:
        entry = found[layer.name]
        assert entry.weights is not None
        np.testing.assert_allclose(entry.weights, array, rtol=1e-6)
        assert entry.density == np.count_nonzero(array) / array.size
    assert found["f1"].density == 1.0


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["not a readable Matrix Market file"]),
        ("c1: 0.5\n", ["not a readable Matrix Market file"]),
        ("%%MatrixMarket matrix coordinate real general\n18 6 0\n",
         ["c1", "wrong shape", "(18, 6)", "(6, 18)"]),
        ("%%MatrixMarket matrix coordinate real general\n6 18 3\n1 1 1.0\n",
         ["not a readable Matrix Market file"]),
        ("%%MatrixMarket matrix coordinate real general\n6 18 1\n7 1 1.0\n",
         ["not a readable Matrix Market file"]),
        ("%%MatrixMarket matrix coordinate real general\n6 18 1\n1 1 nan\n",
         ["c1", "NaN or infinite"]),
        ("%%MatrixMarket matrix coordinate real general\n6 18 1\n1 1 word\n",
         ["not a readable Matrix Market file"]),
        ("%%MatrixMarket matrix coordinate real general\n6 18 99999999999999\n1 1 1.0\n",
         ["c1", "more entries than weights", "99999999999999"]),
        ("%%MatrixMarket matrix coordinate complex general\n6 18 1\n1 1 1.0 2.0\n",
         ["c1", "must be numbers"]),
    ],
)  # fmt: skip
def test_bad_matrices(tmp_path: Path, text: str, fragments: list[str]) -> None:
    (tmp_path / "c1.mtx").write_text(text, encoding="utf-8")
    error = refused(tmp_path)
    assert "c1.mtx" in error
    for fragment in fragments:
        assert fragment in error


def test_a_gz_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "c1.mtx.gz").write_bytes(b"plain")
    assert "not a readable Matrix Market file" in refused(tmp_path)
    write_mtx(tmp_path / "c1.mtx.gz", weights(C1))
    whole = (tmp_path / "c1.mtx.gz").read_bytes()
    (tmp_path / "c1.mtx.gz").write_bytes(whole[: len(whole) // 2])
    assert "not a readable Matrix Market file" in refused(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "no Matrix Market file belongs to a layer of net; allowed: c1.mtx, ..." in error


def test_a_layer_given_twice(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"c1": weights(C1), "c1.weight": weights(C1)}
    np.savez(tmp_path / "w.npz", **arrays)
    assert "c1: stands beside c1.weight" in refused(tmp_path / "w.npz")
    for name in ("c1.mtx", "c1.mtx.gz"):
        (tmp_path / name).write_bytes(b"")
    assert "c1.mtx: stands beside c1.mtx.gz" in refused(tmp_path)


def test_what_an_npz_lacks_and_what_is_of_no_layer_is_said(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "c1": weights(C1), "c1.bias": np.zeros(6), "c1.mask": weights(C1), "c22.weight": weights(C2)
    }  # fmt: skip
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.warns(UserWarning, match="w.npz") as caught:
        load_sparsity(tmp_path / "w.npz", NET)
    (warning,) = caught
    assert str(warning.message) == (
        f"{tmp_path / 'w.npz'}: layers without an array count as dense: branch/c2, f1; "
        "arrays of no layer: c22.weight"
    )


def test_a_warning_names_the_first_of_many_layers(tmp_path: Path) -> None:
    many = Network("many", tuple(Layer(f"c{n}", C=2, K=2, H=4, W=4) for n in range(12)))
    np.savez(tmp_path / "w.npz", c0=np.ones((2, 2, 1, 1)))
    with pytest.warns(UserWarning, match="dense: c1, c2, c3, c4, c5, c6, c7, c8 and 3 more$"):
        load_sparsity(tmp_path / "w.npz", many)
