"""A pruned model's layers for archsim: weights, biases and masks, and a check of what they compute.

BatchNorm behind a convolution is folded into it where ``torch.fx`` shows that nothing else reads
the convolution; rows are scaled, so zeros stay zeros.  What cannot be traced is not folded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from archsim.api import make_plan
from archsim.errors import NotApplicableError, input_error
from archsim.kernels import active_isa, aligned_empty
from archsim.machinefile import load_machine
from archsim.methods import METHODS, get_method
from archsim.native import prepare
from archsim.network import Layer, Network
from archsim.plan import Target
from archsim.pruning.training.checkpoint import write_bytes
from archsim.pruning.training.protocol import Pruner
from archsim.sparsity import Sparsity
from archsim.torchnetwork import evaluating

FloatArray = NDArray[np.float32]
#: largest difference to PyTorch over the largest output that counts as equal
TOLERANCE: Final = 1e-4


@dataclass(frozen=True, eq=False)
class ExportedLayer:
    """A layer as archsim computes it.

    Attributes
    ----------
    weights : ndarray of shape (K, C / groups, R, S), or (t, t, K, C / groups), float32
        The latter in the Winograd domain.
    bias : ndarray of shape (K,), float32, or None
    mask : ndarray of bool, shape of ``weights``
        True: kept.
    folded : str
        Module whose BatchNorm is in weights and bias; empty: none.
    """

    layer: Layer
    weights: FloatArray
    bias: FloatArray | None
    mask: NDArray[np.bool_]
    folded: str = ""

    @property
    def sparsity(self) -> Sparsity:
        """The weights as archsim's methods take them."""
        return Sparsity.of_weights(self.weights, self.layer)


def export_layers(
    model: nn.Module, network: Network, pruner: Pruner | None = None
) -> dict[str, ExportedLayer]:
    """Return the layers of a network as a model has them now.

    Parameters
    ----------
    model : torch.nn.Module
    network : Network
        Of :func:`archsim.from_torch`, made of the model before or after it was pruned.
    pruner : Pruner, optional
        Gives masks; without it zeros of the weights do.
    """
    norms = norms_behind(model, network)
    modules = dict(model.named_modules())
    found = {}
    for layer in network:
        module = modules[layer.name]
        norm = norms.get(layer.name, "")
        weight, bias = _folded(module, modules.get(norm) if norm else None)
        mask = weight != 0
        if pruner is not None and layer.name in pruner.layers:
            mask = pruner.layers[layer.name].mask
        shape = layer.weight_shape if weight.numel() == layer.weights else tuple(weight.shape)
        found[layer.name] = ExportedLayer(
            layer, _array(weight).reshape(shape), None if bias is None else _array(bias),
            mask.cpu().numpy().reshape(shape), norm,
        )  # fmt: skip
    return found


def norms_behind(model: nn.Module, network: Network) -> dict[str, str]:
    """Return the BatchNorm that alone reads each layer, where there is one.

    Empty where ``torch.fx`` cannot trace the model.
    """
    names = {layer.name for layer in network}

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return module_qualified_name in names or super().is_leaf_module(
                m, module_qualified_name
            )

    try:
        graph = Tracer().trace(model)
    except Exception:  # a user's forward may do anything that tracing cannot follow
        return {}
    modules = dict(model.named_modules())
    calls = [node for node in graph.nodes if node.op == "call_module"]
    targets = [str(node.target) for node in calls]
    found = {}
    for node in calls:
        name, readers = str(node.target), list(node.users)
        if name not in names or targets.count(name) != 1 or len(readers) != 1:
            continue
        reader = str(readers[0].target) if readers[0].op == "call_module" else ""
        norm = modules.get(reader)
        known = isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        if known and targets.count(reader) == 1:
            found[name] = reader
    return found


def _folded(module: Any, norm: Any) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias, with a BatchNorm's scale and shift in them (float64 inside)."""
    weight: Tensor = module.weight.detach()
    bias: Tensor | None = None if module.bias is None else module.bias.detach()
    if norm is None:
        return weight, bias
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    if bias is not None:
        shift = shift + bias.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    maps = [1] * weight.dim()
    maps[_map_axis(module)] = -1
    return (weight.double() * scale.view(maps)).float(), shift.float()


def _map_axis(module: Any) -> int:
    """Return the axis of output maps; coefficients of the Winograd domain are (t, t, K, C)."""
    return 2 if hasattr(module, "variant") else 0


def _array(values: Tensor) -> FloatArray:
    return np.array(values.detach().float().cpu().numpy(), order="C")  # a copy


