"""Convolutions with parameters in Winograd's domain, against direct ones, NumPy and the kernels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import archsim
from archsim.errors import InputError
from archsim.kernels.winograd_matrices import (
    VARIANTS,
    conv2d_winograd,
    error_bound,
    transform_weights,
)
from archsim.native import conv_shape, prepare
from archsim.network import Layer
from archsim.pruning.training.winograd_layer import (
    WinogradConv2d,
    replace_convolutions,
    to_winograd,
)

#: (channels, outputs, groups, height, width, padding): tiles that fit, that stick out, one tile
SHAPES = [
    (3, 5, 1, 9, 7, (1, 1)),
    (4, 6, 2, 8, 8, (2, 0)),
    (4, 4, 4, 5, 12, (0, 1)),
    (1, 1, 1, 5, 5, (0, 0)),
]


def _conv(
    shape: tuple[int, int, int, int, int, tuple[int, int]], kernel: int, bias: bool = True
) -> tuple[nn.Conv2d, torch.Tensor]:
    channels, outputs, groups, height, width, padding = shape
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, outputs, kernel, padding=padding, groups=groups, bias=bias)
    return conv.double(), torch.randn(2, channels, height, width, dtype=torch.float64)


@pytest.mark.parametrize(("variant", "shape"), list(product(VARIANTS, SHAPES)))
def test_the_same_convolution(variant: str, shape: tuple[int, ...]) -> None:
    conv, x = _conv(shape, VARIANTS[variant].kernel)  # type: ignore[arg-type]
    layer = WinogradConv2d.from_conv(conv, variant)
    torch.testing.assert_close(layer(x), conv(x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("variant", VARIANTS)
def test_coefficients_are_those_of_the_kernels(variant: str) -> None:
    """To float32, in which `transform_weights` rounds."""
    g = torch.randn(5, 3, VARIANTS[variant].kernel, VARIANTS[variant].kernel)
    np.testing.assert_array_equal(to_winograd(g, variant), transform_weights(g.numpy(), variant))


@pytest.mark.parametrize(
    ("variant", "relu_inputs"), [*product(VARIANTS, [False]), ("f2x2_3x3", True)]
)
def test_gradients_are_those_of_finite_differences(variant: str, relu_inputs: bool) -> None:
    conv, _ = _conv((2, 2, 2, 6, 5, (1, 1)), VARIANTS[variant].kernel)
    layer: Any = WinogradConv2d.from_conv(conv, variant, relu_inputs)
    x = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        values = {"weight": weight, "bias": bias}
        out: torch.Tensor = torch.func.functional_call(layer, values, x)
        return out

    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias), fast_mode=True)


def test_gradients_of_the_published_formulas() -> None:
    """dF = sum over tiles of A dO A^T (.) B^T d B, on one tile, stated in NumPy."""
    variant = VARIANTS["f4x4_3x3"]
    conv, _ = _conv((2, 3, 1, 6, 6, (0, 0)), 3, bias=False)
    layer = WinogradConv2d.from_conv(conv, "f4x4_3x3")
    x = torch.randn(1, 2, 6, 6, dtype=torch.float64)
    downstream = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    layer(x).backward(downstream)
    a, b = variant.output_rows, variant.input_rows
    y = [a.T @ o @ a for o in downstream[0].numpy()]
    z = [b @ d @ b.T for d in x[0].numpy()]
    expected = np.array([[yk * zc for zc in z] for yk in y]).transpose(2, 3, 0, 1)
    assert layer.weight.grad is not None
    np.testing.assert_allclose(layer.weight.grad, expected, rtol=1e-12, atol=1e-12)


def test_relu_after_the_input_transformation() -> None:
    """Liu et al.: A^T [sum over c of W (.) ReLU(B^T d B)] A, stated in NumPy on one tile."""
    variant = VARIANTS["f2x2_3x3"]
    conv, _ = _conv((2, 1, 1, 4, 4, (0, 0)), 3, bias=False)
    layer = WinogradConv2d.from_conv(conv, "f2x2_3x3", relu_inputs=True)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    w: Any = layer.weight.detach().numpy()
    a, b = variant.output_rows, variant.input_rows
    sums = sum(w[:, :, 0, c] * np.maximum(b @ x[0, c].numpy() @ b.T, 0) for c in range(2))
    np.testing.assert_allclose(layer(x).detach().numpy()[0, 0], a @ sums @ a.T, rtol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_native_kernel_runs_the_pruned_layer(variant: str) -> None:
    kernel = VARIANTS[variant].kernel
    conv, x = _conv((4, 6, 2, 11, 9, (1, 2)), kernel, bias=False)
    layer = WinogradConv2d.from_conv(conv.float(), variant)
    with torch.no_grad():
        layer.weight.mul_(torch.rand(layer.weight.shape) < 0.2)  # has no spatial equal
    shape = Layer("own", C=4, K=6, H=11, W=9, R=kernel, S=kernel, pad=(1, 2), groups=2)
    weights, image = layer.weight.detach().numpy(), x.float().numpy()
    plan = archsim.make_plan(shape, "host", method="sparse_winograd", pattern=weights, threads=1)
    native = prepare(plan, weights).run(image)
    exact = conv2d_winograd(image, weights, conv_shape(shape), variant)
    bound = error_bound(image, weights, conv_shape(shape), variant)
    assert (np.abs(native - exact) <= bound).all()
    with torch.no_grad():
        ours = layer(torch.from_numpy(image)).numpy()
    # B (x) B and A (x) A at once: as many roundings as their longest rows have numbers
    rows = (VARIANTS[variant].input_rows, VARIANTS[variant].output_rows)
    roundings = sum(int((row != 0).sum(axis=1).max()) ** 2 for row in rows) + 2 + 3
    sums = conv2d_winograd(image, weights, conv_shape(shape), variant, magnitudes=True)
    assert (np.abs(ours - exact) <= roundings * 2.0**-24 * sums).all()


def test_replacing_keeps_the_function() -> None:
    torch.manual_seed(1)
    model: Any = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 4, 5, padding=2),
        nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 2, 3)),
    ).double()  # fmt: skip
    x = torch.randn(2, 1, 13, 12, dtype=torch.float64)
    before = model(x)
    replaced = replace_convolutions(model, skip=["5.0"])
    assert list(replaced) == ["0", "2"]
    assert [m.variant.name for m in replaced.values()] == ["f4x4_3x3", "f4x4_5x5"]
    assert model[2] is replaced["2"]
    torch.testing.assert_close(model(x), before, rtol=1e-11, atol=1e-11)
    assert set(model.state_dict()) == {
        f"{place}.{name}" for place in ("0", "2", "3", "4", "5.0") for name in ("weight", "bias")
    }


def test_a_shared_convolution_stays_shared() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    model: Any = nn.Sequential(shared, nn.ReLU(), shared)
    replaced = replace_convolutions(model, "f2x2_3x3")
    assert replaced["0"] is replaced["2"] is model[2]


def test_refusals_say_what_and_where() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.ReLU())
    with pytest.raises(InputError, match=r"^model: no convolution that f4x4_3x3, f4x4_5x5 can"):
        replace_convolutions(model)
    with pytest.raises(InputError, match=r"^variant: unknown; found 'f4_3'"):
        replace_convolutions(model, "f4_3")
    with pytest.raises(InputError, match=r"^skip: no convolution has this name; found '1'"):
        replace_convolutions(model, skip=["1"])
    with pytest.raises(InputError, match="needs stride 1 and dilation 1"):
        WinogradConv2d.from_conv(nn.Conv2d(1, 2, 3, dilation=2), "f2x2_3x3")
    with pytest.raises(InputError, match="pads with zeros only"):
        WinogradConv2d.from_conv(nn.Conv2d(1, 2, 3, padding_mode="circular"), "f2x2_3x3")
    layer = WinogradConv2d.from_conv(nn.Conv2d(2, 2, 3), "f2x2_3x3")
    with pytest.raises(InputError, match=r"^x: wrong shape; found \(1, 3, 8, 8\)"):
        layer(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match=r"^weight: wrong shape; found \(6, 6, 2, 2\)"):
        WinogradConv2d(torch.zeros(6, 6, 2, 2), None, "f2x2_3x3")
