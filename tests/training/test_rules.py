"""One step of each trainer against a second statement of the paper's rule, in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from archsim.errors import InputError
from archsim.pruning import magnitude_prune
from archsim.pruning.training import rules
from archsim.pruning.training.elementwise import DNS, ESL, Gradual

RATE = 0.1


def _values(
    *shape: int, scale: float = 1.0, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def _linear(weights: Any) -> Any:
    net: Any = nn.Sequential(nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64))
    with torch.no_grad():
        net[0].weight.copy_(torch.from_numpy(weights))
    return net


def _step(net: Any, pruner: Any, gradient: Any) -> Any:
    """Take one step of plain gradient descent with a given gradient; return the weights."""
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    net[0].weight.grad = torch.from_numpy(gradient.copy())
    pruner.before_step()
    optimizer.step()
    pruner.after_step()
    return net[0].weight.detach().numpy().copy()


def test_the_threshold_of_the_published_code() -> None:
    g = _values(50, scale=0.1)
    tau0, tau_max = 1e-4, 1e-3  # the README's form: 1 / (|g| / tau0 + 1 / tau_max)
    expected = 1.0 / (np.abs(g) / tau0 + 1.0 / tau_max)
    found = rules.gradient_threshold(torch.from_numpy(g)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_step_of_esl() -> None:
    w, g = _values(7, 9, scale=0.002), _values(7, 9, scale=0.01, seed=1)
    decay, strength, tau0 = 0.003, 0.5, 1e-4
    net = _linear(w)
    pruner = ESL(net, {"0": strength}, decay=decay, threshold=tau0)
    found = _step(net, pruner, g)
    pulled = g + decay * strength * np.sign(w)
    moved = w - RATE * pulled
    expected = np.where(np.abs(moved) <= tau0 / (np.abs(pulled) + 0.1), 0.0, moved)
    assert 0 < np.count_nonzero(expected) < w.size
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (pruner.layers["0"].mask.numpy() == (expected != 0)).all()
    # zeros may grow again
    again = _step(net, pruner, np.full_like(g, -1.0))
    assert np.count_nonzero(again) > np.count_nonzero(expected)


def test_layers_that_esl_does_not_prune_get_a_squared_penalty() -> None:
    w, g = _values(5, 4), _values(5, 4, seed=1)
    net = _linear(w)
    pruner = ESL(net, ["0"], decay=0.2)
    pruner.stop("0")
    np.testing.assert_allclose(_step(net, pruner, g), w - RATE * (g + 0.2 * w), rtol=1e-12)


def test_two_strengths_by_default(make_net: Callable[[], Any]) -> None:
    layers = ESL(make_net()).layers
    assert {name: layer.strength for name, layer in layers.items()} == {
        "0": 1.0, "4": 1.0, "7": 0.1,
    }  # fmt: skip


def _surgery(w: Any, mask: Any, t: float) -> Any:
    """The rule of the published code, weight by weight."""
    found = mask.copy()
    for place in np.ndindex(w.shape):
        if mask[place] and abs(w[place]) <= 0.9 * t:
            found[place] = False
        elif not mask[place] and abs(w[place]) > 1.1 * t:
            found[place] = True
    return found


def test_steps_of_dns() -> None:
    w = _values(8, 6)
    net = _linear(w)
    rate = 0.5
    t = max(np.abs(w).mean() + rate * np.sqrt(((np.abs(w) - np.abs(w).mean()) ** 2).mean()), 0.0)
    pruner = DNS(net, ["0"], rate=rate, gamma=0.0)  # an update in every step
    full, mask = w.copy(), np.ones(w.shape, dtype=bool)
    returned = False
    for number in range(12):
        g = _values(8, 6, scale=4.0, seed=10 + number)
        full = full - RATE * g
        new = _surgery(full, mask, t)
        returned |= bool((new & ~mask).any())
        mask = new
        found = _step(net, pruner, g)
        np.testing.assert_allclose(found, full * mask, rtol=1e-9, atol=1e-12)
        assert (pruner.layers["0"].mask.numpy() == mask).all()
    assert returned  # splicing was seen


def test_masks_of_dns_change_with_the_published_probability() -> None:
    net = _linear(_values(30, 30))
    pruner = DNS(net, ["0"], rate=0.0, gamma=0.01, power=1.0, until=300, seed=3)
    draw = torch.Generator().manual_seed(3)
    for step in range(400):
        before = pruner.layers["0"].mask.clone()
        _step(net, pruner, _values(30, 30, scale=5.0, seed=step))
        changed = not torch.equal(before, pruner.layers["0"].mask)
        due = step < 300 and (1.0 + 0.01 * step) ** -1.0 > float(
            torch.rand((), generator=draw, dtype=torch.float64)
        )
        assert changed == due, step


def test_the_mean_threshold_of_dns_is_not_negative() -> None:
    assert rules.dns_threshold(torch.tensor([1.0, 1.1]), -100.0) == 0.0


def test_gradual_follows_the_cubic_schedule() -> None:
    w = _values(20, 20)
    net = _linear(w)
    pruner = Gradual(net, sparsity=0.8, begin=2, end=12, every=4)
    for step in range(1, 16):
        last = max((due for due in (2, 6, 10, 12) if due <= step), default=2)
        wanted = 0.8 + (0.0 - 0.8) * (1.0 - (last - 2) / 10.0) ** 3
        found = _step(net, pruner, np.zeros_like(w))
        kept = magnitude_prune(w.astype(np.float32), 1.0 - wanted)
        assert ((found != 0) == (kept != 0)).all(), step
    assert np.count_nonzero(found) == 80


def test_gradual_freezes_what_is_masked() -> None:
    net = _linear(_values(10, 10))
    pruner = Gradual(net, sparsity=0.5, end=1)
    _step(net, pruner, np.zeros((10, 10)))
    zeros = net[0].weight.detach().numpy() == 0
    assert zeros.sum() == 50
    found = _step(net, pruner, np.ones((10, 10)))
    assert (found[zeros] == 0).all()


def test_magnitude_masks_are_those_of_magnitude_prune() -> None:
    w = np.round(_values(9, 11), 1).astype(np.float32)  # with ties
    for density in (0.0, 0.13, 0.5, 1.0):
        mask = rules.magnitude_mask(torch.from_numpy(w), density).numpy()
        assert (magnitude_prune(w, density) == np.where(mask, w, 0.0)).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda net: ESL(net, decay=-1.0), "decay: must be at least 0"),
        (lambda net: ESL(net, factor=1.0), "factor: must be at least 2"),
        (lambda net: DNS(net, gamma=float("nan")), "gamma: must be at least 0"),
        (lambda net: Gradual(net, sparsity=1.0), "must lie in 0..1"),
        (lambda net: Gradual(net, sparsity={"0": 0.5}, layers=["0", "4"]), "sparsity of 4"),
        (lambda net: Gradual(net, begin=5, end=5), "begin: must lie in 0..end"),
        (lambda net: Gradual(net, every=0), "every: must be at least 1"),
        (lambda net: ESL(net, ["cnv"]), "layer cnv: no such module"),
        (lambda net: ESL(net, ["1"]), "cannot be pruned; found 'BatchNorm2d'"),
        (lambda _net: ESL(nn.Sequential(nn.ReLU())), "the model has none to prune"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(
    make_net: Callable[[], Any], make: Callable[[nn.Module], Any], words: str
) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")) as caught:
        make(make_net())
    assert "\n" not in str(caught.value)
