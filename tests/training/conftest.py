"""Small models and data for the tests of training; all skip without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from archsim.pruning.training.data import Dataset

# torch is imported by fixtures alone: without it the files beside say so, and skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one order, and no core taken from other tests."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_net() -> Callable[[], Any]:
    """Return a maker of one small net with BatchNorm and Dropout, always with equal weights."""
    import torch
    from torch import nn

    def make() -> Any:
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Dropout(0.1), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(8 * 4 * 4, 4),
        )  # fmt: skip

    return make


@pytest.fixture
def bars() -> Dataset:
    """Return 8x8 pictures of four kinds of bars in noise: quick to learn."""
    import torch

    from archsim.pruning.training.data import Dataset

    draw = torch.Generator().manual_seed(7)
    y = torch.arange(200) % 4
    x = 0.3 * torch.randn((200, 1, 8, 8), generator=draw)
    for index, kind in enumerate(y.tolist()):
        if kind < 2:
            x[index, 0, 2 + 3 * kind] += 1.0
        else:
            x[index, 0, :, 2 + 3 * (kind - 2)] += 1.0
    return Dataset("bars", x[:160], y[:160], x[160:], y[160:])
