"""Sparsity: every way to give it, every way to give it wrong, and drawn patterns."""

from __future__ import annotations

import gzip
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from archsim.errors import InputError
from archsim.network import Layer, Network, SparsityMap, load_network
from archsim.sparsity import LayerSparsities, Sparsity, load_sparsity

C1 = Layer("c1", C=4, K=6, H=8, W=8, R=3, S=3, pad=(1, 1), groups=2, network="net")
C2 = Layer("branch/c2", C=6, K=5, H=8, W=8, network="net")
F1 = Layer("f1", C=20, K=7, type="fc", network="net")
MAP = SparsityMap("pruned", {"c1": 0.75, "f1": 0.9}, domain="winograd")
NET = Network("net", (C1, C2, F1), sparsities={"pruned": MAP})

Array = NDArray[np.float32]


def weights(layer: Layer, density: float = 0.5, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    array = rng.standard_normal(layer.weight_shape)
    return np.asarray(array * (rng.random(layer.weight_shape) < density), dtype=np.float32)


def refused(spec: str | float | Path, network: Network = NET) -> str:
    """Return the one-line error that ``spec`` gives."""
    with pytest.raises(InputError) as caught:
        load_sparsity(spec, network)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- numbers, maps, pairs ---------------------------------------------------------------------


@pytest.mark.parametrize("spec", [0.9, "0.9", " 0.9 ", "9e-1"])
def test_a_number_is_the_sparsity_of_every_layer(spec: str | float) -> None:
    found = load_sparsity(spec, NET)
    assert all(found[layer.name].density == pytest.approx(0.1) for layer in NET)
    assert found["c1"].sparsity == pytest.approx(0.9)
    assert found["c1"].weights is None
    assert "c1" in found


@pytest.mark.parametrize(
    "spec", [1.5, "1.5", "-0.1", -1, "nan", "inf", "-inf", math.nan, math.inf, "1e999"]
)
def test_numbers_outside_0_to_1(spec: str | float) -> None:
    assert "sparsity: must lie in 0..1; found" in refused(spec)


def test_limits_are_allowed() -> None:
    assert load_sparsity("0", NET)["c1"].density == 1.0
    assert load_sparsity(1, NET)["c1"].density == 0.0


def test_a_map_of_the_network() -> None:
    found = load_sparsity("pruned", NET)
    assert found["c1"].density == pytest.approx(0.25)
    assert (found["c1"].domain, found["c1"].label) == ("winograd", "pruned")
    assert found["branch/c2"].density == 1.0  # not in the map: dense
    assert "branch/c2" not in found


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "lenet5"])
def test_every_published_map_loads(name: str) -> None:
    network = load_network(name)
    for key, entry in network.sparsities.items():
        found = load_sparsity(key, network)
        for layer, value in entry.layers.items():
            assert found[layer].density == pytest.approx(1.0 - value)
            assert found[layer].domain == entry.domain


def test_none_is_the_default_map_or_dense() -> None:
    assert load_sparsity(None, NET)["c1"].density == 1.0
    with_default = Network("net", NET.layers, sparsities={"m": MAP}, default_sparsity="m")
    assert load_sparsity(None, with_default)["c1"].density == pytest.approx(0.25)


def test_an_unknown_name_gets_the_nearest() -> None:
    error = refused("prunde")
    assert "neither a number, nor a map of this network, nor a file; found 'prunde'" in error
    assert "allowed: 0..1, pruned, FILE.npz" in error
    assert "did you mean 'pruned'?" in error


def test_pairs(tmp_path: Path) -> None:
    array = weights(C1)
    write_mtx(tmp_path / "a.mtx", array)
    found = load_sparsity(f"f1=0.25, c1 = {tmp_path / 'a.mtx'} ,branch/c2=1", NET)
    assert found["f1"].density == 0.75
    assert found["branch/c2"].density == 0.0
    assert np.array_equal(pattern(found["c1"]), array != 0)


