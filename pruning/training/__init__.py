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

from archsim.pruning.training.protocol import PrunedLayer, Pruner, find_layers

__all__ = ["PrunedLayer", "Pruner", "find_layers"]
