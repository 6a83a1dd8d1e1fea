"""Targets for the tools that prune: files from the document alone, and helpers for live models.

``nncf`` and ``inc`` prune single weights to the targets; ``torch-pruning`` removes channels, so it
gets the group-wise sparsity of equal time.  ``torch.nn.utils.prune`` needs a model at hand:
:func:`archsim.pruning.export.torch_masks.apply_masks`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from archsim.errors import input_error
from archsim.pruning.export.names import NEEDS_BUDGET, targets_of
from archsim.pruning.export.neural_compressor import inc_config
from archsim.pruning.export.nncf import nncf_call
from archsim.pruning.export.torch_pruning import NEEDS_GROUPS, channel_ratios
from archsim.pruning.latency import write_text

TOOLS: Final = ("nncf", "inc", "torch-pruning")

__all__ = [
    "TOOLS", "channel_ratios", "check_exports", "export_text", "inc_config", "nncf_call",
    "targets_of", "write_export",
]  # fmt: skip


def check_exports(tools: Iterable[str], *, allocated: bool, groups: bool) -> None:
    """Refuse, before targets are computed, what they will not hold.

    Parameters
    ----------
    tools : iterable of str
    allocated : bool
        There is a budget, or sparsities are decided.
    groups : bool
        Removed output maps are compared.

    Raises
    ------
    InputError
    """
    for tool in tools:
        if not allocated:
            raise input_error(f"export {tool}", NEEDS_BUDGET)
        if tool == "torch-pruning" and not groups:
            raise input_error(f"export {tool}", NEEDS_GROUPS)


def export_text(tool: str, document: Mapping[str, Any]) -> str:
    """Return a tool's configuration as JSON.

    Raises
    ------
    InputError
        An unknown tool, or targets that it cannot use.
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
    return json.dumps(made, indent=1, allow_nan=False) + "\n"


def write_export(tool: str, document: Mapping[str, Any], path: str | Path) -> Path:
    """Write a tool's configuration as JSON.

    Raises
    ------
    InputError
        An unknown tool, targets without an allocation, or a file that cannot be written.
    """
    return write_text(Path(path), export_text(tool, document))
