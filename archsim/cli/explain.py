"""``archsim explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import (
    check_schedule,
    filled,
    json_option,
    load_machines,
    machine_option,
    path_ending,
    print_json,
    print_tables,
    say,
    workload_options,
)

if TYPE_CHECKING:
    from archsim.sparsity import Domain


@click.command("explain")
@click.argument("network")
@click.argument("layer")
@machine_option(("host",))
@workload_options(auto=True, one=True)
@click.option("--clock", default="sustained", show_default=True, help="sustained or nominal.")
@click.option("--isa", callback=filled, help="Instruction set of the machine [default: the widest]")
@click.option("-o", "--output", "page", metavar="FILE.html", callback=path_ending(".html"),
              help="Page with a stacked bar to write.")  # fmt: skip
@json_option
def explain_command(
    network: str,
    layer: str,
    machines: tuple[str, ...],
    sparsity: str | None,
    density_domain: Domain | None,
    method: str,
    batch: int | None,
    seed: int,
    page: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Explain where the cycles of LAYER of NETWORK go on a machine, term by term."""
    from archsim.explanation import document, explain
    from archsim.network import load_network
    from archsim.report.explain import explain_tables, write_explanation
    from archsim.sparsity import load_sparsity

    check_schedule(settings["schedule"], [method])
    del seed  # ecm draws nothing
    found = load_network(network)
    pattern = load_sparsity(sparsity, found).in_domain(density_domain, found)[found[layer].name]
    explained = document(
        explain(found[layer], machine, method=method, pattern=pattern, batch=batch or 1, **settings)
        for machine in load_machines(machines)
    )
    if page is not None:
        say(f"wrote {write_explanation(explained, page)}")
    if as_json:
        print_json(explained)
    else:
        print_tables(*explain_tables(explained))
