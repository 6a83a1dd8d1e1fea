"""Pruning in Winograd's domain: one step against the rules in NumPy; what may be moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from archsim.errors import InputError
from archsim.kernels.winograd_matrices import VARIANTS
from archsim.pruning.training.winograd_layer import (
    WinogradConv2d,
    replace_convolutions,
)
from archsim.pruning.training.winograd_prune import (
    NativeWinograd,
    position_scales,
    winograd_pruner,
)
from archsim.pruning.training.winograd_relu import (
    DENSITIES,
    DensitySteps,
    move_relus,
)


def _net() -> Any:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(), nn.Conv2d(6, 2, 1), nn.Flatten(), nn.Linear(32, 3),
    ).double()  # fmt: skip


def _step(
    model: Any, pruner: NativeWinograd | DensitySteps, rate: float, optimizer: Any = None
) -> None:
    """One step, of plain gradient descent unless an optimizer is given."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=rate)
    optimizer.zero_grad()
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    model(images).square().sum().backward()
    pruner.before_step()
    optimizer.step()
    pruner.after_step()


@pytest.mark.parametrize("variant", VARIANTS)
def test_scales_are_row_norms_of_the_kronecker_product(variant: str) -> None:
    found, rows = position_scales(VARIANTS[variant]), VARIANTS[variant].output_rows.T
    norms = [float(np.sqrt(sum(v * v for v in row))) for row in np.kron(rows, rows)]
    np.testing.assert_allclose(1 / found.numpy().ravel(), norms, rtol=1e-14)
    if variant == "f4x4_3x3":  # as published: 1 to 85
        assert min(norms) == 1.0
        assert max(norms) == pytest.approx(85, abs=0.5)


@pytest.mark.parametrize("by_position", [True, False])
def test_a_step_is_the_papers_rule(by_position: bool) -> None:
    model = _net()
    replace_convolutions(model, "f4x4_3x3", skip=["0"])
    pruner = NativeWinograd(
        model, {"3": 0.5}, decay=0.02, threshold=0.01, factor=10, by_position=by_position
    )
    layer, rate = model[3], 0.001
    assert isinstance(layer, WinogradConv2d)
    before = layer.weight.detach().numpy().copy()
    _step(model, pruner, rate)
    assert layer.weight.grad is not None
    gradient = layer.weight.grad.numpy()  # with the penalty's, as the rule takes it
    stepped = before - rate * gradient
    a = VARIANTS["f4x4_3x3"].output_rows.T
    expected = np.zeros_like(stepped)
    for i, j in np.ndindex(6, 6):
        norm = np.linalg.norm(a[i]) * np.linalg.norm(a[j]) if by_position else 1.0
        limit = 0.01 / (np.abs(gradient[i, j]) + 1 / 10) / norm
        expected[i, j] = np.where(np.abs(stepped[i, j]) > limit, stepped[i, j], 0.0)
    assert 0.05 < pruner.densities()["3"] < 0.95
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-12, atol=1e-15)


def test_the_penalty_is_a_lasso_on_coefficients() -> None:
    model = _net()
    replace_convolutions(model, "f2x2_3x3", skip=["0"])
    pruner = NativeWinograd(model, {"3": 0.5}, decay=0.02)
    layer = pruner.layers["3"]
    layer.weight.grad = torch.zeros_like(layer.weight)
    pruner.before_step()
    expected = 0.5 * 0.02 * np.sign(layer.weight.detach().numpy())
    np.testing.assert_array_equal(layer.weight.grad, expected)
    pruner.freeze()
    layer.weight.grad.zero_()
    pruner.before_step()  # fine-tuning: L2
    np.testing.assert_allclose(layer.weight.grad, 0.02 * layer.weight.detach().numpy())


def test_frozen_zeros_stay_zero() -> None:
    model = _net()
    pruner = winograd_pruner(model, threshold=0.05)
    _step(model, pruner, 0.01)
    pruner.freeze()
    gone = {name: layer.weight == 0 for name, layer in pruner.layers.items()}
    assert sorted(gone) == ["0", "3"]
    _step(model, pruner, 0.01)
    for name, layer in pruner.layers.items():
        assert gone[name].any()
        assert torch.equal(layer.weight == 0, gone[name])
        assert layer.domain == "winograd"


def test_a_pruner_puts_convolutions_into_the_domain_once() -> None:
    model = _net()
    first = winograd_pruner(model, ["3"])
    assert list(first.layers) == ["3"]
    assert isinstance(model[0], nn.Conv2d)
    again = winograd_pruner(model)
    assert list(again.layers) == ["3"]
    assert again.layers["3"].module is model[3]


def test_densities_fall_by_magnitude_and_what_went_stays_gone() -> None:
    model = _net()
    moved = move_relus(model)
    assert list(moved) == ["3"]  # not the first, nor the 1x1 one
    pruner = DensitySteps(model, density=0.45, every=2)
    assert pruner.densities_due == (0.7, 0.6, 0.5, 0.45)
    layer, seen = pruner.layers["3"], []
    adam = torch.optim.Adam(model.parameters(), lr=0.1)  # its momentum pushes masked weights on
    for _ in range(8):
        before = layer.mask.clone()
        _step(model, pruner, 0.0, adam)
        assert bool((before | ~layer.mask).all())  # nothing comes back
        seen.append(layer.density)
    size = layer.mask.numel()
    assert seen == [round(d * size) / size for d in (0.7, 0.7, 0.6, 0.6, 0.5, 0.5, 0.45, 0.45)]
    kept = layer.weight.detach().abs()
    assert torch.equal(kept > 0, layer.mask)


def test_the_largest_of_what_is_left_stay() -> None:
    model = _net()
    move_relus(model)
    pruner = DensitySteps(model, density=0.2, every=1)
    assert pruner.densities_due == (*DENSITIES[:7], 0.2)
    layer = pruner.layers["3"]
    before = layer.weight.detach().abs().numpy().ravel().copy()
    _step(model, pruner, 0.0)
    largest = np.sort(np.argsort(-before, kind="stable")[: round(0.7 * before.size)])
    np.testing.assert_array_equal(np.flatnonzero(layer.mask.numpy()), largest)


def test_relus_move_only_where_nobody_else_hears_them() -> None:
    model = _net()
    move_relus(model)
    assert isinstance(model[1], nn.Identity)
    assert isinstance(model[4], nn.ReLU)
    assert isinstance(model[3], WinogradConv2d)
    assert model[3].relu_inputs

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()
            self.second = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu(self.first(x))
            return x + self.second(x)

    with pytest.raises(InputError, match=r"^model: no 3x3 convolution .* ReLU module of its own"):
        move_relus(Residual())


def test_refusals() -> None:
    model = _net()
    with pytest.raises(InputError, match=r"^layers: .* WinogradConv2d"):
        NativeWinograd(model)
    move_relus(model)
    with pytest.raises(InputError, match=r"^density: must lie in 0..1, above 0; found 0"):
        DensitySteps(model, density=0.0)
    with pytest.raises(InputError, match=r"^factor: must be at least 2; found 1"):
        NativeWinograd(model, factor=1)
    with pytest.raises(InputError, match=r"^decay: must be at least 0; found -1"):
        NativeWinograd(model, decay=-1)
