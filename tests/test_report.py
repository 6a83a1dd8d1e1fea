"""The report room: numbers, tables, the page, and documents that are broken."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from archsim.errors import ArchsimError, InputError
from archsim.report.html import render, write_html
from archsim.report.labels import place_labels
from archsim.report.numbers import number, percent, ratio, size, time_unit
from archsim.report.tables import results_table, study_tables
from archsim.study import run_study

PAGE = all(importlib.util.find_spec(name) for name in ("jinja2", "plotly"))
needs_page = pytest.mark.skipif(not PAGE, reason="the extra `report` is not installed")

NASTY = "</script><script>alert(1)</script><img src='http://x/'>[bold]\x1b[31m"


def row(machine: str, model: str, layer: str, method: str, ms: float | None, **more: Any) -> Any:
    """One result in its machine-readable form; dense takes 8 ms everywhere."""
    dense = method == "dense_gemm"
    rate = 0.1 / ms if ms else None
    return {
        "network": "toy", "layer": layer, "method": method, "schedule": "s", "machine": machine,
        "model": model, "batch": 4, "threads": 2, "density": 1.0 if dense else 0.125,
        "density_domain": "spatial", "seconds": ms and ms / 1e3, "seconds_low": None,
        "seconds_high": None, "effective_gflops": rate and 8 * rate, "actual_gflops": rate,
        "dense_method": "dense_gemm" if ms else None, "speedup_over_dense": ms and 8.0 / ms,
        "bound_by": ["load", "L2", "barrier"] if ms and model != "native" else [],
        "bytes": {"L1": 4e6, "DDR": 1e5} if ms and model != "native" else {}, "phases": [],
        "isa": "avx2", "seed": 0, "reason": None, **more,
    }  # fmt: skip


def toy_document(layer: str = "conv1") -> dict[str, Any]:
    """Two machines, two layers; the host measured; direct sparse does not apply to fc."""
    results = []
    for machine, model, ms in (
        ("atom", "ecm", 2.0), ("atom", "park", 1.6), ("host", "ecm", 2.5), ("host", "native", 3.2),
    ):  # fmt: skip
        spread = {"seconds_low": ms / 1.1e3, "seconds_high": ms / 0.8e3}
        spread = spread if model == "native" else {}
        results += [
            row(machine, model, layer, "dense_gemm", 8.0),
            row(machine, model, layer, "direct_sparse", ms, **spread),
            row(machine, model, "fc", "dense_gemm", 8.0),
            row(machine, model, "fc", "direct_sparse", None, reason="one output pixel only"),
        ]
    curves = [
        row(r["machine"], r["model"], layer, "direct_sparse", 16 * density, density=density,
            seconds_low=15e-3 * density, seconds_high=20e-3 * density)
        for r in results[1::4] if r["model"] != "park"
        for density in (0.5, 0.2, 0.1, 0.01)
    ]  # fmt: skip
    total = {
        "batch": 4, "seconds": 0.0100, "dense_seconds": 0.016, "images_per_s": 400.0,
        "dense_images_per_s": 250.0, "speedup_over_dense": 1.6, "methods": {},
    }  # fmt: skip
    machines = [
        {"name": name, "description": f"The {name}", "isa": "avx2", "peak_gflops": 77.0,
         "memory": "DDR", "memory_gb_per_s": 15.0, "cores": 2, "threads": 2}
        for name in ("atom", "host")
    ]  # fmt: skip
    totals = {
        "network": "toy", "sparsity": "0.875", "date": "2026-11-22T00:00:00+00:00",
        "python": "3.11", "command": "archsim study toy", "native_max_error": {layer: 4.2e-7},
        "machines": {"atom": {"ecm": total, "park": total},
                     "host": {"ecm": total, "native": {**total, "speedup_over_dense": 1.42}}},
        "weights": {"dense_bytes": 2.5e6, "sparse_bytes": 6e5},
    }  # fmt: skip
    return {
        "schema": 1, "archsim": "0.1.0", "results": results, "totals": totals, "curves": curves,
        "machines": machines,
    }  # fmt: skip


def shown(table: Table, width: int = 120) -> str:
    """What a reader sees of a table."""
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=width, record=True, file=nowhere)
        console.print(table)
        return console.export_text()


class Links(HTMLParser):
    """Collects what a page would load or lead to, and its element names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.elements: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "action", "data")]


