"""Targets for the tools that prune: files from the document alone, and helpers for live models.

``nncf`` and ``inc`` prune single weights to the targets; ``torch-pruning`` removes channels, so it
gets the group-wise sparsity of equal time.  ``torch.nn.utils.prune`` needs a model at hand:
:func:`archsim.pruning.export.torch_masks.apply_masks`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from archsim.errors import input_error
from archsim.pruning.export.names import targets_of
from archsim.pruning.export.neural_compressor import inc_config
from archsim.pruning.export.nncf import nncf_call
from archsim.pruning.export.torch_pruning import channel_ratios
from archsim.pruning.latency import write_text

TOOLS: Final = ("nncf", "inc", "torch-pruning")

__all__ = ["TOOLS", "channel_ratios", "inc_config", "nncf_call", "targets_of", "write_export"]


def write_export(tool: str, document: Mapping[str, Any], path: str | Path) -> Path:
    """Write a tool's configuration as JSON.

    Raises
    ------
    InputError
        An unknown tool, targets without an allocation, or a file that cannot be written.
    """
    if tool == "nncf":
        made: Any = {"nncf.prune": nncf_call(document)}
    elif tool == "inc":
        made = inc_config(document)
    elif tool == "torch-pruning":
        made = {"pruning_ratio": 0.0, "pruning_ratio_dict": channel_ratios(document)}
    else:
        raise input_error("export", "unknown tool", found=tool, allowed=", ".join(TOOLS),
                          near=(tool, TOOLS))  # fmt: skip
    return write_text(Path(path), json.dumps(made, indent=1, allow_nan=False) + "\n")
