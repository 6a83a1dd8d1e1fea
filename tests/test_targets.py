"""Windows, sensitivity and allocation against closed forms, published bounds and HiGHS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.stats import norm

from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.network import Layer, Network, load_network
from archsim.pruning import (
    Curve,
    Sensitivity,
    TimeTable,
    as_document,
    assumed_sensitivity,
    find_targets,
    gaussian_energy,
    load_sensitivity,
    magnitude_prune,
    make_table,
    read_budget,
    read_targets,
    sensitivity_of_weights,
    write_yaml,
)
from archsim.pruning.allocation import Choices, find_front, grid_costs, solve_both, totals
from archsim.pruning.groupwise import fewer_maps
from archsim.pruning.sensitivity import Per, removed_energy
from archsim.pruning.table import LayerTimes, MethodTimes, grid_levels
from archsim.report.targets import summary
from archsim.sparsity import LayerSparsities, Sparsity

XEON = load_machine("xeon-e5-2697v4-2s")
ALEXNET = load_network("alexnet")


@pytest.fixture(scope="module")
def table() -> TimeTable:
    return make_table(ALEXNET, XEON, model="park")


def _budget(table: TimeTable, **given: str) -> Any:
    size = float(sum(y.dense_bytes for y in table.network))
    return read_budget(**given, dense_seconds=table.dense_seconds, dense_bytes=size)


# sensitivity


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
def test_gaussian_energy_is_the_integral(sparsity: float) -> None:
    end = norm.ppf((1 + sparsity) / 2)
    integral, _ = quad(lambda x: 2 * x * x * norm.pdf(x), 0.0, end)
    assert gaussian_energy(sparsity) == pytest.approx(integral, rel=1e-9)
    assert gaussian_energy([0.0, 1.0]).tolist() == [0.0, 1.0]


def test_energy_of_weights_is_what_magnitude_pruning_removes() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 5, 3, 3))
    for sparsity in (0.0, 0.3, 0.87, 1.0):
        kept = magnitude_prune(weights, 1.0 - sparsity).astype(np.float64)
        lost = 1.0 - np.sum(kept**2) / np.sum(weights**2)
        assert removed_energy(weights, sparsity) == pytest.approx(lost, abs=1e-6)


def test_assumed_losses_sum_to_one_and_count_as_told() -> None:
    levels = grid_levels(10)
    both: tuple[Per, Per] = ("weight", "layer")
    for per in both:
        found = assumed_sensitivity(ALEXNET, levels, per)
        assert found.kind == "assumed"
        ends = [found[y.name]["spatial"](0.9) for y in ALEXNET]
        assert sum(ends) == pytest.approx(float(gaussian_energy(0.9)))
    assert np.ptp(ends) < 1e-12  # the last one: per layer


def test_winograd_curves_come_from_winograd_weights() -> None:
    layer = Layer("c", C=4, K=8, H=12, W=12, R=3, S=3, pad=(1, 1))
    spatial = Sparsity.of_weights(np.ones(layer.weight_shape), layer)
    tiles = Sparsity.of_weights(np.ones((6, 6, 8, 4)), layer)
    for weights, domain in ((spatial, "spatial"), (tiles, "winograd")):
        found = sensitivity_of_weights([layer], LayerSparsities({"c": weights}), grid_levels(10))
        assert set(found["c"]) == {domain}
    network = Network("one", (layer,))
    table = make_table(network, XEON, levels=10, winograd=["c"])
    targets = find_targets(table, found, groups=False)
    assert {o.domain for o in targets.choices[0].options[1:]} <= {"winograd"}
    assert all("winograd" in o.method for o in targets.choices[0].options[1:])
    targets = find_targets(table, assumed_sensitivity(network, table.sparsities), groups=False)
    assert not any(o.domain == "winograd" for o in targets.choices[0].options)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0.5, 0.2), (0.8, 0.1)], "not monotone: the loss falls from 0.2 at sparsity 0.5"),
        ([(0.5, 0.1), (0.5, 0.2)], "given twice"),
        ([(1.5, 0.1)], "0..1"),
        ([(0.5, math.nan)], "finite"),
    ],
)
def test_wrong_curves(points: list[tuple[float, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Curve.of_points("c", points)


def test_curves_from_files(tmp_path: Path) -> None:
    rows = [f"{y.name},{s},{s * s}" for y in ALEXNET for s in (0.5, 0.9)]
    csv = tmp_path / "curves.csv"
    csv.write_text("layer,sparsity,loss\n" + "\n".join(rows) + "\n")
    found = load_sensitivity(csv, ALEXNET)
    assert found.kind == "given"
    assert found["conv1"]["spatial"](0.7) == pytest.approx((0.25 + 0.81) / 2)
    assert np.isnan(found["conv1"]["spatial"](0.95))
    csv.write_text("layer,sparsity,loss\nconv1,0.5,0.1\n")
    with pytest.raises(InputError, match="nothing of conv2, conv3"):
        load_sensitivity(csv, ALEXNET)
    csv.write_text("layer,sparsity,loss\nconv9,0.5,0.1\n")
    with pytest.raises(InputError, match=r"curves\.csv:2.*did you mean 'conv"):
        load_sensitivity(csv, ALEXNET)
    text = "format: 1\nloss: points\nlayers:\n  conv1: dense\n"
    text += "".join(f"  {y.name}: [[0.9, 2]]\n" for y in ALEXNET if y.name != "conv1")
    file = tmp_path / "curves.yaml"
    file.write_text(text)
    found = load_sensitivity(file, ALEXNET)
    assert found["conv1"] == {}
    assert found["fc8"]["spatial"](0.45) == pytest.approx(1.0)
    file.write_text(text.replace("[[0.9, 2]]", "[[0.5, 2], [0.9, 1]]", 1))
    with pytest.raises(InputError, match="not monotone"):
        load_sensitivity(file, ALEXNET)


# windows


def test_windows_are_the_published_bounds(table: TimeTable) -> None:
    """x_lo of the paper's AlexNet layers at alpha 3, beta 2 on two Xeons; x_hi is 1 / alpha."""
    low = {"conv1": 0.0500, "conv2": 0.0139, "conv3": 0.0099, "conv4": 0.0158, "conv5": 0.0197}
    found = find_targets(table, Sensitivity(), machine=XEON, groups=False).windows
    for layer, density in low.items():
        assert 1.0 - (found[layer].gains_until or 0.0) == pytest.approx(density, abs=2e-4)
        assert found[layer].pays_from == pytest.approx(1.0 - 1.0 / 3.0, abs=2e-4)
    assert found["fc6"].gains_until is None


