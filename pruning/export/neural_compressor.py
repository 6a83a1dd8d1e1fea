"""Targets for Intel Neural Compressor: arguments of its ``WeightPruningConfig``.

Tried with release 2.6; the newest (3.10) has no pruning any more.  The tool leaves the last layer
of a model dense unless it is told otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from archsim.pruning.export.names import targets_of

_MAX_RATIO: Final = 0.99  # of one operator: no target of the grid is above


def inc_config(
    document: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return arguments of ``WeightPruningConfig``: single weights, one entry for each sparsity."""
    by_ratio: dict[float, list[str]] = {}
    for layer, sparsity in targets_of(document).items():
        name = (names or {}).get(layer, layer)
        by_ratio.setdefault(sparsity, []).append(f"^{re.escape(name)}$")
    return {
        "pruning_type": "magnitude",
        "pattern": "1x1",
        "pruning_scope": "local",
        "max_sparsity_ratio_per_op": max([*by_ratio, _MAX_RATIO]),
        "pruning_configs": [
            {"op_names": names_of, "target_sparsity": ratio} for ratio, names_of in by_ratio.items()
        ],
    }
