"""What pruning gave, as one small HTML page for `make study`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

from benchmarks.proof import page
from benchmarks.proof.figure import scatter

_STYLE: Final = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto;padding:0 1em;line-height:1.4}"
    "table{border-collapse:collapse;margin:1em 0;font-size:90%}"
    "td,th{border-bottom:1px solid #ccc;padding:.2em .6em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}svg{max-width:100%}"
)
#: what the figure of each model is called
_TITLES: Final = {"alexnet": "CIFAR AlexNet", "resnet20": "ResNet-20", "digits": "Digits"}


def render(document: Mapping[str, Any]) -> str:
    """Return the page: a figure for each model, then the tables."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>What pruning gave</title>"
             f"<style>{_STYLE}</style><h1>What pruning gave</h1>"]  # fmt: skip
    parts.append(
        "<p>Networks trained, pruned with and without a machine's guidance, and run by archsim's "
        "kernels. docs/pruning.md says how, and what it means.</p>"
    )
    for model in document["times"]["models"]:
        title = escape(_TITLES.get(model, model))
        parts.append(f"<h2>{title}: accuracy and time</h2>{scatter(document, model)}")
    for name, text in page.parts(document).items():
        parts.append(f"<h2>{escape(name.capitalize())}</h2>{_html(text)}")
    return "\n".join(parts) + "</html>\n"


def _html(text: str) -> str:
    """Turn the little Markdown of our own tables into HTML."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([escape(cell.strip()) for cell in line.strip("|").split("|")])
            continue
        if rows:
            head = "".join(f"<th>{cell}</th>" for cell in rows[0])
            body = "".join(
                "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[2:]
            )
            found.append(f"<table><tr>{head}</tr>{body}</table>")
            rows = []
        if line:
            found.append(f"<p>{escape(line)}</p>")
    return "\n".join(found)
