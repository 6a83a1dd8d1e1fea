"""``archsim simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import (
    Whole,
    check_schedule,
    distinct,
    filled,
    filled_path,
    json_option,
    load_machines,
    machine_option,
    method_list,
    named,
    new_table,
    one_line,
    path_ending,
    print_json,
    print_tables,
    progress_bar,
    say,
    workload_options,
)

if TYPE_CHECKING:
    from rich.table import Table

    from archsim.machine import Machine
    from archsim.network import Network
    from archsim.simulation import NetworkSimulation
    from archsim.simulator.timeline import Recorder
    from archsim.sparsity import Domain


@click.command("simulate")
@click.argument("network")
@click.argument("layers", nargs=-1, callback=distinct)
@machine_option(("host",))
@workload_options(auto=True)
@click.option("--clock", default="sustained", show_default=True, help="sustained or nominal.")
@click.option("--isa", callback=filled, help="Instruction set of the machine [default: the widest]")
@click.option(
    "--scenario",
    metavar="NAME|FILE",
    callback=filled,
    help="What else happens on the machine: half-the-memory, one-slow-core, "
    "clock-step, cores-0-1-off, or a YAML file.",
)
@click.option(
    "--start",
    default="cold",
    show_default=True,
    metavar="STATE",
    help="Caches at first: cold, chained (they hold the input) or warm (they hold what "
    "a call of the same layer left).",
)
@click.option(
    "--take",
    default="plan",
    show_default=True,
    metavar="HOW",
    help="Who takes which tile: plan, dynamic or stealing.",
)
@click.option(
    "--chunk",
    type=Whole(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Units of an image that a thread takes at a time.",
)
@click.option(
    "--events",
    type=Whole(min=0),
    default=None,
    metavar="N",
    help="About so many events a layer, equal tiles together; 0: one for each tile.",
)
@click.option(
    "--trace",
    metavar="FILE",
    callback=path_ending(".pftrace", ".json"),
    help="Write a timeline for ui.perfetto.dev: FILE.pftrace, or FILE.json (Chrome's form).",
)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    callback=filled_path,
    help="Write results.json and report.html with pictures there.",
)
@click.option(
    "--baseline/--no-baseline",
    default=True,
    help="Simulate the layers dense, too, each by the dense method that the closed form finds "
    "fastest: for speedups. Takes as long again.",
)
@json_option
def simulate_command(
    network: str,
    layers: tuple[str, ...],
    machines: tuple[str, ...],
    sparsity: str | None,
    methods: str,
    batch: int | None,
    density_domain: Domain | None,
    events: int | None,
    trace: Path | None,
    folder: Path | None,
    baseline: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Simulate the layers of NETWORK one after the other, in time, on a machine.

    Each layer runs by the method that the closed form finds fastest. Threads draw on caches and
    memories together, wait for each other, and find the caches as the layer before left them.
    """
    from archsim.network import load_network
    from archsim.simulator.engine import EVENTS
    from archsim.simulator.trace import check_writable
    from archsim.sparsity import load_sparsity

    check_schedule(settings["schedule"], method_list(methods))
    loaded = load_machines(machines)
    if trace is not None:
        if len(loaded) > 1:
            raise click.BadParameter("a trace is of one machine", param_hint="--trace")
        check_writable(trace)
    chosen = load_network(network)
    settings |= {
        "layers": layers or None,
        "sparsity": load_sparsity(sparsity, chosen).in_domain(density_domain, chosen),
        "methods": method_list(methods if methods != "auto" else "all")
        if named("methods")
        else None,
        "batch": batch or 1,
        "events": EVENTS if events is None else events or None,
    }
    found = _run(chosen, loaded, settings, trace, pictures=folder is not None, baseline=baseline)
    document = _document(chosen, settings, found)
    said = _said(settings, loaded)
    if said:
        document["totals"]["notes"] = said
    if folder is not None:
        _write(document, folder, loaded)
    if as_json:
        print_json(document)
        return
    print_tables(*_tables(found, document["totals"]["machines"]))
    for where, notes in said.items():
        say(f"{where}: {'; '.join(notes)}")


def _said(settings: dict[str, Any], machines: list[Machine]) -> dict[str, list[str]]:
    """Return what there is to say of the methods that targets name, by machine."""
    from archsim.choice import ways_on

    if settings["methods"] or settings["schedule"] != "auto":
        return {}
    given = {"batch": settings["batch"], "threads": settings["threads"]}
    said = {m.name: list(ways_on(settings["sparsity"], m, **given)[1]) for m in machines}
    return {name: notes for name, notes in said.items() if notes}


