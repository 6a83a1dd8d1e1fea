"""The loop: phases, resuming, what is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


import archsim
from archsim.errors import InputError
from archsim.pruning.training import loop
from archsim.pruning.training.checkpoint import load_checkpoint, previous_of
from archsim.pruning.training.data import Dataset
from archsim.pruning.training.elementwise import DNS, ESL, Gradual
from archsim.pruning.training.guide import Guide
from archsim.pruning.training.guided import Guided
from archsim.pruning.training.loop import DivergedError, Phase, Row, evaluate, fit

PHASES = (
    Phase("train", 3, 0.05, batch=32), Phase("prune", 4, 0.05, batch=32),
    Phase("tune", 2, 0.005, batch=32),
)  # fmt: skip


class Killed(Exception):  # noqa: N818 - it stands for a signal
    """Stands for a kill, in one process."""


def killed_after(steps: int) -> Callable[[Row], None]:
    """Return a ``progress`` that ends the run after so many rows."""
    count = 0

    def progress(_row: Row) -> None:
        nonlocal count
        count += 1
        if count > steps:
            raise Killed

    return progress


def dns(net: Any, steps: int) -> DNS:
    return DNS(net, rate=0.3, gamma=2.0 / steps, until=steps)


def equal(a: Any, b: Any) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_learns_prunes_and_tunes(make_net: Callable[[], Any], bars: Dataset) -> None:
    net = make_net()
    result = fit(net, bars, PHASES, lambda net, steps: Gradual(net, sparsity=0.7, end=steps // 2))
    assert [row.phase for row in result.rows] == [
        "start", *["train"] * 3, *["prune"] * 4, *["tune"] * 2,
    ]  # fmt: skip
    assert result.rows[0].accuracy is not None
    assert result.rows[0].accuracy < 0.6
    assert result.accuracy() == evaluate(net, bars)
    assert (result.accuracy() or 0.0) > 0.9
    assert result.rows[3].sparsity == 0.0
    assert result.rows[-1].sparsity == pytest.approx(0.7, abs=0.01)
    weights = torch.cat([layer.weight.flatten() for layer in result.pruner.layers.values()])  # type: ignore[union-attr]
    assert float((weights == 0).float().mean()) == pytest.approx(0.7, abs=0.01)


def test_the_learning_rate_falls_tenfold() -> None:
    phase = Phase("prune", 1, 1e-3, drops=(0.4, 0.7))  # as the authors' CaffeNet run
    rates = [phase.rate(step, 10) for step in range(10)]
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 3 + [1e-5] * 3)


def test_seeds_decide(make_net: Callable[[], Any], bars: Dataset) -> None:
    nets = [make_net() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        fit(net, bars, PHASES[:1], seed=seed)
    assert equal(nets[0], nets[1])
    assert not equal(nets[0], nets[2])


def test_every_epoch_has_an_order_of_its_own(
    make_net: Callable[[], Any], bars: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    plain = Dataset.batches

    def spy(data: Dataset, batch: int, seed: tuple[int, ...], start: int = 0) -> Any:
        seeds.append(seed)
        return plain(data, batch, seed, start)

    monkeypatch.setattr(Dataset, "batches", spy)
    fit(make_net(), bars, PHASES, dns)
    assert len(set(seeds)) == sum(phase.epochs for phase in PHASES)


@pytest.mark.parametrize("rows", [1, 12, 24, 40])
def test_a_run_that_was_stopped_ends_alike(
    make_net: Callable[[], Any], bars: Dataset, tmp_path: Path, rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(loop, "PROGRESS_EVERY", 1)
    whole = make_net()
    first = fit(whole, bars, PHASES, dns)
    path = tmp_path / "c"
    with pytest.raises(Killed):
        fit(make_net(), bars, PHASES, dns, checkpoint=path, checkpoint_every=2,
            progress=killed_after(rows))  # fmt: skip
    torch.manual_seed(99)  # a new process has other random states
    net = make_net()
    second = fit(net, bars, PHASES, dns, checkpoint=path, checkpoint_every=2)
    assert equal(whole, net)
    assert first.rows == second.rows
    again = make_net()  # what is finished stays so
    assert fit(again, bars, PHASES, dns, checkpoint=path).rows == first.rows
    assert equal(whole, again)


def test_a_guided_run_that_was_stopped_ends_alike(
    make_net: Callable[[], Any], bars: Dataset, tmp_path: Path
) -> None:
    guide = Guide(archsim.from_torch(make_net(), (1, 8, 8)), "xeon-phi-7250", model="park")

    def gesl(net: Any, _steps: int) -> Guided:
        return Guided(ESL(net, decay=0.05), guide, every=2)

    whole = make_net()
    first = fit(whole, bars, PHASES, gesl, guides=[guide])
    with pytest.raises(Killed):
        fit(make_net(), bars, PHASES, gesl, checkpoint=tmp_path / "c", checkpoint_every=2,
            guides=[guide], progress=killed_after(5))  # fmt: skip
    net = make_net()
    second = fit(net, bars, PHASES, gesl, checkpoint=tmp_path / "c", guides=[guide])
    assert equal(whole, net)
    assert first.rows == second.rows
    assert isinstance(first.pruner, Guided)
    assert isinstance(second.pruner, Guided)
    assert first.pruner.decided == second.pruner.decided
    assert set(first.rows[-1].speedups) == {"xeon-phi-7250"}


def test_a_loss_that_is_no_number_stops_the_run(
    make_net: Callable[[], Any], bars: Dataset, tmp_path: Path
) -> None:
    bad = replace(PHASES[1], learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"the loss is nan|not finite|the loss is inf"):
        fit(make_net(), bars, (PHASES[0], bad), dns, checkpoint=tmp_path / "c", checkpoint_every=1)
    state = load_checkpoint(tmp_path / "c")
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_what_is_no_checkpoint_of_the_run_is_refused(
    make_net: Callable[[], Any], bars: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "c"
    fit(make_net(), bars, PHASES[:1], checkpoint=path, key="a")
    for phases, seed, key in ((PHASES[:1], 0, "b"), (PHASES[:1], 1, "a"), (PHASES[:2], 0, "a")):
        with pytest.raises(InputError, match="is of another run"):
            fit(make_net(), bars, phases, dns, seed=seed, checkpoint=path, key=key)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        fit(make_net(), bars, PHASES[:1], checkpoint=path, key="a")
    path.unlink()  # the one before is taken up where the last one is gone
    assert previous_of(path).exists()
    fit(make_net(), bars, PHASES[:1], checkpoint=path, key="a")


_SCRIPT = """
import sys, time
import torch
from archsim.pruning.training import loop
from archsim.pruning.training.data import load_dataset
from archsim.pruning.training.elementwise import DNS
from archsim.pruning.training.models import digits_net

