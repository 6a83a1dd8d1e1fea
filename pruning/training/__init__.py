"""Training that prunes: methods of the papers for PyTorch models, guided by a machine.

::

    pruner = ESL(model)                         # or DNS, Gradual, Guided(...), a structured one
    for x, y in batches:
        loss = criterion(model(x), y); optimizer.zero_grad(); loss.backward()
        pruner.before_step(); optimizer.step(); pruner.after_step()

Needs the extra ``train`` (torch); nothing else of archsim imports this package.
"""

from __future__ import annotations

from archsim.errors import ArchsimError

try:
    import torch as _torch  # noqa: F401 - only to say in one line that it is missing
except ImportError as error:
    raise ArchsimError("training needs torch: pip install 'archsim[train]'") from error

from archsim.pruning.training.coarse import CoarsePruning
from archsim.pruning.training.data import Dataset, load_dataset
from archsim.pruning.training.elementwise import DNS, ESL, Gradual, default_strengths
from archsim.pruning.training.export_native import check_outputs, export_layers, write_weights
from archsim.pruning.training.filters import FilterPruning, shrink
from archsim.pruning.training.group_lasso import GroupLasso
from archsim.pruning.training.guide import Guide, Verdict
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.loop import Phase, evaluate, fit
from archsim.pruning.training.particle import ParticlePruning
from archsim.pruning.training.protocol import PrunedLayer, Pruner, find_layers
from archsim.pruning.training.sensitivity_measured import measure_sensitivity
from archsim.pruning.training.winograd_layer import WinogradConv2d, replace_convolutions
from archsim.pruning.training.winograd_prune import NativeWinograd, winograd_pruner
from archsim.pruning.training.winograd_relu import DensitySteps, move_relus

__all__ = [
    "DNS", "ESL", "CoarsePruning", "Dataset", "DensitySteps", "FilterPruning", "Gradual",
    "GroupLasso", "Guide", "Guided", "NativeWinograd", "ParticlePruning", "Phase", "PrunedLayer",
    "Pruner", "Verdict", "WinogradConv2d", "check_outputs", "default_strengths", "evaluate",
    "export_layers", "find_layers", "fit", "load_dataset", "measure_sensitivity", "move_relus",
    "replace_convolutions", "shrink", "winograd_pruner", "write_weights",
]  # fmt: skip
