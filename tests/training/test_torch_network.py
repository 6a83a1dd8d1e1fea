"""Networks of PyTorch models, and pruned layers back to archsim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import archsim
from archsim.errors import InputError
from archsim.network import Layer
from archsim.pruning.training import export_native
from archsim.pruning.training.elementwise import Gradual
from archsim.pruning.training.export_native import (
    check_outputs,
    export_layers,
    norms_behind,
    write_weights,
)
from archsim.pruning.training.run import network_yaml
from archsim.torchnetwork import trace_torch

even_kernels = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")


class Odd(nn.Module):
    """Every kind of layer that may be met."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(4, 8, (1, 3), stride=(1, 2), padding=(0, 1), groups=2)
        self.same = nn.Conv2d(8, 6, 3, padding="same", dilation=2)
        self.up = nn.ConvTranspose2d(6, 6, 2)
        self.uneven = nn.Conv2d(6, 6, 2, padding="same")
        self.mirror = nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect")
        self.line = nn.Conv1d(6, 5, 1)
        self.words = nn.Linear(5, 7)
        self.twice = nn.Linear(7, 7)
        self.never = nn.Linear(7, 7)
        self.norm = nn.LayerNorm(7)
        self.last = nn.Linear(7, 3)

    def forward(self, x: Any) -> Any:
        x = self.mirror(self.uneven(self.up(torch.relu(self.same(self.wide(x))))))
        x = self.words(self.line(x.flatten(2)).transpose(1, 2))
        return self.last(self.norm(self.twice(self.twice(x))).mean(1))


@even_kernels
def test_shapes_and_what_is_left() -> None:
    traced = trace_torch(Odd(), (4, 9, 12), "odd")
    layers = {layer.name: layer for layer in traced.network}
    assert list(layers) == ["wide", "same", "words", "twice", "last"]
    assert layers["wide"] == Layer(
        "wide", 4, 8, 9, 12, 1, 3, stride=(1, 2), pad=(0, 1), groups=2, network="odd"
    )
    assert layers["same"] == Layer(
        "same", 8, 6, 9, 6, 3, 3, pad=(2, 2), dilation=(2, 2), network="odd"
    )
    assert layers["words"] == Layer("words", 5, 7, 70, 1, network="odd")  # along the 10x7 picture
    assert layers["last"] == Layer("last", 7, 3, type="fc", network="odd")
    assert set(traced.left) == {"up", "uneven", "mirror", "line", "twice", "never"}
    assert traced.left["up"] == "ConvTranspose2d: not modelled, stays dense"
    assert "padding_mode: not modelled" in traced.left["mirror"]
    assert traced.left["never"] == "Linear: never ran"
    assert traced.left["twice"] == "Linear: runs 2 times, counted once"
    assert traced.ignored == ("LayerNorm",)


