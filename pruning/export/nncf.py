"""Targets for NNCF: calls of ``nncf.prune``, one for each sparsity, the other layers ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from archsim.errors import ArchsimError
from archsim.pruning.export.names import module_names, targets_of

_MODE = "UNSTRUCTURED_MAGNITUDE_LOCAL"


def nncf_calls(
    document: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return arguments of ``nncf.prune`` in plain form: mode by name, ratio, ignored patterns.

    The patterns match every node but those of the layers in question (NNCF calls a node
    ``module/operation/number``, dots of the module as slashes).
    """
    by_ratio: dict[float, list[str]] = {}
    for layer, sparsity in targets_of(document).items():
        name = (names or {}).get(layer, layer).replace(".", "/")
        by_ratio.setdefault(sparsity, []).append(re.escape(name))
    return [
        {
            "mode": _MODE,
            "ratio": ratio,
            "ignored_scope": {
                "patterns": [f"(?!(?:{'|'.join(layers)})/[^/]+/[0-9]+$).*"],
                "validate": False,
            },
        }
        for ratio, layers in by_ratio.items()
    ]


def apply_nncf(
    model: Any, document: Mapping[str, Any], examples_inputs: Any,
    names: Mapping[str, str] | None = None,
) -> Any:  # fmt: skip
    """Prune a torch model with NNCF; return NNCF's wrapped model.

    Raises
    ------
    ArchsimError
        NNCF is not installed.
    """
    try:
        import nncf  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ArchsimError("nncf is not installed: pip install nncf") from error
    targets = targets_of(document)
    found = module_names(targets, dict(model.named_modules()), names)
    for call in nncf_calls(document, found):
        model = nncf.prune(
            model, mode=nncf.PruneMode[call["mode"]], ratio=call["ratio"],
            ignored_scope=nncf.IgnoredScope(**call["ignored_scope"]),
            examples_inputs=examples_inputs,
        )  # fmt: skip
    return model