def _line_table(dense: float, slope: float, offset: float, low: float = 0.0) -> TimeTable:
    layer = Layer("c", C=8, K=8, H=8, W=8, R=3, S=3)
    grid = grid_levels(100)
    seconds = slope * (1.0 - grid) + offset
    asked = np.ones(99, dtype=bool)
    bounds = (seconds * (1 - low), seconds * (1 + low)) if low else (None, None)
    method = MethodTimes("direct_sparse", "spatial", seconds, asked, ("auto",) * 99, *bounds)
    ends = (dense * (1 - low), dense * (1 + low)) if low else (None, None)
    times = LayerTimes(layer, "dense_gemm", dense, ends[0], ends[1], (method,))
    return TimeTable(Network("n", (layer,)), "m", "given", 1, 1, grid, {"c": times})


def test_window_of_a_straight_line() -> None:
    # 3 x + 0.2 = 1 at density 0.8 / 3; halving saves a fifth where 1.5 x = 0.2 (3 x + 0.2)
    window = find_targets(_line_table(1.0, 3.0, 0.2), Sensitivity()).windows["c"]
    assert window.pays_from == pytest.approx(1.0 - 0.8 / 3.0)
    assert window.gains_until == pytest.approx(1.0 - 0.04 / 0.9, abs=0.011)
    assert (window.pays_from_low, window.pays_from_high) == (None, None)


def test_intervals_widen_the_window() -> None:
    window = find_targets(_line_table(1.0, 3.0, 0.2, low=0.1), Sensitivity()).windows["c"]
    off = math.hypot(math.log(1.1), math.log(0.9))  # independent errors of both sides
    low, high = window.pays_from_low or 0.0, window.pays_from_high or 0.0
    assert low == pytest.approx(1.0 - (math.exp(off) - 0.2) / 3.0, abs=1e-3)
    assert high == pytest.approx(1.0 - (math.exp(-off) - 0.2) / 3.0, abs=1e-3)


def test_two_levels_tell_a_beginning_and_no_end() -> None:
    network = load_network("lenet5")
    table = make_table(network, XEON, model="park", levels=2)
    assert table.sparsities.tolist() == [0.5]
    windows = find_targets(table, Sensitivity()).windows.values()
    assert all(window.gains_until is None for window in windows)


