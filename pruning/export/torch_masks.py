"""Targets as masks of ``torch.nn.utils.prune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, input_error
from archsim.pruning.export.names import module_names, targets_of
from archsim.pruning.magnitude import magnitude_prune


def apply_masks(
    model: Any, document: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Put magnitude masks on the weights of a model, as ``torch.nn.utils.prune`` does.

    Parameters
    ----------
    model : torch.nn.Module
    document : mapping
        Targets with an allocation.
    names : mapping of layer to module, optional
        Where they differ.

    Returns
    -------
    dict of layer to module name

    Raises
    ------
    ArchsimError
        torch is not installed.
    InputError
        A layer without a module, or of another number of weights.
    """
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
        from torch.nn.utils import prune  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ArchsimError("masks need torch: pip install 'archsim[train]'") from error
    targets = targets_of(document)
    modules = dict(model.named_modules())
    found = module_names(targets, modules, names)
    sizes = {y["layer"]: int(y["dense_bytes"]) // 4 for y in document["layers"]}
    for layer, sparsity in targets.items():
        module = modules[found[layer]]
        weights = module.weight.detach().cpu().numpy()
        if weights.size != sizes[layer]:
            raise input_error(f"layer {layer}", "the module has another number of weights",
                              found=weights.size, allowed=str(sizes[layer]))  # fmt: skip
        mask = (magnitude_prune(np.asarray(weights), 1.0 - sparsity) != 0).astype(np.float32)
        prune.custom_from_mask(module, "weight", torch.from_numpy(mask).to(module.weight.device))  # type: ignore[no-untyped-call, unused-ignore]
    return found
