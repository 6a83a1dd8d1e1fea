"""``archsim prune``: a file in, a folder out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import archsim
from archsim.cli import run
from archsim.errors import InputError
from archsim.pruning.training.config import read_config
from archsim.pruning.training.methods import METHODS

EXAMPLES = sorted(Path(__file__).resolve().parents[2].glob("examples/pruning/*.yaml"))

USERS_CODE = """
import torch
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 4, 1),
                         nn.Flatten(), nn.Linear(4 * 36, 3))

def data():
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 1, 6, 6, generator=draw) * 0.2
    x[torch.arange(90), 0, y * 2] += 1.0
    return x[:60], y[:60], x[60:], y[60:]

def nothing():
    return None
"""

CONFIG = """\
format: 1
model: users_code_of_a_test:net
data: users_code_of_a_test:data
method: gesl
options: {decay: 0.02}
machines: [xeon-phi-7250, atom-c2750]
projection: {model: park, every: 2}
train: {epochs: 3, learning_rate: 0.05, batch: 20}
prune: {epochs: 4, learning_rate: 0.05, batch: 20}
tune: {epochs: 2, batch: 20}
sensitivity: [0.5, 0.9]
seed: 3
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "users_code_of_a_test.py").write_text(USERS_CODE, encoding="utf-8")
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_a_run_and_what_it_leaves(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prune", str(config), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert "layer 2 is left dense: ConvTranspose2d: not modelled" in err
    folder = config.with_suffix("")
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["method"] == "gesl"
    assert set(report["speedups"]) == {"xeon-phi-7250", "atom-c2750"}
    assert report["accuracy"] > 0.8
    assert [row["layer"] for row in report["layers"]] == ["0", "4"]
    assert all(row["largest_error"] < 1e-4 for row in report["layers"])
    network = archsim.load_network(folder / "network.yaml")
    for spec in ("weights.npz", "sparsities.yaml"):
        found = archsim.load_sparsity(folder / spec, network)
        for row in report["layers"]:
            assert found[row["layer"]].sparsity == pytest.approx(row["sparsity"])
    assert (folder / "sensitivity.csv").read_text().startswith("layer,sparsity,loss\n")
    # what was left goes straight into other verbs
    arguments = ["-m", "atom-c2750", "--sparsity", str(folder / "weights.npz")]
    assert run(["predict", str(folder / "network.yaml"), *arguments, "--batch", "8"]) == 0
    measured = ["targets", str(folder / "network.yaml"), "-m", "atom-c2750", "--model", "park"]
    assert run([*measured, "--sensitivity", str(folder / "sensitivity.csv")]) == 0


def test_a_second_call_goes_on_and_tells_the_same(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prune", str(config), "-o", str(config.parent / "a")]) == 0
    first = capsys.readouterr().out
    with np.load(config.parent / "a" / "weights.npz") as data:
        weights = data["0"]
    assert run(["prune", str(config), "-o", str(config.parent / "a")]) == 0
    assert capsys.readouterr().out == first
    assert "gesl on users_code_of_a_test:data" in first
    changed(config, "seed: 3", "seed: 4")
    assert run(["prune", str(config), "-o", str(config.parent / "a")]) == 2
    assert "checkpoint.pt: is of another run" in capsys.readouterr().err
    assert run(["prune", str(config), "-o", str(config.parent / "a"), "--fresh"]) == 0
    with np.load(config.parent / "a" / "weights.npz") as data:
        assert not np.array_equal(weights, data["0"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 3", "sed: 3", "run.yaml:12: unknown key 'sed'"),
        ("seed: 3", "seed: -1", "run.yaml:12: seed"),
        ("decay: 0.02", "decy: 0.02", "run.yaml:5: options: unknown key 'decy'; allowed: decay"),
        ("decay: 0.02", "decay: -1", "decay: must be at least 0; found -1"),
        ("decay: 0.02", "decay: much", "options of gesl"),
        ("method: gesl", "method: gsl", "run.yaml:4: method: unknown; found 'gsl'"),
        ("test:net", "test:nets", "run.yaml:2: model: cannot be imported (module"),
        ("test:net", "absent:net", "run.yaml:2: model: cannot be imported (No module"),
        ("test:net", "test", "run.yaml:2: model: package.module:factory is due"),
        ("test:net", "test:nothing", "must return a torch.nn.Module; found 'NoneType'"),
        ("test:net", "test:torch", "run.yaml:2: model: a function is due"),
        ("test:data", "test:nothing", "a Dataset or (train_x"),
        ("data: users_code_of_a_test:data", "data: mnist", "run.yaml:3: data: unknown"),
        ("xeon-phi-7250", "xeon-pi", "did you mean 'xeon-phi-7250'"),
        ("prune: {epochs: 4, learning_rate: 0.05,", "prune: {epochs: 4,",
         "run.yaml:9: prune: key 'learning_rate' is missing"),
        ("learning_rate: 0.05, batch: 20}\nprune", "learning_rate: 1.0e+30, batch: 20}\nprune",
         "train, epoch 1, step"),
        ("format: 1", "format: 1\nweights: run.yaml", "weights: cannot be loaded"),
        ("format: 1", "format: 1\nlayers: [conv9]", "layer conv9: no such module"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_in_one_line(
    config: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    status = run(["prune", str(changed(config, old, new))])
    err = capsys.readouterr().err
    assert status == (1 if "step" in words else 2)
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert words in line


def test_a_damaged_checkpoint_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["prune", str(config)]) == 0
    path = config.with_suffix("") / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-9])
    assert run(["prune", str(config)]) == 2
    err = capsys.readouterr().err
    assert "checkpoint.pt: is damaged: its checksum differs" in err
    assert "checkpoint.pt.previous" in err


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_made(name: str) -> None:
    method = METHODS[name]
    assert method.summary
    assert "model" not in method.options()
    assert set(method.defaults(100)) <= set(method.options())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_shipped_files_are_right(path: Path) -> None:
    config = read_config(path)
    for machine in config.file.machines:
        archsim.load_machine(machine)


def test_there_are_shipped_files() -> None:
    assert len(EXAMPLES) >= 4


def test_values_of_the_wrong_kind_are_refused(config: Path) -> None:
    with pytest.raises(InputError, match=r"run\.yaml:8: train\.epochs: wrong type"):
        read_config(changed(config, "epochs: 3", "epochs: three"))


def test_without_torch_one_line_says_so(config: Path, tmp_path: Path) -> None:
    """In a process that cannot import torch; nothing else of archsim needs it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from archsim.cli import run\n"
        f"sys.exit(run(['prune', {str(config)!r}]))"
    )
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: training needs torch: pip install 'archsim[train]'\n"
