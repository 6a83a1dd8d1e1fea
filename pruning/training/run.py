"""A run of ``archsim prune``: from a file to a folder with weights, report and network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

import archsim
from archsim.errors import InputError, input_error
from archsim.methods import get_method
from archsim.network import Network
from archsim.pruning.training.checkpoint import write_bytes
from archsim.pruning.training.config import Config, load_named
from archsim.pruning.training.data import LOADERS, Dataset, as_dataset, load_dataset
from archsim.pruning.training.export_native import (
    TOLERANCE,
    ExportedLayer,
    check_outputs,
    export_layers,
    write_weights,
)
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.loop import FitResult, Progress, fit
from archsim.pruning.training.methods import get_pruning_method, make_pruner
from archsim.pruning.training.protocol import Pruner
from archsim.pruning.training.sensitivity_measured import measure_sensitivity
from archsim.sparsity import Sparsity
from archsim.torchnetwork import TracedModel, trace_torch

CHECKPOINT: Final = "checkpoint.pt"
_CHECKED_IMAGES: Final = 8
_VALIDATION: Final = 512
Say = Callable[[str], None]


@dataclass(frozen=True)
class _Parts:
    """What a run works with."""

    config: Config
    model: nn.Module
    data: Dataset
    traced: TracedModel
    guides: tuple[Guide, ...]


def run_config(
    config: Config, output: str | Path, *, progress: Progress | None = None, say: Say | None = None
) -> dict[str, Any]:
    """Train, prune, tune and export as a file says.

    Parameters
    ----------
    config : Config
    output : str or Path
        Folder of the results.  A checkpoint of the same run in it is taken up.
    progress : callable, optional
        See :func:`archsim.pruning.training.loop.fit`.
    say : callable, optional
        Told what is worth a line.

    Returns
    -------
    dict
        The report, as in ``report.json``.
    """
    output, say = Path(output), say or (lambda _text: None)
    if config.file.threads is not None:
        torch.set_num_threads(config.file.threads)
    parts = _parts(config, say)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise input_error(str(output), f"cannot be made ({error.strerror})") from error
    guided, data = parts.guides[0], parts.data
    # pictures to learn from, not those that the result is judged by
    validation = data.scaled(data.train_x[:_VALIDATION]), data.train_y[:_VALIDATION]

    def make(model: nn.Module, steps: int) -> Pruner:
        file = config.file
        return make_pruner(
            file.method, model, steps=steps, options=file.options, layers=file.layers,
            guide=guided, every=file.projection.every, seed=file.seed, validation=validation,
        )  # fmt: skip

    def measure(model: nn.Module) -> None:
        if levels := config.file.sensitivity:
            measure_sensitivity(model, parts.data, output / "sensitivity.csv", sparsities=levels)

    result = fit(
        parts.model, parts.data, config.phases, make, seed=config.file.seed,
        checkpoint=output / CHECKPOINT, key=config.key, guides=parts.guides, progress=progress,
        before_pruning=measure,
    )  # fmt: skip
    layers = export_layers(parts.model, parts.traced.network, result.pruner)
    images = next(parts.data.test_batches(_CHECKED_IMAGES))[0]
    report = _report(parts, result, layers, images)
    _write(output, parts, layers, report)
    return report


def _parts(config: Config, say: Say) -> _Parts:
    file = config.file
    torch.manual_seed(file.seed)
    model = load_named(config, "model", file.model)()
    if not isinstance(model, nn.Module):
        raise input_error(config.place("model"), "the function must return a torch.nn.Module",
                          found=type(model).__name__)  # fmt: skip
    if file.weights is not None:
        _load_weights(config, model, file.weights)
    data = _data(config)
    traced = trace_torch(model, data.input_shape, "pruned")
    for name, why in traced.left.items():
        say(f"layer {name} is left dense: {why}")
    method = get_pruning_method(file.method)
    winograd = _winograd_layers(traced.network) if method.domain == "winograd" else ()
    guides = tuple(
        Guide(
            traced.network, name, model=file.projection.model, batch=file.projection.batch,
            threads=file.projection.threads, fc=method.fc, groups=method.groups,
            winograd=winograd,
        )
        for name in dict.fromkeys(file.machines)
    )  # fmt: skip
    return _Parts(config, model, data, traced, guides)


def _winograd_layers(network: Network) -> list[str]:
    """Return the layers that can be computed in Winograd's domain."""
    pattern = Sparsity(0.5, domain="winograd")
    able = get_method("sparse_winograd")
    return [layer.name for layer in network if able.reason(layer, pattern) is None]


