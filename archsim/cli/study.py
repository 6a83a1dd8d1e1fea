"""``archsim study`` and ``archsim report``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import (
    check_schedule,
    distinct,
    filled_path,
    json_option,
    load_machines,
    machine_option,
    method_list,
    print_json,
    print_tables,
    progress_bar,
    say,
    workload_options,
)

if TYPE_CHECKING:
    from archsim.methods.sharing import Partition
    from archsim.sparsity import Domain

_DEFAULT = ("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", "host")


@click.command("study")
@click.argument("network")
@click.argument("layers", nargs=-1, callback=distinct)
@machine_option(_DEFAULT)
@workload_options(auto=False)
@click.option("--model", "models", multiple=True, default=("ecm", "park"), show_default=True,
              help="Predictors: ecm, park, simulator; repeats.")  # fmt: skip
@click.option("-o", "--output", "folder", metavar="DIR", callback=filled_path,
              help="Folder for results and page [default: study-NETWORK]")  # fmt: skip
@click.option("--native/--no-native", default=True, help="Measure on the host, if it is chosen.")
@click.option("--curves/--no-curves", default=True, help="Also a range of sparsities per layer.")
@json_option
def study_command(
    network: str,
    layers: tuple[str, ...],
    machines: tuple[str, ...],
    sparsity: str | None,
    density_domain: Domain | None,
    methods: str,
    schedule: str,
    partition: Partition,
    batch: int | None,
    threads: int | None,
    seed: int,
    models: tuple[str, ...],
    folder: Path | None,
    native: bool,
    curves: bool,
    as_json: bool,
) -> None:
    """Predict and measure every layer of NETWORK by every method: the main job.

    NETWORK is a built-in name, a YAML file or a CSV layer table. Without --batch each machine
    gets one image per hardware thread.
    """
    from archsim.network import load_network
    from archsim.study import open_folder, run_study

    chosen = load_network(network)
    loaded = load_machines(machines)
    names = _named(methods)
    check_schedule(schedule, names)
    folder = folder or Path("study-" + re.sub(r"[^\w.-]", "_", chosen.name))
    with open_folder(folder), progress_bar() as progress:
        found = run_study(
            chosen, loaded, layers=layers or None, batch=batch, threads=threads,
            sparsity=sparsity, density_domain=density_domain, methods=names, models=models,
            curves=curves, native=native, schedule=schedule, partition=partition, seed=seed,
            progress=progress,
        )  # fmt: skip
    found.command = " ".join(["archsim", *sys.argv[1:]])
    document = found.as_document()
    paths = found.write(folder, document)
    paths += write_page(document, folder / "report.html")
    if as_json:
        print_json(document)
    else:
        _print_study(document)
    for path in paths:
        say(f"wrote {path}")


@click.command("report")
@click.argument("results", type=click.Path(path_type=Path))
@click.option("-o", "--output", "page", metavar="FILE", callback=filled_path,
              help="HTML page to write [default: report.html beside RESULTS]")  # fmt: skip
def report_command(results: Path, page: Path | None) -> None:
    """Redraw table and page of a RESULTS file (results.json of a study)."""
    from archsim.study import read_document

    document = read_document(results)
    _print_study(document)
    for path in write_page(document, page or results.parent / "report.html"):
        say(f"wrote {path}")


def _named(methods: str) -> list[str]:
    """Read ``--methods`` of a study, which runs all that are named and keeps all of them."""
    names = method_list(methods)
    if names == ["auto"]:
        raise click.BadParameter(
            "a study runs every method that is named: give 'all' or names, not 'auto'",
            click.get_current_context(),
            param_hint="--methods",
        )
    return names


def _print_study(document: dict[str, Any]) -> None:
    from archsim.report.tables import study_tables

    print_tables(*study_tables(document))


def write_page(document: dict[str, Any], path: Path) -> list[Path]:
    """Write the HTML page where the extra for it is installed; say so where it is not."""
    from archsim.errors import ArchsimError, InputError
    from archsim.report.html import write_html

    try:
        return [write_html(document, path)]
    except InputError:
        raise
    except ArchsimError as error:
        say(f"no page: {error}")
        return []
