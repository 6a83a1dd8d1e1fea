"""Pruning targets: tables for the terminal, two figures and the page, from the document alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import resources
from math import log2
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from archsim.errors import ArchsimError, input_error
from archsim.report.numbers import number, percent, ratio, size, time_unit
from archsim.report.panels import MACHINE_COLOURS, NEUTRAL, Figure, escape, rounded
from archsim.report.record import clean

_ROW: Final = 19  # pixels of a layer in the map
_LEFT: Final = 190


def targets_tables(document: Mapping[str, Any]) -> list[Table]:
    """Return the tables: layers, and what they sum up to."""
    from rich import box
    from rich.text import Text

    def plain(text: object) -> Text:
        return Text(clean(str(text)))

    where = f"{document['network']} on {document['machine']}"
    layers = Table(
        title=plain(f"{where}: pruning targets, {document['model']}, batch {document['batch']}"),
        title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    for name in ("layer", "pays from", "gains until", "prune to", "method", "dense", "then",
                 "speedup", "why dense"):  # fmt: skip
        layers.add_column(name, justify="left" if name in ("layer", "method", "why dense")
                          else "right", overflow="fold")  # fmt: skip
    unit = time_unit(layer["dense_seconds"] for layer in document["layers"])
    for row in _rows(document, unit):
        layers.add_row(*(plain(cell) for cell in row))
    layers.caption = Text("\n").join(plain(line) for line in summary(document))
    return [layers]


def _rows(document: Mapping[str, Any], unit: Any) -> list[list[str]]:
    """Return a row of texts for each layer."""
    rows = []
    for layer in document["layers"]:
        window = layer["window"]
        sparsity = layer["sparsity"]
        seconds = layer["seconds"]
        method = layer["method"] or layer["dense_method"]
        if layer["schedule"] not in (None, "auto"):
            method += f" {layer['schedule']}"
        rows.append([
            layer["layer"], _edge(window["pays_from"], window["pays_from_interval"]),
            percent(window["gains_until"]),
            "-" if sparsity is None else percent(sparsity) if sparsity else "dense",
            method, f"{unit.text(layer['dense_seconds'])} {unit.name}",
            "-" if seconds is None else f"{unit.text(seconds)} {unit.name}",
            ratio(None if not seconds else layer["dense_seconds"] / seconds),
            layer["reason"] or "",
        ])  # fmt: skip
    return rows


def _edge(value: float | None, interval: Sequence[float | None] | None) -> str:
    if interval is None:
        return percent(value)
    ends = " to ".join(percent(end) for end in interval)
    return f"{percent(value)} ({ends})"


def summary(document: Mapping[str, Any]) -> list[str]:
    """Return sentences: totals, what uniform pruning gives, comparisons, what the loss is."""
    found, loss = document["totals"], document["loss"]
    unit = time_unit([found["dense_seconds"]])
    lines = []
    if found["seconds"] is not None:
        lines.append(
            f"total {unit.text(found['seconds'])} of {unit.text(found['dense_seconds'])} "
            f"{unit.name} ({percent(found['seconds'] / found['dense_seconds'])}), weights "
            f"{size(found['bytes'])} of {size(found['dense_bytes'])}, "
            f"loss {number(found['loss'])}"
        )
    uniform = document["uniform"]
    if uniform and uniform["sparsity"] is None:
        lines.append("no uniform sparsity keeps the budget")
    elif uniform:
        lines.append(f"uniform: {percent(uniform['sparsity'])} of every layer that may be pruned "
                     f"loses {number(uniform['loss'])}")  # fmt: skip
    for other in document["against"]:
        lines.append(_against(other, document["front"]["of"], unit))
    lines.append(f"loss: {loss['what']}" + (f" ({loss['source']})" if loss["source"] else ""))
    lines += document["notes"]
    return lines


def _against(other: Mapping[str, Any], kind: str, unit: Any) -> str:
    text = unit.text if kind == "seconds" else size
    name = f" {unit.name}" if kind == "seconds" else ""
    slower = f", {len(other['slower'])} layers faster dense" if other["slower"] else ""
    return (
        f"{other['sparsity']}: {text(other[kind])}{name}, loss {number(other['loss'])}{slower}; "
        f"at that loss {text(other[f'{kind}_at_same_loss'])}{name} is reached, "
        f"at that cost a loss of {number(other[f'loss_at_same_{kind}'])}"
    )


def map_figure(document: Mapping[str, Any]) -> Figure:
    """Return the break-even map: layer by sparsity, windows with intervals, targets."""
    grid = [rounded(100.0 * s) for s in document["map"]["sparsities"]]
    layers = document["layers"]
    names = [escape(layer["layer"]) for layer in layers]
    speedups = [document["map"]["speedup"][layer["layer"]] for layer in layers]
    z = [[None if v is None else rounded(max(-2.0, min(2.0, log2(v)))) for v in row]
         for row in speedups]  # fmt: skip
    heat = {
        "type": "heatmap", "x": grid, "y": names, "z": z, "zmin": -2, "zmax": 2,
        "customdata": [[None if v is None else number(v) for v in row] for row in speedups],
        "colorscale": [[0, "#D55E00"], [0.5, "#F2F2F0"], [1, "#0072B2"]],
        "colorbar": {"title": {"text": "speedup"}, "tickvals": [-2, -1, 0, 1, 2],
                     "ticktext": ["¼×", "½×", "1×", "2×", "4×"], "thickness": 12},
        "hovertemplate": "%{y}<br>sparsity %{x:.4g} %: %{customdata}×<extra></extra>",
    }  # fmt: skip
    data: list[Figure] = [heat, _starts(layers, names)]
    ends = [(n, layer["window"]["gains_until"]) for n, layer in zip(names, layers, strict=True)]
    data.append(_marks("gains until", [p for p in ends if p[1] is not None], "line-ns", NEUTRAL))
    chosen = [(n, layer["sparsity"]) for n, layer in zip(names, layers, strict=True)]
    if any(s for _, s in chosen):
        data.append(_marks("target", [p for p in chosen if p[1]], "diamond", "#009E73"))
    return {"data": data, "layout": _layout(
        90 + _ROW * len(names), "sparsity, %", "",
        yaxis={"autorange": "reversed", "type": "category"}, left=_LEFT, x_range=[0, 100],
    )}  # fmt: skip


def _starts(layers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Return marks where pruning begins to pay; bars are the interval, where there is one."""
    found = [(n, y["window"]) for n, y in zip(names, layers, strict=True)
             if y["window"]["pays_from"] is not None]  # fmt: skip
    trace = _marks("pays from", [(n, w["pays_from"]) for n, w in found], "line-ns", "#1d1d1f")
    above, below = [], []
    for _, w in found:
        low, high = w["pays_from_interval"] or (None, None)
        below.append(0.0 if low is None else rounded(100.0 * max(0.0, w["pays_from"] - low)))
        above.append(0.0 if high is None else rounded(100.0 * max(0.0, high - w["pays_from"])))
    if any(w["pays_from_interval"] for _, w in found):
        trace["error_x"] = {"type": "data", "symmetric": False, "array": above,
                            "arrayminus": below, "color": "#1d1d1f"}  # fmt: skip
    return trace


