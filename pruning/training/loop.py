"""The loop: train, prune, fine-tune; stopped at any step it goes on to the same result.

A run is a list of phases.  ``train`` learns dense weights, ``prune`` prunes, ``tune`` learns on
with all zeros frozen.  Everything that decides what comes next is in the checkpoint: weights,
optimizer, pruner, place in the data (whose order follows from seed, phase and epoch) and random
states.  On the same machine, with the same number of threads, a run that was killed ends with the
same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.nn import functional

from archsim.errors import ArchsimError, input_error
from archsim.pruning.training.checkpoint import load_checkpoint, previous_of, save_checkpoint
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.protocol import Pruner
from archsim.torchnetwork import evaluating
from archsim.yamlfile import shown_path

PhaseName = Literal["train", "prune", "tune"]
#: steps between calls of ``progress`` and between checkpoints inside an epoch (choices)
PROGRESS_EVERY: Final = 10
CHECKPOINT_EVERY: Final = 200


class DivergedError(ArchsimError):
    """The loss is no number any more; the last good checkpoint stays."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run.

    Attributes
    ----------
    learning_rate : float
        It falls tenfold at each of ``drops``, shares of the phase's steps.
    weight_decay : float
        Of the optimizer, on all parameters; lasso pruners add their own to the layers they know.
    """

    name: PhaseName
    epochs: int
    learning_rate: float
    batch: int = 64
    momentum: float = 0.9
    weight_decay: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    drops: tuple[float, ...] = ()

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step."""
        return self.learning_rate * 0.1 ** sum(step >= share * steps for share in self.drops)


@dataclass(frozen=True, slots=True)
class Row:
    """Where a run is; ``accuracy`` is known at the end of an epoch.

    Attributes
    ----------
    loss : float
        Mean of the epoch so far.
    sparsity : float
        Of all weights that the pruner knows.
    speedups : dict of machine to float
        Predicted, of the network, over the best dense methods.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float | None
    sparsity: float
    speedups: dict[str, float]


Progress = Callable[[Row], None]
MakePruner = Callable[[nn.Module, int], Pruner]


@dataclass(eq=False)
class _Run:
    """What changes while a run goes on."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    rows: list[Row] = field(default_factory=list)
    pruner: Pruner | None = None
    optimizer: torch.optim.Optimizer | None = None


@dataclass(frozen=True)
class FitResult:
    """How a run ended; a row for each epoch, the first before anything was learnt."""

    rows: tuple[Row, ...]
    pruner: Pruner | None

    def accuracy(self, phase: PhaseName | None = None) -> float | None:
        """Return the accuracy at the end of a phase (default: of the run)."""
        found = [r.accuracy for r in self.rows if phase is None or r.phase == phase]
        return found[-1] if found else None


def fit(
    model: nn.Module,
    data: Dataset,
    phases: Sequence[Phase],
    make_pruner: MakePruner | None = None,
    *,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    key: str = "",
    guides: Sequence[Guide] = (),
    progress: Progress | None = None,
    before_pruning: Callable[[nn.Module], object] | None = None,
) -> FitResult:
    """Run phases on a model, in place.

    Parameters
    ----------
    model : torch.nn.Module
        Gives logits of shape (N, classes); the loss is cross entropy.
    data : Dataset
    phases : sequence of Phase
    make_pruner : callable (model, steps) -> Pruner, optional
        Called once, when the first phase other than ``train`` begins, with the steps of the phases
        named ``prune``.
    seed : int
        Of the order of the data and of what the model draws.
    checkpoint : path, optional
        A run goes on from there if the file exists, and writes it after each epoch and every
        ``checkpoint_every`` steps.
    key : str
        What else must be the same for a run to go on.
    guides : sequence of Guide
        Machines whose speedups are told.
    progress : callable, optional
        Called with a Row every few steps and after each epoch.
    before_pruning : callable, optional
        Called with the dense model just before the pruner is made; not when a run goes on.

    Raises
    ------
    DivergedError
        The loss or a weight is NaN or infinite.
    InputError
        The checkpoint is damaged, or of another run.
    """
    if not phases:
        raise input_error("phases", "one at least is due")
    work = _Work(
        model, data, tuple(phases), make_pruner, seed, tuple(guides), progress, before_pruning
    )
    path = None if checkpoint is None else Path(checkpoint)
    run = work.start(path, key)
    while run.phase < len(work.phases):
        work.epoch(run, path, checkpoint_every, key)
    return FitResult(tuple(run.rows), run.pruner)


