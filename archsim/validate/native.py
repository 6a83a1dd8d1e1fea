"""Predictions against this host's own kernels.

Every contestant of a group is predicted by the model from the very pattern that runs, then timed in
turns with the others and with an anchor kernel. Calls count that no other work on the same core
disturbed (:mod:`archsim.quiet`), as in the calibration that the prediction rests on. Some groups
run again at the end: how far a second measurement is from the first is the noise floor, below
which no model can be told from another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

import archsim
from archsim.errors import NotApplicableError, input_error
from archsim.hostfacts import HOST
from archsim.machine import Machine
from archsim.predictors import MODELS, by_native_interleaved
from archsim.quiet import Watch
from archsim.request import Request, as_machine, natural
from archsim.result import Result
from archsim.validate.cases import DATA_VARIABLE, Group, anchor, groups, layer_table, real_files
from archsim.validate.needed import needed
from archsim.validate.points import Point, Suite, summarise
from archsim.validate.ranking import choices

Progress = Callable[[str, int, int], None]

#: A call that is predicted to take longer is left out of the default run.
LONGEST_CALL_S: Final = 0.1
_REPEATED: Final = 8  # one group in so many runs again
_WORST: Final = 5  # points whose terms are told
_NAMED: Final = ("network", "layer", "method", "schedule", "figure")


def native(
    *,
    machine: Machine | str | Path = HOST,
    model: str = "ecm",
    layers: str | Path | None = None,
    seed: int = 0,
    full: bool = False,
    min_seconds: float = 0.03,
    progress: Progress | None = None,
) -> Suite:
    """Hold a model against native runs on this host.

    Parameters
    ----------
    machine : Machine, str or Path
        File of this host.
    model : str
        ``ecm`` (traffic by rule), ``ecm:counted`` or ``simulator``.
    layers : str or Path, optional
        Network file or CSV layer table of layers to run instead of the frozen lists.
    seed : int
        Of settings, patterns and inputs.
    full : bool
        All layers, the whole cross product of settings, and calls of any length.
    min_seconds : float
        Each contestant is called for at least so long.
    progress : callable, optional
        Called with (what, done, total).

    Returns
    -------
    Suite
        One point a contestant, in seconds of the whole batch. Interrupted (Ctrl-C), the points so
        far, and a note that says so.

    Raises
    ------
    InputError
        An argument is wrong, or the machine is not this host.
    """
    from archsim.host import require_host

    machine = as_machine(machine)
    require_host(machine)
    if model not in MODELS:
        raise input_error("model", "unknown model", found=model, allowed=", ".join(MODELS))
    seed = natural("seed", seed)
    chosen = groups(layer_table(layers, full=full), machine, seed=seed, full=full)
    run = _Run(machine, model, None if full else LONGEST_CALL_S, min_seconds)
    again = np.random.default_rng(seed).permutation(len(chosen))[: -(-len(chosen) // _REPEATED)]
    total = len(chosen) + len(again)
    notes = []
    try:
        for done, group in enumerate([*chosen, *(chosen[i] for i in again)]):
            if progress is not None:
                progress(group.name, done, total)
            run.measure(group, again=done >= len(chosen))
        if progress is not None:
            progress("done", total, total)
    except KeyboardInterrupt:
        notes.append(f"interrupted: {len(run.anchors)} of {total} groups")
    return run.suite(notes + _notes(machine, layers))


class _Run:
    """Points found so far."""

    def __init__(
        self, machine: Machine, model: str, longest_call_s: float | None, min_seconds: float
    ) -> None:
        self._machine, self._model = machine, model
        self._longest, self._min_seconds = longest_call_s, min_seconds
        self._anchor = anchor(machine)
        self._points: dict[tuple[Any, ...], Point] = {}
        self._repeats: list[float] = []
        self._left_out: list[str] = []
        self._watches: dict[int, Watch] = {}
        self._disturbed: set[tuple[Any, ...]] = set()
        self._requests: dict[tuple[Any, ...], Request] = {}
        self.anchors: list[float] = []

    def measure(self, group: Group, *, again: bool) -> None:
        """Predict and time a group; the second time only compare."""
        predicted, running = [], []
        for request in group.requests:
            try:
                found = self._predict(request)
            except NotApplicableError:
                continue
            if self._longest is not None and (found.seconds or 0.0) > self._longest:
                if not again:
                    self._left_out.append(f"{group.name} by {request.method}")
                continue
            predicted.append(found)
            running.append(request)
        threads = group.setting.threads
        if threads not in self._watches:
            self._watches[threads] = Watch(self._machine, threads)
        timed = by_native_interleaved(
            [self._anchor, *running],
            min_seconds=self._min_seconds,
            check=False,
            watch=self._watches[threads],
        )
        self.anchors.append(timed[0].seconds or 0.0)
        for request, expected, found in zip(running, predicted, timed[1:], strict=True):
            key = (id(group), request.method, request.schedule)
            if again:
                first = self._points[key].measured
                self._repeats.append(abs((found.seconds or 0.0) / first - 1.0))
            else:
                self._points[key] = _point(group, self._model, expected, found)
                self._requests[key] = request
                if "disturbed" in found.notes:
                    self._disturbed.add(key)

    def _predict(self, request: Request) -> Result:
        return MODELS[self._model](_drawn(request))

    def _worst(self) -> list[dict[str, Any]]:
        """Return the points farthest off, each with what would have to be true."""
        far = sorted(self._points, key=lambda key: -abs(self._points[key].error or 0.0))[:_WORST]
        return [
            {
                **{name: getattr(self._points[key], name) for name in _NAMED},
                "terms": needed(_drawn(self._requests[key]), self._points[key].measured),
            }
            for key in far
        ]

    def suite(self, notes: Sequence[str]) -> Suite:
        """Return what was found."""
        points = tuple(self._points.values())
        splits = {
            split: choices([p for p in points if p.split == split]) for split in ("seen", "unseen")
        }
        anchors = np.array(self.anchors)
        drift = float(np.ptp(anchors) / np.median(anchors)) if anchors.size else None
        repeats = np.array(self._repeats)
        more = [f"left out, predicted beyond {self._longest} s a call: {', '.join(self._left_out)}"]
        return Suite(
            "native",
            points,
            notes=(*notes, *(more if self._left_out else [])),
            summary={
                **splits["unseen"],
                "noise_floor": float(np.median(repeats)) if repeats.size else None,
                "noise_p90": float(np.percentile(repeats, 90)) if repeats.size else None,
                "anchor_drift": drift,
                "disturbed_share": len(self._disturbed) / len(points) if points else None,
                "undisturbed_unseen": summarise(
                    p
                    for key, p in self._points.items()
                    if p.split == "unseen" and key not in self._disturbed
                ),
                "by_schedule": by_schedule(points),
                "worst": self._worst() if self._model == "ecm" else [],
            },
            by_split=splits,
        )


def _drawn(request: Request) -> Request:
    """Return a request with the very pattern that runs."""
    if request.sparsity.density >= 1.0:
        return request
    shape = request.plan().weight_shape
    return replace(request, sparsity=request.sparsity.draw(request.layer, request.seed, shape))


def by_schedule(points: Sequence[Point]) -> Mapping[str, dict[str, Any]]:
    """Sum up unseen points by method and kind of schedule."""
    kinds = dict.fromkeys(f"{p.method} {p.schedule.split(':')[0]}".strip() for p in points)
    return {
        kind: summarise(
            p
            for p in points
            if p.split == "unseen" and f"{p.method} {p.schedule.split(':')[0]}".strip() == kind
        )
        for kind in kinds
    }


def _point(group: Group, model: str, expected: Result, found: Result) -> Point:
    setting = group.setting
    return Point(
        figure=f"{model}: batch {setting.batch}, {setting.threads} threads, "
        f"{group.variant if group.variant != 'uniform' else setting.sparsity}",
        machine=found.machine, network=group.layer.network, layer=group.layer.name,
        method=found.method, sparsity=1.0 - found.density, quantity="seconds",
        predicted=expected.seconds or 0.0, measured=found.seconds or 0.0, unit="s",
        tolerance=None, tolerance_kind="relative", scored=True, variant=group.variant,
        split=group.split, schedule=found.schedule, density_domain=found.density_domain,
        batch=found.batch, threads=found.threads, predicted_low=expected.seconds_low,
        predicted_high=expected.seconds_high, measured_low=found.seconds_low,
        measured_high=found.seconds_high,
    )  # fmt: skip


def _notes(machine: Machine, layers: str | Path | None) -> list[str]:
    notes = [f"archsim {archsim.__version__}, {machine.name}: {machine.description}"]
    if layers is None and not real_files("alexnet"):
        notes.append(f"real patterns skipped: {DATA_VARIABLE} names no folder with pruned weights")
    return notes
