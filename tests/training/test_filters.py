"""Filters by L1 norm: ranks, readers, and the smaller network, each against plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional

from archsim.errors import InputError
from archsim.pruning.training.filters import ORDERS, FilterPruning, shrink
from archsim.pruning.training.graph import find_readers


def _chain() -> Any:
    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 5),
    ).double()  # fmt: skip
    for module in model:
        if isinstance(module, nn.BatchNorm2d):  # a removed map is not simply zero
            nn.init.normal_(module.bias, 1.0)
            nn.init.normal_(module.get_buffer("running_mean"))
    return model


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.head = nn.Conv2d(4, 2, 1), nn.Linear(2 * 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.second(functional.relu(self.first(x)))
        x = self.third(x)
        return self.head(x.view(x.size(0), -1))


def _steps(model: Any, pruner: FilterPruning, steps: int) -> None:
    for _ in range(steps):
        model(torch.randn(2, 2, 8, 8, dtype=torch.float64)).sum().backward()
        pruner.before_step()
        pruner.after_step()


@pytest.mark.parametrize("order", ORDERS)
def test_the_smallest_filters_go_with_what_reads_them(order: str) -> None:
    model = _chain()
    first, second = (model[i].weight.detach().numpy().copy() for i in (0, 4))
    pruner = FilterPruning(model, {"0": 0.5, "4": 0.25}, order=order)  # type: ignore[arg-type]
    _steps(model, pruner, 1)
    gone = np.argsort(np.abs(first).sum(axis=(1, 2, 3)))[:3]
    kept = np.setdiff1d(np.arange(6), gone)
    counted = second[:, kept] if order == "greedy" else second
    gone_next = np.argsort(np.abs(counted).sum(axis=(1, 2, 3)))[:2]
    first[gone], second[gone_next], second[:, gone] = 0, 0, 0
    np.testing.assert_array_equal(model[0].weight.detach(), first)
    np.testing.assert_array_equal(model[4].weight.detach(), second)
    columns = model[8].weight.detach().numpy().reshape(5, 8, 16)
    np.testing.assert_array_equal(np.flatnonzero(~columns.any(axis=(0, 2))), np.sort(gone_next))


def test_greedy_and_independent_ranks_differ() -> None:
    """A filter that lives from the kernels of a removed map is large by itself alone."""
    left = {}
    for order in ORDERS:
        model: Any = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 1, 3))
        with torch.no_grad():
            for value, where in ((0.1, model[0].weight[0]), (1.0, model[0].weight[1])):
                where.fill_(value)
            model[1].weight[0, 0], model[1].weight[0, 1] = 9.0, 0.0  # reads the map that goes
            model[1].weight[1, 0], model[1].weight[1, 1] = 0.0, 1.0
        pruner = FilterPruning(model, ["0", "1"], order=order)
        pruner.after_step()
        left[order] = pruner.layers["1"].extras["outputs"].tolist()
    assert left == {"greedy": [False, True], "independent": [True, False]}


def test_rounds_take_more_and_never_give_back() -> None:
    model = _chain()
    pruner = FilterPruning(model, ratio=0.75, rounds=3, every=2)
    seen, before = [], torch.ones(8, dtype=torch.bool)
    for _ in range(6):
        _steps(model, pruner, 1)
        now = pruner.layers["4"].extras["outputs"]
        assert not (now & ~before).any()
        before = now.clone()
        seen.append(int(now.sum()))
    assert seen == [6, 6, 4, 4, 2, 2]


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.99])
def test_the_smaller_network_computes_the_same(ratio: float) -> None:
    model = _chain()
    _steps(model, FilterPruning(model, ratio=ratio), 1)
    found, left = shrink(model)
    smaller: Any = found
    kept = [max(1, maps - round(ratio * maps)) for maps in (6, 8)]
    assert left == {"0": kept[0], "4": kept[1]}
    assert smaller[0].weight.shape == (kept[0], 2, 3, 3)
    assert smaller[4].weight.shape == (kept[1], kept[0], 3, 3)
    assert smaller[8].weight.shape == (5, kept[1] * 16)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    for training in (False, True):  # normalisation by the batch's own figures, too
        model.train(training)
        smaller.train(training)
        torch.testing.assert_close(smaller(x), model(x), rtol=1e-12, atol=1e-12)
    smaller(x).sum().backward()  # it trains on


def test_removed_maps_have_no_influence_whatever_their_bias() -> None:
    model = _chain().eval()
    pruner = FilterPruning(model, ratio=0.5)
    pruner.after_step()
    x = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    before = model(x)
    gone = ~pruner.layers["0"].extras["outputs"]
    with torch.no_grad():
        model[1].bias[gone] += 100.0
    torch.testing.assert_close(model(x), before)


def test_a_layer_given_back_is_dense_and_read() -> None:
    model = _chain()
    start = {i: model[i].weight.detach().clone() for i in (0, 4, 8)}
    pruner = FilterPruning(model, ratio=0.5)
    _steps(model, pruner, 1)
    pruner.restore("0")
    assert torch.equal(model[0].weight, start[0])
    lost = ~pruner.layers["4"].extras["outputs"]
    assert not model[4].weight[lost].any()  # its own filters stay gone
    assert torch.equal(model[4].weight[~lost], start[4][~lost])
    _steps(model, pruner, 2)
    assert pruner.densities()["0"] == 1.0


def test_a_stopped_layer_keeps_its_filters() -> None:
    model = _chain()
    pruner = FilterPruning(model, ratio=0.5)
    pruner.stop("0")
    _steps(model, pruner, 1)
    assert pruner.densities() == {"0": 1.0, "4": 0.5, "8": 0.5}


def test_the_state_brings_back_what_is_gone() -> None:
    model, other = _chain(), _chain()
    pruner = FilterPruning(model, ratio=0.6, rounds=2, every=2)
    _steps(model, pruner, 2)
    again = FilterPruning(other, ratio=0.6, rounds=2, every=2)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(pruner.state_dict())
    for m, p in ((model, pruner), (other, again)):
        _steps(m, p, 1)
    assert torch.equal(model[4].weight, other[4].weight)
    assert again.densities() == pruner.densities()


def test_grouped_readers_lose_the_right_kernels() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2))
    with torch.no_grad():
        model[0].weight[[0, 3]] = 1e-9
    pruner = FilterPruning(model, ["0"])
    pruner.after_step()
    kernels = pruner.layers["1"].mask.any(dim=(2, 3))
    assert kernels.tolist() == [[False, True], [False, True], [True, False], [True, False]]
    smaller, left = shrink(model)
    assert left == {}
    assert smaller.state_dict()["1.weight"].shape == (4, 2, 3, 3)


def test_who_reads_in_a_residual_block() -> None:
    readers, refused = find_readers(_Residual())
    assert {name: found.layers for name, found in readers.items()} == {
        "first": ("second",),
        "third": ("head",),
    }
    assert refused == {"second": "its maps meet add"}


def test_what_runs_twice_or_cannot_be_followed_stays() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    _, refused = find_readers(nn.Sequential(nn.Conv2d(2, 2, 1), shared, nn.ReLU(), shared))
    assert refused == {
        "0": "its maps meet 1, which runs at several places",
        "1": "runs at several places",
    }

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match=r"^model: torch.fx cannot trace it \("):
        find_readers(Branching())


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"^layer second: its maps must stay: its maps meet add"):
        FilterPruning(_Residual(), ["second"])
    with pytest.raises(InputError, match=r"^layer frist: no such convolution; .*'first'"):
        FilterPruning(_Residual(), ["frist"])
    with pytest.raises(InputError, match=r"^ratio of 0: must lie in 0..1, below 1; found 1.0"):
        FilterPruning(_chain(), ["0"], ratio=1.0)
    with pytest.raises(InputError, match=r"^order: unknown; found 'reverse'"):
        FilterPruning(_chain(), order="reverse")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^layers: none has maps that can be removed"):
        FilterPruning(nn.Sequential(nn.Conv2d(1, 2, 3)))
