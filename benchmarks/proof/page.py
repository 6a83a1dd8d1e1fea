"""Writes the tables of `docs/pruning.md` between its marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from archsim.report.page import write_between
from benchmarks.proof import tables

Document = Mapping[str, Any]

#: methods of a model's part about guidance, unguided ones first
ELEMENTWISE: Final = ("esl", "gesl", "dns", "gdns")
STRUCTURED: Final = ("particle", "coarse", "filters", "ssl", "gssl")
#: beside them their rivals in space
WINOGRAD: Final = ("winograd", "gwinograd", "esl")
SQUARE: Final = "-3x3"


def write(path: Path, document: Document) -> None:
    """Make the tables of a page anew; what stands between its marks is replaced.

    A page that is not there yet becomes the tables alone.

    Raises
    ------
    InputError
        The page lacks a mark, or cannot be written.
    """
    found = parts(document)
    if not path.exists():
        marks = (f"## {name}\n\n<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in found)
        path.write_text("\n".join(marks), encoding="utf-8")
    for name, text in found.items():
        write_between(path, name, text)


def parts(document: Document) -> dict[str, str]:
    """Return the text of each mark."""
    found = {"circumstances": _circumstances(document)}
    for model in dict.fromkeys(run["model"] for run in document["runs"].values()):
        runs = _runs(document, model, ELEMENTWISE)
        whole = _guided(document, model, runs) if runs else _windows(document, model)
        found[f"guided {model}"] = whole
    found["allocated"] = _allocated(document)
    found["winograd"] = _winograd(document)
    found["structured"] = _with_zeros(document, STRUCTURED, ("alexnet",))
    found["products"] = _products(document)
    return found


def _runs(document: Document, model: str, methods: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return runs of some methods; those of 3x3 layers alone belong to Winograd's."""
    found = [
        run
        for run in document["runs"].values()
        if run["model"] == model
        and run["method"] in methods
        and (methods is WINOGRAD) == tables.label(run).endswith(SQUARE)
    ]
    return sorted(found, key=lambda run: (methods.index(run["method"]), tables.label(run)))


def _dense(document: Document, model: str) -> Mapping[str, Any]:
    return next(
        run for run in document["runs"].values()
        if run["model"] == model and not run["method"] and not run["start"]
    )  # fmt: skip


def _trained_on(document: Document, model: str) -> list[Mapping[str, Any]]:
    """Return dense runs that went on as long as those did that were pruned for longer."""
    return [
        run for run in document["runs"].values()
        if run["model"] == model and not run["method"] and run["start"]
    ]  # fmt: skip


def _circumstances(document: Document) -> str:
    times = document["times"]
    versions = ", ".join(f"{name} {version}" for name, version in times["versions"].items())
    return (
        f"Native times: {times['date']}; {times['machine']}; {times['isa']}; {times['system']}; "
        f"Python {times['python']}; {versions}."
    )


def _methods(document: Document, model: str, methods: Sequence[str]) -> str:
    runs = _runs(document, model, methods)
    times = document["times"]["models"].get(model)
    if not runs or times is None:
        return "Not run yet."
    longer = _trained_on(document, model) if methods in (WINOGRAD, STRUCTURED) else []
    return tables.methods_table(runs, times, _dense(document, model), longer)


def _guided(document: Document, model: str, runs: Sequence[Mapping[str, Any]]) -> str:
    times = document["times"]["models"][model]
    pieces = [tables.methods_table(runs, times, _dense(document, model))]
    for plain, guided in (("esl", "gesl"), ("dns", "gdns")):
        ours = [r for r in runs if r["method"] == guided and r["machine"] == "host"]
        theirs = [r for r in runs if r["method"] == plain]
        if ours and theirs:
            table, _ = tables.equal_accuracy(ours, theirs, times)
            pieces.append(f"`{guided}` over `{plain}` at equal accuracy:\n\n{table}")
    if windows := _windows(document, model):
        pieces.append(windows)
    pieces.append(f"Zeros by layer, per cent:\n\n{tables.layers_table(runs)}")
    shown = {  # the strongest of each method
        same[0]["run"]: f"{name.partition('-')[2]}, us"
        for name, same in {
            (run["method"], run["machine"]): (name, same)
            for name, same in tables.by_label(runs).items()
            for run in same[:1]
        }.values()
    }
    pieces.append(
        "Each layer by itself (first seed), method and microseconds:\n\n"
        + tables.layer_times(times, shown)
    )
    return "\n\n".join(pieces)


def _with_zeros(document: Document, methods: Sequence[str], models: Sequence[str]) -> str:
    """Return the table of methods and that of their zeros, for each model that has any."""
    found = []
    for model in models:
        if runs := _runs(document, model, methods):
            found.append(_methods(document, model, methods))
            found.append(f"Zeros by layer, per cent:\n\n{tables.layers_table(runs)}")
    return "\n\n".join(found) or "Not run yet."


def _windows(document: Document, model: str) -> str:
    found = document["times"].get("windows", {}).get(model)
    if found is None:
        return ""
    table = tables.windows_table(found)
    return f"Where pruning a layer pays, from and to which sparsity:\n\n{table}"


def _winograd(document: Document) -> str:
    pieces = [_with_zeros(document, WINOGRAD, ("alexnet", "resnet20"))]
    runs = _runs(document, "alexnet", WINOGRAD)
    native = [run for run in runs if run["method"] == "winograd"]
    spatial = [run for run in runs if run["method"] == "esl"]
    if native and spatial:
        table, _ = tables.equal_accuracy(native, spatial, document["times"]["models"]["alexnet"])
        table = table.replace("unguided", "spatial").replace("guided", "native")
        pieces.append(f"In the domain over in space at equal accuracy:\n\n{table}")
    return "\n\n".join(pieces)


def _allocated(document: Document) -> str:
    runs = _runs(document, "alexnet", ("gradual",))
    pieces = [_with_zeros(document, ("gradual",), ("alexnet",))]
    told = [run for run in runs if "-targets" in run["run"]]
    equal = [run for run in runs if run not in told]
    if told and equal:
        table, _ = tables.equal_accuracy(told, equal, document["times"]["models"]["alexnet"])
        pieces.append(f"`targets` over equal sparsities at equal accuracy:\n\n{table}")
    return "\n\n".join(pieces)


def _products(document: Document) -> str:
    pieces = []
    for threads, race in document["races"].items():
        pieces.append(
            f"{threads} thread(s), {race['date']}, {race['isa']}:\n\n"
            + tables.peers_table(race["networks"])
        )
    if document["races"]:
        first = next(iter(document["races"].values()))
        layers = tables.race_layers(first["networks"]["squeezenet"])
        pieces.append(f"SqueezeNet, one thread:\n\n{layers}")
    return "\n\n".join(pieces) or "Not run yet."
