"""The published model against figures worked out by hand and printed in the paper."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.analytic import park
from archsim.errors import InputError
from archsim.network import load_network

ALEXNET = load_network("alexnet")
XEON = park.ParkParameters(2.15e12, 122e9, alpha=3.0)
ATOM = park.ParkParameters(62e9, 15e9, alpha=1.2)


@pytest.mark.parametrize(
    ("layer", "flop", "activations", "weights"),
    [
        ("conv1", 210.83e6, 1_779_948, 139_392),
        ("conv2", 447.90e6, 1_026_432, 1_228_800),
        ("conv3", 299.04e6, 432_640, 3_538_944),
        ("conv4", 224.28e6, 519_168, 2_654_208),
        ("conv5", 149.52e6, 432_640, 1_769_472),
    ],
)
def test_layer_constants(layer: str, flop: float, activations: int, weights: int) -> None:
    found = ALEXNET[layer]
    assert found.flop == pytest.approx(flop, rel=1e-4)
    assert park.activation_bytes(found) == activations
    assert found.dense_bytes == weights


@pytest.mark.parametrize(
    ("layer", "xeon", "atom"),
    [("conv1", 0.0500, 0.0292), ("conv2", 0.0139, 0.0080), ("conv3", 0.0099, 0.0054),
     ("conv4", 0.0158, 0.0087), ("conv5", 0.0197, 0.0109)],
)  # fmt: skip
def test_useful_windows(layer: str, xeon: float, atom: float) -> None:
    assert park.useful_window(ALEXNET[layer], XEON) == pytest.approx((xeon, 1 / 3), abs=6e-5)
    assert park.useful_window(ALEXNET[layer], ATOM) == pytest.approx((atom, 1 / 1.2), abs=6e-5)


def test_fully_connected_layers_always_gain() -> None:
    one = park.ParkParameters(2.15e12, 122e9, alpha=1.0, beta=1.0)
    assert park.useful_window(ALEXNET["fc6"], one)[0] == 0.0


def test_speedup_is_flat_below_the_window_and_falls_above() -> None:
    layer = ALEXNET["conv5"]
    low, high = park.useful_window(layer, XEON)
    density = np.array([low / 4, low / 2, low, 0.1, high, 1.0])
    found = park.speedup(layer, density, XEON)
    assert found[2] == pytest.approx(1 / (3 * low))
    assert found[4] == pytest.approx(1.0)
    assert (np.diff(found) < 0).all()
    assert found[0] < 1.2 * found[2]  # memory bound: little more to gain


def test_effective_rate_is_the_dense_rate_times_the_speedup() -> None:
    layer = ALEXNET["conv3"]
    assert park.effective_flops_per_s(layer, 0.1, XEON) == pytest.approx(2.15e12 / 0.3)


def test_lowering_charges_the_lowered_input() -> None:
    layer = ALEXNET["conv5"]
    assert park.activation_bytes(layer, lowered=True) == 4 * (384 * 9 * 169 + 256 * 169)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_parameters(value: float) -> None:
    with pytest.raises(InputError, match="park: alpha"):
        park.ParkParameters(1e12, 1e9, alpha=value)
