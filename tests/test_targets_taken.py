"""Targets given as sparsities decide how layers run, where nobody else says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import archsim
from archsim.choice import ways_on
from archsim.cli import run
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.methods import METHODS
from archsim.network import load_network

LENET = load_network("lenet5")
ATOM, PHI = load_machine("atom-c2750"), load_machine("xeon-phi-7250")
#: not what the closed form would choose: what is taken is seen
WAYS = {
    "conv1": ("direct_sparse", "row"), "conv2": ("lowered_sparse", "panels"),
    "ip1": ("fc_dense", "auto"), "ip2": ("fc_sparse", "lanes"),
}  # fmt: skip


def targets(folder: Path, machine: str = "atom-c2750", **more: Any) -> Path:
    """Write targets as archsim targets does."""
    layers = [
        {"layer": name, "sparsity": 0.0 if method == "fc_dense" else 0.8, "domain": "spatial",
         "method": method, "schedule": schedule}
        for name, (method, schedule) in WAYS.items()
    ]  # fmt: skip
    document = {
        "schema": 1, "kind": "pruning targets", "network": "lenet5", "machine": machine,
        "batch": 2, "threads": 1, "layers": layers, **more,
    }  # fmt: skip
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    status = run([*arguments, "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def taken(document: Any, machine: str = "atom-c2750") -> dict[str, tuple[str, str]]:
    rows = [r for r in document["results"] if r["machine"] == machine]
    assert [r["layer"] for r in rows] == list(WAYS)
    return {r["layer"]: (r["method"], r["schedule"]) for r in rows}


def right(found: dict[str, tuple[str, str]]) -> bool:
    """Whether methods and schedules are the targets', ``auto`` being any."""
    return all(
        found[name][0] == method and (schedule == "auto" or found[name][1].startswith(schedule))
        for name, (method, schedule) in WAYS.items()
    )


COMMON = ["lenet5", "-m", "atom-c2750", "--batch", "2", "--threads", "1"]


@pytest.mark.parametrize("more", [["predict"], ["predict", "--model", "simulator"],
                                  ["simulate", "--no-baseline"]])  # fmt: skip
def test_models_take_what_targets_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str]
) -> None:
    command, *settings = more
    given = [command, *COMMON, *settings, "--sparsity", str(targets(tmp_path))]
    status, found, _ = call(capsys, *given)
    assert status == 0
    assert right(taken(found))
    assert all(r["seconds"] for r in found["results"])
    assert found["totals"]["notes"]["atom-c2750"] == ["methods and schedules are those of t.yaml"]
    assert run(given) == 0
    err = capsys.readouterr().err
    assert "atom-c2750: methods and schedules are those of t.yaml\n" in err


def test_measurements_take_what_targets_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = load_machine("host").name
    given = ["measure", "lenet5", "--batch", "2", "--threads", "1", "--min-seconds", "0"]
    path = str(targets(tmp_path, name))
    status, found, _ = call(capsys, *given, "--sparsity", path)
    assert status == 0
    assert right(taken(found, name))
    assert all(r["seconds"] and r["speedup_over_dense"] for r in found["results"])
    assert found["totals"]["notes"][name] == ["methods and schedules are those of t.yaml"]
    assert run([*given, "--sparsity", path]) == 0
    assert "methods and schedules are those of t.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--methods", "all"], ["--methods", "auto"],
                                  ["--schedule", "row"], ["--schedule", "auto"]])  # fmt: skip
def test_who_names_methods_or_a_schedule_has_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: list[str]
) -> None:
    path = str(targets(tmp_path))
    _, found, _ = call(capsys, "predict", *COMMON, "--sparsity", path, *more)
    _, as_map, _ = call(
        capsys, "predict", *COMMON, "--sparsity", "conv1=0.8,conv2=0.8,ip1=0,ip2=0.8", *more
    )
    keys = ("layer", "method", "schedule", "seconds")
    assert [[r[k] for k in keys] for r in found["results"]] == [
        [r[k] for k in keys] for r in as_map["results"]
    ]
    assert "atom-c2750" not in found["totals"]["notes"]


def test_simulate_with_methods_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(targets(tmp_path))
    given = ["simulate", *COMMON, "--no-baseline", "--sparsity", path]
    _, found, _ = call(capsys, *given, "--methods", "all")
    assert not right(taken(found))
    assert "notes" not in found["totals"]


