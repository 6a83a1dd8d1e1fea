"""Sparsity: every way to give it, every way to give it wrong, and drawn patterns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.network import Layer, Network, load_network
from archsim.sparsity import LayerSparsities, Sparsity, load_sparsity
from tests.little_net import C1, F1, MAP, NET, pattern, refused, weights, write_mtx

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


@pytest.mark.parametrize("density", ["0.5", None, True, [0.5], 10**400])
def test_densities_are_numbers_and_weights_have_four_dimensions(density: Any) -> None:
    with pytest.raises(InputError, match="density: "):
        Sparsity(density)
    with pytest.raises(InputError, match=r"weights: wrong shape; found \(3, 2\)"):
        Sparsity(1.0, np.ones((3, 2), dtype=np.float32))


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
