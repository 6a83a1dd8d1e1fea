"""One run of a study: pruned from shared dense weights, tested, exported.

Everything is learnt from the first 45,000 pictures of CIFAR-10's training set, hyper-parameters
are chosen by the other 5,000, and the 10,000 test pictures are looked at once, at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from archsim.errors import ArchsimError
from archsim.methods import get_method
from archsim.network import Network
from archsim.pruning.training.checkpoint import load_checkpoint, write_bytes
from archsim.pruning.training.data import Dataset, load_dataset
from archsim.pruning.training.export_native import check_outputs, export_layers, write_weights
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.loop import FitResult, Phase, Row, evaluate, fit
from archsim.pruning.training.methods import get_pruning_method, make_pruner
from archsim.pruning.training.models import cifar_alexnet, cifar_resnet20, digits_net
from archsim.pruning.training.protocol import Pruner
from archsim.pruning.training.run import network_yaml
from archsim.sparsity import Sparsity
from archsim.torchnetwork import from_torch
from benchmarks.proof.document import data_folder

LEARNT: Final = 45_000
EPOCH_PICTURES: Final = 10_000
SEARCH_PICTURES: Final = 512  # that methods try masks with, of those to learn from
CHECKED_PICTURES: Final = 4
#: whom predictions are told for, one thread and one picture on the host, all of them on Xeon Phi
MACHINES: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "host": (1, 1), "xeon-phi-7250": (None, None),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What makes a run; ``method`` empty: dense.

    Attributes
    ----------
    start : str
        Run whose last weights this one starts from; empty: those of the model's maker.
    machine : str
        The guide of guided methods.
    """

    name: str
    model: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Any = None
    machine: str = "host"
    seed: int = 0
    start: str = ""
    phases: tuple[Phase, ...] = ()

    @property
    def key(self) -> str:
        """What a checkpoint must be of."""
        if not self.method:
            return self.name
        return repr(replace(self, name="", phases=()))


@cache
def cifar10() -> tuple[Dataset, Dataset]:
    """Return CIFAR-10 twice: judged by validation pictures, and by the test pictures."""
    whole = load_dataset("cifar10")
    judged = replace(
        whole, train_x=whole.train_x[:LEARNT], train_y=whole.train_y[:LEARNT],
        test_x=whole.train_x[LEARNT:], test_y=whole.train_y[LEARNT:], mirrored=True,
    )  # fmt: skip
    return judged, whole


@cache
def digits() -> tuple[Dataset, Dataset]:
    """Return the 8x8 digits likewise, for quick runs."""
    whole = load_dataset("digits")
    learnt = len(whole.train_x) * 9 // 10
    judged = replace(
        whole, train_x=whole.train_x[:learnt], train_y=whole.train_y[:learnt],
        test_x=whole.train_x[learnt:], test_y=whole.train_y[learnt:],
    )  # fmt: skip
    return judged, whole


def _resnet20() -> nn.Module:
    model = cifar_resnet20()
    with np.load(data_folder("resnet_cifar10") / "resnet20.npz", allow_pickle=False) as file:
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    missing, unknown = model.load_state_dict(state, strict=False)
    if unknown or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ArchsimError(f"resnet20.npz: {sorted(unknown)} unknown, {sorted(missing)} missing")
    return model


MODELS: Final[Mapping[str, tuple[Callable[[], nn.Module], Callable[[], Any]]]] = {
    "alexnet": (cifar_alexnet, cifar10),
    "resnet20": (_resnet20, cifar10),
    "digits": (digits_net, digits),
}


def make_model(run: Run, folder: Path) -> nn.Module:
    """Return the model that a run begins with."""
    torch.manual_seed(run.seed)
    model = MODELS[run.model][0]()
    if run.start:
        model.load_state_dict(load_checkpoint(folder / run.start / "checkpoint.pt")["model"])
    return model


@cache
def _guide(model: str, machine: str, method: str) -> Guide:
    make, load = MODELS[model]
    network = from_torch(make(), load()[1].input_shape, model)
    found = get_pruning_method(method)
    batch, threads = MACHINES.get(machine, (None, None))
    able = get_method("sparse_winograd")
    pattern = Sparsity(0.5, domain="winograd")
    winograd = [
        layer.name
        for layer in network
        if found.domain == "winograd" and able.reason(layer, pattern) is None
    ]
    return Guide(
        network, machine, batch=batch, threads=threads, fc=found.fc, groups=found.groups,
        winograd=winograd,
    )  # fmt: skip


