"""``archsim calibrate``: measure this host, or check its file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import (
    filled,
    filled_path,
    json_option,
    new_table,
    plain,
    print_json,
    print_tables,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archsim.calibration import Calibration
    from archsim.calibration.check import Checked

_MOST_REASONS = 12


@click.command("calibrate")
@click.option("-o", "--output", metavar="FILE", callback=filled_path,
              help="Write the machine file here, too.")  # fmt: skip
@click.option("--quick", is_flag=True, help="About 10 seconds instead of a minute.")
@click.option("--check", "checked", metavar="FILE", callback=filled,
              help="Measure nothing new: say whether FILE still matches this host.")  # fmt: skip
@click.option("--force", is_flag=True,
              help="Write the file even if disturbed or contradictory; it says so.")  # fmt: skip
@json_option
def calibrate_command(
    output: Path | None, quick: bool, checked: str | None, force: bool, as_json: bool
) -> int:
    """Measure this host by micro-benchmarks, without privileges; from then on `-m host` is that.

    A file that contradicts itself or was disturbed is not written; the exit status is then 1.
    """
    with _progress() as tell:
        if checked is not None:
            return _check(checked, as_json, tell)
        return _calibrate(output, quick, force, as_json, tell)


def _calibrate(output: Path | None, quick: bool, force: bool, as_json: bool, tell: Any) -> int:
    from archsim.calibration import calibrate, save

    found = calibrate(quick=quick, progress=tell)
    tell("")
    write = found.trusted or force
    written: list[str] = []
    if write:
        command = "archsim calibrate" + " --quick" * quick + " --force" * force
        written, failed = save(found, command, output)
        for line in failed:
            say(f"warning: {line}")
    if as_json:
        print_json(_document(found, written))
    else:
        _print(found)
    for line in found.left_out:
        say(f"left out: {line}")
    reasons = [*found.contradictions, *found.disturbed]
    for line in reasons[:_MOST_REASONS]:
        say(f"{'warning' if write else 'refused'}: {line}")
    if len(reasons) > _MOST_REASONS:
        say(f"... and {len(reasons) - _MOST_REASONS} more (--json shows all)")
    if not write:
        say("nothing was written: try again when the machine is quiet, or --force such a file")
        return 1
    for path in written:
        say(f"wrote {path}")
    return 0 if written else 1


def _print(found: Calibration) -> None:
    from archsim.calibration.file import text_of

    table = new_table(f"{found.facts.model}, {found.seconds:.0f} s")
    for column in ("key", "value", "range", "note"):
        table.add_column(column, overflow="fold")
    for entry in found.entries:
        bounds = ""
        if entry.low is not None and entry.high is not None:
            bounds = " .. ".join(str(text_of(end, entry.unit)) for end in (entry.low, entry.high))
        cells = (entry.path, str(text_of(entry.value, entry.unit)), bounds, entry.note)
        table.add_row(*map(plain, cells))
    print_tables(table)


def _document(found: Calibration, written: list[str]) -> dict[str, Any]:
    import dataclasses

    import archsim

    def rows(items: Any) -> Iterator[dict[str, Any]]:
        for item in items:
            row = dataclasses.asdict(item)
            row.pop("figure", None)
            yield row

    return {
        "schema": 1,
        "archsim": archsim.__version__,
        "identity": found.identity,
        "quick": found.quick,
        "seconds": found.seconds,
        "trusted": found.trusted,
        "stolen": found.stolen,
        "numbers": list(rows(found.entries)),
        "figures": {key: dataclasses.asdict(item) for key, item in found.figures.items()},
        "curve": list(rows(found.curve)),
        "contradictions": found.contradictions,
        "disturbed": found.disturbed,
        "left_out": found.left_out,
        "written": written,
    }


def _check(file: str, as_json: bool, tell: Any) -> int:
    import dataclasses

    from archsim.calibration.check import check
    from archsim.machinefile import load_machine

    found = check(load_machine(file), progress=tell)
    tell("")
    if as_json:
        rows = [dataclasses.asdict(item) | {"matches": item.matches} for item in found.compared]
        print_json({"schema": 1, "file": file, "matches": found.matches, "compared": rows,
                    "disturbed": list(found.disturbed)})  # fmt: skip
    else:
        _print_checked(file, found)
    for line in found.disturbed:
        say(f"cannot tell: {line}")
    return 0 if found.matches else 1


def _print_checked(file: str, found: Checked) -> None:
    from archsim.calibration.file import text_of

    verdict = "matches this host" if found.matches else "does not match this host"
    if found.disturbed:
        verdict = "cannot be checked now: the host is disturbed"
    table = new_table(f"{file}: {verdict}")
    for column in ("key", "file", "now", ""):
        table.add_column(column, overflow="fold")
    for item in found.compared:
        ends = sorted({str(text_of(end, item.unit)) for end in (item.low, item.high)})
        table.add_row(
            plain(item.path),
            plain(" .. ".join(ends)),
            plain(str(text_of(item.measured, item.unit))),
            "" if item.matches else "differs",
        )  # fmt: skip
    print_tables(table)


class _progress:  # noqa: N801 - used like a function
    """Shows on stderr what is being measured: one line that changes, or one for each step."""

    def __enter__(self) -> Any:
        self._terminal = sys.stderr.isatty()
        self._last = ""
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._terminal:
            click.echo("\r\033[K", nl=False, err=True)

    def _tell(self, what: str) -> None:
        step = what.partition(":")[0]
        if self._terminal:
            click.echo(f"\r\033[K{what[:78]}", nl=False, err=True)
        elif step != self._last and step:
            click.echo(f"measuring: {step}", err=True)
        self._last = step