def test_another_machine_keeps_its_own_choice(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(targets(tmp_path))
    status, found, _ = call(
        capsys, "simulate", *COMMON, "-m", "xeon-phi-7250", "--no-baseline", "--sparsity", path
    )
    assert status == 0
    assert right(taken(found))
    assert not right(taken(found, "xeon-phi-7250"))
    assert found["totals"]["notes"]["xeon-phi-7250"] == [
        "t.yaml is of atom-c2750: its methods and schedules are not taken"
    ]


def test_the_api_takes_them_too(tmp_path: Path) -> None:
    given = archsim.load_sparsity(targets(tmp_path), LENET)
    common: dict[str, Any] = {"sparsity": given, "batch": 2, "threads": 1}
    run_of = archsim.simulate_network(LENET, ATOM, **common)
    assert right({r.layer: (r.method, r.schedule) for r in run_of.results})
    other = archsim.simulate_network(LENET, ATOM, **common, methods=list(METHODS))
    assert not right({r.layer: (r.method, r.schedule) for r in other.results})


def test_what_is_said_of_other_work(tmp_path: Path) -> None:
    given = archsim.load_sparsity(targets(tmp_path), LENET)
    assert ways_on(given, ATOM, batch=2, threads=1)[1] == (
        "methods and schedules are those of t.yaml",
    )
    found, said = ways_on(given, ATOM, batch=16, threads=None)
    assert {name: (way.method, way.schedule) for name, way in found.items()} == WAYS
    assert said[1] == "they were found for batch 2, not 16, threads 1, not 8"
    assert ways_on(given, PHI, batch=2, threads=1)[0] == {}
    moved = given.in_domain("winograd", LENET)  # sparsities of somebody else's choice
    assert ways_on(moved, ATOM, batch=2, threads=1) == ({}, ())


def test_methods_of_somebody_else_are_left_to_the_closed_form(tmp_path: Path) -> None:
    own = [{"layer": "conv1", "sparsity": 0.5, "domain": "spatial", "method": "mykernel"},
           {"layer": "conv2", "sparsity": 0.5, "domain": "spatial", "method": "winograd"},
           {"layer": "ip1", "sparsity": 0.5, "domain": "spatial", "method": None}]  # fmt: skip
    given = archsim.load_sparsity(targets(tmp_path, layers=own), LENET)
    found, said = ways_on(given, ATOM, batch=2, threads=1)
    assert {name: (way.method, way.schedule) for name, way in found.items()} == {
        "conv2": ("winograd", "auto")
    }
    assert said[1] == "methods of t.yaml that archsim has not: mykernel"


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"method": "direct_sparse", "schedule": "rows"},
         "t.yaml: conv1: schedule of direct_sparse: unknown; found 'rows'.*did you mean 'row'"),
        ({"method": 3}, "conv1: method: must be text; found 3"),
        ({"method": "winograd", "schedule": [1]}, "conv1: schedule: must be text"),
    ],
)  # fmt: skip
def test_wrong_ways(tmp_path: Path, entry: dict[str, Any], match: str) -> None:
    layer = {"layer": "conv1", "sparsity": 0.5, "domain": "spatial", **entry}
    path = targets(tmp_path, layers=[layer])
    with pytest.raises(InputError, match=match) as error:
        ways_on(archsim.load_sparsity(path, LENET), ATOM, batch=1, threads=1)
    assert "\n" not in str(error.value)


def test_targets_of_the_command_are_taken(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What targets promise is what predict then says: the same times, layer by layer."""
    path = tmp_path / "t.yaml"
    assert run(["targets", "alexnet", "-m", "atom-c2750", "--budget-time", "50%", "--no-groups",
                "--batch", "8", "-o", str(path), "--json"]) == 0  # fmt: skip
    promised = json.loads(capsys.readouterr().out)
    status, found, _ = call(
        capsys, "predict", "alexnet", "-m", "atom-c2750", "--batch", "8", "--sparsity", str(path)
    )
    assert status == 0
    for layer, result in zip(promised["layers"], found["results"], strict=True):
        assert (result["layer"], result["method"]) == (layer["layer"], layer["method"])
        assert result["seconds"] == pytest.approx(layer["seconds"], rel=0.02)