def _marks(name: str, points: Sequence[tuple[str, float]], symbol: str, colour: str) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": name,
        "x": [rounded(100.0 * s) for _, s in points], "y": [n for n, _ in points],
        "marker": {"symbol": symbol, "size": 11, "color": colour,
                   "line": {"width": 2, "color": colour}},
        "hovertemplate": f"%{{y}}<br>{name} %{{x:.4g}} %<extra></extra>",
    }  # fmt: skip


def front_figure(document: Mapping[str, Any]) -> Figure | None:
    """Return loss against cost, with what was chosen, uniform pruning and given sparsities."""
    front = document["front"]
    kind = front["of"]
    points = front["points"]
    if len(points) < 2:
        return None
    dense = document["totals"][f"dense_{kind}"]
    data = [_dots("best", points, kind, dense, mode="lines", line={"color": MACHINE_COLOURS[0]})]
    if document["totals"]["seconds"] is not None:
        data.append(_dots("chosen", [document["totals"]], kind, dense, size=11))
    if document["uniform"] and document["uniform"]["loss"] is not None:
        data.append(_dots("uniform", [document["uniform"]], kind, dense, symbol="x"))
    for other in document["against"]:
        if other["loss"] is not None:
            data.append(_dots(other["sparsity"], [other], kind, dense, symbol="square"))
    what = "time" if kind == "seconds" else "bytes of the weights"
    return {"data": data, "layout": _layout(360, f"{what}, % of the dense network", "loss")}


def _dots(
    name: str, points: Sequence[Mapping[str, Any]], kind: str, dense: float, *,
    mode: str = "markers", symbol: str = "diamond", size: int = 10, **more: Any,
) -> Figure:  # fmt: skip
    return {
        "type": "scatter", "mode": mode, "name": escape(name),
        "x": [rounded(100.0 * p[kind] / dense) for p in points],
        "y": [rounded(p["loss"]) for p in points],
        "marker": {"symbol": symbol, "size": size},
        "hovertemplate": f"{escape(name)}<br>%{{x:.4g}} %: loss %{{y:.3g}}<extra></extra>", **more,
    }  # fmt: skip


def _layout(
    height: int, x: str, y: str, *, yaxis: Figure | None = None, left: int = 70,
    x_range: list[int] | None = None,
) -> Figure:  # fmt: skip
    return {
        "height": height, "margin": {"l": left, "r": 20, "t": 40, "b": 50},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "xaxis": {"title": {"text": x}, "zeroline": False,
                  **({"range": x_range} if x_range else {})},
        "yaxis": {"title": {"text": y}, "zeroline": False, **(yaxis or {})},
        "hovermode": "closest",
    }  # fmt: skip


def write_targets_page(document: Mapping[str, Any], path: str | Path) -> Path:
    """Write the document as one self-contained page.

    Raises
    ------
    ArchsimError
        jinja2 or plotly is not installed.
    InputError
        The file cannot be written.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ArchsimError(
            "the HTML page needs jinja2 and plotly: pip install 'archsim[report]'"
        ) from error
    source = resources.files("archsim.report").joinpath("targets.html.j2")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    unit = time_unit(layer["dense_seconds"] for layer in document["layers"])
    front = front_figure(document)
    page = environment.from_string(source.read_text(encoding="utf-8")).render(
        document=document, rows=_rows(document, unit), summary=summary(document),
        figures={"map": map_figure(document), **({"front": front} if front else {})},
        plotly_js=get_plotlyjs(),
    )  # fmt: skip
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    return path
