"""Targets for Torch-Pruning, which removes channels: the share of equal time for each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from archsim.errors import input_error
from archsim.pruning.export.names import module_names, targets_of

NEEDS_GROUPS: Final = (
    "needs the comparison with removed output maps (a described machine and --groups)"
)


def channel_ratios(document: Mapping[str, Any]) -> dict[str, float]:
    """Return for each target the share of output maps whose removal makes the layer as fast.

    Layers for which the comparison found none are left out.

    Raises
    ------
    InputError
        The document has no comparison with removed maps.
    """
    targets = targets_of(document)
    layers = {layer["layer"]: layer for layer in document["layers"]}
    found = {}
    for name, sparsity in targets.items():
        groups = layers[name]["group_wise"]
        if groups is None:
            raise input_error("export torch-pruning", NEEDS_GROUPS)
        for entry in groups["equal"]:
            if entry["element_wise"] == sparsity and entry["group_wise"]:
                found[name] = float(entry["group_wise"])
    return found


def pruner_arguments(
    model: Any, document: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return arguments of a Torch-Pruning pruner: ratios by module; other layers stay.

    Parameters
    ----------
    model : torch.nn.Module
    document : mapping
    names : mapping of layer to module, optional
    """
    ratios = channel_ratios(document)
    modules = dict(model.named_modules())
    found = module_names(ratios, modules, names)
    return {
        "pruning_ratio": 0.0,
        "pruning_ratio_dict": {modules[found[layer]]: ratio for layer, ratio in ratios.items()},
    }
