"""A Network from a PyTorch model: one forward pass with zeros, watched by hooks.

``Conv2d`` and ``Linear`` become layers, in the order in which they run, named by the path of their
module.  What else has weights is named with the reason why it is no layer.  torch is imported when
a model is given, never before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from archsim.errors import ArchsimError, InputError, input_error
from archsim.network import Layer, Network


@dataclass(frozen=True)
class TracedModel:
    """What a forward pass showed.

    Attributes
    ----------
    network : Network
    left : mapping of str to str
        Modules with weights that are no layers, and why; they stay dense.
    ignored : tuple of str
        Types of the modules without such weights (activations, pooling, normalisation).
    """

    network: Network
    left: Mapping[str, str]
    ignored: tuple[str, ...]


def from_torch(model: Any, input_shape: Sequence[int], name: str = "model") -> Network:
    """Return the network of a PyTorch model.

    Parameters
    ----------
    model : torch.nn.Module
    input_shape : sequence of int
        Shape of one image, without the batch: (C, H, W), or (features,).
    name : str

    Raises
    ------
    ArchsimError
        torch is not installed.
    InputError
        No model, an input that it does not take, or no layer in it.  What a model has besides
        layers is told by :func:`trace_torch`.
    """
    return trace_torch(model, input_shape, name).network


def trace_torch(model: Any, input_shape: Sequence[int], name: str = "model") -> TracedModel:
    """Return the network of a PyTorch model, and what of the model is not in it."""
    torch = import_torch()
    if not isinstance(model, torch.nn.Module):
        raise input_error("model", "a torch.nn.Module is due", found=type(model).__name__)
    seen = _Seen()
    leaves = _leaves(model)
    handles = [
        module.register_forward_hook(seen.hook(path))
        for path, module in leaves.items()
        if is_layer(module)
    ]
    try:
        run_once(model, input_shape)
    finally:
        for handle in handles:
            handle.remove()
    if "" in leaves:
        raise input_error("model", "is a single module without a name",
                          allowed="torch.nn.Sequential around it")  # fmt: skip
    layers: list[Layer] = []
    left: dict[str, str] = {}
    for path, shapes in seen.inputs.items():
        try:
            layers.append(_layer(path, leaves[path], shapes[0], name))
        except InputError as error:
            left[path] = str(error)
    ignored = set()
    for path, module in leaves.items():
        kind = type(module).__name__
        if is_layer(module):
            if path not in seen.inputs:
                left[path] = f"{kind}: never ran"
            elif len(seen.inputs[path]) > 1 and path not in left:
                left[path] = f"{kind}: runs {len(seen.inputs[path])} times, counted once"
        elif any(weight.dim() > 1 for weight in module.parameters(recurse=False)):
            left[path] = f"{kind}: not modelled, stays dense"
        else:
            ignored.add(kind)
    if not layers:
        other = "; ".join(f"{path}: {why}" for path, why in left.items())
        raise input_error("model", "has no Conv2d or Linear that archsim knows",
                          found=other or None)  # fmt: skip
    return TracedModel(Network(name, tuple(layers)), left, tuple(sorted(ignored)))


def import_torch() -> Any:
    """Return torch.

    Raises
    ------
    ArchsimError
        It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ArchsimError("PyTorch models need torch: pip install 'archsim[train]'") from error
    return torch


def is_layer(module: Any) -> bool:
    """Whether a module is a convolution of pictures or a fully connected layer.

    Other classes say that they compute a ``Conv2d``, and have its attributes, by a true
    ``archsim_conv2d``.
    """
    torch = import_torch()
    if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
        return True
    return bool(getattr(module, "archsim_conv2d", False))


def run_once(model: Any, input_shape: Sequence[int]) -> None:
    """Run a model on one image of zeros in evaluation mode, and leave it as it was.

    Raises
    ------
    InputError
        The model does not take such an input.
    """
    torch = import_torch()
    shape = tuple(input_shape)
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise input_error("input_shape", "whole numbers above zero are due, without the batch",
                          found=shape)  # fmt: skip
    like = next(iter(model.parameters()), torch.empty(0))
    zeros = torch.zeros((1, *shape), dtype=like.dtype, device=like.device)
    try:
        with torch.no_grad(), evaluating(model):
            model(zeros)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise input_error(
            "input_shape", f"the model does not take it ({' '.join(str(error).split())[:200]})",
            found=shape,
        ) from error  # fmt: skip


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Set a model to evaluation, and every module of it back to its own mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


class _Seen:
    """Input shapes of modules, in the order of their first runs."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[tuple[int, ...]]] = {}

    def hook(self, path: str) -> Any:
        def note(_module: Any, inputs: tuple[Any, ...], _output: Any) -> None:
            self.inputs.setdefault(path, []).append(tuple(inputs[0].shape))

        return note


def _leaves(model: Any) -> dict[str, Any]:
    """Return layers, and modules without parts; what is inside of a layer belongs to it."""
    found: dict[str, Any] = {}
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if path.startswith(inside) and inside:
            continue
        if is_layer(module):
            inside = (*inside, f"{path}.")
        if is_layer(module) or not any(True for _ in module.children()):
            found[path] = module
    return found


def _layer(path: str, module: Any, shape: tuple[int, ...], network: str) -> Layer:
    torch = import_torch()
    if isinstance(module, torch.nn.Linear):
        places = math.prod(shape[1:-1])  # a sequence: a 1x1 convolution along it
        if len(shape) <= 2 or places == 1:
            return Layer(path, module.in_features, module.out_features, type="fc", network=network)
        return Layer(path, module.in_features, module.out_features, places, 1, network=network)
    mode = getattr(module, "padding_mode", "zeros")
    if mode != "zeros":
        raise input_error(f"layer {path}: padding_mode", "not modelled, stays dense", found=mode)
    height, width = module.kernel_size
    return Layer(
        path, module.in_channels, module.out_channels, shape[-2], shape[-1], height, width,
        stride=tuple(module.stride), pad=_pads(path, module), dilation=tuple(module.dilation),
        groups=module.groups, network=network,
    )  # fmt: skip


def _pads(path: str, module: Any) -> tuple[int, int]:
    """Return (height, width) of zeros on either side."""
    if module.padding == "valid":
        return 0, 0
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(total % 2 for total in totals):
            raise input_error(f"layer {path}: padding", "uneven, not modelled, stays dense",
                              found="same")  # fmt: skip
        return totals[0] // 2, totals[1] // 2
    return tuple(module.padding)
