"""Measured sensitivity curves: in the form that targets read, cached, taken up again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn

import archsim
from archsim.errors import InputError
from archsim.pruning import load_sensitivity
from archsim.pruning.magnitude import magnitude_prune
from archsim.pruning.training import sensitivity_measured
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.loop import Phase, evaluate, fit
from archsim.pruning.training.sensitivity_measured import measure_sensitivity

LEVELS = (0.9, 0.98)


@pytest.fixture
def net(make_net: Callable[[], Any], bars: Dataset) -> Any:
    made = make_net()
    fit(made, bars, [Phase("train", 3, 0.05, batch=32)])
    return made


def test_curves_are_those_of_pruned_layers(net: Any, bars: Dataset, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    curves = measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=LEVELS)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    dense = evaluate(net, bars)
    for name in ("0", "4", "7"):
        worst = 0.0
        for level, loss in curves[name]:
            weight = dict(net.named_modules())[name].weight
            kept = weight.detach().clone()
            pruned = magnitude_prune(kept.numpy(), 1.0 - level)
            with torch.no_grad():
                weight.copy_(torch.from_numpy(pruned))
                worst = max(worst, 100.0 * (dense - evaluate(net, bars)))
                weight.copy_(kept)
            assert loss == pytest.approx(worst)
    assert max(loss for rows in curves.values() for _, loss in rows) > 0.0
    network = archsim.from_torch(net, (1, 8, 8))
    read = load_sensitivity(tmp_path / "s.csv", network)
    assert read.kind == "given"
    for name, rows in curves.items():
        assert [float(read[name]["spatial"](s)) for s, _ in rows] == pytest.approx(
            [loss for _, loss in rows]
        )


def test_what_is_known_is_not_measured_again(
    net: Any, bars: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def counting(model: nn.Module, data: Dataset) -> float:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise KeyboardInterrupt
        return evaluate(model, data)

    monkeypatch.setattr(sensitivity_measured, "evaluate", counting)
    weight = net[4].weight.detach().clone()
    with pytest.raises(KeyboardInterrupt):
        measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=LEVELS)
    assert torch.equal(net[4].weight, weight)  # given back, whatever happens
    assert not (tmp_path / "s.csv").exists()
    first = measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=LEVELS)
    assert asked == 5 + 3  # 7 in all: 4 were known
    more = measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=(*LEVELS, 0.7))
    assert asked == 8 + 3
    assert [row for row in more["4"] if row[0] != 0.7] == first["4"] or more["4"][1][1] > 0
    with torch.no_grad():
        net[4].weight.add_(1.0)
    measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=LEVELS)
    assert asked == 11 + 7  # other weights


def test_wrong_input_is_refused(net: Any, bars: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sparsities: must lie in 0"):
        measure_sensitivity(net, bars, tmp_path / "s.csv", sparsities=(1.0,))
    (tmp_path / "s.csv.json").write_text("{")
    with pytest.raises(InputError, match=r"s\.csv\.json: is damaged"):
        measure_sensitivity(net, bars, tmp_path / "s.csv")
