"""Group lasso: penalties and thresholds against loops over the groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from archsim.errors import InputError
from archsim.methods.structured import find
from archsim.network import Layer
from archsim.pruning.training.group_lasso import KINDS, GroupLasso, Kind, group_norms
from archsim.sparsity import Sparsity


def _groups(shape: tuple[int, ...], groups: int, kind: Kind) -> Iterator[Any]:
    """Indices of each group of weights (K, C / groups, R, S), stated as loops."""
    outputs, inputs, height, width = shape
    per = outputs // groups
    parts = [slice(g * per, (g + 1) * per) for g in range(groups)]
    if kind == "filters":
        yield from range(outputs)
    elif kind == "channels":
        yield from ((part, c) for part in parts for c in range(inputs))
    else:
        yield from (
            (part, c, r, s)
            for part in parts
            for c in range(inputs)
            for r in range(height)
            for s in range(width)
        )


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_papers_rule(kind: Kind, groups: int) -> None:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Conv2d(4, 6, 3, groups=groups)).double()
    before = model[0].weight.detach().numpy().copy()
    for index in list(_groups(before.shape, groups, kind))[::2]:
        before[index] *= 0.1
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(before))
    lambdas: dict[str, Any] = {kind: 0.3}
    pruner = GroupLasso(model, {"0": 2.0}, threshold=0.8, **lambdas)
    model[0].weight.grad = torch.zeros_like(model[0].weight)
    pruner.before_step()
    limit = 0.8 * np.sqrt((before**2).mean())
    slope, kept = np.zeros_like(before), np.ones(before.shape, dtype=bool)
    for index in _groups(before.shape, groups, kind):
        norm = np.sqrt((before[index] ** 2).sum())
        slope[index] = 2.0 * 0.3 * before[index] / norm
        kept[index] = np.sqrt((before[index] ** 2).mean()) > limit
    np.testing.assert_allclose(model[0].weight.grad, slope, rtol=1e-12)
    pruner.after_step()
    assert 0 < kept.mean() < 1
    np.testing.assert_array_equal(pruner.layers["0"].mask, kept)
    np.testing.assert_array_equal(model[0].weight.detach(), before * kept)


def test_several_kinds_overlap() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3))
    with torch.no_grad():
        model[0].weight[1] = 1e-6
        model[0].weight[:, 2] = 1e-6
        model[0].weight[:, 0, 1, 1] = 0.0
    pruner = GroupLasso(model, filters=1e-3, channels=1e-3, columns=1e-3)
    model[0].weight.grad = torch.zeros_like(model[0].weight)
    pruner.before_step()
    assert bool(torch.isfinite(model[0].weight.grad).all())  # groups of zeros have no slope
    pruner.after_step()
    mask = pruner.layers["0"].mask
    assert not mask[1].any()
    assert not mask[:, 2].any()
    assert not mask[:, 0, 1, 1].any()
    assert int(mask.sum()) == 3 * (2 * 9 - 1)
    left = find(
        Layer("own", C=3, K=4, H=8, W=8, R=3, S=3),
        Sparsity.of_weights(model[0].weight.detach().numpy(), Layer("own", 3, 4, 8, 8, 3, 3)),
    )
    assert left.channels.tolist() == [True, False, True, True]  # what `structured` makes of it
    assert int(left.positions.sum()) == 17


def test_a_group_can_grow_again_until_it_is_frozen() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3))
    pruner = GroupLasso(model, filters=1e-3, threshold=0.5)
    with torch.no_grad():
        model[0].weight.fill_(1.0)[0] = 0.0
    pruner.after_step()
    assert pruner.densities() == {"0": 0.5}
    with torch.no_grad():
        model[0].weight[0] = 1.0
    pruner.after_step()
    assert pruner.densities() == {"0": 1.0}
    with torch.no_grad():
        model[0].weight[0] = 0.0
    pruner.after_step()
    pruner.freeze()
    with torch.no_grad():
        model[0].weight[0] = 1.0
    pruner.after_step()
    assert pruner.densities() == {"0": 0.5}


def test_fully_connected_layers_have_rows_and_columns() -> None:
    norms = group_norms(torch.tensor([[3.0, 0.0], [4.0, 1.0]]), "channels")
    assert norms.tolist() == [[5.0, 1.0], [5.0, 1.0]]


def test_refusals() -> None:
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(InputError, match=r"^filters, channels, columns: one must be above 0"):
        GroupLasso(model)
    with pytest.raises(InputError, match=r"^columns: must be at least 0; found -1"):
        GroupLasso(model, columns=-1)


def test_the_threshold_goes_with_the_layer() -> None:
    masks = []
    for scale in (1.0, 1e-6):
        model: Any = nn.Sequential(nn.Conv2d(3, 4, 3))
        with torch.no_grad():
            model[0].weight.copy_(torch.arange(108.0).reshape(4, 3, 3, 3) * scale)
        pruner = GroupLasso(model, filters=1e-3, threshold=0.5)
        pruner.after_step()
        masks.append(pruner.layers["0"].mask)
    assert torch.equal(*masks)
    assert masks[0].any(dim=(1, 2, 3)).tolist() == [False, True, True, True]
