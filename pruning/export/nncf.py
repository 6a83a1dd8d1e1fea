"""Targets for NNCF: one call of ``nncf.prune`` for all targets, then a ratio for each of them.

``nncf.prune`` knows one ratio for all weights that it masks, and every further call sets all masks
anew; so the call masks the targets, and the ratios that differ are set on its masks afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from archsim.errors import ArchsimError
from archsim.pruning.export.names import module_names, targets_of
from archsim.pruning.magnitude import magnitude_prune

_MODE = "UNSTRUCTURED_MAGNITUDE_LOCAL"


def nncf_call(
    document: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return arguments of ``nncf.prune`` in plain form, and the ratio of each module.

    The pattern of the ignored scope matches every operation but those of the targets (NNCF calls
    one ``module/operation/number``, dots of the module as slashes); ``ratio`` is the least target.
    """
    targets = targets_of(document)
    modules = {(names or {}).get(layer, layer): ratio for layer, ratio in targets.items()}
    nodes = "|".join(re.escape(name.replace(".", "/")) for name in modules)
    return {
        "mode": _MODE,
        "ratio": min(modules.values(), default=0.0),
        "ignored_scope": {
            "patterns": [f"^(?!(?:{nodes})/[^/]+/[0-9]+$).*/[0-9]+$"],
            "validate": False,
        },
        "ratios": modules,
    }


def apply_nncf(
    model: Any, document: Mapping[str, Any], examples_inputs: Any,
    names: Mapping[str, str] | None = None,
) -> Any:  # fmt: skip
    """Prune a torch model with NNCF (3.x); return NNCF's wrapped model.

    Raises
    ------
    ArchsimError
        NNCF is not installed.
    InputError
        A layer without a module.
    """
    try:
        import nncf  # type: ignore[import-not-found, unused-ignore]
        import torch  # type: ignore[import-not-found, unused-ignore]
        from nncf.torch.function_hook.pruning.magnitude.algo import (  # type: ignore[import-not-found, unused-ignore]
            get_pruned_modules,
        )
    except ImportError as error:
        raise ArchsimError("nncf is not installed: pip install nncf") from error
    modules = dict(model.named_modules())
    found = module_names(targets_of(document), modules, names)
    call = nncf_call(document, found)
    model = nncf.prune(
        model, mode=nncf.PruneMode[call["mode"]], ratio=call["ratio"],
        ignored_scope=nncf.IgnoredScope(**call["ignored_scope"]), examples_inputs=examples_inputs,
    )  # fmt: skip
    masks = get_pruned_modules(model)
    for name, ratio in call["ratios"].items():
        weights = modules[name].weight.detach().cpu().numpy()
        mask = magnitude_prune(np.asarray(weights), 1.0 - ratio) != 0
        masks[f"{name}.weight"].binary_mask.copy_(torch.from_numpy(mask))
    return model