@pytest.mark.parametrize(
    ("spec", "fragments"),
    [
        ("c1=1.5", ["sparsity of c1", "must lie in 0..1", "found 1.5"]),
        ("c1=nan", ["sparsity of c1", "must lie in 0..1", "found nan"]),
        ("c1=half", ["sparsity of c1", "neither a number nor a .mtx file", "'half'"]),
        ("c1=", ["sparsity of c1", "''"]),
        ("c11=0.5", ["unknown layer", "'c11'", "did you mean 'c1'?"]),
        ("c1=0.5,", ["unknown layer"]),
        ("c1=0.5,c1=0.6", ["layer is given twice", "'c1'"]),
        ("c1=none.mtx", ["none.mtx", "not a readable Matrix Market file"]),
    ],
)
def test_bad_pairs(spec: str, fragments: list[str]) -> None:
    error = refused(spec)
    for fragment in fragments:
        assert fragment in error


def test_many_pairs_are_too_long_for_a_file_name() -> None:
    network = load_network("googlenet")
    spec = ",".join(f"{layer.name}=0.5" for layer in network)
    assert len(spec) > 255
    found = load_sparsity(spec, network)
    assert all(found[layer.name].density == 0.5 for layer in network)
    assert "neither a number" in refused("x" * 5000)


# --- maps in files ----------------------------------------------------------------------------


