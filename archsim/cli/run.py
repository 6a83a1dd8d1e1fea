"""``archsim predict`` and ``archsim measure``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from archsim.cli.options import (
    check_schedule,
    distinct,
    filled,
    finite,
    json_option,
    load_machines,
    machine_option,
    method_list,
    named,
    print_json,
    print_tables,
    progress_bar,
    say,
    workload_options,
)

if TYPE_CHECKING:
    from archsim.network import Layer, Network
    from archsim.result import Result
    from archsim.sparsity import Domain, LayerSparsities
    from archsim.targetsfile import Way


@click.command("predict")
@click.argument("network")
@click.argument("layers", nargs=-1, callback=distinct)
@machine_option(("host",))
@workload_options(auto=True)
@click.option("--model", default="ecm", show_default=True, help="ecm, park or simulator.")
@click.option("--traffic", default="auto", show_default=True,
              help="ecm: transfers by rule, or counted by replay; auto counts one layer of a "
              "known pattern on one machine.")  # fmt: skip
@click.option("--clock", default="sustained", show_default=True, help="sustained or nominal.")
@click.option("--isa", callback=filled, help="Instruction set of the machine [default: the widest]")
@click.option("--alpha", type=float, help="park: overhead of a sparse multiply-add.")
@click.option("--beta", type=float,
              help="park: bytes of a nonzero over bytes of a dense one [default: 2]")  # fmt: skip
@click.option("--sgemm", metavar="RATE", help="park: F, such as '2150 GFLOP/s'.")
@click.option("--stream", metavar="RATE", help="park: B, such as '122 GB/s'.")
@json_option
def predict_command(
    network: str,
    layers: tuple[str, ...],
    machines: tuple[str, ...],
    sparsity: str | None,
    methods: str,
    schedule: str,
    batch: int | None,
    threads: int | None,
    seed: int,
    as_json: bool,
    density_domain: Domain | None,
    sgemm: str | None,
    stream: str | None,
    **settings: Any,
) -> None:
    """Predict what each layer of NETWORK costs on a machine, without running anything."""
    from archsim.api import predict

    published = {
        "--alpha": settings["alpha"],
        "--beta": settings["beta"],
        "--sgemm": sgemm,
        "--stream": stream,
    }
    model = settings["model"]
    _only(model, "park", [key for key, value in published.items() if value is not None])
    _only(model, "ecm", ["--traffic"] if settings["traffic"] != "auto" else [])
    check_schedule(schedule, method_list(methods))
    if settings["beta"] is None:
        del settings["beta"]  # predict knows the default
    if settings["traffic"] == "auto" and len(layers) * len(machines) != 1:
        settings["traffic"] = "rule"  # a count takes up to seconds
    settings |= {
        "sgemm_flops_per_s": _rate("--sgemm", sgemm, "flop rate"),
        "stream_bytes_per_s": _rate("--stream", stream, "bandwidth"),
    }

    def layer_of(layer: Layer, machine: Any, pattern: Any, way: Way | None) -> list[Result]:
        names = method_list(methods) if way is None else [way.method]
        return [
            predict(
                layer, machine, method=name, pattern=pattern, batch=batch or 1, threads=threads,
                schedule=schedule if way is None else way.schedule, seed=seed, **settings,
            )
            for name in names
        ]  # fmt: skip

    job = _Job(network, layers, machines, sparsity, density_domain, batch or 1, threads)
    _each(job, as_json, layer_of)


@click.command("measure")
@click.argument("network")
@click.argument("layers", nargs=-1, callback=distinct)
@machine_option(("host",))
@workload_options(auto=True)
@click.option(
    "--isa", callback=filled, help="Instruction set [default: the widest, or ARCHSIM_ISA]"
)
@click.option("--min-seconds", type=click.FloatRange(min=0.0), default=0.1, show_default=True,
              callback=finite, help="Repeat each kernel for at least so long.")  # fmt: skip
@click.option("--check/--no-check", default=False, help="Compare with a float64 reference.")
@json_option
def measure_command(
    network: str,
    layers: tuple[str, ...],
    machines: tuple[str, ...],
    sparsity: str | None,
    methods: str,
    schedule: str,
    batch: int | None,
    threads: int | None,
    seed: int,
    as_json: bool,
    density_domain: Domain | None,
    **settings: Any,
) -> None:
    """Time the native kernels of each layer of NETWORK on this host."""
    from archsim.api import measure, measure_together

    check_schedule(schedule, method_list(methods))
    names = method_list(methods)
    settings |= {"schedule": schedule, "batch": batch or 1, "threads": threads, "seed": seed}

    def layer_of(layer: Layer, machine: Any, pattern: Any, way: Way | None) -> list[Result]:
        if way is not None:
            told = {**settings, "method": way.method, "schedule": way.schedule}
            return [measure(layer, machine, pattern=pattern, **told)]
        if names == ["auto"]:
            return [measure(layer, machine, pattern=pattern, **settings)]
        cases = [(name, pattern) for name in names]
        return measure_together(layer, cases, machine, **settings)

    job = _Job(network, layers, machines, sparsity, density_domain, batch or 1, threads)
    _each(job, as_json, layer_of)


def _only(model: str, owner: str, given: list[str]) -> None:
    """Refuse parameters of one model where another one predicts."""
    if model != owner and given:
        raise click.UsageError(
            f"{', '.join(given)} {'are' if len(given) > 1 else 'is'} for --model {owner}; "
            f"the model here is {model}",
            click.get_current_context(),
        )


def _rate(name: str, text: str | None, kind: str) -> float | None:
    from archsim.errors import InputError
    from archsim.units import Unit

    try:
        return Unit(kind).parse(text) if text is not None else None
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None


class _Job(NamedTuple):
    """What a command is to run over."""

    network: str
    layers: tuple[str, ...]
    machines: tuple[str, ...]
    sparsity: str | None
    domain: Domain | None
    batch: int
    threads: int | None


def _each(job: _Job, as_json: bool, layer_of: Callable[..., list[Result]]) -> None:
    """Run every layer, machine and method; print them.

    Targets decide how layers run on their machine unless methods or a schedule are named.
    """
    from archsim.choice import ways_on
    from archsim.network import load_network
    from archsim.report.tables import results_table
    from archsim.result import document
    from archsim.sparsity import load_sparsity
    from archsim.study import sum_up

    network: Network = load_network(job.network)
    sparsities: LayerSparsities = load_sparsity(job.sparsity, network)
    sparsities = sparsities.in_domain(job.domain, network)
    layers = [network[name] for name in job.layers] if job.layers else list(network)
    machines = load_machines(job.machines)
    ways: dict[str, dict[str, Way]] = {machine.name: {} for machine in machines}
    said: dict[str, tuple[str, ...]] = {}
    for machine in [] if named("methods", "schedule") else machines:
        ways[machine.name], said[machine.name] = ways_on(
            sparsities, machine, batch=job.batch, threads=job.threads
        )
    cases = [(machine, layer) for machine in machines for layer in layers]
    results: list[Result] = []
    with progress_bar() as progress:
        for done, (machine, layer) in enumerate(cases):
            progress(f"{machine.name} {layer.name}", done, len(cases))
            way = ways[machine.name].get(layer.name)
            results += layer_of(layer, machine, sparsities[layer.name], way)
        found = [result.as_dict() for result in results]
    totals: dict[str, Any] = {
        **sum_up(network.name, layers, sparsities, results),
        "native_max_error": {
            f"{r.layer} {r.method}": r.max_error for r in results if r.max_error is not None
        },
        "notes": {
            **{machine: list(notes) for machine, notes in said.items() if notes},
            **{f"{r.machine} {r.layer} {r.method}": list(r.notes) for r in results if r.notes},
        },
    }
    if as_json:
        print_json(document(found, totals))
        return
    print_tables(results_table(found, totals["machines"]))
    for where, notes in totals["notes"].items():
        if where in said or any(r.model != "native" for r in results):
            say(f"{where}: {'; '.join(notes)}")
    for where, error in totals["native_max_error"].items():
        say(f"{where}: largest error {error:.1e} of the largest reference value")