def test_a_layer_that_never_pays_stays_dense() -> None:
    table = _line_table(1.0, 0.1, 1.0)
    sensitivity = assumed_sensitivity(table.network, table.sparsities)
    found = find_targets(table, sensitivity, _budget(table, accuracy="1"))
    assert found.windows["c"].pays_from is None
    (layer,) = as_document(found)["layers"]
    assert (layer["prune"], layer["sparsity"]) == (False, 0.0)
    assert "no sparse method is faster" in layer["reason"]


# allocation


@st.composite
def _instances(draw: st.DrawFn) -> tuple[list[Choices], float]:
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    layers = []
    for _ in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 12))
        loss = np.append(0.0, np.sort(rng.random(count)))
        seconds = np.append(1.0, rng.random(count)) * rng.uniform(0.1, 5.0)
        layers.append(Choices.of(loss, seconds, rng.integers(1, 100, count + 1)))
    return layers, draw(st.floats(0.05, 1.1))


def _highs(layers: list[Choices], cost: list[Any], limit: float) -> float | None:
    """Least loss by SciPy's HiGHS, gap 0, on costs that are given."""
    loss = np.concatenate([c.loss for c in layers])
    owner = np.repeat(np.arange(len(layers)), [c.loss.size for c in layers])
    rows = np.vstack([owner == n for n in range(len(layers))] + [np.concatenate(cost)]).astype(
        float
    )
    answer = milp(
        loss, integrality=np.ones(loss.size, dtype=int), bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, [*[1] * len(layers), -np.inf],
                                     [*[1] * len(layers), limit]),
        options={"mip_rel_gap": 0},
    )  # fmt: skip
    return None if answer.x is None else float(answer.fun)


@settings(max_examples=40, deadline=None)
@given(_instances())
def test_dynamic_programming_is_highs(instance: tuple[list[Choices], float]) -> None:
    layers, share = instance
    dense = sum(float(c.seconds[0]) for c in layers)
    cell = dense / 300
    front = find_front(layers, "seconds", cell)
    limit = math.floor(share * dense / cell)
    picks = front.within(limit * cell * (1 + 1e-12))
    best = _highs(layers, [grid_costs(c.seconds, cell) for c in layers], limit)
    assert (picks is None) == (best is None)
    if picks is not None and best is not None:
        loss, seconds, _ = totals(layers, picks)
        assert loss == pytest.approx(best, abs=1e-9)
        assert seconds <= limit * cell * (1 + 1e-9)  # kept in truth, not only on the grid


@settings(max_examples=25, deadline=None)
@given(_instances())
def test_the_front_falls_and_holds_its_own_totals(instance: tuple[list[Choices], float]) -> None:
    layers, _ = instance
    front = find_front(layers, "seconds", 0.01)
    assert (np.diff(front.cells) > 0).all()
    assert (np.diff(front.loss) < 0).all()
    for place in range(front.cells.size):
        loss, seconds, _ = totals(layers, front.picks[place])
        assert loss == pytest.approx(front.loss[place], abs=1e-12)
        assert seconds <= front.cells[place] * 0.01 + 1e-12


@settings(max_examples=15, deadline=None)
@given(_instances())
def test_two_budgets_hold_at_once(instance: tuple[list[Choices], float]) -> None:
    layers, share = instance
    if math.prod(c.loss.size for c in layers) > 3000:
        layers = layers[:2]
    seconds = share * sum(float(c.seconds.max()) for c in layers)
    size = share * sum(float(c.bytes.max()) for c in layers)
    every = np.array(np.meshgrid(*[np.arange(c.loss.size) for c in layers])).reshape(
        len(layers), -1
    )
    sums = np.array([totals(layers, picks) for picks in every.T])
    inside = (sums[:, 1] <= seconds * (1 - 2e-6)) & (sums[:, 2] <= size * (1 - 2e-6))
    picks = solve_both(layers, seconds=seconds, size=size)
    if inside.any():
        assert picks is not None
        assert totals(layers, picks)[0] == pytest.approx(sums[inside, 0].min(), abs=1e-5)
    if picks is not None:
        _, found, weights = totals(layers, picks)
        assert found <= seconds
        assert weights <= size


@pytest.mark.parametrize(
    "budget",
    [{"time": "50%"}, {"size": "40%"}, {"accuracy": "0.01"}, {"time": "60%", "size": "60%"},
     {"accuracy": "0.9", "size": "50%"}],
)  # fmt: skip
def test_budgets_are_kept_and_nothing_is_slower(table: TimeTable, budget: dict[str, str]) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    limits = _budget(table, **budget)
    found = find_targets(table, sensitivity, limits, groups=False)
    document = as_document(found)
    have = document["totals"]
    for key, limit in limits.as_dict().items():
        if limit is not None:
            assert have[key] <= limit * (1 + 1e-9)
    for layer in document["layers"]:
        assert layer["seconds"] <= layer["dense_seconds"]
        assert (layer["sparsity"] > 0) == layer["prune"]
    uniform = document["uniform"]
    if uniform["loss"] is not None and "time" in budget and "size" not in budget:
        assert have["loss"] <= uniform["loss"]


