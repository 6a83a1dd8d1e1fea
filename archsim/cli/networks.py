"""``archsim networks``: list, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import json_option, new_table, one_line, plain, print_json, print_tables

if TYPE_CHECKING:
    from rich.table import Table

    from archsim.network import Network, SparsityMap


@click.group("networks")
def networks_command() -> None:
    """Networks: list those that ship with archsim, show layers and published sparsities."""


@networks_command.command("list")
@json_option
def list_networks(as_json: bool) -> None:
    """List the networks that ship with archsim."""
    from archsim.network import load_network, network_names

    rows: list[dict[str, Any]] = []
    for name in network_names():
        network = load_network(name)
        rows.append(
            {
                "name": name,
                "layers": len(network),
                "macs": network.macs,
                "weights": network.weights,
                "sparsities": list(network.sparsities),
                "default_sparsity": network.default_sparsity,
                "description": network.description,
            }
        )
    if as_json:
        print_json({"schema": 1, "networks": rows})
        return
    table = new_table("networks")
    for column in ("name", "layers", "M MAC", "M weights", "sparsity maps", "what"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            plain(row["name"]), str(row["layers"]), f"{row['macs'] / 1e6:.4g}",
            f"{row['weights'] / 1e6:.4g}", plain(", ".join(row["sparsities"])),
            plain(row["description"]),
        )  # fmt: skip
    print_tables(table)


@networks_command.command("show")
@click.argument("network")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print a file that NETWORK may be.")
@json_option
def show_network(network: str, as_yaml: bool, as_json: bool) -> None:
    """Show the layers of NETWORK and its published sparsities."""
    from dataclasses import asdict

    from archsim.network import load_network

    if as_yaml and as_json:
        raise click.UsageError("--yaml and --json are two forms", click.get_current_context())
    found = load_network(network)
    if as_yaml:
        click.echo(_yaml(found), nl=False)
        return
    if as_json:
        layers = [
            {**asdict(y), "P": y.P, "Q": y.Q, "macs": y.macs, "weights": y.weights} for y in found
        ]
        maps = {name: asdict(entry) for name, entry in found.sparsities.items()}
        print_json(
            {
                "schema": 1,
                "name": found.name,
                "description": found.description,
                "source": found.source,
                "layers": layers,
                "sparsities": maps,
            }
        )
        return
    print_tables(_shapes(found), *([_sparsities(found)] if found.sparsities else []))
    if found.sparsities:
        click.echo()
    for name, entry in found.sparsities.items():
        click.echo(one_line(f"{name} ({entry.domain}): {entry.description} [{entry.source}]"))


def _yaml(network: Network) -> str:
    """Return a network as the YAML that is read again; strings as JSON writes them."""
    import json
    from dataclasses import asdict

    def flow(values: dict[str, Any]) -> str:
        pairs = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())
        return "{" + ", ".join(pairs) + "}"

    def entry(key: str, value: Any, indent: str = "") -> list[str]:
        return [f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}"] if value else []

    lines = ["format: 1", *entry("name", network.name)]
    lines += [*entry("description", network.description), *entry("source", network.source)]
    lines.append("layers:")
    for layer in network:
        values = {key: value for key, value in asdict(layer).items() if key != "network"}
        lines.append(f"  - {flow(values)}")
    if network.sparsities:
        lines.append("sparsities:")
    for name, found in network.sparsities.items():
        lines += [f"  {json.dumps(name, ensure_ascii=False)}:", f"    layers: {_quoted(found)}"]
        for key in ("description", "source", "domain", "top1_accuracy"):
            lines += entry(key, getattr(found, key), "    ")
    return "\n".join([*lines, *entry("default_sparsity", network.default_sparsity)]) + "\n"


def _quoted(entry: SparsityMap) -> str:
    import json

    return json.dumps(dict(entry.layers), ensure_ascii=False)


def _shapes(network: Network) -> Table:
    table = new_table(f"{network.name}: {network.description}", network.source or "", gap=1)
    table.add_column("layer", no_wrap=True)
    for column in ("type", "C", "H x W", "K", "P x Q", "kernel", "stride", "pad", "groups",
                   "M MAC", "weights"):  # fmt: skip
        table.add_column(column, justify="left" if column == "type" else "right", overflow="fold")
    for y in network:
        table.add_row(
            plain(y.name), y.type, str(y.C), f"{y.H}x{y.W}", str(y.K), f"{y.P}x{y.Q}",
            f"{y.R}x{y.S}", f"{y.stride[0]}x{y.stride[1]}", f"{y.pad[0]}x{y.pad[1]}",
            str(y.groups), f"{y.macs / 1e6:.4g}", str(y.weights),
        )  # fmt: skip
    return table


def _sparsities(network: Network) -> Table:
    table = new_table(f"{network.name}: published sparsities", gap=1)
    table.add_column("layer", no_wrap=True)
    for name in network.sparsities:
        table.add_column(plain(name), justify="right", overflow="fold")
    for y in network:
        table.add_row(plain(y.name), *(_share(m, y.name) for m in network.sparsities.values()))
    return table


def _share(entry: SparsityMap, layer: str) -> str:
    return f"{entry.layers[layer]:.4g}" if layer in entry.layers else ""
