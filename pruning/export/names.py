"""Targets of a document, and what their layers are called in a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from archsim.errors import input_error

NEEDS_BUDGET: Final = "the targets have no sparsities: a budget is needed"


def targets_of(document: Mapping[str, Any]) -> dict[str, float]:
    """Return the sparsity of each layer that is to be pruned in the spatial domain.

    Raises
    ------
    InputError
        The document has no allocation (no budget was given), or prunes Winograd's weights, which
        no tool does.
    """
    layers = document["layers"]
    if all(layer["sparsity"] is None for layer in layers):
        raise input_error("export", NEEDS_BUDGET)
    winograd = [y["layer"] for y in layers if y["sparsity"] and y["domain"] != "spatial"]
    if winograd:
        raise input_error("export", "no tool prunes weights of the Winograd domain",
                          found=", ".join(winograd))  # fmt: skip
    return {layer["layer"]: layer["sparsity"] for layer in layers if layer["sparsity"]}


def module_names(
    layers: Iterable[str], modules: Iterable[str], names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the module of each layer: as ``names`` says, or of the same name.

    ``/`` in a layer's name may be ``.`` or ``_`` in the model.

    Raises
    ------
    InputError
        A layer has no module.
    """
    known = list(modules)
    found = {}
    for layer in layers:
        wanted = (names or {}).get(layer)
        tries = [wanted] if wanted else [layer, layer.replace("/", "."), layer.replace("/", "_")]
        match = next((name for name in tries if name in known), None)
        if match is None:
            raise input_error(f"layer {layer}", "has no module in the model (give names=)",
                              found=wanted, near=(layer, known))  # fmt: skip
        found[layer] = match
    return found
