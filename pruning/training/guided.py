"""Guided Sparsity Learning around any method (Park et al., ICLR 2017, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from archsim.errors import input_error
from archsim.pruning.training.guide import Guide, Verdict
from archsim.pruning.training.protocol import Pruner

#: a density that changes less than this from one projection to the next, three times in a row, has
#: settled (choices; the paper gives no figures)
SETTLED_CHANGE: Final = 0.002
SETTLED_COUNT: Final = 3


class Guided(Pruner):
    """Wraps a pruner: a machine says which layers it goes on with.

    Layers without potential are dropped at the start.  Every ``every`` steps the others are
    projected with their densities: one at the upper end of its window stops, its zeros stay; one
    that has settled below the lower end stops and gets its dense weights back.  :meth:`freeze`
    takes every density as settled.

    Parameters
    ----------
    pruner : Pruner
    guide : Guide
    every : int
        Steps between projections.
    not_before : int
        No layer has settled before this step: a method needs time to begin.

    Attributes
    ----------
    decided : dict of str to (step, Verdict)
        Layers that are no longer pruned.
    """

    def __init__(
        self, pruner: Pruner, guide: Guide, *, every: int = 100, not_before: int = 0
    ) -> None:
        if every < 1:
            raise input_error("every", "must be at least 1", found=every)
        super().__init__(pruner.layers)
        self.pruner, self.guide = pruner, guide
        self.generator = pruner.generator
        self.every, self.not_before = every, not_before
        self.decided: dict[str, tuple[int, Verdict]] = {}
        self._last: dict[str, float] = {}
        self._still: dict[str, int] = {}
        for verdict in guide.start(self.layers).values():
            self._obey(verdict)

    def before_step(self) -> None:
        """See :class:`Pruner`."""
        self.pruner.before_step()

    def after_step(self) -> None:
        """See :class:`Pruner`; projects when it is time."""
        self.pruner.after_step()
        self.steps = self.pruner.steps
        if self.steps % self.every == 0:
            self.project()

    def project(self) -> dict[str, Verdict]:
        """Project the layers that are still being pruned, and obey."""
        densities = self._open()
        for name, density in densities.items():
            still = abs(density - self._last.get(name, 2.0)) < SETTLED_CHANGE
            self._still[name] = self._still.get(name, 0) + 1 if still else 0
        self._last = densities
        settled = {name for name, count in self._still.items() if count >= SETTLED_COUNT}
        return self._follow(densities, settled if self.steps >= self.not_before else set())

    def stop(self, name: str) -> None:
        """See :class:`Pruner`."""
        self.pruner.stop(name)

    def restore(self, name: str) -> None:
        """See :class:`Pruner`."""
        self.pruner.restore(name)

    def freeze(self) -> None:
        """Give up what ended below its window, then freeze all zeros."""
        densities = self._open()
        self._follow(densities, set(densities))
        self.pruner.freeze()

    def densities(self) -> dict[str, float]:
        """See :class:`Pruner`."""
        return self.pruner.densities()

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Pruner`."""
        decided = {
            name: [step, v.action, v.reason, v.sparsity, v.speedup]
            for name, (step, v) in self.decided.items()
        }
        return {
            "pruner": self.pruner.state_dict(), "decided": decided, "last": dict(self._last),
            "still": dict(self._still),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :class:`Pruner`."""
        self.pruner.load_state_dict(state["pruner"])
        self.steps = self.pruner.steps
        self.decided = {
            name: (int(step), Verdict(name, *rest))
            for name, (step, *rest) in state["decided"].items()
        }
        self._last, self._still = dict(state["last"]), dict(state["still"])

    def _open(self) -> dict[str, float]:
        return {name: layer.density for name, layer in self.layers.items() if layer.active}

    def _follow(self, densities: Mapping[str, float], settled: set[str]) -> dict[str, Verdict]:
        verdicts = self.guide.project(densities, settled)
        for verdict in verdicts.values():
            self._obey(verdict)
        return verdicts

    def _obey(self, verdict: Verdict) -> None:
        if verdict.action == "prune":
            return
        if verdict.action == "restore":
            self.pruner.restore(verdict.layer)
        else:
            self.pruner.stop(verdict.layer)
        self.decided[verdict.layer] = self.steps, verdict
