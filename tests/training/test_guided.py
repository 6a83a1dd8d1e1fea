"""Guided Sparsity Learning: what a machine says, and that it is obeyed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import archsim
from archsim.errors import InputError
from archsim.network import Layer, Network
from archsim.pruning import find_window, make_table
from archsim.pruning.training.elementwise import DNS, Gradual
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.guided import SETTLED_COUNT, Guided

XEON = "xeon-e5-2697v4-2s"


def wide_net() -> Any:
    """A first layer without potential, one with a window, a fully connected one."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.Conv2d(8, 32, 3, padding=1), nn.Flatten(),
        nn.Linear(32 * 64, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def guide() -> Guide:
    return Guide(archsim.from_torch(wide_net(), (1, 8, 8)), XEON, model="park")


def test_windows_are_those_of_the_targets(guide: Guide) -> None:
    table = make_table(guide.network, archsim.load_machine(XEON), model="park")
    window = find_window(table.layers["1"], table, archsim.load_machine(XEON))
    assert guide.windows["1"] == window
    assert window.pays_from == pytest.approx(2 / 3, abs=1e-3)  # 1 / alpha of the paper
    assert window.gains_until is not None


def test_the_upper_bound_is_the_published_one() -> None:
    """AlexNet's conv3 to conv5 on the paper's Xeon: x_lo of section 2.2 with alpha 3, beta 2."""
    network = archsim.load_network("alexnet")
    guide = Guide(network, XEON, model="park", batch=1)
    published = {"conv2": 0.0139, "conv3": 0.0099, "conv4": 0.0158, "conv5": 0.0197}
    for name, density in published.items():
        assert guide.project({name: density - 2e-4})[name].action == "stop"
        assert guide.project({name: density + 2e-4})[name].action == "prune"


def test_verdicts(guide: Guide) -> None:
    window = guide.windows["1"]
    assert window.pays_from is not None
    assert window.gains_until is not None
    start = guide.start(["0", "1", "3", "elsewhere"])
    assert {name: v.action for name, v in start.items()} == {
        "0": "skip", "1": "prune", "3": "prune", "elsewhere": "skip",
    }  # fmt: skip
    below, above = 1.0 - window.pays_from + 0.05, 1.0 - window.gains_until - 0.01
    assert guide.project({"1": below})["1"].action == "prune"
    assert guide.project({"1": below}, settled={"1"})["1"].action == "restore"
    inside = 1.0 - (window.pays_from + window.gains_until) / 2.0
    assert guide.project({"1": inside}, settled={"1"})["1"].action == "prune"
    assert guide.project({"1": above})["1"].action == "stop"
    assert guide.project({"1": below})["1"].speedup == 1.0
    assert guide.project({"1": above})["1"].speedup > 1.0


def test_fully_connected_layers_have_a_goal_of_their_own(guide: Guide) -> None:
    network = guide.network
    assert guide.project({"3": 0.01}, settled={"3"})["3"].action == "prune"
    assert guide.project({"3": 0.6}, settled={"3"})["3"].action == "restore"
    dense = Guide(network, XEON, model="park", fc="dense")
    assert dense.start(["3"])["3"].action == "skip"
    timed = Guide(network, XEON, model="park", fc="time")
    assert timed.windows["3"] == guide.windows["3"]
    assert timed.start(["3"])["3"].reason != "for size"


def test_speedups_are_of_the_whole_network(guide: Guide) -> None:
    assert guide.speedup({}) == pytest.approx(1.0)
    dense = {layer.name: guide.seconds(layer.name, 1.0) for layer in guide.network}
    sparse = guide.seconds("1", 0.1)
    expected = sum(dense.values()) / (sum(dense.values()) - dense["1"] + sparse)
    assert guide.speedup({"1": 0.1}) == pytest.approx(expected)


def test_output_maps_gain_from_fewer_zeros(guide: Guide) -> None:
    maps = Guide(guide.network, XEON, model="park", groups="output-maps")
    assert maps.windows["1"].pays_from < guide.windows["1"].pays_from  # type: ignore[operator]
    # half of the maps: half of the time, for the published model knows arithmetic alone here
    assert maps.seconds("1", 0.5) == pytest.approx(0.5 * maps.seconds("1", 1.0), rel=0.05)


def test_a_winograd_layer_is_projected_in_its_domain() -> None:
    layer = Layer("c", C=64, K=64, H=28, W=28, R=3, S=3, pad=(1, 1))
    network = Network("one", (layer,))
    spatial, winograd = (Guide(network, XEON, winograd=names) for names in ((), ("c",)))
    assert spatial.seconds("c", 0.1) != winograd.seconds("c", 0.1)


def _steps(guided: Any, net: Any, count: int) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    for _ in range(count):
        loss = net(torch.ones(1, 1, 8, 8)).sum()
        optimizer.zero_grad()
        loss.backward()
        guided.before_step()
        optimizer.step()
        guided.after_step()


def test_layers_without_potential_are_never_pruned(guide: Guide) -> None:
    net = wide_net()
    guided = Guided(Gradual(net, sparsity=0.9, end=10, every=1), guide, every=5)
    assert guided.decided["0"][1].action == "skip"
    _steps(guided, net, 12)
    assert guided.densities()["0"] == 1.0
    assert guided.densities()["3"] < 0.2


def test_a_layer_stops_at_the_upper_bound(guide: Guide) -> None:
    end = guide.windows["1"].gains_until
    assert end is not None
    net = wide_net()
    guided = Guided(Gradual(net, sparsity=0.99, end=100, every=1), guide, every=1)
    _steps(guided, net, 100)
    step, verdict = guided.decided["1"]
    assert verdict.action == "stop"
    assert 0 < step < 100
    sparsity = 1.0 - guided.densities()["1"]
    assert end <= sparsity < end + 0.03  # one step of the schedule
    assert int((net[1].weight == 0).sum()) == round(sparsity * net[1].weight.numel())
    assert 1.0 - guided.densities()["3"] == pytest.approx(0.99, abs=0.01)


def test_a_layer_that_settles_below_its_window_is_given_back(guide: Guide) -> None:
    net = wide_net()
    dense = net[1].weight.detach().clone()
    pruner = Gradual(net, sparsity={"1": 0.4, "3": 0.9}, end=10, every=1)
    guided = Guided(pruner, guide, every=2)
    _steps(guided, net, 10)
    assert guided.densities()["1"] == pytest.approx(0.6, abs=0.01)
    _steps(guided, net, 2 * (SETTLED_COUNT + 1))
    assert guided.decided["1"][1].action == "restore"
    assert torch.equal(net[1].weight, dense)
    assert guided.densities()["1"] == 1.0
    assert "3" not in guided.decided


def test_nothing_settles_before_its_time(guide: Guide) -> None:
    net = wide_net()
    pruner = Gradual(net, sparsity={"1": 0.4}, end=10, every=1)
    guided = Guided(pruner, guide, every=2, not_before=1000)
    _steps(guided, net, 60)
    assert not guided.decided
    guided.freeze()
    assert guided.decided["1"][1].action == "restore"
    assert not guided.layers["1"].active


def test_any_method_can_be_guided_and_goes_through_a_file(guide: Guide, tmp_path: Path) -> None:
    def make(net: Any) -> Guided:
        return Guided(DNS(net, rate=1.0, gamma=0.0), guide, every=3)

    net, other = wide_net(), wide_net()
    first = make(net)
    _steps(first, net, 10)
    torch.save({"net": net.state_dict(), "pruner": first.state_dict()}, tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    second = make(other)
    other.load_state_dict(state["net"])
    second.load_state_dict(state["pruner"])
    assert second.decided == first.decided
    _steps(first, net, 8)
    _steps(second, other, 8)
    assert first.decided == second.decided
    assert first.densities() == second.densities()


def test_a_misspelt_goal_is_refused(guide: Guide) -> None:
    with pytest.raises(InputError, match=r"fc: unknown; found 'sise'; .*did you mean 'size'"):
        Guide(guide.network, XEON, fc="sise")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="every: must be at least 1"):
        Guided(DNS(wide_net()), guide, every=0)


def test_a_projection_is_cheap_for_it_asks_nobody(
    guide: Guide, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All predictions are made when the guide is; a projection reads lines."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a prediction during training")

    for name in ("archsim.api.predict", "archsim.pruning.window.predict",
                 "archsim.pruning.table.predict"):  # fmt: skip
        monkeypatch.setattr(name, refuse)
    guide.project({"1": 0.2, "3": 0.1})


def test_make_net_is_known_to_the_model(make_net: Callable[[], Any]) -> None:
    network = archsim.from_torch(make_net(), (1, 8, 8))
    assert Guide(network, XEON).speedup({}) == pytest.approx(1.0)