def write_weights(layers: Mapping[str, ExportedLayer], path: str | Path) -> Path:
    """Write an npz that ``--sparsity FILE.npz`` reads.

    Arrays: ``LAYER`` (weights), ``LAYER.bias`` where there is one, ``LAYER.mask`` (bool).
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, layer in layers.items():
        arrays[name] = layer.weights
        arrays[f"{name}.mask"] = layer.mask
        if layer.bias is not None:
            arrays[f"{name}.bias"] = layer.bias
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return write_bytes(Path(path), buffer.getvalue())


@dataclass(frozen=True, slots=True)
class Check:
    """How far a kernel's outputs are from PyTorch's.

    ``error`` is the largest difference over PyTorch's largest output; None: did not run, and
    ``reason`` says why.
    """

    layer: str
    method: str
    error: float | None
    reason: str = ""

    @property
    def equal(self) -> bool:
        """Whether the error is at most :data:`TOLERANCE`."""
        return self.error is not None and self.error <= TOLERANCE


def check_outputs(
    model: nn.Module,
    layers: Mapping[str, ExportedLayer],
    images: Tensor,
    *,
    methods: tuple[str, ...] = (),
    threads: int = 1,
) -> list[Check]:
    """Run archsim's kernels on what each layer gets in PyTorch, and compare what comes out.

    Parameters
    ----------
    model : torch.nn.Module
        As it was exported.
    layers : mapping of str to ExportedLayer
    images : Tensor of shape (N, C, H, W), float32
    methods : tuple of str
        Default: every method that applies to a layer.
    threads : int
    """
    for name in methods:
        get_method(name)
    seen = _capture(model, layers, images)
    machine = load_machine("host-as-told")  # its instruction set and caches alone
    target = machine.target(active_isa())
    found = []
    for name, layer in layers.items():
        if name not in seen:
            found.append(Check(name, "", None, "did not run"))
            continue
        x, expected = seen[name]
        if getattr(dict(model.named_modules())[name], "relu_inputs", False):
            found.append(Check(name, "", None, "clips its transformed inputs: no convolution"))
            continue
        for method in methods or tuple(METHODS):
            check = _check(layer, method, target, threads, x, expected)
            if check.error is not None or methods:
                found.append(check)
    return found


def _check(
    layer: ExportedLayer, method: str, target: Target, threads: int, x: FloatArray,
    expected: FloatArray,
) -> Check:  # fmt: skip
    shape = layer.layer
    try:
        plan = make_plan(
            shape, target, method=method, pattern=layer.sparsity, batch=len(x), threads=threads
        )
    except NotApplicableError as error:
        return Check(shape.name, method, None, str(error))
    if plan.weight_shape != layer.weights.shape:
        return Check(shape.name, method, None, "computes weights of the other domain")
    out = aligned_empty((len(x), shape.K, shape.P, shape.Q))
    prepare(plan, layer.weights).run(x, out=out)
    if layer.bias is not None:
        out += layer.bias[:, None, None]
    scale = float(np.abs(expected).max()) or 1.0
    return Check(shape.name, method, float(np.abs(out - expected).max()) / scale)


def _capture(
    model: nn.Module, layers: Mapping[str, ExportedLayer], images: Tensor
) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Return input and output of each layer in one run, BatchNorm that is folded included."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    modules = dict(model.named_modules())

    def keep(name: str, where: dict[str, Tensor], *, first: bool) -> Any:
        def hook(_module: nn.Module, given: Any, made: Any) -> None:
            where.setdefault(name, (given[0] if first else made).detach().clone())

        return hook

    handles = []
    for name, layer in layers.items():
        handles.append(modules[name].register_forward_hook(keep(name, inputs, first=True)))
        behind = modules[layer.folded or name]
        handles.append(behind.register_forward_hook(keep(name, outputs, first=False)))
    try:
        with torch.no_grad(), evaluating(model):
            model(images)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise input_error("images", f"the model does not take them ({why})",
                          found=tuple(images.shape)) from error  # fmt: skip
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for name in inputs:
        flat, shape = isinstance(modules[name], nn.Linear), layers[name].layer
        if name in outputs:
            found[name] = (
                _pictures(inputs[name], shape.C, flat=flat),
                _pictures(outputs[name], shape.K, flat=flat),
            )
    return found


def _pictures(values: Tensor, maps: int, *, flat: bool) -> FloatArray:
    """Return (N, maps, H, W); what a fully connected layer sees along a sequence is its height."""
    if flat:
        values = values.reshape(len(values), -1, maps).transpose(1, 2).unsqueeze(3)
    found = aligned_empty(tuple(values.shape))
    found[...] = values.float().cpu().numpy()
    return found