def test_all_of_the_budget_needs_no_pruning(table: TimeTable) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    found = find_targets(table, sensitivity, _budget(table, time="100%"), groups=False)
    assert found.sparsities == {}


def test_budgets_that_cannot_be_met(table: TimeTable) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    with pytest.raises(InputError, match=r"budget-time: cannot be met.*% of the dense.*too much"):
        find_targets(table, sensitivity, _budget(table, time="1%"))
    with pytest.raises(InputError, match="budget-size: cannot be met"):
        find_targets(table, sensitivity, _budget(table, size="1"))
    with pytest.raises(InputError, match="cannot be read"):
        _budget(table, time="fast")
    with pytest.raises(InputError, match="above zero"):
        _budget(table, size="-5%")


def test_pins(table: TimeTable) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    found = find_targets(table, sensitivity, pins={"conv3": 0.905, "conv1": 0.0}, groups=False)
    assert found.sparsities["conv3"] == 0.905
    assert "conv1" not in found.sparsities
    with pytest.raises(InputError, match="target of conv3: is below the layer's window"):
        find_targets(table, sensitivity, pins={"conv3": 0.4})


def test_group_wise_needs_alpha_times_fewer_zeros(table: TimeTable) -> None:
    """ICLR 2017, section 2.2, with alpha_g = 1: x_g = alpha x."""
    found = find_targets(table, assumed_sensitivity(ALEXNET, table.sparsities), machine=XEON)
    for entry in found.groups["conv3"]["equal"]:
        assert entry["density_ratio"] == pytest.approx(3.0, rel=1e-6)
    left = fewer_maps(Layer("g", C=8, K=12, H=8, W=8, R=3, S=3, groups=4), 0.9)
    assert (left.K, left.groups) == (4, 4)


def test_documents_are_read_again(table: TimeTable, tmp_path: Path) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    found = find_targets(
        table, sensitivity, _budget(table, time="50%"), machine=XEON, against=["gesl", "0.5"]
    )
    document = as_document(found, XEON, "archsim targets")
    assert document["sensitivity"] == "assumed"
    again = read_targets(write_yaml(document, tmp_path / "t.yaml"))
    assert again == document
    gesl, half = document["against"]
    assert gesl["seconds_at_same_loss"] <= gesl["seconds"]
    assert half["slower"]  # half the weights away: slower than dense nearly everywhere
    (tmp_path / "x.yaml").write_text("schema: 2\n")
    with pytest.raises(InputError, match="not a targets document"):
        read_targets(tmp_path / "x.yaml")


def test_a_curve_of_another_domain_is_the_reason(table: TimeTable) -> None:
    curves = dict(assumed_sensitivity(ALEXNET, table.sparsities).curves)
    curves["conv3"] = {
        "winograd": Curve.of_points("conv3", [(0.5, 0.1), (0.9, 0.5)], "winograd", "")
    }
    found = find_targets(table, Sensitivity(curves), groups=False)
    (layer,) = [y for y in as_document(found)["layers"] if y["layer"] == "conv3"]
    assert layer["window"]["pays_from"] is not None
    assert layer["reason"] == (
        "sparse methods are faster in the spatial domain alone, which has no curve here"
    )


def test_uniform_at_the_edges_of_a_budget(table: TimeTable) -> None:
    sensitivity = assumed_sensitivity(ALEXNET, table.sparsities)
    for budget in ({"time": "150%"}, {"size": "100%"}, {"accuracy": "0"}):
        found = find_targets(table, sensitivity, _budget(table, **budget), groups=False)
        assert found.uniform is not None
        assert (found.uniform["sparsity"], found.uniform["loss"]) == (0.0, 0.0)
        assert found.uniform["seconds"] == pytest.approx(table.dense_seconds)
    curves = {**sensitivity.curves, "conv1": {}}  # stays dense
    found = find_targets(table, Sensitivity(curves), _budget(table, time="50%"), groups=False)
    (line,) = [text for text in summary(as_document(found)) if text.startswith("uniform")]
    assert "of every layer that may be pruned loses" in line
