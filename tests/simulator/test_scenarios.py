"""What else happens on a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import archsim
from archsim.api import make_plan
from archsim.cli import run as cli
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.simulation import simulate_network
from archsim.simulator.engine import simulate
from archsim.simulator.layer import SimulationStuckError
from archsim.simulator.scenario import Scenario, SpeedProfile, load_scenario, scenario_names

ATOM = load_machine("atom-c2750")
CONV3 = load_network("alexnet")["conv3"]


def _scenario(**blocks: Any) -> Scenario:
    return Scenario.model_validate({"name": "drawn", **blocks})


def _plan(**changes: Any) -> Any:
    settings: dict[str, Any] = {"method": "direct_sparse", "density": 0.1, "batch": 16}
    return make_plan(CONV3, ATOM, **(settings | changes))


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_ones_run(name: str) -> None:
    found = load_scenario(name)
    assert found.name == name
    assert found.description
    run = simulate_network("lenet5", ATOM, sparsity=0.8, batch=8, scenario=name)
    quiet = simulate_network("lenet5", ATOM, sparsity=0.8, batch=8)
    assert run.seconds >= quiet.seconds * (1 - 1e-9)


def test_half_the_memory_is_half_as_fast_where_memory_bounds() -> None:
    tight = tuple(
        m.model_copy(update={"bandwidth_bytes_per_s": m.bandwidth_bytes_per_s / 50})
        for m in ATOM.memory
    )
    machine = ATOM.model_copy(update={"memory": tight})
    plan = _plan(method="lowered_sparse")
    alone = simulate(plan, machine)
    shared = simulate(plan, machine, scenario=load_scenario("half-the-memory"))
    assert shared.seconds == pytest.approx(2 * alone.seconds, rel=0.15)
    assert shared.memories[0].utilisation <= 0.5 + 1e-9


def test_a_load_that_ends() -> None:
    load = {"share": 0.9, "from": "0 s", "until": "1 ms"}
    plan = _plan(method="lowered_sparse")
    alone = simulate(plan, ATOM)
    some = simulate(plan, ATOM, scenario=_scenario(memory_load=[load]))
    always = simulate(plan, ATOM, scenario=_scenario(memory_load=[{"share": 0.9}]))
    assert alone.seconds <= some.seconds < always.seconds


def test_half_the_clock_is_half_as_fast() -> None:
    plan = _plan()
    join = ATOM.barrier_cycles / ATOM.clock_for()
    slow = _scenario(speed=[{"factor": 0.5}])
    found, quiet = simulate(plan, ATOM, scenario=slow), simulate(plan, ATOM)
    # the memory is as fast as ever: where cores wait for it, a slower clock costs less
    assert 1.5 < (found.seconds - join) / (quiet.seconds - join) < 2.0
    wide = tuple(
        m.model_copy(update={"bandwidth_bytes_per_s": m.bandwidth_bytes_per_s * 50})
        for m in ATOM.memory
    )
    free = ATOM.model_copy(update={"memory": wide, "barrier_cycles": 0.0})
    found, quiet = simulate(plan, free, scenario=slow), simulate(plan, free)
    assert found.seconds == pytest.approx(2 * quiet.seconds, rel=1e-6)


def test_a_slow_core_holds_everybody_up_unless_others_take_its_work() -> None:
    # 14 turns, not 16: after two the slow core and the others would reach for the last one at once
    slow, plan = load_scenario("one-slow-core"), _plan(batch=56)
    fixed = simulate(plan, ATOM, scenario=slow)
    taken = simulate(plan, ATOM, scenario=slow, take="dynamic")
    assert taken.seconds < 0.85 * fixed.seconds
    assert fixed.critical_path[-1].core == 0


def test_cores_that_are_off_have_no_threads() -> None:
    run = simulate_network("lenet5", ATOM, sparsity=0.8, batch=8, scenario="cores-0-1-off")
    cores = {use.core for detail in run.details for use in detail.cores}
    assert cores <= set(range(2, ATOM.total_cores))
    assert run.results[0].threads == ATOM.total_threads - 2
    with pytest.raises(InputError, match="fewer hardware threads"):
        simulate_network("lenet5", ATOM, threads=8, scenario="cores-0-1-off")


def test_stuck_says_who_waits_for_whom() -> None:
    plan = _plan(batch=1, threads=2, method="direct_sparse", schedule="row")
    off = _scenario(cores_off=[{"cores": [4], "from": "10 us"}])
    assert plan.threads_per_image == 2
    with pytest.raises(SimulationStuckError) as caught:
        simulate(plan, ATOM, scenario=off)
    text = str(caught.value)
    assert "conv3 can make no progress" in text
    assert "wait at the barrier of group 0 for thread 1" in text
    assert "core 4 is off" in text
    assert "\n" not in text


def test_images_of_a_core_that_goes_off_are_taken_by_others() -> None:
    off = _scenario(cores_off=[{"cores": [1], "from": "1 ms"}])
    with pytest.raises(SimulationStuckError, match="core 1 is off"):
        simulate(_plan(batch=64), ATOM, scenario=off)
    found = simulate(_plan(batch=64), ATOM, scenario=off, take="dynamic")
    assert found.tiles == simulate(_plan(batch=64), ATOM).tiles


def test_work_over_clock_steps() -> None:
    profile = SpeedProfile([(1.0, 0.5), (3.0, 2.0)])
    assert profile.finish(0.0, 0.5) == 0.5
    assert profile.finish(0.0, 1.5) == pytest.approx(2.0)
    assert profile.finish(0.0, 4.0) == pytest.approx(4.0)
    assert profile.finish(2.0, 0.5) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("name: x\ncores_off: [{cores: [8]}]", "has no such core; found 8; allowed: 0..7"),
        ("name: x\nspeed: [{cores: [99], factor: 0.5}]", "has no such core; found 99"),
        ("name: x\nspeed: [{factor: 0}]", "factor"),
        ("name: x\nmemory_load: [{memory: HBM, share: 0.5}]", "no such memory; found 'HBM'"),
        ("name: x\nmemory_load: [{share: 0.6}, {share: 0.5}]", "nothing is left"),
        ("name: x\nmemory_load: [{bandwidth: 9 TB/s}]", "nothing is left"),
        ("name: x\nmemory_load: [{}]", "either 'bandwidth' or 'share'"),
        ("name: x\nmemory_load: [{share: 0.5, from: 2 ms, until: 1 ms}]", "must come after"),
        ("name: x\nmemory_load: [{share: 0.5, from: 2}]", "from"),
        ("name: x\nmemory_loads: []", "memory_load"),
        ("name: x\ncores_off: [{cores: [0, 1, 2, 3, 4, 5, 6, 7]}]", "leaves no core"),
        ("- 1", "a map of scenario keys is due"),
        ("speed: []", "name"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        simulate(_plan(), ATOM, scenario=load_scenario(path))
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["scenarios", "list"]) == 0
    assert "one-slow-core" in capsys.readouterr().out
    assert cli(["scenarios", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    for file in (Path(archsim.__file__).parent / "scenarios").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)
        assert cli(["scenarios", "check", str(file)]) == 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"name": "x", "speeds": []}, schema)
    (tmp_path / "s.yaml").write_text("name: x\nspeed: [{factor: -1}]")
    capsys.readouterr()
    assert cli(["scenarios", "check", str(tmp_path / "s.yaml")]) == 2
    assert "s.yaml:2" in capsys.readouterr().err


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="did you mean 'one-slow-core'"):
        load_scenario("one-slow-cor")
    with pytest.raises(InputError, match=r"missing\.yaml"):
        load_scenario("missing.yaml")
