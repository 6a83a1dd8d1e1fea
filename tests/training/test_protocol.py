"""What every pruner promises to a loop."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from archsim.errors import InputError
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.elementwise import DNS, ESL, Gradual

MAKERS = {
    "esl": lambda net: ESL(net, decay=0.05, threshold=1e-3),
    "dns": lambda net: DNS(net, rate=0.2, gamma=0.01, seed=4),
    "gradual": lambda net: Gradual(net, sparsity=0.7, end=20, every=2),
}
every_pruner = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
Make = Callable[[nn.Module], Any]


def train(net: Any, pruner: Any, data: Dataset, steps: int, *, momentum: float = 0.9) -> None:
    """The plain loop of the documentation."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=momentum)
    x, y = data.train_x[:32], data.train_y[:32]
    for _ in range(steps):
        loss: Any = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()


def zeros(net: Any, name: str) -> Any:
    return dict(net.named_modules())[name].weight.detach() == 0


@every_pruner
def test_a_plain_loop_prunes(make_net: Callable[[], Any], bars: Dataset, make: Make) -> None:
    net = make_net()
    pruner = make(net)
    train(net, pruner, bars, 30)
    assert pruner.steps == 30
    for name, density in pruner.densities().items():
        assert zeros(net, name).sum() == (~pruner.layers[name].mask).sum()
        assert density == pytest.approx(1.0 - float(zeros(net, name).float().mean()))
    assert min(pruner.densities().values()) < 0.9


@every_pruner
def test_frozen_zeros_stay(make_net: Callable[[], Any], bars: Dataset, make: Make) -> None:
    net = make_net()
    pruner = make(net)
    train(net, pruner, bars, 25)
    pruner.freeze()
    before = {name: zeros(net, name) for name in pruner.layers}
    weights = net[4].weight.detach().clone()
    train(net, pruner, bars, 5)
    for name, was in before.items():
        assert torch.equal(zeros(net, name), was)
    assert not torch.equal(net[4].weight, weights)  # what is left learns on


@every_pruner
def test_frozen_zeros_get_no_gradient(
    make_net: Callable[[], Any], bars: Dataset, make: Make
) -> None:
    """So that momentum, Adam's moments and norms of gradients know nothing of them."""
    net = make_net()
    pruner = make(net)
    train(net, pruner, bars, 25)
    pruner.freeze()
    net(bars.train_x[:8]).sum().backward()
    pruner.before_step()
    for layer in pruner.layers.values():
        assert (layer.weight.grad[~layer.mask] == 0).all()
        assert (layer.weight.grad[layer.mask] != 0).any()


@every_pruner
def test_a_restored_layer_is_that_of_the_start(
    make_net: Callable[[], Any], bars: Dataset, make: Make
) -> None:
    net = make_net()
    start = net[4].weight.detach().clone()
    pruner = make(net)
    train(net, pruner, bars, 25)
    pruner.restore("4")
    assert torch.equal(net[4].weight, start)
    assert pruner.densities()["4"] == 1.0
    others = pruner.densities()["7"]
    train(net, pruner, bars, 5)
    assert not zeros(net, "4").any()
    assert others < 1.0


@every_pruner
def test_states_go_through_a_file(make_net: Callable[[], Any], bars: Dataset, make: Make) -> None:
    net = make_net()
    pruner = make(net)
    train(net, pruner, bars, 15, momentum=0.0)
    pruner.stop("7")
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "pruner": pruner.state_dict()}, file)
    other = make_net()
    with torch.no_grad():
        other[4].weight.mul_(2.0)  # what the pruner takes from it must be replaced
    again = make(other)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_state_dict(state["net"])
    again.load_state_dict(state["pruner"])
    assert again.steps == 15
    assert not again.layers["7"].active
    for model, one in ((net, pruner), (other, again)):
        torch.manual_seed(9)
        train(model, one, bars, 10, momentum=0.0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(pruner.layers["4"].dense, again.layers["4"].dense)


def test_a_state_of_other_layers_is_refused(make_net: Callable[[], Any]) -> None:
    pruner = ESL(make_net(), ["0", "4"])
    with pytest.raises(InputError, match="is of other layers"):
        pruner.load_state_dict(ESL(make_net(), ["0"]).state_dict())
    state = pruner.state_dict()
    state["layers"]["4"]["mask"] = torch.ones(3, dtype=torch.bool)
    with pytest.raises(InputError, match="pruner state: 4: is of another shape"):
        pruner.load_state_dict(state)