def test_a_model_is_as_before(make_net: Callable[[], Any]) -> None:
    net = make_net()
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    network = archsim.from_torch(net, (1, 8, 8), name="small")
    assert network.name == "small"
    assert [layer.P for layer in network] == [8, 4, 1]
    assert net.training
    assert not net[1].training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (nn.Conv2d(3, 4, 3), (1, 8, 8), "input_shape: the model does not take it"),
        (nn.Conv2d(3, 4, 3), (3, 8, 0), "input_shape: whole numbers above zero"),
        (nn.Conv2d(3, 4, 3), (), "input_shape: whole numbers above zero"),
        (nn.Sequential(nn.ReLU()), (3, 8), "has no Conv2d or Linear"),
        (nn.Sequential(nn.Conv1d(3, 4, 1)), (3, 8), "found '0: Conv1d: not modelled"),
        ("model", (3, 8), "model: a torch.nn.Module is due; found 'str'"),
    ],
)
def test_what_is_no_model_is_refused(model: Any, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        archsim.from_torch(model, shape)
    assert "\n" not in str(caught.value)


def stirred(net: Any) -> Any:
    """Give BatchNorms something to fold."""
    norms: Any = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        nn.init.uniform_(module.weight, 0.5, 2.0)
        nn.init.normal_(module.bias)
        nn.init.normal_(module.running_mean)
        nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def pruned_net(make_net: Callable[[], Any]) -> tuple[nn.Module, Gradual]:
    net = stirred(make_net())
    pruner = Gradual(net, sparsity=0.6, end=1)
    pruner.after_step()
    return net, pruner


def test_kernels_compute_what_torch_does(make_net: Callable[[], Any]) -> None:
    net, pruner = pruned_net(make_net)
    network = archsim.from_torch(net, (1, 8, 8))
    layers = export_layers(net, network, pruner)
    assert {name: layer.folded for name, layer in layers.items()} == {"0": "1", "4": "", "7": ""}
    assert layers["0"].bias is not None  # the convolution has none: it is the BatchNorm's
    checks = check_outputs(net, layers, torch.randn(3, 1, 8, 8))
    methods = {(check.layer, check.method) for check in checks}
    assert {("0", "direct_sparse"), ("0", "winograd"), ("7", "fc_sparse")} <= methods
    assert all(check.equal for check in checks)
    assert max(check.error or 0.0 for check in checks) < 1e-5


def test_a_check_finds_a_difference(make_net: Callable[[], Any]) -> None:
    net, pruner = pruned_net(make_net)
    layers = export_layers(net, archsim.from_torch(net, (1, 8, 8)), pruner)
    layers["4"].weights[0, 0, 0, 0] += 0.01
    checks = check_outputs(net, layers, torch.randn(3, 1, 8, 8))
    assert {check.layer for check in checks if not check.equal} == {"4"}


def test_a_method_that_does_not_apply_is_named(make_net: Callable[[], Any]) -> None:
    net = make_net()
    layers = export_layers(net, archsim.from_torch(net, (1, 8, 8)))
    checks = check_outputs(net, layers, torch.randn(1, 1, 8, 8), methods=("fc_sparse",))
    assert [check.error is None for check in checks] == [True, True, False]
    assert checks[0].reason
    with pytest.raises(InputError, match="images: the model does not take them"):
        check_outputs(net, layers, torch.randn(1, 2, 8, 8))


@even_kernels
def test_sequences_and_odd_shapes_compute_alike() -> None:
    net = Odd()
    layers = export_layers(net, archsim.from_torch(net, (4, 9, 12)))
    checks = check_outputs(net, layers, torch.randn(2, 4, 9, 12))
    assert {check.layer for check in checks} == set(layers)
    assert all(check.equal for check in checks)


def test_weights_go_to_a_file_and_back(make_net: Callable[[], Any], tmp_path: Path) -> None:
    net, pruner = pruned_net(make_net)
    network = archsim.from_torch(net, (1, 8, 8))
    layers = export_layers(net, network, pruner)
    path = write_weights(layers, tmp_path / "weights.npz")
    (tmp_path / "network.yaml").write_text(network_yaml(network), encoding="utf-8")
    again = archsim.load_network(tmp_path / "network.yaml")
    assert [layer.weight_shape for layer in again] == [layer.weight_shape for layer in network]
    sparsities = archsim.load_sparsity(path, again)
    for name, density in pruner.densities().items():
        assert sparsities[name].density == pytest.approx(density)
        assert np.array_equal(sparsities[name].weights, layers[name].weights)  # type: ignore[arg-type]
    with np.load(path) as data:
        assert data["0.mask"].dtype == np.bool_
        assert data["0.bias"].shape == (6,)


class Branches(nn.Module):
    """A BatchNorm that shares its convolution with another reader, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.c, self.norm_c = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, affine=False)
        self.d, self.norm_d = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)

    def forward(self, x: Any) -> Any:
        a = self.a(x)
        x = self.norm_a(a) + a
        x = self.norm_b(self.norm_b(self.b(x)))
        return self.norm_d(self.d(self.norm_c(self.c(x))))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Any) -> Any:
        return self.norm(self.conv(x)) if x.sum() >= 0 else x


@pytest.mark.parametrize(("make", "folded"), [(Branches, {"c": "norm_c"}), (Untraceable, {})])
def test_only_what_may_be_folded_is(make: type[nn.Module], folded: dict[str, str]) -> None:
    net = stirred_all(make())
    network = archsim.from_torch(net, (2, 5, 5))
    assert norms_behind(net, network) == folded
    checks = check_outputs(net, export_layers(net, network), torch.randn(2, 2, 5, 5).abs())
    assert all(check.equal for check in checks)


def stirred_all(net: Any) -> Any:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net


def test_the_tolerance_is_the_promised_one() -> None:
    assert export_native.TOLERANCE == 1e-4


def test_parts_of_a_layer_belong_to_it() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    nn.utils.parametrizations.weight_norm(net[0])
    traced = trace_torch(net, (1, 4, 4))
    assert [layer.name for layer in traced.network] == ["0", "2"]
    assert not traced.left


def test_a_model_that_is_a_layer_has_no_name() -> None:
    with pytest.raises(InputError, match="is a single module without a name"):
        archsim.from_torch(nn.Linear(3, 4), (3,))