def test_a_yaml_map(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("c1: 0.5\nf1: 1\n", encoding="utf-8")
    found = load_sparsity(path, NET)
    assert (found["c1"].density, found["f1"].density, found["branch/c2"].density) == (0.5, 0.0, 1.0)
    assert found.label == "mine.yaml"


@pytest.mark.parametrize(
    ("text", "line", "fragments"),
    [
        ("c1: 0.5\nc3: 0.5\n", 2, ["unknown layer", "'c3'", "did you mean 'c1'?"]),
        ("c1: 1.5\n", 1, ["c1", "must lie in 0..1", "found 1.5"]),
        ("c1: .nan\n", 1, ["c1", "must lie in 0..1", "found nan"]),
        ("c1: true\n", 1, ["c1", "wrong type", "found True"]),
        ("c1: '0.5'\n", 1, ["c1", "wrong type", "'0.5'"]),
        ("c1: {value: 0.5}\n", 1, ["c1", "wrong type"]),
        ("c1:\n", 1, ["c1", "wrong type"]),
        ("c1: 0.5\nc1: 0.6\n", 2, ["duplicate key"]),
        ("- c1\n", 1, ["a map of layer to sparsity is due"]),
        ("c1: !!python/name:os.system\n", 1, ["tags are not allowed"]),
    ],
)
def test_bad_yaml_maps(tmp_path: Path, text: str, line: int, fragments: list[str]) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(text, encoding="utf-8")
    error = refused(str(path))
    assert error.startswith(f"{path}:{line}: ")
    for fragment in fragments:
        assert fragment in error


def test_a_missing_map(tmp_path: Path) -> None:
    assert "cannot be read" in refused(str(tmp_path / "none.yaml"))


# --- weights from .npz ------------------------------------------------------------------------


def pattern(sparsity: Sparsity) -> NDArray[np.bool_]:
    assert sparsity.weights is not None
    mask: NDArray[np.bool_] = sparsity.weights != 0
    return mask


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


def write_mtx(path: Path, array: Array) -> None:
    """Write K x (C/groups R S), coordinates from 1, as SkimCaffe does."""
    matrix = array.reshape(array.shape[0], -1)
    rows, columns = np.nonzero(matrix)
    lines = ["%%MatrixMarket matrix coordinate real general",
             f"{matrix.shape[0]} {matrix.shape[1]} {rows.size}"]  # fmt: skip
    lines += [f"{r + 1} {c + 1} {matrix[r, c]:.9g}" for r, c in zip(rows, columns, strict=True)]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")


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


# --- arrays and drawn patterns ----------------------------------------------------------------


def test_arrays_are_copied() -> None:
    array = weights(C1)
    sparsity = Sparsity.of_weights(array, C1)
    array[:] = 0.0  # still the caller's own, and writable
    assert sparsity.weights is not None
    assert sparsity.weights.any()
    with pytest.raises(ValueError, match="read-only"):
        sparsity.weights[0] = 1.0


@pytest.mark.parametrize("density", [-0.1, 1.1, math.nan, math.inf])
def test_a_density_lies_in_0_to_1(density: float) -> None:
    with pytest.raises(InputError, match=r"density: must lie in 0\.\.1"):
        Sparsity(density)


def test_an_unknown_domain() -> None:
    with pytest.raises(InputError, match="density_domain: unknown; found 'fft'"):
        Sparsity(0.5, domain="fft")  # type: ignore[arg-type]


@given(st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_drawn_patterns_have_the_exact_count(density: float, seed: int) -> None:
    drawn = Sparsity(density).draw(C1, seed)
    assert drawn.weights is not None
    assert drawn.weights.shape == C1.weight_shape
    assert np.count_nonzero(drawn.weights) == round(density * C1.weights)


def test_same_seed_same_pattern() -> None:
    half = Sparsity(0.5)
    one, again, other = half.draw(C1, 7), half.draw(C1, 7), half.draw(C1, 8)
    assert one.weights is not None
    assert again.weights is not None
    assert np.array_equal(one.weights, again.weights)
    assert one.pattern_key == again.pattern_key
    assert one.pattern_key != other.pattern_key
    assert half.pattern_key != Sparsity(0.25).pattern_key


def test_layers_of_one_shape_get_patterns_of_their_own() -> None:
    twin = Layer("twin", C=4, K=6, H=8, W=8, R=3, S=3, pad=(1, 1), groups=2, network="net")
    elsewhere = Layer("c1", C=4, K=6, H=8, W=8, R=3, S=3, pad=(1, 1), groups=2, network="other")
    keys = {Sparsity(0.5).draw(layer, 0).pattern_key for layer in (C1, twin, elsewhere)}
    assert len(keys) == 3


def test_real_weights_are_not_drawn_again() -> None:
    real = Sparsity.of_weights(weights(C1), C1)
    assert real.draw(C1, 3) is real


def test_a_drawn_pattern_names_its_seed() -> None:
    drawn = Sparsity(0.25, domain="winograd").draw(F1, 1)
    assert (drawn.label, drawn.density, drawn.domain) == ("uniform seed 1", 0.25, "winograd")


def test_layers_that_are_not_named_are_dense() -> None:
    empty = LayerSparsities()
    assert (empty["anything"].density, empty["anything"].label) == (1.0, "dense")


@pytest.mark.parametrize("spec", ["a\0b", "a\0b.npz", "0_1", "٠.٩", "c1=0_1", [0.5], 10**400])
def test_numbers_are_plain_digits_and_paths_without_zero_bytes(spec: Any) -> None:
    assert refused(spec)


def test_a_layer_given_twice(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"c1": weights(C1), "c1.weight": weights(C1)}
    np.savez(tmp_path / "w.npz", **arrays)
    assert "c1: stands beside c1.weight" in refused(tmp_path / "w.npz")
    for name in ("c1.mtx", "c1.mtx.gz"):
        (tmp_path / name).write_bytes(b"")
    assert "c1.mtx: stands beside c1.mtx.gz" in refused(tmp_path)


@pytest.mark.parametrize("density", ["0.5", None, True, [0.5], 10**400])
def test_densities_are_numbers_and_weights_have_four_dimensions(density: Any) -> None:
    with pytest.raises(InputError, match="density: "):
        Sparsity(density)
    with pytest.raises(InputError, match=r"weights: wrong shape; found \(3, 2\)"):
        Sparsity(1.0, np.ones((3, 2), dtype=np.float32))


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


# --- targets of archsim targets ---------------------------------------------------------------

TARGETS = """schema: 1
kind: pruning targets
network: net
layers:
- {layer: c1, sparsity: 0.75, domain: winograd, method: sparse_winograd}
- {layer: branch/c2, sparsity: 0.0, domain: spatial, method: dense_gemm}
- {layer: f1, sparsity: 0.9, domain: spatial, method: fc_sparse}
"""


def test_targets_are_sparsities(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(TARGETS, encoding="utf-8")
    found = load_sparsity(path, NET)
    assert [found[y.name].sparsity for y in NET] == pytest.approx([0.75, 0.0, 0.9])
    assert [found[y.name].domain for y in NET] == ["winograd", "spatial", "spatial"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema: 1", "schema: 2", "not pruning targets of this version"),
        ("c1,", "c9,", "unknown layer"),
        ("0.75", "null", "a budget is needed"),
        ("0.75", "1.75", "must lie in 0..1"),
        ("domain: winograd", "domain: fourier", "domain: unknown; found 'fourier'"),
        ("sparsity: 0.75, ", "", "layer, sparsity and domain are due"),
    ],
)
def test_wrong_targets(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(TARGETS.replace(old, new), encoding="utf-8")
    assert message in refused(path)
