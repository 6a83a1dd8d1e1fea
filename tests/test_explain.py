"""explain: terms of a phase add up to its time, phases to the prediction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import archsim
from archsim.cli import run
from archsim.errors import NotApplicableError
from archsim.explanation import document
from archsim.machinefile import load_machine, machine_names
from archsim.methods import METHODS
from archsim.network import Layer, load_network
from archsim.report.explain import explain_figure
from archsim.sparsity import Sparsity

ALEXNET = load_network("alexnet")
MACHINES = [load_machine(name) for name in machine_names()]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m.name)
@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(("layer", "batch"), [("conv3", 9), ("conv2", 72), ("fc6", 1)])
def test_shown_terms_add_up(machine: Any, method: str, layer: str, batch: int) -> None:
    domain: Any = "winograd" if method == "sparse_winograd" else "spatial"
    sparsity = Sparsity(0.1, domain=domain)
    if METHODS[method].reason(ALEXNET[layer], sparsity) is not None:
        with pytest.raises(NotApplicableError):
            archsim.explain(ALEXNET[layer], machine, method=method, pattern=sparsity)
        return
    found = archsim.explain(ALEXNET[layer], machine, method=method, pattern=sparsity, batch=batch)
    assert sum(p.seconds for p in found.phases) == pytest.approx(found.result.seconds, rel=1e-12)
    for phase in found.phases:
        shown = sum(term.shown_seconds for term in phase.terms)
        assert shown == pytest.approx(phase.seconds, rel=1e-12)
        for term in phase.terms:
            assert 0 <= term.shown_seconds <= term.busy_seconds * (1 + 1e-12)
            if term.name == "load":
                assert sum(term.parts.values()) == pytest.approx(term.busy_seconds, rel=1e-9)


def test_a_real_pattern_with_imbalance() -> None:
    pattern = Sparsity(0.05).draw(ALEXNET["conv3"], 3)
    found = archsim.explain(
        ALEXNET["conv3"], "xeon-phi-7250", method="direct_sparse", pattern=pattern, batch=1
    )
    terms = {term.name: term for phase in found.phases for term in phase.terms}
    assert terms["imbalance"].shown_seconds > 0
    assert sum(p.seconds for p in found.phases) == pytest.approx(found.result.seconds, rel=1e-12)


def test_the_whole_chip_s_memory_shows_as_such() -> None:
    layer = Layer("fc", C=20000, K=20000, type="fc")
    found = archsim.explain(layer, "xeon-e5-2697v4-2s", method="dense_gemm", batch=1)
    terms = {term.name: term for phase in found.phases for term in phase.terms}
    assert terms["DDR"].rule == "whole chip"


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = "explain alexnet conv3 -m atom-c2750 -m xeon-phi-7250 --sparsity 0.9 --batch 8"
    assert run([*words.split(), "-o", str(page)]) == 0
    out = capsys.readouterr().out
    for word in ("atom-c2750", "xeon-phi-7250", "line crossings", "hidden", "total", "products"):
        assert word in out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run([*words.split(), "--json", "--method", "lowered_sparse"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [e["result"]["machine"] for e in found["explanations"]] == [
        "atom-c2750", "xeon-phi-7250",
    ]  # fmt: skip
    assert all(e["result"]["method"] == "lowered_sparse" for e in found["explanations"])


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "alexnet", "conv9", "-m", "atom-c2750"]) == 2
    assert run(["explain", "alexnet", "conv3", "-m", "atom-c2750", "--method", "fc_sparse"]) == 1
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 2
    assert "fully connected" in error[1]


def test_figure_stacks_to_the_time() -> None:
    explained = archsim.explain(
        ALEXNET["conv3"], "atom-c2750", method="direct_sparse", density=0.1, batch=8
    )
    figure = explain_figure(document([explained]))
    top: dict[str, float] = {}
    for trace in figure["data"]:
        for phase, base, height in zip(trace["x"], trace["base"], trace["y"], strict=True):
            top[phase] = max(top.get(phase, 0.0), base + height)
    seconds = [phase.seconds for phase in explained.phases]
    assert sum(top.values()) == pytest.approx(sum(seconds) * 1e3, rel=1e-3)


def test_what_a_file_leaves_out_is_said() -> None:
    machine = load_machine("xeon-phi-7250")
    found = archsim.explain(ALEXNET["conv3"], machine, method="direct_sparse", batch=272)
    text = "\n".join(found.assumed)
    assert "memory.MCDRAM.core_bandwidth" in text
    stated = archsim.vary(machine, {"memory.MCDRAM.core_bandwidth": [1e10]})[0]
    found = archsim.explain(ALEXNET["conv3"], stated, method="direct_sparse", batch=272)
    assert "memory.MCDRAM.core_bandwidth" not in "\n".join(found.assumed)