def execute(run: Run, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Do a run, or take it up, or read what it gave.

    Writes ``checkpoint.pt``, ``weights.npz``, ``network.yaml`` and, last, ``result.json``.
    """
    place = folder / run.name
    done = place / "result.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return found
    place.mkdir(parents=True, exist_ok=True)
    judged, whole = MODELS[run.model][1]()
    if run.method and run.model != "digits":
        judged = replace(judged, epoch_pictures=EPOCH_PICTURES)
    guide = _guide(run.model, run.machine, run.method) if run.method else None
    model = make_model(run, folder)
    network = from_torch(model, whole.input_shape, run.model)
    search = judged.scaled(judged.train_x[:SEARCH_PICTURES]), judged.train_y[:SEARCH_PICTURES]

    def make(model: nn.Module, steps: int) -> Pruner:
        return make_pruner(
            run.method, model, steps=steps, options=run.options, layers=run.layers, guide=guide,
            every=max(1, steps // 20), seed=run.seed, validation=search,
        )  # fmt: skip

    def tell(row: Row) -> None:
        if row.accuracy is not None:
            say(
                f"{run.name}: {row.phase} {row.epoch + 1}/{row.epochs}, loss {row.loss:.3f}, "
                f"validation {100 * row.accuracy:.2f} %, zeros {100 * row.sparsity:.1f} %"
            )

    begin = time.monotonic()
    result = fit(
        model, judged, run.phases, make if run.method else None, seed=run.seed,
        checkpoint=place / "checkpoint.pt", key=run.key, progress=tell,
    )  # fmt: skip
    seconds = time.monotonic() - begin
    report = _report(run, model, network, result, whole)
    report["seconds_of_last_start"] = round(seconds, 1)
    write_bytes(place / "network.yaml", network_yaml(network).encode())
    write_weights(export_layers(model, network, result.pruner), place / "weights.npz")
    write_bytes(done, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
    say(f"{run.name}: test {100 * report['accuracy']:.2f} %")
    return report


def _report(
    run: Run, model: nn.Module, network: Network, result: FitResult, whole: Dataset
) -> dict[str, Any]:
    pruner = result.pruner
    layers = export_layers(model, network, pruner)
    images = next(whole.test_batches(CHECKED_PICTURES))[0]
    errors = [c.error for c in check_outputs(model, layers, images) if c.error is not None]
    densities = {} if pruner is None else pruner.densities()
    decided = pruner.decided if isinstance(pruner, Guided) else {}
    rows: dict[str, dict[str, Any]] = {}
    for name, layer in layers.items():
        density = densities.get(name, layer.sparsity.density)
        fact = layer.layer
        rows[name] = {
            "weights": int(layer.weights.size),
            "sparsity": 1.0 - density,
            "bytes": int(min(fact.sparse_bytes(density), fact.dense_bytes)),
            "dense_bytes": int(fact.dense_bytes),
        }
        if name in decided:
            rows[name]["decided"] = decided[name][1].action
            rows[name]["reason"] = decided[name][1].reason
    predicted = {}
    if run.method and get_pruning_method(run.method).domain == "spatial":
        predicted = {name: _guide(run.model, name, "esl").speedup(densities) for name in MACHINES}
    return {
        "run": run.name, "model": run.model, "method": run.method, "options": dict(run.options),
        "machine": run.machine if run.method and get_pruning_method(run.method).guided else "",
        "seed": run.seed, "start": run.start,
        "accuracy": evaluate(model, whole),
        "validation": result.accuracy(), "validation_start": result.rows[0].accuracy,
        "validation_pruned": result.accuracy("prune"),
        "sparsity": result.rows[-1].sparsity, "predicted_speedups": predicted,
        "largest_error": max(errors, default=None), "layers": rows,
        "epochs": {phase.name: phase.epochs for phase in run.phases},
        "torch": torch.__version__,
    }  # fmt: skip