def _data(config: Config) -> Dataset:
    file = config.file
    path = None if file.data_path is None else config.path(file.data_path)
    if ":" in file.data:
        return as_dataset(load_named(config, "data", file.data)(), file.data)
    try:
        return load_dataset(file.data, path)
    except InputError as error:
        if file.data in LOADERS:
            raise
        raise InputError(f"{config.node.mark_at(('data',))}: {error}") from None


def _load_weights(config: Config, model: nn.Module, name: str) -> None:
    try:
        state = torch.load(config.path(name), weights_only=True, map_location="cpu")
        model.load_state_dict(state)
    except Exception as error:  # whatever torch finds wrong with a file
        why = " ".join(str(error).split())[:160]
        raise input_error(config.place("weights"), f"cannot be loaded ({why})",
                          found=name) from error  # fmt: skip


def _report(
    parts: _Parts, result: FitResult, layers: dict[str, ExportedLayer], images: torch.Tensor
) -> dict[str, Any]:
    pruner = result.pruner
    decided = pruner.decided if isinstance(pruner, Guided) else {}
    densities = {} if pruner is None else pruner.densities()
    checks = check_outputs(parts.model, layers, images)
    wrong = [c for c in checks if c.error is not None and not c.equal]
    if wrong:
        raise archsim.ArchsimError(
            f"layer {wrong[0].layer}: {wrong[0].method} differs from PyTorch by "
            f"{wrong[0].error:.2g} of the largest output; allowed: {TOLERANCE:g}"
        )
    rows = []
    for name, layer in layers.items():
        verdict = decided.get(name)
        errors = [c.error for c in checks if c.layer == name and c.error is not None]
        rows.append(
            {
                "layer": name,
                "weights": layer.layer.weights,
                "sparsity": 1.0 - densities.get(name, layer.sparsity.density),
                "decided": None if verdict is None else verdict[1].action,
                "reason": "" if verdict is None else verdict[1].reason,
                "step": None if verdict is None else verdict[0],
                "folded": layer.folded or None,
                "largest_error": max(errors) if errors else None,
            }
        )
    before = result.accuracy("train")
    return {
        "schema": 1,
        "kind": "pruning run",
        "archsim": archsim.__version__,
        "method": parts.config.file.method,
        "model": parts.config.file.model,
        "data": parts.data.name,
        "seed": parts.config.file.seed,
        "accuracy_before": result.rows[0].accuracy if before is None else before,
        "accuracy_pruned": result.accuracy("prune"),
        "accuracy": result.accuracy(),
        "sparsity": result.rows[-1].sparsity,
        "speedups": {guide.machine.name: guide.speedup(densities) for guide in parts.guides},
        "layers": rows,
        "left_dense": dict(parts.traced.left),
        "rows": [asdict(row) for row in result.rows],
    }


def _write(
    output: Path, parts: _Parts, layers: dict[str, ExportedLayer], report: dict[str, Any]
) -> None:
    write_weights(layers, output / "weights.npz")
    write_bytes(output / "network.yaml", network_yaml(parts.traced.network).encode())
    lines = [f"{json.dumps(row['layer'])}: {row['sparsity']!r}\n" for row in report["layers"]]
    write_bytes(output / "sparsities.yaml", "".join(lines).encode())
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_bytes(output / "report.json", text.encode())


def network_yaml(network: Network) -> str:
    """Return a network as the YAML that :func:`archsim.load_network` reads."""
    lines = ["format: 1", f"name: {network.name}", "layers:"]
    for layer in network:
        head = f"  - {{name: {json.dumps(layer.name)}, type: {layer.type}, C: {layer.C}"
        tail = f", K: {layer.K}"
        if layer.type == "conv":
            tail += (
                f", H: {layer.H}, W: {layer.W}, R: {layer.R}, S: {layer.S}"
                f", stride: {list(layer.stride)}, pad: {list(layer.pad)}"
                f", dilation: {list(layer.dilation)}, groups: {layer.groups}"
            )
        lines.append(head + tail + "}")
    return "\n".join(lines) + "\n"