def evaluate(model: nn.Module, data: Dataset) -> float:
    """Return the share of test pictures that a model gets right."""
    right = 0
    with torch.no_grad(), evaluating(model):
        for x, y in data.test_batches():
            right += int((model(x).argmax(1) == y).sum())
    return right / len(data.test_y)


@dataclass(frozen=True)
class _Work:
    """What stays the same while a run goes on."""

    model: nn.Module
    data: Dataset
    phases: tuple[Phase, ...]
    make_pruner: MakePruner | None
    seed: int
    guides: tuple[Guide, ...]
    progress: Progress | None
    before_pruning: Callable[[nn.Module], object] | None

    def digest(self, key: str) -> str:
        text = repr((self.phases, self.seed, self.data.name, len(self.data.train_x), key))
        return hashlib.sha256(text.encode()).hexdigest()

    def steps(self, phase: Phase) -> int:
        return phase.epochs * self.data.batches_per_epoch(phase.batch)

    @property
    def pruning_steps(self) -> int:
        return max(1, sum(self.steps(phase) for phase in self.phases if phase.name == "prune"))

    def start(self, path: Path | None, key: str) -> _Run:
        """Return a run at its beginning, or where its last checkpoint was."""
        run = _Run()
        torch.manual_seed(self.seed)
        files = [] if path is None else [path, previous_of(path)]
        last = next((file for file in files if file.exists()), None)
        if last is None:
            run.rows.append(self.row(run, evaluate(self.model, self.data)))
        else:
            self.take_up(run, load_checkpoint(last), self.digest(key), last)
        return run

    def begin(self, run: _Run) -> None:
        """Make pruner and optimizer of the run's phase, where they are due."""
        phase = self.phases[run.phase]
        if phase.name != "train" and run.pruner is None and self.make_pruner is not None:
            if self.before_pruning is not None:
                self.before_pruning(self.model)
            run.pruner = self.make_pruner(self.model, self.pruning_steps)
        if run.optimizer is None:
            run.optimizer = make_optimizer(self.model, phase)
            if phase.name == "tune" and run.pruner is not None:
                run.pruner.freeze()

    def epoch(self, run: _Run, path: Path | None, every: int, key: str) -> None:
        """Go to the end of the epoch that the run is in."""
        phase = self.phases[run.phase]
        self.begin(run)
        self.model.train()
        per_epoch = self.data.batches_per_epoch(phase.batch)
        order = (self.seed, run.phase, run.epoch)
        if run.epoch < phase.epochs:
            for x, y in self.data.batches(phase.batch, order, run.step):
                self.step(run, phase, per_epoch, x, y)
                if path is not None and run.step % every == 0 and run.step < per_epoch:
                    self.save(run, path, key)
            run.rows.append(self.row(run, evaluate(self.model, self.data)))
            if self.progress is not None:
                self.progress(run.rows[-1])
            run.epoch, run.step, run.loss_sum = run.epoch + 1, 0, 0.0
        if run.epoch >= phase.epochs:
            run.phase, run.epoch, run.optimizer = run.phase + 1, 0, None
        if path is not None:
            self.save(run, path, key)

    def step(
        self, run: _Run, phase: Phase, per_epoch: int, x: torch.Tensor, y: torch.Tensor
    ) -> None:
        assert run.optimizer is not None  # noqa: S101 - begin() made it
        rate = phase.rate(run.epoch * per_epoch + run.step, self.steps(phase))
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        loss = functional.cross_entropy(self.model(x), y)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"the loss is {value} in {_place(run, phase)}: a lower learning "
                                "rate, perhaps; the last checkpoint is from before")  # fmt: skip
        run.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        if run.pruner is not None:
            run.pruner.before_step()
        run.optimizer.step()
        if run.pruner is not None:
            run.pruner.after_step()
        run.step, run.loss_sum = run.step + 1, run.loss_sum + value
        if self.progress is not None and run.step % PROGRESS_EVERY == 0:
            self.progress(self.row(run, None))

    def row(self, run: _Run, accuracy: float | None) -> Row:
        phase = self.phases[run.phase]
        densities = {} if run.pruner is None else run.pruner.densities()
        return Row(
            phase.name if run.step or run.epoch or run.phase else "start", run.epoch, phase.epochs,
            run.step, self.data.batches_per_epoch(phase.batch), run.loss_sum / max(1, run.step),
            accuracy, total_sparsity(run.pruner),
            {guide.machine.name: guide.speedup(densities) for guide in self.guides},
        )  # fmt: skip

    def save(self, run: _Run, path: Path, key: str) -> None:
        """Write a checkpoint, unless a weight is no number."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise DivergedError(f"{name} is not finite: a lower learning rate, perhaps; the "
                                    f"last good checkpoint is {shown_path(path)}")  # fmt: skip
        state = {
            "digest": self.digest(key), "phase": run.phase, "epoch": run.epoch, "step": run.step,
            "loss_sum": run.loss_sum, "rows": [asdict(row) for row in run.rows],
            "model": self.model.state_dict(),
            "optimizer": None if run.optimizer is None else run.optimizer.state_dict(),
            "pruner": None if run.pruner is None else run.pruner.state_dict(),
            "random": torch.get_rng_state(),
        }  # fmt: skip
        save_checkpoint(state, path)

    def take_up(self, run: _Run, state: Mapping[str, Any], digest: str, path: Path) -> None:
        """Put a run where its checkpoint was."""
        if state.get("digest") != digest:
            raise input_error(shown_path(path), "is of another run (settings, data or seed "
                              "differ)", allowed="another folder, or the file removed")  # fmt: skip
        run.phase, run.epoch, run.step = state["phase"], state["epoch"], state["step"]
        run.loss_sum, run.rows = state["loss_sum"], [Row(**row) for row in state["rows"]]
        if state["pruner"] is not None and self.make_pruner is not None:
            run.pruner = self.make_pruner(self.model, self.pruning_steps)
        self.model.load_state_dict(state["model"])
        if run.pruner is not None:
            run.pruner.load_state_dict(state["pruner"])
        if state["optimizer"] is not None:
            run.optimizer = make_optimizer(self.model, self.phases[run.phase])
            run.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])


def make_optimizer(model: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Return the optimizer of a phase."""
    if phase.optimizer == "adam":
        return torch.optim.Adam(
            model.parameters(), lr=phase.learning_rate, weight_decay=phase.weight_decay
        )
    return torch.optim.SGD(
        model.parameters(), lr=phase.learning_rate, momentum=phase.momentum,
        weight_decay=phase.weight_decay,
    )  # fmt: skip


def total_sparsity(pruner: Pruner | None) -> float:
    """Return the share of zeros of all weights that a pruner knows."""
    if pruner is None:
        return 0.0
    sizes = {name: layer.mask.numel() for name, layer in pruner.layers.items()}
    kept = sum(sizes[name] * density for name, density in pruner.densities().items())
    return 1.0 - kept / sum(sizes.values())


def _place(run: _Run, phase: Phase) -> str:
    return f"{phase.name}, epoch {run.epoch + 1}, step {run.step + 1}"
