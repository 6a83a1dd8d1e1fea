"""``archsim targets``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from archsim.cli.options import (
    Whole,
    filled,
    filled_path,
    json_option,
    path_ending,
    print_json,
    print_tables,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from archsim.machine import Machine
    from archsim.network import Network
    from archsim.pruning.sensitivity import Sensitivity
    from archsim.pruning.table import TimeTable

_MOST = 2**31 - 1


@click.command("targets")
@click.argument("network")
@click.option("-m", "--machine", "machine_name", metavar="NAME|FILE", callback=filled,
              help="Machine by name or file [default: host, or what --table is of]")  # fmt: skip
@click.option("--model", default="ecm", show_default=True,
              help="Who tells the times: ecm, park, simulator, or native (measured; the host "
              "alone).")  # fmt: skip
@click.option("--budget-time", metavar="SHARE|TIME", callback=filled,
              help="50% of the best dense time, 1.5 ms, or seconds of the batch.")  # fmt: skip
@click.option("--budget-size", metavar="SHARE|SIZE", callback=filled,
              help="10% of the dense weights, 5 MB, or bytes.")  # fmt: skip
@click.option("--budget-accuracy", metavar="LOSS", callback=filled,
              help="Loss that is allowed, in the unit of the curves; then the fastest is found "
              "unless time has a budget.")  # fmt: skip
@click.option("--sensitivity", "curves", metavar="FILE", callback=filled_path,
              help="Measured curves, CSV or YAML [default: assumed Gaussian weights]")  # fmt: skip
@click.option("--weights", metavar="SPEC", callback=filled,
              help="Curves from weights: FILE.npz or a folder of .mtx; a proxy.")  # fmt: skip
@click.option("--count", type=click.Choice(["weights", "layers"]), default="weights",
              show_default=True, help="Without measured curves: layers count by their weights, or "
              "all the same.")  # fmt: skip
@click.option("--pin", metavar="LAYER=SPARSITY,...", callback=filled,
              help="Layers whose sparsity is decided.")  # fmt: skip
@click.option("--against", multiple=True, metavar="SPEC", callback=filled,
              help="Compare with a sparsity of the network (gesl), a number or a file; "
              "repeats.")  # fmt: skip
@click.option("--batch", type=Whole(min=1, max=_MOST), metavar="N",
              help="Images [default: one per thread]")  # fmt: skip
@click.option("--threads", type=Whole(min=1, max=_MOST), metavar="N",
              help="Threads [default: all hardware threads; host: physical cores]")  # fmt: skip
@click.option("--levels", type=Whole(min=2, max=10_000), default=100, show_default=True,
              metavar="N", help="Sparsity levels of the grid, dense among them.")  # fmt: skip
@click.option("--groups/--no-groups", default=True, help="Compare with removed output maps.")
@click.option("--table", "table_file", metavar="FILE", callback=filled_path,
              help="Take times from a latency table, CSV or JSON.")  # fmt: skip
@click.option("--latency-table", metavar="FILE", callback=path_ending(".csv", ".json"),
              help="Write the latency table, CSV or JSON.")  # fmt: skip
@click.option("--table-form", type=click.Choice(["tidy", "ofa", "nni"]), default="tidy",
              show_default=True, help="tidy, once-for-all's or NNI's form.")  # fmt: skip
@click.option("-o", "--output", metavar="FILE", callback=filled_path,
              help="Write the targets as YAML.")  # fmt: skip
@click.option("--html", metavar="FILE", callback=filled_path, help="Write a page with pictures.")
@click.option("--export", "exports", multiple=True, metavar="TOOL=FILE", callback=filled,
              help="Write a configuration of nncf, inc or torch-pruning; repeats.")  # fmt: skip
@json_option
def targets_command(
    network: str,
    machine_name: str | None,
    model: str,
    budget_time: str | None,
    budget_size: str | None,
    budget_accuracy: str | None,
    curves: Path | None,
    weights: str | None,
    count: Literal["weights", "layers"],
    pin: str | None,
    against: tuple[str, ...],
    batch: int | None,
    threads: int | None,
    levels: int,
    groups: bool,
    table_file: Path | None,
    latency_table: Path | None,
    table_form: str,
    output: Path | None,
    html: Path | None,
    exports: tuple[str, ...],
    as_json: bool,
) -> None:
    """Which layers of NETWORK to prune on a machine, how far, and how to run them.

    Without a budget: where pruning begins to pay in each layer, and where it stops to.  With one:
    the sparsities that lose least within it.
    """
    from archsim.machinefile import load_machine
    from archsim.network import load_network
    from archsim.pruning.budget import read_budget
    from archsim.pruning.document import as_document, write_yaml
    from archsim.pruning.export import check_exports, export_text
    from archsim.pruning.latency import write_table, write_text
    from archsim.pruning.table import grid_levels, make_table
    from archsim.pruning.targets import find_targets

    chosen = load_network(network)
    if machine_name is None and table_file is None:
        machine_name = "host"
    machine = None if machine_name is None else load_machine(machine_name)
    pins = _pins(pin, chosen)
    wanted = _exports(exports)
    grid = grid_levels(levels)
    sensitivity = _sensitivity(chosen, curves, weights, count, grid)
    given = None if table_file is None else _given_table(table_file, chosen, machine)
    told_by = model if given is None else given.model
    check_exports(
        [tool for tool, _ in wanted],
        allocated=bool(pins or budget_time or budget_size or budget_accuracy),
        groups=groups and machine is not None and told_by != "native",
    )
    if given is not None:
        table = given
    else:
        assert machine is not None  # noqa: S101 - above
        table = _predict(make_table, chosen, machine, model, batch, threads, levels, sensitivity)
    if latency_table is not None:
        say(f"wrote {write_table(table, latency_table, table_form)}")
    budget = read_budget(
        time=budget_time, size=budget_size, accuracy=budget_accuracy,
        dense_seconds=table.dense_seconds,
        dense_bytes=float(sum(layer.dense_bytes for layer in chosen)),
    )  # fmt: skip
    found = find_targets(
        table, sensitivity, budget, machine=machine, pins=pins, against=against, groups=groups
    )
    document = as_document(found, machine, " ".join(["archsim", *sys.argv[1:]]))
    texts = [(path, export_text(tool, document)) for tool, path in wanted]
    if output is not None:
        say(f"wrote {write_yaml(document, output)}")
    for path, text in texts:
        say(f"wrote {write_text(path, text)}")
    if html is not None:
        from archsim.report.targets import write_targets_page

        say(f"wrote {write_targets_page(document, html)}")
    if as_json:
        print_json(document)
    else:
        from archsim.report.targets import targets_tables

        print_tables(*targets_tables(document))


def _predict(
    make: Any, network: Network, machine: Machine, model: str, batch: int | None,
    threads: int | None, levels: int, sensitivity: Sensitivity,
) -> TimeTable:  # fmt: skip
    winograd = [layer.name for layer in network if "winograd" in sensitivity[layer.name]]
    with progress_bar() as progress:
        table: TimeTable = make(
            network, machine, model=model, batch=batch, threads=threads, levels=levels,
            winograd=winograd, progress=progress,
        )  # fmt: skip
    return table


def _sensitivity(
    network: Network, curves: Path | None, weights: str | None, count: str, grid: Any
) -> Sensitivity:
    from archsim.errors import input_error
    from archsim.pruning.sensitivity import (
        Per,
        assumed_sensitivity,
        sensitivity_of_weights,
    )
    from archsim.pruning.sensitivity_file import load_sensitivity
    from archsim.sparsity import load_sparsity

    if curves is not None and weights is not None:
        raise input_error("--sensitivity", "and --weights are two sources of one thing")
    if curves is not None:
        return load_sensitivity(curves, network)
    per: Per = "weight" if count == "weights" else "layer"
    if weights is not None:
        return sensitivity_of_weights(network, load_sparsity(weights, network), grid, per)
    return assumed_sensitivity(network, grid, per)


def _given_table(file: Path, network: Network, machine: Machine | None) -> TimeTable:
    """Read a table; refuse that of another machine (one without is called after its file)."""
    from archsim.errors import input_error
    from archsim.pruning.latency import read_table

    table = read_table(file, network)
    if machine is not None and table.machine not in (machine.name, file.stem):
        raise input_error(
            f"--table {file}", "is of another machine", found=table.machine, allowed=machine.name
        )
    return table


def _pins(text: str | None, network: Network) -> dict[str, float]:
    from archsim.errors import input_error

    found: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.partition("=")
        layer = network[name.strip()].name
        try:
            found[layer] = float(value)
        except ValueError:
            raise input_error(f"--pin {layer}", "a sparsity is due", found=value) from None
        if not 0.0 <= found[layer] < 1.0:
            raise input_error(f"--pin {layer}", "must lie in 0..1 (below 1)", found=found[layer])
    return found


def _exports(given: tuple[str, ...]) -> list[tuple[str, Path]]:
    from archsim.errors import input_error
    from archsim.pruning.export import TOOLS

    found = []
    for text in given:
        tool, _, path = text.partition("=")
        if tool not in TOOLS or not path:
            raise input_error("--export", "TOOL=FILE is due", found=text,
                              allowed=", ".join(TOOLS), near=(tool, TOOLS))  # fmt: skip
        found.append((tool, Path(path)))
    return found
