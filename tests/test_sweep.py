"""sweep: every row is what the models say of it; ranges, tables, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.errors import InputError, NotApplicableError
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.report.sweep import axes_figure, map_figure, sweep_tables, write_sweep_page
from archsim.sweeps.axes import count_axis, sparsity_axis, steps, threads_axis, vary_axes
from archsim.variation import vary
from tests.little_sweep import ALEXNET, ATOM, BANDWIDTH, SMALL, small

XEON = load_machine("xeon-e5-2697v4-2s")


def machine_of(base: archsim.Machine, row: dict[str, Any]) -> archsim.Machine:
    return vary(base, {BANDWIDTH: row[BANDWIDTH]})[0] if BANDWIDTH in row else base


def by_predict(row: dict[str, Any], **more: Any) -> archsim.Result:
    """Return what predict says of a row."""
    base = load_machine(row["machine"])
    return archsim.predict(
        ALEXNET[row["layer"]], machine_of(base, row), method=row["method"],
        pattern=archsim.load_sparsity(row["sparsity"], ALEXNET)[row["layer"]],
        batch=row["batch"], threads=row["threads"], schedule=row["schedule"], **more,
    )  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(
    layers=st.lists(st.sampled_from(["conv2", "conv3", "fc6"]), min_size=1, unique=True),
    machines=st.lists(st.sampled_from([XEON, ATOM]), min_size=1, unique_by=id),
    bandwidths=st.lists(st.sampled_from(["8 GB/s", 3e10, "200 GB/s"]), max_size=2, unique=True),
    sparsities=st.lists(st.sampled_from(["0.5", 0.93, "gesl"]), min_size=1, unique=True),
    batches=st.lists(st.sampled_from([1, 8]), min_size=1, unique=True),
    threads=st.lists(st.sampled_from([None, 1, 5]), min_size=1, unique=True),
    methods=st.sampled_from(["auto", ["dense_gemm", "fc_sparse", "direct_sparse"]]),
)
def test_every_row_is_what_predict_says(
    layers: Any, machines: Any, bandwidths: Any, sparsities: Any, batches: Any, threads: Any,
    methods: Any,
) -> None:  # fmt: skip
    found = archsim.sweep(
        ALEXNET, machines, layers=layers, vary={BANDWIDTH: bandwidths} if bandwidths else None,
        sparsities=sparsities, batches=batches, threads=threads, methods=methods,
    )  # fmt: skip
    rows = list(found.rows())
    axes = (machines, bandwidths or [None], sparsities, batches, threads, layers)
    assert len(rows) == np.prod([len(axis) for axis in axes])
    for row in rows[:: max(1, len(rows) // 5)]:
        same = by_predict(row, traffic="rule")
        assert same.seconds == pytest.approx(row["seconds"], rel=1e-12)
        assert same.effective_gflops == pytest.approx(row["effective_gflops"], rel=1e-12)
        assert row["bound_by"] in same.bound_by
        assert (same.density, same.density_domain) == (row["density"], row["density_domain"])
        for name in ["dense_gemm", "fc_sparse", "direct_sparse"] if methods != "auto" else ["auto"]:
            other = by_predict({**row, "method": name, "schedule": "auto"}, traffic="rule")
            assert other.seconds is None or other.seconds >= row["seconds"] * (1 - 1e-12)


def test_totals_are_sums_and_the_best_is_the_least() -> None:
    found = archsim.sweep(
        ALEXNET, [ATOM, XEON], vary={BANDWIDTH: "10GB/s:80GB/s:4"}, sparsities="0:0.9:3",
        batches="1,16", layers=["conv3", "fc7"],
    )  # fmt: skip
    rows, totals = list(found.rows()), list(found.totals())
    assert len(rows) == 2 * len(totals) == 2 * 2 * 4 * 3 * 2
    for n, total in enumerate(totals):
        both = rows[2 * n : 2 * n + 2]
        assert total["seconds"] == pytest.approx(sum(row["seconds"] for row in both))
        assert total["images_per_s"] == pytest.approx(total["batch"] / total["seconds"])
        most = {row["bound_by"]: row["seconds"] for row in sorted(both, key=lambda r: r["seconds"])}
        assert total["bound_by"] in most
    summary = found.summary()
    assert summary["best"]["images_per_s"] == max(total["images_per_s"] for total in totals)
    for each in summary["machines"]:
        own = [t["images_per_s"] for t in totals if t["machine"] == each["machine"]]
        assert each["best"]["images_per_s"] == max(own)
        for axis in each["axes"]:  # the best point lies on every axis
            assert min(step["over_best"] for step in axis["steps"]) == 1.0
    assert found.seconds.shape == (2, 2, 4, 3, 2, 1)
    assert found.seconds_per_image.min() == 1.0 / summary["best"]["images_per_s"]


def test_memory_stops_to_matter_somewhere() -> None:
    """``close_from`` is the first value from which on nothing is gained any more."""
    found = archsim.sweep(
        ALEXNET, XEON, layers=["fc6"], vary={BANDWIDTH: "5GB/s:5TB/s:31:log"}, batches=1,
        sparsities=0.5, methods="fc_dense",
    )  # fmt: skip
    (axis,) = found.summary()["machines"][0]["axes"]
    seconds = [step["seconds"] for step in axis["steps"]]
    first = [step["text"] for step in axis["steps"]].index(axis["close_from"])
    assert 0 < first < 30
    assert max(seconds[first:]) <= 1.05 * min(seconds) < seconds[first - 1]


def test_paths_that_vary_together() -> None:
    found = archsim.sweep(
        ALEXNET, XEON, layers=["conv3"], vary={"cores+caches.L3.shared_by": "9,18"}, batches=36,
        sparsities=0.9,
    )  # fmt: skip
    made = [machine for row in found.space.machines for machine in row]
    assert [(m.cores, m.caches[2].shared_by) for m in made] == [(9, 9), (18, 18)]
    assert [row["threads"] for row in found.rows()] == [36, 72]
    with pytest.raises(InputError, match=r"at cores=9: .*'A\+B=...' varies A and B together"):
        archsim.sweep(ALEXNET, XEON, layers=["conv3"], vary=["cores=9,18"])


def test_real_weights_are_swept_point_by_point(tmp_path: Path) -> None:
    layer = ALEXNET["conv3"]
    weights: dict[str, Any] = {
        f"conv{n}": archsim.Sparsity(0.1 * n).draw(ALEXNET[f"conv{n}"], 3).weights
        for n in range(1, 6)
    }
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    with pytest.warns(UserWarning, match="fc6"):
        found = archsim.sweep(ALEXNET, ATOM, layers=["conv3"], sparsities=[str(path), "0.7"],
                              vary={BANDWIDTH: [1e10, 3e10]})  # fmt: skip
    rows = list(found.rows())
    assert [row["sparsity"] for row in rows] == ["weights.npz", "0.7"] * 2
    real = archsim.predict(layer, machine_of(ATOM, rows[0]), pattern=weights["conv3"],
                           traffic="rule")  # fmt: skip
    assert (rows[0]["seconds"], rows[0]["schedule"]) == (real.seconds, real.schedule)
    assert rows[0]["settings"] != rows[1]["settings"]


@pytest.mark.parametrize("model", ["ecm:counted", "simulator"])
def test_other_models_answer_point_by_point(model: str) -> None:
    found = small(model=model, methods="auto", schedule="auto", batches="2", threads="2")
    for row in found.rows():
        machine = machine_of(ATOM, row)
        share = float(row["sparsity"])
        if model == "simulator":
            run = archsim.simulate_network(
                ALEXNET, machine, layers=SMALL["layers"], sparsity=share, batch=2, threads=2
            )
            same = next(r for r in run.results if r.layer == row["layer"])
        else:
            same = archsim.predict(
                ALEXNET[row["layer"]], machine, method=row["method"], density=1 - share, batch=2,
                threads=2, traffic="counted",
            )  # fmt: skip
        assert (same.method, same.schedule) == (row["method"], row["schedule"])
        assert same.seconds == row["seconds"]


@given(
    low=st.floats(1e-3, 1e12), high=st.floats(1e-3, 1e12), count=st.integers(2, 50),
    scale=st.sampled_from(["linear", "log"]),
)  # fmt: skip
def test_a_range_goes_from_end_to_end(low: float, high: float, count: int, scale: str) -> None:
    if low == high:
        with pytest.raises(InputError, match="both ends are the same"):
            steps("x", low, high, count, scale)
        return
    found = steps("x", low, high, count, scale)
    assert (found[0], found[-1], len(found)) == (low, high, count)
    inner = np.log(found) if scale == "log" else np.array(found)
    far = np.diff(inner) - (inner[-1] - inner[0]) / (count - 1)
    assert np.abs(far).max() <= 1e-9 * max(np.abs(inner).max(), 1.0)


def test_ranges_of_whole_numbers() -> None:
    assert count_axis("batch", "1:64:7:log") == (1, 2, 4, 8, 16, 32, 64)
    assert count_axis("batch", "8:2:4") == (8, 6, 4, 2)
    assert threads_axis("1,2,all") == (1, 2, None)
    assert threads_axis("all") == threads_axis(None) == (None,)
    (sizes,) = vary_axes(["caches.L2.size=256KiB:4MiB:5:log"], [XEON])
    assert sizes.values == tuple(2.0**n for n in range(18, 23))
    assert sizes.texts == ("256 KiB", "512 KiB", "1 MiB", "2 MiB", "4 MiB")
    (words,) = vary_axes(["caches.L1.overlap=serial,overlapped"], [XEON])
    assert words.values == ("serial", "overlapped")
    with pytest.raises(InputError, match="not whole numbers"):
        vary_axes(["cores=4:6:4"], [XEON])


def test_sparsities_of_an_axis() -> None:
    labels = [s.label for s in sparsity_axis(["gesl", "0.5:0.9:3", 0.1], ALEXNET)]
    assert labels == ["gesl", "0.5", "0.7", "0.9", "0.1"]
    assert [s.label for s in sparsity_axis("0.5, gesl,0.9", ALEXNET)] == ["0.5", "gesl", "0.9"]
    assert [s.label for s in sparsity_axis(None, ALEXNET)] == [ALEXNET.default_sparsity]
    close = sparsity_axis("0.1234567,0.12345671", ALEXNET)
    assert len({s.label for s in close}) == 2
    moved = sparsity_axis("0.5", ALEXNET, "winograd")[0]
    assert (moved["conv3"].domain, moved["fc6"].domain) == ("winograd", "spatial")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"vary": ["memory.DDR.bandwith=1GB/s"]}, "did you mean 'memory.DDR.bandwidth'"),
        ({"vary": [f"{BANDWIDTH}=1GB/s:2GB/s"]}, "not a range.*allowed: LOW:HIGH:COUNT"),
        ({"vary": [f"{BANDWIDTH}=1GB/s:2GB/s:1"]}, r"wrong count.*allowed: 2\.\.10000"),
        ({"vary": [f"{BANDWIDTH}=1GB/s:1GB/s:3"]}, "an empty range"),
        ({"vary": [f"{BANDWIDTH}=1GB/s:2GB/s:3:logg"]}, "did you mean 'log'"),
        ({"vary": [f"{BANDWIDTH}=nan GB/s"]}, "a bandwidth is due"),
        ({"vary": {BANDWIDTH: [float("nan")]}}, "finite|bandwidth"),
        ({"vary": [f"{BANDWIDTH}=-1GB/s"]}, "above zero"),
        ({"vary": [f"{BANDWIDTH}=1GB/s,"]}, "a value is empty"),
        ({"vary": {BANDWIDTH: []}}, "no values"),
        ({"vary": ["cores"]}, "PATH=VALUES is due"),
        ({"vary": ["cores=4", "cores=8"]}, "named twice"),
        ({"vary": ["cores+cores=4"]}, "named twice"),
        ({"vary": ["clock=2GHz,2e3MHz"]}, "there twice"),
        ({"vary": ["caches.L1.overlap=serial:overlapped:2"]}, "needs numbers"),
        ({"vary": ["name=x"]}, "holds words"),
        ({"vary": ["clock=1GHz:2GHz:10000"], "batches": "1:10000:10000"}, "too many points"),
        ({"sparsities": "0.5,1.5"}, r"0\.\.1"),
        ({"sparsities": "0.5,0.50"}, "there twice"),
        ({"sparsities": []}, "no values"),
        ({"sparsities": "0:0.5:2:log"}, "above zero"),
        ({"batches": "0"}, "whole number of at least 1"),
        ({"batches": "x"}, "whole number of at least 1"),
        ({"batches": "2,2"}, "there twice"),
        ({"threads": "1,9"}, r"fewer hardware threads; found 9; allowed: 1\.\.8"),
        ({"threads": "all,all"}, "there twice"),
        ({"threads": [1.5]}, "whole number"),
        ({"methods": "magic"}, "unknown method"),
        ({"methods": []}, "none is given"),
        ({"model": "park"}, "unknown model.*allowed: ecm, ecm:counted, simulator"),
        ({"workers": 0}, "workers"),
        ({"clock": "fast"}, "unknown clock"),
        ({"layers": ["conv9"]}, "unknown layer"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        archsim.sweep(ALEXNET, ATOM, **({"layers": ["conv3"]} | arguments))
    assert "\n" not in str(error.value)


def test_machines_are_told_apart_by_name() -> None:
    with pytest.raises(InputError, match="two have one name"):
        archsim.sweep(ALEXNET, [ATOM, ATOM])
    with pytest.raises(InputError, match="none is given"):
        archsim.sweep(ALEXNET, [])


def test_a_layer_that_no_method_computes() -> None:
    with pytest.raises(NotApplicableError, match="layer fc6: none of direct_sparse applies"):
        archsim.sweep(ALEXNET, ATOM, methods="direct_sparse", sparsities=0.9)


def test_layers_of_one_shape_are_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    from archsim.sweeps import tasks

    asked: list[str] = []

    def counting(layer: archsim.Layer, *args: Any, **kwargs: Any) -> Any:
        asked.append(layer.name)
        return archsim.predict_grid(layer, *args, **kwargs)

    monkeypatch.setattr(tasks, "predict_grid", counting)
    resnet = load_network("resnet20")
    found = archsim.sweep(resnet, ATOM, sparsities="0.5,0.8", methods="dense_gemm")
    shapes = {archsim.Layer(**{**{f: getattr(y, f) for f in y.__dataclass_fields__},
                               "name": "x", "network": ""}) for y in resnet}  # fmt: skip
    assert len(asked) == len(shapes) < len(resnet)
    last = list(found.rows())[-2]
    same = archsim.predict(resnet[last["layer"]], ATOM, method="dense_gemm")
    assert same.seconds == pytest.approx(last["seconds"], rel=1e-12)


def test_tables_and_figures() -> None:
    found = archsim.sweep(
        ALEXNET, [ATOM, XEON], layers=["conv3"], sparsities="0.5,0.9", batches="1,8",
        vary={BANDWIDTH: "10GB/s:200GB/s:4:log", "caches.L1.overlap": "serial,overlapped"},
        methods="lowered_sparse",
    )  # fmt: skip
    document = found.as_document(total=True)
    titles = [str(table.title) for table in sweep_tables(document)]
    assert titles[0] == "alexnet (conv3), 64 points, ecm: best point of each machine"
    assert [title.partition(",")[0] for title in titles[1:]] == [
        BANDWIDTH, "caches.L1.overlap", "sparsity", "batch",
    ]  # fmt: skip
    figure = axes_figure(document)
    assert figure is not None
    assert len(figure["data"]) == 4 * 2
    assert figure["layout"]["xaxis"]["type"] == "log"
    assert figure["layout"]["xaxis2"]["type"] == "category"
    mapped = map_figure(document)
    assert mapped is not None
    heat = mapped["data"][0]
    assert min(min(row) for row in heat["z"]) == 1.0
    assert (len(heat["z"]), len(heat["z"][0])) == (len(heat["y"]), len(heat["x"]))


def test_a_sweep_of_one_point() -> None:
    found = archsim.sweep(ALEXNET, ATOM, layers=["conv3"], sparsities=0.9)
    document = found.as_document()
    assert len(sweep_tables(document)) == 1
    assert axes_figure(document) is None
    assert map_figure(document) is None
    assert [r["layer"] for r in document["results"]] == ["conv3"]


def test_the_page_is_plain_text_and_valid_figures(tmp_path: Path) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    document = small().as_document(total=True)
    document["command"] = "archsim sweep <b>alexnet</b>"
    page = write_sweep_page(document, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;alexnet" in page
    assert page.count("<h2>") == 4 + 3
    for figure in (axes_figure(document), map_figure(document)):
        graph_objects.Figure(figure)  # raises where plotly would not draw it