torch.set_num_threads(1)
torch.manual_seed(5)
net = digits_net()
phases = (loop.Phase("train", 2, 0.05), loop.Phase("prune", 2, 0.05),
          loop.Phase("tune", 1, 0.005))
loop.PROGRESS_EVERY = 1
loop.fit(
    net, load_dataset("digits"), phases,
    lambda net, steps: DNS(net, rate=0.5, gamma=0.01, until=steps), checkpoint=sys.argv[1],
    checkpoint_every=3, progress=lambda row: print("step", flush=True),
)
torch.save(net.state_dict(), sys.argv[2])
"""


def _start(*paths: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _SCRIPT, *map(str, paths)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL at random steps, until a run gets to its end."""
    pytest.importorskip("sklearn")
    draw = random.Random(11)  # noqa: S311 - where to kill
    process = _start(tmp_path / "whole", tmp_path / "whole.pt")
    steps = len(process.communicate()[0].splitlines())
    assert process.returncode == 0
    kills = 0
    while not (tmp_path / "end.pt").exists():
        process = _start(tmp_path / "c", tmp_path / "end.pt")
        assert process.stdout is not None
        if kills < 3:
            for _ in range(draw.randrange(steps // 8, steps // 3)):
                process.stdout.readline()
            time.sleep(draw.random() * 0.005)  # in the middle of whatever it does
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
    assert kills == 3
    whole: Any = torch.load(tmp_path / "whole.pt", weights_only=True)
    end: Any = torch.load(tmp_path / "end.pt", weights_only=True)
    assert all(torch.equal(whole[name], end[name]) for name in whole)
