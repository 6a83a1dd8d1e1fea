"""Tables of `docs/pruning.md` from the document of results; nothing is measured here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from benchmarks.proof.peers import OURS, OURS_DENSE, PRODUCTS

Run = Mapping[str, Any]
Times = Mapping[str, Mapping[str, Any]]

#: accuracies that are this near count as equal, as the issue's rows have it
EQUAL: Final = 0.003


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the first column is text, the others are numbers."""
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], form: str, scale: float = 1.0) -> str:
    """Return mean and standard deviation; of one value it alone."""
    mean = format(scale * statistics.fmean(values), form)
    if len(values) < 2:
        return mean
    return f"{mean} ± {format(scale * statistics.stdev(values), form)}"


def label(run: Run) -> str:
    """Return what a run has in common with those of other seeds."""
    return str(run["run"]).rpartition("-s")[0] or str(run["run"])


def by_label(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Return runs together that differ by their seed alone."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(label(run), []).append(run)
    return found


def share_of_zeros(run: Run, kind: str) -> float:
    """Return the sparsity of all layers of a kind, ``conv`` or ``fc``, by weights."""
    rows = [row for name, row in run["layers"].items() if (row_kind(name) == kind or kind == "all")]
    total = sum(row["weights"] for row in rows)
    return float(sum(row["weights"] * row["sparsity"] for row in rows) / total)


def row_kind(name: str) -> str:
    """Return whether a layer's name is that of a fully connected one."""
    return "fc" if name.startswith(("fc", "linear")) else "conv"


def size_ratio(run: Run) -> float:
    """Return the bytes of dense weights over those that are left (CSR where smaller)."""
    rows = run["layers"].values()
    return float(sum(r["dense_bytes"] for r in rows) / sum(r["bytes"] for r in rows))


def methods_table(
    runs: Iterable[Run], times: Times, dense: Run, trained_on: Iterable[Run] = ()
) -> str:
    """Accuracy, sparsity, size, predicted and measured times, a row for each method.

    ``trained_on`` are dense runs that go on from ``dense``: they have its times.
    """
    base = times["dense"]
    same_time = [
        "0 %", "0 %", "1.0", "1 / 1", f"{base['conv_s'] * 1e6:.0f} us",
        f"{base['network_s'] * 1e6:.0f} us", "1 / 1", "1",
    ]  # fmt: skip
    rows = [
        [name, f"{100 * run['accuracy']:.2f} %", *same_time]
        for name, run in [("dense", dense), *(("dense, trained on", run) for run in trained_on)]
    ]
    for name, same in by_label(runs).items():
        timed = [times[run["run"]] for run in same if run["run"] in times]
        if not timed:
            continue
        conv = statistics.fmean(base["conv_s"] / t["conv_s"] for t in timed)
        whole = statistics.fmean(base["network_s"] / t["network_s"] for t in timed)
        predicted = " / ".join(
            f"{statistics.fmean(run['predicted_speedups'][machine] for run in same):.2f}"
            for machine in same[0]["predicted_speedups"]
        )
        size = f"{statistics.fmean(map(size_ratio, same)):.1f}"
        if "winograd" in same[0]["method"]:  # bytes were counted of spatial weights
            size = "-"
        rows.append(
            [
                name.partition("-")[2],
                spread([run["accuracy"] for run in same], ".2f", 100.0) + " %",
                spread([share_of_zeros(run, "conv") for run in same], ".1f", 100.0) + " %",
                spread([share_of_zeros(run, "fc") for run in same], ".1f", 100.0) + " %",
                size,
                predicted or "-",
                spread([t["conv_s"] for t in timed], ".1f", 1e6) + " us",
                spread([t["network_s"] for t in timed], ".1f", 1e6) + " us",
                f"{conv:.2f} / {whole:.2f}",
                str(len(same)),
            ]
        )
    return markdown(
        ["run", "test accuracy", "zeros, conv", "zeros, fc", "size ÷",
         "predicted speedup host / Phi", "conv, measured", "network, measured",
         "speedup conv / network", "seeds"], rows,
    )  # fmt: skip


def at_accuracy(points: Sequence[tuple[float, float]], accuracy: float) -> float | None:
    """Return the seconds that a method needs for an accuracy.

    Parameters
    ----------
    points : sequence of (accuracy, seconds)
        Of one method at several strengths.
    accuracy : float
        Between two points the seconds lie on the line between them; within `EQUAL` beyond the ends
        they are those of the end.  Further out nothing is said: None.
    """
    points = sorted(points)
    for (low, slow), (high, fast) in pairwise(points):
        if low <= accuracy <= high:
            return slow + (fast - slow) * (accuracy - low) / ((high - low) or 1.0)
    near = min(points, key=lambda point: abs(point[0] - accuracy))
    return near[1] if abs(near[0] - accuracy) <= EQUAL else None


def equal_accuracy(
    guided: Sequence[Run], plain: Sequence[Run], times: Times
) -> tuple[str, list[float]]:
    """Compare convolution times at equal accuracy: strengths averaged over seeds, and by seed.

    Returns
    -------
    (str, list of float)
        A table, and the ratios of plain to guided time, one for each guided strength that the
        plain ones reach in accuracy.
    """
    rows, ratios = [], []
    curve = [_mean_point(same, times) for same in by_label(plain).values()]
    for name, same in by_label(guided).items():
        accuracy, seconds = _mean_point(same, times)
        other = at_accuracy(curve, accuracy)
        each = []
        for run in same:
            own = [_mean_point([r], times) for r in plain if r["seed"] == run["seed"]]
            found = at_accuracy(own, run["accuracy"])
            if found is not None:
                each.append(found / times[run["run"]]["conv_s"])
        if other is not None:
            ratios.append(other / seconds)
        rows.append(
            [name.partition("-")[2], f"{100 * accuracy:.2f} %", f"{seconds * 1e6:.0f} us",
             "none so accurate" if other is None else f"{other * 1e6:.0f} us",
             "-" if other is None else f"{other / seconds:.2f}",
             ", ".join(f"{one:.2f}" for one in each) or "-"]
        )  # fmt: skip
    headings = ["guided run", "accuracy", "its conv time", "unguided conv time there",
                "unguided over guided", "by seed"]  # fmt: skip
    return markdown(headings, rows), ratios


def _mean_point(same: Sequence[Run], times: Times) -> tuple[float, float]:
    return (
        statistics.fmean(run["accuracy"] for run in same),
        statistics.fmean(times[run["run"]]["conv_s"] for run in same),
    )


def layers_table(runs: Iterable[Run], what: Callable[[Run, str], str] | None = None) -> str:
    """Sparsity of each layer in per cent, means over seeds; what the guide decided, if it did."""
    groups = by_label(runs)
    names = list(next(iter(groups.values()))[0]["layers"])
    rows = []
    for name in names:
        cells = [name]
        for same in groups.values():
            zeros = statistics.fmean(run["layers"][name]["sparsity"] for run in same)
            words = {
                f"{run['layers'][name]['decided']}" for run in same
                if "decided" in run["layers"][name]
            }  # fmt: skip
            cells.append(f"{100 * zeros:.1f}" + (f" ({', '.join(sorted(words))})" if words else ""))
        if what is not None:
            cells.append(what(next(iter(groups.values()))[0], name))
        rows.append(cells)
    return markdown(["layer", *(name.partition("-")[2] for name in groups)], rows)


def windows_table(windows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Window of each layer on each machine."""
    rows = []
    for name in next(iter(windows.values())):
        cells = [name]
        for found in windows.values():
            start, end = found[name]["pays_from"], found[name]["gains_until"]
            until = "the end" if end is None else f"{end:.2f}"
            cells.append("never" if start is None else f"{start:.2f} to {until}")
        rows.append(cells)
    return markdown(["layer", *windows], rows)


def layer_times(times: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Method and seconds of each layer in some runs, beside the best dense method."""
    first = next(iter(columns))
    rows = []
    for name, found in times[first]["layers"].items():
        cells = [name, f"{found['dense_method']} {(found['dense_s'] or 0.0) * 1e6:.1f}"]
        for run in columns:
            here = times[run]["layers"][name]
            cells.append(f"{here['method'].replace('=', ', ')} {here['s'] * 1e6:.1f}")
        rows.append(cells)
    return markdown(["layer", "best dense, us", *columns.values()], rows)


def peers_table(networks: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Sums over convolutions, ms, of ours and of each product; a row for each network."""
    rows = []
    for name, layers in networks.items():
        sums = {who: sum(row["seconds"][who] for row in layers)
                for who in (OURS, OURS_DENSE, *PRODUCTS)}  # fmt: skip
        best = min(sums[who] for who in PRODUCTS)
        mixed = sum(min(row["seconds"][who] for who in PRODUCTS) for row in layers)
        rows.append(
            [name, *(f"{sums[who] * 1e3:.3f}" for who in sums), f"{best / sums[OURS]:.2f}",
             f"{mixed / sums[OURS]:.2f}", f"{sums[OURS_DENSE] / sums[OURS]:.2f}"]
        )  # fmt: skip
    headings = ["network", "ours, ms", "ours, dense", *PRODUCTS, "over best product",
                "over best of each layer", "over our dense"]  # fmt: skip
    return markdown(headings, rows)


def race_layers(layers: Sequence[Mapping[str, Any]]) -> str:
    """One network's convolutions against the best product, us."""
    rows = []
    for row in layers:
        product = min(PRODUCTS, key=lambda who: row["seconds"][who])
        seconds = row["seconds"]
        rows.append(
            [row["layer"], f"{100 * row['sparsity']:.1f} %", row["method"].replace("=", ", "),
             f"{seconds[OURS] * 1e6:.0f}", f"{seconds[OURS_DENSE] * 1e6:.0f}",
             f"{seconds[product] * 1e6:.0f}", product,
             f"{seconds[product] / seconds[OURS]:.2f}"]
        )  # fmt: skip
    headings = ["layer", "zeros", "method", "us", "our dense", "best product", "which", "ratio"]
    return markdown(headings, rows)