def _run(
    network: Network, machines: list[Machine], settings: dict[str, Any], trace: Path | None, *,
    pictures: bool, baseline: bool,
) -> dict[str, NetworkSimulation]:  # fmt: skip
    """Simulate the layers on each machine; an interrupted run leaves what was seen in the trace."""
    from archsim.methods import METHODS
    from archsim.simulation import over_dense, simulate_network
    from archsim.simulator.timeline import Recorder
    from archsim.simulator.trace import write_trace

    dense = {"sparsity": 0.0, "methods": [name for name, m in METHODS.items() if m.dense]}
    found: dict[str, NetworkSimulation] = {}
    steps = 1 + baseline
    with progress_bar() as progress:
        for done, machine in enumerate(machines):
            progress(machine.name, done * steps, len(machines) * steps)
            timeline = Recorder() if trace or pictures else None
            try:
                run = simulate_network(network, machine, timeline=timeline, **settings)
            finally:
                if trace is not None and timeline is not None and timeline.layers:
                    write_trace(timeline, trace)
                    _say_trace(trace, timeline)
            if baseline:
                progress(f"{machine.name} dense", done * steps + 1, len(machines) * steps)
                run = over_dense(run, simulate_network(network, machine, **(settings | dense)))
            found[machine.name] = run
    return found


def _say_trace(path: Path, timeline: Recorder) -> None:
    left = f", {timeline.dropped} later ones left out" if timeline.dropped else ""
    broken = "" if timeline.complete else ", broken off"
    say(f"wrote {path}: {len(timeline.slices)} slices{left}{broken}")


def _document(
    network: Network, settings: dict[str, Any], found: dict[str, NetworkSimulation]
) -> dict[str, Any]:
    """Return the JSON document: results as everywhere, and what the simulator adds."""
    from archsim.result import document
    from archsim.study import sum_up

    results = [result for run in found.values() for result in run.results]
    layers = [network[name] for name in dict.fromkeys(r.layer for r in results)]
    whole = document(results, sum_up(network.name, layers, settings["sparsity"], results))
    whole["simulations"] = [
        {
            "machine": name,
            "seconds": run.seconds,
            "layers": [detail.as_dict() for detail in run.details],
            "timeline": run.timeline.as_dict() if run.timeline is not None else None,
        }
        for name, run in found.items()
    ]
    return whole


def _write(document: dict[str, Any], folder: Path, machines: list[Any]) -> None:
    """Write results.json and the page."""
    from archsim.cli.study import write_page
    from archsim.study import machine_facts, open_folder, write_document

    document["machines"] = [{**machine_facts(machine), "notes": []} for machine in machines]
    with open_folder(folder):
        paths = write_document(document, folder)
        paths += write_page(document, folder / "report.html")
    for path in paths:
        say(f"wrote {path}")


def _tables(found: dict[str, NetworkSimulation], totals: dict[str, Any]) -> list[Table]:
    from archsim.report.numbers import number, percent, ratio, time_unit
    from archsim.report.tables import total_line

    tables = []
    for machine, run in found.items():
        unit = time_unit(result.seconds for result in run.results)
        last = run.details[-1].critical_path[-1:]
        ends = (
            f"; core {last[0].core} with tile kind {last[0].kind} of {last[0].phase} came last"
            if last
            else ""
        )
        runs = sum(detail.runs for detail in run.details)
        table = new_table(
            f"{machine}: {unit.text(run.seconds)} {unit.name}, batch {run.results[0].batch}, "
            f"{run.results[0].threads} threads",
            f"{total_line(totals[machine]['simulator'])}; "
            f"{sum(detail.tiles for detail in run.details)} tiles in {runs} events{ends}",
        )
        table.add_column("layer")
        table.add_column("method")
        for name in (unit.name, "speedup", "GFLOP/s", "cores busy", "memory", "hits"):
            table.add_column(name, justify="right")
        table.add_column("bound by")
        for result, detail in zip(run.results, run.details, strict=True):
            busy = sum(detail.core_busy) / len(detail.core_busy)
            memory = max(use.utilisation for use in detail.memories)
            hits = " ".join(
                f"{level.name} {percent(level.hits)}"
                for level in detail.levels
                if level.hits is not None
            )
            table.add_row(
                one_line(result.layer), f"{result.method} {result.schedule}",
                unit.text(result.seconds), ratio(result.speedup_over_dense),
                number(result.effective_gflops), percent(busy), percent(memory), hits,
                ", ".join(result.bound_by),
            )  # fmt: skip
        tables.append(table)
    return tables