def test_numbers_have_three_digits_and_no_exponent() -> None:
    numbers = (0, 0.01234, 0.9996, 1.0, 9.996, 12.345, 999.6, 123456.0, 4.2e-7, None)
    assert [number(n) for n in numbers] == [
        "0", "0.0123", "1.00", "1.00", "10.0", "12.3", "1000", "123000", "4.20e-07", "-",
    ]  # fmt: skip
    assert (ratio(3.149), percent(0.885), size(2.44e8), size(12)) == (
        "3.15×", "88.5 %", "244 MB", "12 B",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "unit", "text"),
    [([2e-6, 3e-6, 4e-6], "µs", "3.00"), ([0.5, 3e-3, 1e-3], "ms", "3.00"), ([], "ms", "3.00"),
     ([20.0, None], "s", "3.00")],
)  # fmt: skip
def test_one_unit_serves_a_column(seconds: list[float | None], unit: str, text: str) -> None:
    found = time_unit(seconds)
    assert found.name == unit
    assert found.text(3.0 / found.per_second) == text


def test_study_table_of_a_described_machine() -> None:
    text = shown(study_tables(toy_document())[0])
    line = next(found for found in text.splitlines() if found.strip().startswith("conv1"))
    assert line.split() == [
        "conv1", "87.5", "%", "8.00", "2.00", "direct", "4.00×", "5.00×", "load,", "L2",
    ]  # fmt: skip
    line = next(found for found in text.splitlines() if found.strip().startswith("fc"))
    assert line.split()[:6] == ["fc", "87.5", "%", "8.00", "-", "dense_gemm"]
    assert re.search(r"total +16\.0 +10\.0 ms +1\.60×", text)
    assert re.search(r"images/s +250 +400", text)
    assert "direct: not for fc: one output pixel only" in text
    assert "measured" not in text


