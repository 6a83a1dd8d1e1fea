"""Masks that are drawn, moved, tried and applied."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from archsim import native
from archsim.api import make_plan
from archsim.errors import InputError
from archsim.methods.structured import strided_columns
from archsim.network import Layer, Network
from archsim.pruning.training.coarse import CoarsePruning
from archsim.pruning.training.mask_search import (
    MaskSearch,
    Stage,
    accuracy,
    alive,
    draw,
    perturb,
)
from archsim.pruning.training.particle import ParticlePruning, resample
from archsim.pruning.training.strided import (
    draw_offsets,
    kept_positions,
    move_offsets,
    strided_positions,
)
from archsim.sparsity import load_sparsity

coarse = partial(CoarsePruning, masks=6)
particle = partial(ParticlePruning, particles=4, generations=3, moves=0.2)
METHODS = pytest.mark.parametrize("method", [coarse, particle], ids=["coarse", "particle"])


def _net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 36, 3),
    )  # fmt: skip


def _data(images: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright thirds of a picture: a network learns them in a few steps."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(images) % 3
    x = 0.3 * torch.randn(images, 1, 6, 6, generator=generator)
    for image, label in zip(x, labels, strict=True):
        image[0, 2 * int(label) : 2 * int(label) + 2] += 1.0
    return x, labels


def _train(model: Any, pruner: MaskSearch | None, steps: int) -> None:
    x, y = _data()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        loss: Any = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if pruner is not None:
            pruner.before_step()
        optimizer.step()
        if pruner is not None:
            pruner.after_step()


def test_strided_positions_and_their_number() -> None:
    strides, offsets = torch.tensor([2, 2, 3, 1]), torch.tensor([0, 1, 2, 0])
    found = strided_positions(strides, offsets, 9)
    for row, stride, offset in zip(found.tolist(), strides, offsets, strict=True):
        assert row == [i in range(int(offset), 9, int(stride)) for i in range(9)]
    assert kept_positions(strides, offsets, 9).tolist() == found.sum(dim=1).tolist()


def test_moved_offsets_keep_as_many_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    offsets, changed = draw_offsets(20, 4, generator), False
    for _ in range(20):
        moved = move_offsets(offsets, 4, 9, 3, generator)
        for one in (offsets, moved):
            assert strided_columns(one.numpy(), 4, 9) == strided_columns(offsets.numpy(), 4, 9)
        assert int((moved != offsets).sum()) <= 6
        changed |= bool((moved != offsets).any())
        offsets = moved
    assert changed


def test_drawn_and_moved_masks_keep_the_ratio_among_what_is_alive() -> None:
    pruner = CoarsePruning(_net(), ["0", "2"], validation=_data(), kernels=0.5)
    layer, generator = pruner.layers["2"], torch.Generator().manual_seed(2)
    layer.mask[:, 3] = False
    there = alive(layer, "kernel")
    assert int(there.sum()) == 56
    stage = Stage("kernel", 0.25, ("2",))
    one = draw(layer, stage, generator)
    for _ in range(5):
        assert int(one.sum()) == 42
        assert not (one & ~there).any()
        other = perturb(one, layer, stage, 0.1, generator)
        assert int((other & ~one).sum()) == 4  # a tenth of 42 changes places
        one = other


def test_systematic_resampling_counts() -> None:
    """Each goes on N times its share, rounded up or down: counted by a loop."""
    weights = np.array([0.1, 0.4, 0.0, 0.3, 0.2])
    for start in (0.0, 0.3, 0.99):
        found = resample(torch.from_numpy(weights), start).tolist()
        edges = np.cumsum(weights)
        expected = [
            next(i for i, edge in enumerate(edges) if (start + k) / 5 < edge) for k in range(5)
        ]
        assert found == expected
        assert all(
            np.floor(5 * w) <= found.count(i) <= np.ceil(5 * w) for i, w in enumerate(weights)
        )
    assert resample(torch.zeros(3), 0.5).tolist() == [0, 1, 2]


def test_the_best_of_random_masks_is_applied() -> None:
    model = _net()
    _train(model, None, 10)
    pruner = CoarsePruning(model, validation=_data(), kernels=0.6, masks=12, seed=5)
    whole = {n: p.weight.detach().clone() for n, p in pruner.layers.items()}
    generator = torch.Generator().manual_seed(5)
    tried = []
    for _ in range(12):  # the same draws, each tried by hand
        kept = [torch.zeros(count, dtype=torch.bool) for count in (8, 64)]
        for mask in kept:
            count = round(0.4 * len(mask))
            mask[torch.randperm(len(mask), generator=generator)[:count]] = True
        masks = {"0": kept[0].reshape(8, 1, 1, 1), "2": kept[1].reshape(8, 8, 1, 1)}
        with torch.no_grad():
            for name, layer in pruner.layers.items():
                layer.weight.copy_(whole[name] * masks[name])
        tried.append((accuracy(model, *_data()), masks))
    for name, layer in pruner.layers.items():
        layer.weight.data.copy_(whole[name])
    best = max(tried, key=lambda pair: pair[0])
    assert len({score for score, _ in tried}) > 2
    pruner.after_step()
    for name, layer in pruner.layers.items():
        expected = best[1][name].expand_as(layer.mask)
        assert torch.equal(layer.mask, expected)
        assert torch.equal(layer.weight, whole[name] * expected)


def test_the_particle_filter_climbs_from_generation_to_generation() -> None:
    """Towards masks that keep the first kernels, the ones that this score likes."""
    best, tried = {}, {}
    for generations in (1, 5, 25):
        pruner = ParticlePruning(
            _net(), ["2"], validation=_data(), kernels=0.5, particles=10, generations=generations,
            moves=0.1,
        )  # fmt: skip
        scores: list[float] = []

        def score(choices: dict[str, torch.Tensor], scores: list[float] = scores) -> float:
            assert int(choices["2"].sum()) == 32
            scores.append(float(choices["2"].flatten()[:32].sum()) / 32)
            return scores[-1]

        found = pruner.search(pruner.stages[0], ["2"], score)
        best[generations], tried[generations] = score(found), scores
        assert len(scores) == 10 * generations + 1
        assert best[generations] == max(scores)
    assert tried[25][:10] == tried[1][:10]  # the same seed, the same first generation
    assert best[1] < best[5] < best[25]


def test_the_next_generation_comes_from_particles_with_weight() -> None:
    pruner = ParticlePruning(
        _net(), ["2"], validation=_data(), kernels=0.5, particles=6, generations=2, moves=0.0
    )
    tried: list[torch.Tensor] = []

    def score(choices: dict[str, torch.Tensor]) -> float:
        tried.append(choices["2"])
        return float(len(tried) == 3)  # all others have no weight

    found = pruner.search(pruner.stages[0], ["2"], score)
    assert torch.equal(found["2"], tried[2])
    assert [int((one != tried[2]).sum()) for one in tried[6:]] == [2] * 6  # one exchange each


def test_rounds_share_the_way_to_the_ratio() -> None:
    pruner = CoarsePruning(
        _net(), ["2"], validation=_data(), kernels=0.75, rounds=2, masks=2, every=1
    )
    kept = []
    for _ in range(3):
        pruner.after_step()
        kept.append(int(alive(pruner.layers["2"], "kernel").sum()))
    assert kept == [32, 16, 16]


@METHODS
def test_stages_come_one_after_another(method: Any) -> None:
    model = _net()
    pruner = method(model, validation=_data(), maps=0.25, kernels=0.5, stride=2, every=2, seed=1)
    seen = []
    for _ in range(6):
        _train(model, pruner, 1)
        seen.append(pruner.densities())
    maps = {"0": 0.75, "2": 0.75 * 0.75, "5": 0.75}  # two maps of eight go, of each
    assert seen[:2] == [maps, maps]
    assert seen[2]["0"] == 3 / 8
    assert seen[2]["2"] == 18 / 64
    assert seen[2] == seen[3]
    mask = pruner.layers["2"].mask.reshape(8, 8, 9)
    for c, offset in enumerate(pruner.layers["2"].extras["offsets"].tolist()):
        used = mask[:, c].any(dim=0).nonzero()[:, 0].tolist()
        assert used in ([], list(range(offset, 9, 2)))
    assert sum(seen[5].values()) < sum(seen[3].values())


@METHODS
def test_pruned_in_stages_it_still_knows_its_pictures(method: Any) -> None:
    model = _net()
    _train(model, None, 20)
    pruner = method(model, validation=_data(), maps=0.25, kernels=0.4, stride=2, every=10)
    _train(model, pruner, 40)
    assert accuracy(model, *_data()) == 1.0
    kept = sum(int(pruner.layers[n].mask.sum()) for n in ("0", "2"))
    assert kept < 0.3 * (72 + 576)


@METHODS
def test_the_same_seed_the_same_masks_also_from_a_state(method: Any) -> None:
    model, other = _net(), _net()
    make = partial(method, validation=_data(), maps=0.25, kernels=0.5, every=2)
    pruner = make(model, seed=4)
    _train(model, pruner, 1)
    again = make(other, seed=9)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(pruner.state_dict())
    for m, p in ((model, pruner), (other, again)):
        p.after_step()
        p.after_step()
        assert m is p.model
    assert pruner.densities()["2"] < 0.4
    for name in pruner.layers:
        assert torch.equal(pruner.layers[name].mask, again.layers[name].mask)


@METHODS
def test_what_is_given_back_comes_back_in_its_readers(method: Any) -> None:
    model = _net()
    pruner = method(model, validation=_data(), maps=0.5, kernels=0.5)
    start = model[2].weight.detach().clone()
    _train(model, pruner, 2)
    pruner.restore("0")
    kept = pruner.layers["2"].extras["kernels"] & pruner.layers["2"].extras["outputs"][:, None]
    assert torch.equal(pruner.layers["2"].mask.any(dim=(2, 3)), kept)
    lost_map = ~pruner.layers["0"].mask.any(dim=(1, 2, 3))
    assert not lost_map.any()
    back = model[2].weight.detach() == start
    assert back[kept].any(dim=(1, 2)).any()
    _train(model, pruner, 1)
    assert pruner.densities()["0"] == 1.0


def test_trying_masks_leaves_the_model_in_its_mode() -> None:
    model: Any = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3))
    model[1].eval()
    before = model[1].running_mean.clone()
    accuracy(model, *_data())
    assert model.training
    assert not model[1].training
    assert torch.equal(model[1].running_mean, before)


@pytest.mark.parametrize(
    ("amounts", "schedule"),
    [
        ({"maps": 0.5}, "feature-map"),
        ({"stride": 2}, "intra-kernel-strided"),
        ({"kernels": 0.9}, "kernel"),
    ],
    ids=["maps", "stride", "kernels"],
)  # fmt: skip
def test_what_is_left_runs_as_structured(
    amounts: dict[str, float], schedule: str, tmp_path: Any
) -> None:
    model = _net()
    pruner = CoarsePruning(model, ["0", "2"], validation=_data(), **amounts, masks=2)  # type: ignore[arg-type]
    pruner.after_step()
    layer = Layer("conv", C=8, K=8, H=6, W=6, R=3, S=3, pad=(1, 1))
    np.savez(tmp_path / "w.npz", conv=model[2].weight.detach().numpy())
    sparsity = load_sparsity(tmp_path / "w.npz", Network("own", (layer,)))["conv"]
    assert sparsity.weights is not None
    plan = make_plan(layer, "host", method="structured", pattern=sparsity, threads=1)
    assert plan.schedule == schedule
    if schedule == "intra-kernel-strided":
        offsets = pruner.layers["2"].extras["offsets"].numpy()
        assert plan.blocking["kept_rows"] == strided_columns(offsets, 2, 9)
    x = torch.randn(1, 8, 6, 6)
    found = native.prepare(plan, np.array(sparsity.weights)).run(x.numpy())
    expected = nn.functional.conv2d(x, model[2].weight, padding=1).detach()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_refusals() -> None:
    make = partial(CoarsePruning, _net(), validation=_data())
    with pytest.raises(InputError, match=r"^maps, kernels, stride: nothing is to go"):
        make()
    with pytest.raises(InputError, match=r"^kernels: must lie in 0..1, below 1; found 1"):
        make(kernels=1)
    with pytest.raises(InputError, match=r"^stride: is above the positions .* allowed: 1..9"):
        make(stride=10)
    with pytest.raises(InputError, match=r"^stride: a whole number from 1 is due; found 1.5"):
        make(stride=1.5)  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(InputError, match=r"^masks: must be at least 1; found 0"):
        make(kernels=0.5, masks=0)
    with pytest.raises(InputError, match=r"^validation: as many labels as images"):
        CoarsePruning(_net(), validation=(_data()[0], _data()[1][:3]), kernels=0.5)
    with pytest.raises(InputError, match=r"^moves: must lie in 0..1; found 2"):
        ParticlePruning(_net(), validation=_data(), kernels=0.5, moves=2)
