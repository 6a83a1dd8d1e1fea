"""Who reads the maps that a layer makes: models as graphs, by ``torch.fx``.

A map that is removed takes with it the kernels that read it, wherever nothing mixes channels in
between.  Additions, concatenations and what ``torch.fx`` cannot follow keep all their maps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import fx, nn
from torch.nn import functional

from archsim.errors import input_error
from archsim.pruning.training.winograd_layer import WinogradConv2d

#: what treats every channel by itself, and keeps their order
_CHANNELWISE: Final = (
    nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU,
    nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
_CHANNELWISE_FUNCTIONS: Final = frozenset({
    torch.relu, functional.relu, functional.relu6, functional.leaky_relu, functional.gelu,
    functional.silu, functional.dropout, functional.max_pool2d, functional.avg_pool2d,
    functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d, torch.sigmoid, torch.tanh,
})  # fmt: skip
_CHANNELWISE_METHODS: Final = frozenset({"relu", "sigmoid", "tanh", "contiguous"})

_COMMUTE_WITH_RELU: Final = (nn.MaxPool2d, nn.Dropout, nn.Dropout2d, nn.Identity)


@dataclass(frozen=True)
class Readers:
    """Where the maps of a layer go, as far as channels stay apart.

    Attributes
    ----------
    layers : tuple of str
        Convolutions and fully connected layers that read the maps.
    between : tuple of str
        Modules that the maps pass on their way.
    """

    layers: tuple[str, ...]
    between: tuple[str, ...]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether to look inside of a module: never into ours."""
        return isinstance(m, WinogradConv2d) or super().is_leaf_module(m, module_qualified_name)


def trace(model: nn.Module) -> fx.Graph:
    """Return the graph of a model.

    Raises
    ------
    InputError
        The model's path depends on its data, or does what ``torch.fx`` cannot follow.
    """
    try:
        return _Tracer().trace(model)
    except Exception as error:  # a model is code of the user: anything may come out
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise input_error("model", f"torch.fx cannot trace it ({why})") from error


def find_readers(model: nn.Module) -> tuple[dict[str, Readers], dict[str, str]]:
    """Return the readers of each convolution's maps, and why others' maps must stay.

    Returns
    -------
    (dict of name to Readers, dict of name to str)
        Convolutions (`torch.nn.Conv2d`) in the order in which they run.

    Raises
    ------
    InputError
        As in `trace`.
    """
    graph, modules = trace(model), dict(model.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    found: dict[str, Readers] = {}
    refused: dict[str, str] = {}
    for node in graph.nodes:
        name = str(node.target)
        if node.op != "call_module" or not isinstance(modules[name], nn.Conv2d):
            continue
        readers: list[str] = []
        between: list[str] = []
        why = None if calls[name] == 1 else "runs at several places"
        for user in _downstream(node, modules):
            target = str(user.target)
            module = modules[target] if user.op == "call_module" else None
            if module is not None and calls[target] > 1 and list(module.parameters()):
                why = f"its maps meet {target}, which runs at several places"
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                readers.append(target)
            elif _keeps_channels_apart(user, module):
                between += [target] if module is not None else []
            else:
                why = why or f"its maps meet {'the output' if user.op == 'output' else user.name}"
        if why is None and readers:
            found[name] = Readers(tuple(dict.fromkeys(readers)), tuple(dict.fromkeys(between)))
        else:
            refused[name] = why or "nobody reads its maps"
    return found, refused


def _downstream(node: fx.Node, modules: dict[str, nn.Module]) -> Iterator[fx.Node]:
    """Yield what a node's values meet, up to what mixes channels."""
    for user in node.users:
        if user.op == "call_method" and user.target == "size":
            continue  # asks for the number of images: x.view(x.size(0), -1)
        if user.op == "call_function" and user.target is getattr:
            continue
        yield user
        module = modules[str(user.target)] if user.op == "call_module" else None
        if _keeps_channels_apart(user, module):
            yield from _downstream(user, modules)


def _keeps_channels_apart(node: fx.Node, module: nn.Module | None) -> bool:
    if isinstance(module, nn.Flatten):
        return bool(module.start_dim == 1 and module.end_dim == -1)
    if module is not None:
        return isinstance(module, _CHANNELWISE)
    if node.op == "call_function":
        return node.target in _CHANNELWISE_FUNCTIONS or _flattens(node, node.target)
    if node.op == "call_method":
        return node.target in _CHANNELWISE_METHODS or _flattens(node, node.target)
    return False


def _flattens(node: fx.Node, target: Any) -> bool:
    """Whether a call makes one row of each image."""
    if target in (torch.flatten, "flatten"):
        start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
        end = node.kwargs.get("end_dim", node.args[2] if len(node.args) > 2 else -1)
        return (start, end) == (1, -1)
    if target in (torch.reshape, "view", "reshape"):
        sizes = node.args[1:]  # x.view(x.size(0), -1)
        return len(sizes) == 2 and isinstance(sizes[0], fx.Node) and bool(sizes[1] == -1)
    return False


def relus_before(model: nn.Module) -> dict[str, str]:
    """Return the ReLU module before each convolution, where nothing else hears it.

    Between the two may lie what commutes with a ReLU: maximum pooling, dropout.

    Returns
    -------
    dict of convolution to ReLU module
    """
    graph, modules = trace(model), dict(model.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    found: dict[str, str] = {}
    for node in graph.nodes:
        name = str(node.target)
        if node.op != "call_module" or not isinstance(modules[name], nn.Conv2d):
            continue
        before = node.args[0]
        while isinstance(before, fx.Node) and len(before.users) == 1:
            target = str(before.target)
            if before.op != "call_module" or calls[target] > 1:
                break
            if isinstance(modules[target], nn.ReLU):
                found[name] = target
                break
            if not isinstance(modules[target], _COMMUTE_WITH_RELU):
                break
            before = before.args[0]
    return found
