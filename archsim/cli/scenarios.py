"""``archsim scenarios``: list, check, schema."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli.groups import Group
from archsim.cli.options import json_option, new_table, plain, print_json, print_tables, say


@click.group("scenarios", cls=Group)
def scenarios_command() -> None:
    """What else may happen on a machine while `archsim simulate` runs."""


@scenarios_command.command("list")
@json_option
def list_scenarios(as_json: bool) -> None:
    """Show the scenarios that ship with archsim."""
    from archsim.simulator.scenario import load_scenario, scenario_names

    found = [load_scenario(name) for name in scenario_names()]
    if as_json:
        print_json({"schema": 1, "scenarios": [s.model_dump(mode="json") for s in found]})
        return
    table = new_table("scenarios")
    table.add_column("name")
    table.add_column("what it asks")
    for scenario in found:
        table.add_row(plain(scenario.name), plain(scenario.description))
    print_tables(table)


@scenarios_command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def check_scenarios(files: tuple[Path, ...], as_json: bool) -> None:
    """Read scenario FILES; the first thing that is wrong ends it."""
    from archsim.simulator.scenario import load_scenario

    rows = []
    for file in files:
        rows.append({"file": str(file), "name": load_scenario(file).name})
        if not as_json:
            say(f"{file}: {rows[-1]['name']} is a scenario")
    if as_json:
        print_json({"schema": 1, "checked": rows})


@scenarios_command.command("schema")
def schema() -> None:
    """Print the JSON Schema of scenario files, for editors."""
    from archsim.simulator.scenario import Scenario

    print_json(Scenario.model_json_schema(by_alias=True))
