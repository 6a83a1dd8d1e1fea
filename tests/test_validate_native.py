"""Predictions against native runs: which layers, how they are scored, a small run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import archsim
from archsim.cli import run
from archsim.errors import HostMismatchError, InputError
from archsim.validate import Point, cases, native
from archsim.validate.ranking import choices
from archsim.validate.spread import model_errors_of, write_model_errors
from archsim.yamlfile import read_yaml

# real patterns are of convolutions alone
pytestmark = pytest.mark.filterwarnings("ignore:.*layers without an array")

TABLE = "name,C,H,W,K,R,S,pad\na,16,10,10,8,3,3,1\nb,12,9,9,8,1,1,0\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "layers.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_seen_and_unseen_layers_are_apart() -> None:
    found = cases.layer_table()
    names: dict[str, set[str]] = {"seen": set(), "unseen": set()}
    shapes: dict[str, set[object]] = {"seen": set(), "unseen": set()}
    for split, network, layers in found:
        names[split] |= {f"{network.name}/{layer.name}" for layer in layers}
        shapes[split] |= {(x.C, x.H, x.W, x.K, x.R, x.S, x.stride, x.pad, x.groups) for x in layers}
    assert not names["seen"] & names["unseen"]
    assert not shapes["seen"] & shapes["unseen"]
    assert len(names["unseen"]) * 3 >= sum(map(len, names.values()))


def test_full_holds_every_layer_once() -> None:
    found = [layer for _, _, layers in cases.layer_table(full=True) for layer in layers]
    assert len(found) == len(set(found))
    assert {"alexnet", "googlenet", "resnet50"} <= {layer.network for layer in found}


def test_the_same_seed_gives_the_same_groups() -> None:
    machine = archsim.load_machine("host")
    table = cases.layer_table()[:2]
    settings = [[g.setting for g in cases.groups(table, machine, seed=s)] for s in (3, 3, 4)]
    assert settings[0] == settings[1] != settings[2]


def test_a_group_has_every_method_that_applies() -> None:
    machine = archsim.load_machine("host")
    (_, network, _), *_ = cases.layer_table()
    (group, *_) = cases.groups([("seen", network, [network["conv3"]])], machine)
    contestants = {(r.method, r.schedule.split(":")[0]) for r in group.requests}
    assert ("direct_sparse", "row") in contestants
    assert {"direct_sparse", "dense_direct", "winograd", "sparse_winograd"} <= {
        r.method for r in group.requests
    }
    assert not any(r.schedule == "auto" for r in group.requests if r.method == "direct_sparse")
    assert group.variant == "uniform"


def _point(method: str, predicted: float, measured: float, **more: object) -> Point:
    known: dict[str, object] = {
        "figure": "f", "machine": "m", "network": "n", "layer": "l", "sparsity": 0.5,
        "quantity": "seconds", "unit": "s", "tolerance": None, "tolerance_kind": "relative",
        "scored": True, "variant": "uniform", "split": "unseen",
    }  # fmt: skip
    fields = known | {"method": method, "predicted": predicted, "measured": measured} | more
    return Point(**fields)  # type: ignore[arg-type]


def test_order_and_regret() -> None:
    points = [
        _point("a", 1.0, 2.0), _point("b", 2.0, 1.0),  # wrong way round, chosen costs 100 % more
        _point("c", 3.0, 2.05),  # near a: no choice that matters; behind b, as predicted
    ]  # fmt: skip
    found = choices(points)
    assert (found["pairs"], found["ranking_accuracy"]) == (2, 0.5)
    assert found["regret"] == found["regret_max"] == pytest.approx(1.0)


def test_sparse_methods_of_two_domains_are_no_choice() -> None:
    points = [_point("a", 1.0, 2.0), _point("w", 2.0, 1.0, density_domain="winograd")]
    assert choices(points)["pairs"] == 0
    dense = [_point("d", 1.0, 2.0, sparsity=0.0), points[1]]
    assert choices(dense)["pairs"] == 1


def test_sums_over_a_network() -> None:
    points = [
        _point("a", predicted, 1.0, layer=layer)
        for layer, predicted in (("x", 0.5), ("y", 1.5), ("z", 1.3))
    ]
    found = choices(points)
    assert found["network_total_error"] == pytest.approx(0.1)
    assert choices(points[:2])["network_total_error"] is None


def test_intervals_are_counted() -> None:
    inside = _point("a", 1.0, 1.1, predicted_low=0.9, predicted_high=1.2)
    assert inside.covered
    assert _point("a", 1.0, 1.1).covered is None
    assert not _point("a", 1.0, 1.3, predicted_low=0.9, predicted_high=1.2).covered


def test_the_model_s_error_is_of_seen_points(tmp_path: Path) -> None:
    seen = [_point("a", 1.0, 1.0 + i / 100, split="seen") for i in range(20)]
    found = model_errors_of([*seen, _point("a", 1.0, 50.0), _point("b", 1.0, 2.0, split="seen")])
    assert set(found) == {"a", "all"}  # one point is too few for percentiles
    assert found["a"] == pytest.approx((math.log(1.0095), math.log(1.1805)), abs=1e-3)
    path = write_model_errors(seen, tmp_path / "errors.yaml", source="today")
    assert read_yaml(path).plain()["methods"]["a"][1] == pytest.approx(0.166, abs=1e-3)
    with pytest.raises(InputError, match="at least 10"):
        write_model_errors(seen[:3], path, source="today")


def test_a_small_run(table: Path) -> None:
    seen = []
    suite = native(layers=table, min_seconds=0.0, progress=lambda _, *at: seen.append(at))
    document = suite.as_document()
    assert len(suite.points) >= 20
    assert all(p.measured > 0 and p.predicted > 0 and p.split == "unseen" for p in suite.points)
    summary = document["summary"]
    assert summary["noise_floor"] > 0
    assert summary["by_split"]["unseen"]["points"] == len(suite.points)
    assert 0 <= summary["ranking_accuracy"] <= 1
    assert seen[-1][0] == seen[-1][1]
    worst = summary["worst"]
    assert len(worst) == 5
    for told in worst:
        (point,) = [
            p for p in suite.points
            if all(getattr(p, key) == told[key] for key in told if key != "terms")
        ]  # fmt: skip
        # what was predicted, and the change of any one term, make what was measured
        for row in told["terms"]:
            if row["times"] is not None:
                changed = point.predicted + row["seconds"] * (row["times"] - 1.0)
                assert changed == pytest.approx(point.measured, rel=1e-6)


def test_ctrl_c_keeps_what_was_measured(table: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    suite = native(layers=table, min_seconds=0.0, progress=stop)
    assert suite.points
    assert "interrupted: 1 of" in suite.notes[0]


def test_other_machines_are_refused() -> None:
    with pytest.raises(HostMismatchError):
        native(machine="atom-c2750")
    with pytest.raises(InputError, match="unknown model"):
        native(model="park")


def test_command(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "native", "--layers", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "native"
    assert run(["validate", "native", "--layers", str(table)]) == 0
    shown = capsys.readouterr().out
    assert "noise floor" in shown
    assert "worst points" in shown
