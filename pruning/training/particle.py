"""Masks by an evolutionary particle filter.

Anwar, Hwang, Sung, "Structured Pruning of Deep Convolutional Neural Networks" (ACM JETC 13(3),
2017), by its abstract and second-hand accounts; the weights and the resampling are from memory,
medium certainty, and the numbers of particles and rounds are ours.

A particle is a mask of all layers.  Its importance weight is 1 - misclassification rate on
validation images; sequential importance resampling draws particles by weight, and each is then
perturbed, with as much pruned as before.  The best mask that was ever tried is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from archsim.errors import input_error
from archsim.pruning.training.mask_search import Choices, MaskSearch, Stage, draw, perturb


def resample(weights: Tensor, draw: float) -> Tensor:
    """Return which particles go on, by systematic resampling, shape (N,), long.

    Particle i goes on for each of the points ``(draw + 0..N-1) / N`` that falls into its share of
    the sum of weights: N times its share, rounded up or down.

    Parameters
    ----------
    weights : Tensor of shape (N,), floating
        At least 0; if all are 0 every particle goes on once.
    draw : float
        Uniformly random, 0 to below 1.
    """
    count, total = len(weights), float(weights.sum())
    if total == 0.0:
        return torch.arange(count)
    edges = torch.cumsum(weights.double() / total, dim=0)
    points = (torch.arange(count, dtype=torch.float64) + draw) / count
    return torch.searchsorted(edges, points, right=True).clamp(max=count - 1)


class ParticlePruning(MaskSearch):
    """A particle filter over masks in each stage.

    Parameters
    ----------
    model, layers, validation, maps, kernels, stride, rounds, every, seed
        As in `archsim.pruning.training.mask_search.MaskSearch`.
    particles, generations : int
        Masks that are tried at once, and how often (assumed).
    moves : float
        Share of a mask's kept maps, kernels or offsets that a perturbation moves (assumed).
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
        particles: int = 20,
        generations: int = 10,
        moves: float = 0.1,
        every: int = 1,
        seed: int = 0,
    ) -> None:
        for name, value in (("particles", particles), ("generations", generations)):
            if value < 1:
                raise input_error(name, "must be at least 1", found=value)
        if not 0.0 <= moves <= 1.0:
            raise input_error("moves", "must lie in 0..1", found=moves)
        super().__init__(
            model, layers, validation=validation, maps=maps, kernels=kernels, stride=stride,
            rounds=rounds, every=every, seed=seed,
        )  # fmt: skip
        self.particles, self.generations, self.moves = particles, generations, moves

    def search(
        self, stage: Stage, names: Sequence[str], score: Callable[[Choices], float]
    ) -> Choices:
        """Return the best choice of all generations; of equal ones the first."""
        particles = [
            {name: draw(self.layers[name], stage, self.generator) for name in names}
            for _ in range(self.particles)
        ]
        best, highest = particles[0], -1.0
        for generation in range(self.generations):
            scores = [score(particle) for particle in particles]
            top = max(range(len(scores)), key=scores.__getitem__)
            if scores[top] > highest:
                best, highest = particles[top], scores[top]
            if generation + 1 < self.generations:
                start = float(torch.rand((), generator=self.generator, dtype=torch.float64))
                going = resample(torch.tensor(scores, dtype=torch.float64), start)
                particles = [self._move(particles[int(one)], stage) for one in going]
        return best

    def _move(self, particle: Choices, stage: Stage) -> Choices:
        return {
            name: perturb(choice, self.layers[name], stage, self.moves, self.generator)
            for name, choice in particle.items()
        }
