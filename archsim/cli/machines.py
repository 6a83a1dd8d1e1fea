"""``archsim machines``: list, show, check, diff, new, schema."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.groups import Group
from archsim.cli.options import (
    filled,
    filled_path,
    json_option,
    new_table,
    one_line,
    output_width,
    plain,
    print_json,
    print_tables,
    say,
)

if TYPE_CHECKING:
    from archsim.machine import Machine

#: the least columns of a list with descriptions
_WIDE = 120


@click.group("machines", cls=Group)
def machines_command() -> None:
    """Machine descriptions: list, show, check, compare, begin a new one."""


@machines_command.command("list")
@json_option
def list_machines(as_json: bool) -> None:
    """List the machines that ship with archsim, and this host."""
    from archsim.hostfacts import HOST
    from archsim.machinefile import load_machine, machine_names
    from archsim.units import format_quantity

    rows: list[dict[str, Any]] = []
    for name in [*machine_names(), HOST]:
        machine = load_machine(name)
        rows.append(
            {
                "name": name,
                "cores": machine.total_cores,
                "threads": machine.total_threads,
                "clock_hz": machine.clock_hz,
                "isa": machine.default_isa,
                "lanes": machine.instruction_set().lanes,
                "peak_flops_per_s": machine.peak_flops_per_s(),
                "memory_bytes_per_s": machine.memory[0].bandwidth_bytes_per_s * machine.sockets,
                "description": machine.description,
            }
        )
    if as_json:
        print_json({"schema": 1, "machines": rows})
        return
    table = new_table("machines")
    table.add_column("name", no_wrap=True)
    for column in ("cores", "threads", "clock", "isa", "lanes", "peak", "memory"):
        table.add_column(column, overflow="fold")
    described = output_width() >= _WIDE
    if described:
        table.add_column("what", overflow="fold")
    for row in rows:
        table.add_row(
            plain(row["name"]), str(row["cores"]), str(row["threads"]),
            format_quantity(row["clock_hz"], "frequency"), plain(row["isa"]), str(row["lanes"]),
            format_quantity(row["peak_flops_per_s"], "flop rate"),
            format_quantity(row["memory_bytes_per_s"], "bandwidth"),
            *([plain(row["description"])] if described else []),
        )  # fmt: skip
    print_tables(table)


@machines_command.command("show")
@click.argument("name")
@json_option
def show_machine(name: str, as_json: bool) -> None:
    """Show every number of a machine, with its unit, range and source."""
    from archsim.machinefile import load_machine

    machine = load_machine(name)
    rows = _numbers(machine)
    if as_json:
        print_json({"schema": 1, "machine": machine.describe(), "numbers": rows})
        return
    table = new_table(f"{machine.name}: {machine.description}")
    for column in ("key", "value", "range", "kind", "source"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (row["key"], row["value"], row["range"] or "", row["kind"], row["source"])
        table.add_row(*map(plain, cells))
    print_tables(table)


def _numbers(machine: Machine) -> list[dict[str, Any]]:
    from archsim.machineview import show_bound, show_value

    rows: list[dict[str, Any]] = []
    for path, where in machine.provenance.items():
        bounds = None
        if where.low is not None and where.high is not None:
            bounds = (
                f"{show_bound(machine, path, where.low)} .. {show_bound(machine, path, where.high)}"
            )
        rows.append(
            {
                "key": path,
                "value": show_value(machine, path),
                "range": bounds,
                "kind": where.kind,
                "source": where.text + (f" ({where.note})" if where.note else ""),
                "where": where.where,
            }
        )
    return rows


@machines_command.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
def check_machines(files: tuple[str, ...], as_json: bool) -> None:
    """Check machine files; exit with status 2 and say what is wrong at the first bad one."""
    from archsim.machinefile import load_machine

    rows: list[dict[str, Any]] = []
    for file in files:
        machine = load_machine(file)
        kinds: dict[str, int] = {}
        for where in machine.provenance.values():
            kinds[where.kind] = kinds.get(where.kind, 0) + 1
        odd = _odd_caches(machine)
        rows.append({"file": file, "name": machine.name, "numbers": kinds, "warnings": odd})
        for text in odd:
            say(f"warning: {file}: {text}")
        if not as_json:
            counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            click.echo(one_line(f"{file}: ok, {machine.name} ({counted})"))
    if as_json:
        print_json({"schema": 1, "checked": rows})


def _odd_caches(machine: Machine) -> list[str]:
    """Name caches that are smaller than the one inside them; exclusive ones may be."""
    from itertools import pairwise

    from archsim.units import format_quantity

    return [
        f"{outer.name} ({format_quantity(outer.size_bytes, 'size')}) is smaller than {inner.name} "
        f"({format_quantity(inner.size_bytes, 'size')}), inside it"
        for inner, outer in pairwise(machine.caches)
        if outer.size_bytes < inner.size_bytes
    ]


@machines_command.command("diff")
@click.argument("first")
@click.argument("second")
@json_option
def diff_machines(first: str, second: str, as_json: bool) -> None:
    """Show the numbers in which two machines differ."""
    from archsim.machinefile import load_machine
    from archsim.machineview import show_value

    one, two = load_machine(first), load_machine(second)
    rows: list[dict[str, Any]] = []
    for path in dict.fromkeys([*one.provenance, *two.provenance]):
        shown = [
            show_value(machine, path) if path in machine.provenance else None
            for machine in (one, two)
        ]
        if shown[0] != shown[1]:
            rows.append({"key": path, "first": shown[0], "second": shown[1]})
    if as_json:
        print_json({"schema": 1, "first": one.name, "second": two.name, "differences": rows})
        return
    table = new_table(f"{one.name} and {two.name}: {len(rows)} differences")
    for column in ("key", one.name, two.name):
        table.add_column(plain(column), overflow="fold")
    for row in rows:
        table.add_row(*map(plain, (row["key"], row["first"] or "-", row["second"] or "-")))
    print_tables(table)


@machines_command.command("new")
@click.argument("name")
@click.option("--base", required=True, callback=filled, help="Machine to start from.")
@click.option("-o", "--output", metavar="FILE", callback=filled_path,
              help="File to write [default: NAME.yaml]")  # fmt: skip
@json_option
def new_machine(name: str, base: str, output: Path | None, as_json: bool) -> None:
    """Write the file of a new machine that starts from another one."""
    from archsim.errors import input_error
    from archsim.machineview import skeleton

    _check_name(name)
    path = output or Path(f"{name}.yaml")
    text = skeleton(name, base)
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise input_error(str(path), "exists already; nothing was written") from None
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    try:
        with file:
            file.write(text)
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise input_error(str(path), f"cannot be written ({error.strerror})") from error
        raise
    if as_json:
        print_json({"schema": 1, "name": name, "base": base, "file": str(path)})
    else:
        say(f"wrote {path}; check it with: archsim machines check {path}")


def _check_name(name: str) -> None:
    """Refuse what no machine file may be called, and the names that are taken."""
    import re

    from archsim.errors import input_error
    from archsim.hostfacts import HOST, HOST_AS_TOLD
    from archsim.machine import Machine
    from archsim.machinefile import machine_names

    rules = [getattr(rule, "pattern", None) for rule in Machine.model_fields["name"].metadata]
    for pattern in filter(None, rules):
        if not re.fullmatch(pattern, name):
            raise input_error("NAME", "not a machine name", found=name, allowed=pattern)
    if name in (*machine_names(), HOST, HOST_AS_TOLD):
        raise input_error("NAME", "is the name of a built-in machine", found=name)


@machines_command.command("schema")
def schema() -> None:
    """Print the JSON Schema of machine files, for editors."""
    from archsim.machineview import machine_schema

    print_json(machine_schema())
