"""``python -m benchmarks.proof``: runs, times, page.

In this order: ``run STUDY``, ``time``, ``race``, ``collect``, ``page``.  Runs that were stopped go
on; the page needs the collected document alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from archsim.errors import ArchsimError

FOLDER: Final = Path("build/proof")
DOCUMENT: Final = Path("docs/results/pruning.json")
PAGE: Final = Path("docs/pruning.md")


def main(arguments: list[str] | None = None) -> int:
    """Do what a command line says; return 2 where the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.proof", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the runs")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="of what was found")
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="train and prune what a study has not yet; torch")
    run.add_argument("study", nargs="+")
    time = verbs.add_parser("time", help="time the runs natively, in turns")
    time.add_argument("--seconds", type=float, default=0.5, help="of each network")
    race = verbs.add_parser("race", help="convolutions against onnxruntime and torch")
    race.add_argument("--seconds", type=float, default=0.5, help="of each layer")
    race.add_argument("--threads", type=int, default=1)
    verbs.add_parser("collect", help="put runs and times into the document")
    page = verbs.add_parser("page", help="make the tables of a page from the document")
    page.add_argument("--page", type=Path, default=PAGE)
    page.add_argument("--figures", type=Path, help="folder for them, as SVG")
    web = verbs.add_parser("html", help="the same as one HTML page")
    web.add_argument("output", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        _VERBS[chosen.verb](chosen)
    except ArchsimError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(chosen: argparse.Namespace) -> None:
    import torch

    from benchmarks.proof.runs import execute
    from benchmarks.proof.studies import get_study

    torch.set_num_threads(1)
    for study in chosen.study:
        for one in get_study(study):
            execute(one, chosen.folder, _say)


def _time(chosen: argparse.Namespace) -> None:
    from archsim.network import load_network
    from benchmarks.proof import document, measure

    models, windows = {}, {}
    for model, runs in document.runs_by_model(chosen.folder).items():
        models[model] = measure.time_runs(chosen.folder, runs, seconds=chosen.seconds, say=_say)
        network = load_network(chosen.folder / runs[0] / "network.yaml")
        windows[model] = measure.windows(network)
    found = {**measure.circumstances(), "models": models, "windows": windows}
    document.write_json(chosen.folder / "times.json", found)


def _race(chosen: argparse.Namespace) -> None:
    from benchmarks.proof import document, measure

    found: dict[str, Any] = measure.race_networks(
        chosen.folder, document.raced(chosen.folder), threads=chosen.threads,
        seconds=chosen.seconds, say=_say,
    )  # fmt: skip
    name = f"race-{chosen.threads}.json"
    document.write_json(chosen.folder / name, {**measure.circumstances(), "networks": found})


def _collect(chosen: argparse.Namespace) -> None:
    from benchmarks.proof import document

    document.write_json(chosen.document, document.collect(chosen.folder))


def _page(chosen: argparse.Namespace) -> None:
    from benchmarks.proof import document, figure, page

    found = document.read_json(chosen.document)
    page.write(chosen.page, found)
    for model in found["times"]["models"] if chosen.figures else ():
        path = chosen.figures / f"pruning_{model}.svg"
        path.write_text(figure.scatter(found, model), encoding="utf-8")


def _html(chosen: argparse.Namespace) -> None:
    from benchmarks.proof import document, webpage

    text = webpage.render(document.read_json(chosen.document))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(text, encoding="utf-8")


_VERBS: Final[dict[str, Callable[[argparse.Namespace], None]]] = {
    "run": _run, "time": _time, "race": _race, "collect": _collect, "page": _page,
    "html": _html,
}  # fmt: skip


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
