"""Targets for other tools, each loaded by the tool itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.network import Layer, Network
from archsim.pruning import as_document, assumed_sensitivity, find_targets, make_table, read_budget
from archsim.pruning.export import channel_ratios, inc_config, nncf_call, write_export
from archsim.pruning.export.names import module_names

LAYERS = (
    Layer("stem", C=3, K=32, H=20, W=20, R=3, S=3, pad=(1, 1)),
    Layer("block/one", C=32, K=64, H=20, W=20, R=3, S=3, pad=(1, 1)),
    Layer("block/two", C=64, K=64, H=20, W=20, R=3, S=3, pad=(1, 1)),
)
NETWORK = Network("small", LAYERS)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    machine = load_machine("xeon-e5-2697v4-2s")
    table = make_table(NETWORK, machine, model="park", levels=21)
    budget = read_budget(time="30%", dense_seconds=table.dense_seconds, dense_bytes=1.0)
    found = find_targets(
        table, assumed_sensitivity(NETWORK, table.sparsities), budget, machine=machine
    )
    return as_document(found, machine)


def _targets(document: dict[str, Any]) -> dict[str, float]:
    return {y["layer"]: y["sparsity"] for y in document["layers"] if y["sparsity"]}


def _model(torch: Any) -> Any:
    nn = torch.nn
    torch.manual_seed(0)
    block = nn.Sequential()
    block.add_module("one", nn.Conv2d(32, 64, 3, padding=1))
    block.add_module("two", nn.Conv2d(64, 64, 3, padding=1))

    class Small(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 32, 3, padding=1)
            self.block = block
            self.head = nn.Linear(64, 10)  # of no target; some tools spare the last layer

        def forward(self, images: Any) -> Any:
            return self.head(self.block(self.stem(images)).mean((2, 3)))

    return Small()


def _share(weights: Any) -> float:
    return float((weights == 0).float().mean())


def test_files(document: dict[str, Any], tmp_path: Path) -> None:
    targets = _targets(document)
    assert len(targets) >= 2
    call = json.loads(write_export("nncf", document, tmp_path / "n.json").read_text())
    assert call["nncf.prune"]["ratios"] == targets
    inc = json.loads(write_export("inc", document, tmp_path / "i.json").read_text())
    assert {c["target_sparsity"] for c in inc["pruning_configs"]} == set(targets.values())
    ratios = json.loads(write_export("torch-pruning", document, tmp_path / "t.json").read_text())
    # alpha is 3 on this machine: a third of the maps does what the nonzeros do, a third as many
    for layer, ratio in ratios["pruning_ratio_dict"].items():
        assert 0.0 < ratio < targets[layer]
    with pytest.raises(InputError, match="unknown tool"):
        write_export("nncv", document, tmp_path / "x")


def test_no_allocation_is_refused(document: dict[str, Any]) -> None:
    empty = {"layers": [{**y, "sparsity": None} for y in document["layers"]]}
    with pytest.raises(InputError, match="a budget is needed"):
        nncf_call(empty)
    winograd = {"layers": [{**y, "domain": "winograd"} for y in document["layers"]]}
    with pytest.raises(InputError, match="Winograd"):
        inc_config(winograd)
    apart = {"layers": [{**y, "group_wise": None} for y in document["layers"]]}
    with pytest.raises(InputError, match="--groups"):
        channel_ratios(apart)


def test_names_of_modules() -> None:
    assert module_names(["a/b", "c"], ["a.b", "c"]) == {"a/b": "a.b", "c": "c"}
    assert module_names(["a"], ["features.0"], {"a": "features.0"}) == {"a": "features.0"}
    with pytest.raises(InputError, match="has no module"):
        module_names(["a"], ["b"])


@pytest.mark.filterwarnings("ignore")
def test_torch_masks(document: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from archsim.pruning.export.torch_masks import apply_masks

    model = _model(torch)
    names = apply_masks(model, document)
    modules = dict(model.named_modules())
    for layer, sparsity in _targets(document).items():
        module = modules[names[layer]]
        size = module.weight.numel()
        zeros = size - round((1 - sparsity) * size)
        assert int((module.weight == 0).sum()) == zeros
        assert torch.nn.utils.prune.is_pruned(module)
    dense = [n for n in ("stem", "block.one", "block.two") if n not in names.values()]
    assert all(_share(modules[n].weight) == 0.0 for n in dense)


@pytest.mark.filterwarnings("ignore")
def test_torch_pruning(document: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    torch_pruning = pytest.importorskip("torch_pruning")
    from archsim.pruning.export.torch_pruning import pruner_arguments

    model = _model(torch)
    images = torch.zeros(1, 3, 20, 20)
    pruner = torch_pruning.pruner.MagnitudePruner(
        model, images, importance=torch_pruning.importance.MagnitudeImportance(p=1),
        **pruner_arguments(model, document),
    )  # fmt: skip
    pruner.step()
    modules = dict(model.named_modules())
    for layer, ratio in channel_ratios(document).items():
        maps = next(y.K for y in LAYERS if y.name == layer)
        left = modules[layer.replace("/", ".")].out_channels
        assert left == pytest.approx((1 - ratio) * maps, abs=1.0)
    model(images)


@pytest.mark.filterwarnings("ignore")
def test_nncf(document: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("nncf")
    from archsim.pruning.export.nncf import apply_nncf

    images = torch.zeros(1, 3, 20, 20)
    model = apply_nncf(_model(torch), document, images)
    model(images)
    algo = pytest.importorskip("nncf.torch.function_hook.pruning.magnitude.algo")
    masks = algo.get_pruned_modules(model)
    kept = {name: float(mask.binary_mask.float().mean()) for name, mask in masks.items()}
    wanted = {
        layer.replace("/", ".") + ".weight": 1.0 - ratio
        for layer, ratio in _targets(document).items()
    }
    assert kept == pytest.approx(wanted, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_neural_compressor(document: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    training = pytest.importorskip("neural_compressor.training", exc_type=ImportError)
    pruner = pytest.importorskip("neural_compressor.compression.pruner", exc_type=ImportError)

    model = _model(torch)
    names = {"block/one": "block.one", "block/two": "block.two"}
    config = training.WeightPruningConfig(
        **inc_config(document, names), start_step=0, end_step=2, pruning_frequency=1
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    pruner.prepare_pruning(model, config, optimizer)  # hooks into forward and optimizer.step
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(1, 3, 20, 20)).sum().backward()
        optimizer.step()
    modules = dict(model.named_modules())
    targets = _targets(document)
    for layer in LAYERS:
        found = _share(modules[layer.name.replace("/", ".")].weight)
        assert found == pytest.approx(targets.get(layer.name, 0.0), abs=0.02), layer.name
