"""What is pruned in Winograd's domain runs natively as a file of sparsities says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import archsim
from archsim import native
from archsim.kernels.winograd_matrices import VARIANTS, error_bound
from archsim.pruning.training.export_native import (
    check_outputs,
    export_layers,
    write_weights,
)
from archsim.pruning.training.models import digits_net, digits_winograd_relu_net
from archsim.pruning.training.winograd_prune import winograd_pruner
from archsim.sparsity import load_sparsity


def _pruned(variant: str) -> Any:
    model = digits_net()
    pruner = winograd_pruner(model, ["conv2"], variant=variant, threshold=0.01)
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    pruner.after_step()
    return model, pruner


@pytest.mark.parametrize("variant", ["f2x2_3x3", "f4x4_3x3"])
def test_a_file_of_coefficients_is_measured(variant: str, tmp_path: Path) -> None:
    model, pruner = _pruned(variant)
    network = archsim.from_torch(model, (1, 8, 8), "digits")
    layer, tile = network["conv2"], VARIANTS[variant].tile
    layers = export_layers(model, network, pruner)
    sparsity = load_sparsity(write_weights(layers, tmp_path / "w.npz"), network)["conv2"]
    assert sparsity.weights is not None
    assert (sparsity.domain, sparsity.weights.shape) == ("winograd", (tile, tile, 32, 16))
    assert sparsity.density == pruner.densities()["conv2"] < 0.9
    found = archsim.measure(
        layer, "host", method="sparse_winograd", pattern=sparsity, threads=1, min_seconds=0.0,
        check=True,
    )  # fmt: skip
    assert found.density_domain == "winograd"
    assert found.density == sparsity.density
    plan = archsim.make_plan(layer, "host", method="sparse_winograd", pattern=sparsity, threads=1)
    x, weights = torch.randn(1, 16, 8, 8), np.array(sparsity.weights)
    out = native.prepare(plan, weights).run(x.numpy())
    bias = model.conv2.bias.detach().numpy()[:, None, None]
    bound = error_bound(x.numpy(), weights, native.conv_shape(layer), variant)
    with torch.no_grad():  # both within the bound of the exact value, and a rounding of the bias
        expected = model.conv2(x).numpy()
    assert (np.abs(out + bias - expected) <= 2 * bound + 2.0**-22 * np.abs(expected)).all()


def test_exports_are_checked_by_the_kernels() -> None:
    model, pruner = _pruned("f2x2_3x3")
    network = archsim.from_torch(model, (1, 8, 8), "digits")
    checks = check_outputs(model, export_layers(model, network, pruner), torch.randn(2, 1, 8, 8))
    mine = [check for check in checks if check.layer == "conv2"]
    assert [check.method for check in mine] == ["sparse_winograd"]
    assert mine[0].equal


def test_a_relu_inside_is_no_convolution() -> None:
    model = digits_winograd_relu_net()
    network = archsim.from_torch(model, (1, 8, 8), "digits")
    checks = check_outputs(model, export_layers(model, network), torch.randn(2, 1, 8, 8))
    (mine,) = [check for check in checks if check.layer == "conv2"]
    assert mine.error is None
    assert mine.reason == "clips its transformed inputs: no convolution"
