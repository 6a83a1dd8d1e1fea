"""The models that studies train: shapes, and names as published weights have them."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from archsim.pruning.training.models import cifar_alexnet, cifar_resnet20
from archsim.torchnetwork import from_torch


def test_cifar_alexnet() -> None:
    network = from_torch(cifar_alexnet(), (3, 32, 32))
    assert [(layer.R, layer.H, layer.K) for layer in network if layer.type == "conv"] == [
        (5, 32, 64), (1, 16, 64), (5, 8, 96), (1, 8, 96), (3, 8, 128), (3, 8, 128),
    ]  # fmt: skip
    weights = {layer.name: layer.weights for layer in network}
    assert sum(weights[f"fc{n}"] for n in (1, 2, 3)) > 0.6 * sum(weights.values())


def test_resnet20_is_the_published_one() -> None:
    model = cifar_resnet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722  # He et al. 2016: 0.27 M
    names = model.state_dict()
    assert {"conv1.weight", "layer3.2.bn2.running_var", "linear.bias"} <= set(names)
    network = from_torch(model, (3, 32, 32))
    assert len(network.layers) == 20
    assert network["layer2.0.conv1"].stride == (2, 2)
    assert network["layer3.0.conv2"].P == 8


def test_a_shortcut_passes_what_it_reads_on() -> None:
    block: Any = cifar_resnet20().get_submodule("layer2.0")
    with torch.no_grad():
        for norm in (block.bn1, block.bn2):
            norm.weight.zero_()
    x = torch.rand(1, 16, 8, 8)
    out = block.eval()(x)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()
