"""Coarse pruning with random masks.

Anwar, Sung, "Compact Deep Convolutional Neural Networks With Coarse Pruning" (1610.09639): of N
random masks the one that does best on validation images is applied, and the network retrained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.mask_search import Choices, MaskSearch, Stage, draw


class CoarsePruning(MaskSearch):
    """Best of N random masks in each stage.

    Parameters
    ----------
    model, layers, validation, maps, kernels, stride, rounds, every, seed
        As in `archsim.pruning.training.mask_search.MaskSearch`.
    masks : int
        N (assumed: the paper's is not known).
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Iterable[str] | None = None,
        *,
        validation: tuple[Tensor, Tensor],
        maps: float = 0.0,
        kernels: float = 0.0,
        stride: int = 1,
        rounds: int = 1,
        masks: int = 50,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        if masks < 1:
            raise input_error("masks", "must be at least 1", found=masks)
        super().__init__(
            model, layers, validation=validation, maps=maps, kernels=kernels, stride=stride,
            rounds=rounds, every=every, seed=seed,
        )  # fmt: skip
        self.masks = masks

    def search(
        self, stage: Stage, names: Sequence[str], score: Callable[[Choices], float]
    ) -> Choices:
        """Return the best of `masks` random choices; of equal ones the first."""
        drawn = (
            {name: draw(self.layers[name], stage, self.generator) for name in names}
            for _ in range(self.masks)
        )
        return max(drawn, key=score)