def test_study_table_of_the_host_sets_measured_under_predicted() -> None:
    lines = shown(study_tables(toy_document())[1]).splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip().startswith("conv1"))
    assert lines[first].split()[:6] == ["conv1", "ecm", "87.5", "%", "8.00", "2.50"]
    measured = ["measured", "8.00", "3.20", "direct", "2.50×", "0.781×"]
    assert lines[first + 1].split() == measured
    assert any(line.split()[:2] == ["measured", "16.0"] for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 120


def test_results_table_says_what_all_have_in_common_once() -> None:
    rows = [r for r in toy_document()["results"] if r["machine"] == "host"]
    text = shown(results_table(rows), width=150)
    assert "toy · host · batch 4 · 2 threads" in text
    assert "2.91..4.00" in text
    assert "one output pixel only" in text
    assert shown(results_table([])).strip() == ""


def test_control_characters_and_markup_do_not_reach_the_terminal() -> None:
    document = toy_document(NASTY)
    for table in (*study_tables(document), results_table(document["results"])):
        text = shown(table, width=300)
        assert "\x1b" not in text
        assert "[bold]" in text


@needs_page
def test_page_is_whole_and_needs_no_network(tmp_path: Path) -> None:
    path = write_html(toy_document(), tmp_path / "new" / "report.html")
    page = path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 6e6
    assert not [link for link in Links(page).links if link]
    assert "default-src 'none'" in page
    for text in ("conv1", "fc", "atom", "archsim study toy", "4.20e-07", "2.50 MB", "600 kB",
                 "1.42×", "one output pixel only", "Park et al., ICLR 2017"):  # fmt: skip
        assert text in page


def embedded_figures(page: str) -> Any:
    found = re.search(r'id="figures">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


@needs_page
def test_figures_are_valid_and_show_what_was_measured() -> None:
    from plotly.graph_objects import Figure

    figures = embedded_figures(render(toy_document()))
    assert set(figures) == {"curves", "times", "roofline"}
    for figure in figures.values():
        Figure(figure)  # refuses what plotly does not know
    points = next(t for t in figures["curves"]["data"] if t.get("name") == "measured on host")
    assert points["y"] == [1.0, 2.5, 5.0, 50.0]
    assert points["error_y"]["array"] == pytest.approx([y / 15 for y in points["y"]], rel=1e-3)
    assert points["error_y"]["arrayminus"] == pytest.approx([y / 5 for y in points["y"]], rel=1e-3)
    traces = figures["roofline"]["data"]
    dots = next(t for t in traces if t.get("name") == "direct sparse, measured")
    assert dots["x"] == [pytest.approx(0.1 * 1e6 / 1e5, rel=1e-3)]  # predicted traffic


@needs_page
def test_roofline_keeps_results_without_memory_traffic() -> None:
    document = toy_document()
    for result in document["results"]:
        result["bytes"] = {"L1": 1e6, "DDR": 0.0} if result["bytes"] else {}
    layout = embedded_figures(render(document))["roofline"]["layout"]
    assert layout["xaxis"]["ticktext"][-1] == "cached"


@needs_page
def test_texts_of_a_document_stay_texts() -> None:
    page = render(toy_document(NASTY))
    links = Links(page)
    assert "img" not in links.elements
    assert links.elements.count("script") == 3
    figures = json.dumps(embedded_figures(page))
    assert "<img" not in figures
    assert "&lt;img" in figures


@needs_page
def test_page_without_curves_roofs_or_times() -> None:
    document = toy_document()
    del document["curves"]
    document["machines"] = [{"name": m["name"], "peak_gflops": None} for m in document["machines"]]
    document["totals"] = {"network": "toy", "sparsity": "dense", "machines": None, "weights": None}
    assert set(embedded_figures(render(document))) == {"times"}
    assert len(study_tables(document)) == 2
    document["results"] = []
    assert embedded_figures(render(document)) == {}
    assert study_tables(document) == []


@pytest.mark.parametrize("module", ["jinja2", "plotly.offline"])
def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ArchsimError, match=r"pip install 'archsim\[report\]'"):
        render(toy_document())


Break = Callable[[dict[str, Any]], object]


@needs_page
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: d.update(schema=2), "unknown schema; found 2; allowed: 1"),
        (lambda d: d.pop("machines"), "has no 'machines'"),
        (lambda d: d.pop("totals"), "has no 'totals'"),
        (lambda d: d.update(results={}), "results: wrong value {}; allowed: a list"),
        (lambda d: d["results"][1].pop("layer"), r"results\[1\]: has no 'layer'"),
        (lambda d: d["results"][1].pop("seconds"), r"results\[1\]: has no 'seconds'"),
        (lambda d: d["results"][1].update(seconds="1"), r"results\[1\].seconds: wrong value '1'"),
        (lambda d: d["results"][1].update(seconds=True), "a number or null"),
        (lambda d: d["results"][1].update(seconds=float("nan")), "a finite number"),
        (lambda d: d["results"][1].update(seconds=10**400), "a finite number"),
        (lambda d: d["results"][1].update(seconds=-1.0), "at least 0"),
        (lambda d: d["results"][1].update(density=None), r"density: wrong value None"),
        (lambda d: d["results"][1].update(density=1.5), r"0\.\.1"),
        (lambda d: d["results"][1].update(batch=0), "a whole number of at least 1"),
        (lambda d: d["results"][1].update(bound_by="load"), "a list of texts"),
        (lambda d: d["results"][1].update(bytes=[1]), r"bytes: must be an object"),
        (lambda d: d["results"][1].update(bytes={"L1": "x"}), r"bytes\.L1"),
        (lambda d: d["results"][1].update(machine="atoms"), "did you mean 'atom'"),
        (lambda d: d["totals"].update(machines={"atom": 3}), r"totals\.machines\.atom: must be"),
        (lambda d: d["machines"].append(None), r"machines\[2\]: must be an object"),
    ],
)  # fmt: skip
def test_broken_documents_say_where(damage: Break, said: str) -> None:
    document = toy_document()
    damage(document)
    for draw in (study_tables, render):
        with pytest.raises(InputError, match=said):
            draw(document)


@needs_page
def test_unwritable_page_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_html(toy_document(), tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_labels_keep_off_each_other_and_other_points() -> None:
    axis = {"range": [0.0, 2.0]}
    points = [(10.0, 10.0), (10.0, 10.0), (10.5, 10.0), (99.0, 50.0)]
    found = place_labels(points, ["a", "b", "c", "long name"], (axis, axis), (400.0, 300.0))
    assert found[-1] == ("long name", "middle left")
    taken = [position for text, position in found[:3] if text]
    assert len(set(taken)) == len(taken)


def test_sparsities_of_the_winograd_domain_are_marked(tmp_path: Path) -> None:
    """Layer by layer, in both tables and on the page; fully connected layers are not."""
    document = run_study(
        "alexnet", ["atom-c2750"], layers=["conv3", "fc8"], sparsity=0.9,
        density_domain="winograd", native=False, curves=False,
    ).as_document()  # fmt: skip
    text = "\n".join(shown(table) for table in study_tables(document))
    assert "sparsity 0.9 (winograd)" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert "90.0 % W" in lines["conv3"]
    assert "90.0 %  " in lines["fc8"]
    assert lines["W:"]
    page = write_html(document, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "90.0 % (winograd)" in page
