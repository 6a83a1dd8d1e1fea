"""The command line of the benchmarks."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import document, figures, overhead, page, session, suites

_ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENT: Final = _ROOT / "build" / "benchmarks.json"
#: the cell that is none: what Python adds to a call
CALL: Final = "call"
PAGE: Final = _ROOT / "docs" / "benchmarks.md"

_to = click.option(
    "--json", "path", type=click.Path(path_type=Path), default=DOCUMENT, show_default=True,
    help="The document.",
)  # fmt: skip


#: of tables that no terminal cuts
_WIDTH: Final = 160


def _console() -> Console:
    """Standard output, as wide as tables need where nobody looks at a terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)


@click.group(help="Measure our kernels, their peers and this host.")
def main() -> None:
    """Run a subcommand."""


@main.command("run")
@click.argument("cells", nargs=-1)
@_to
@click.option("--resume", is_flag=True, help="Keep what the document has; measure the rest.")
@click.option("--seconds", default=2.0, show_default=True, help="Of rounds in each cell, about.")
@click.option("--seed", default=0, show_default=True)
@click.option("--without", multiple=True, help="A contestant to leave out, such as deepsparse.")
def run_command(
    cells: tuple[str, ...],
    path: Path,
    resume: bool,
    seconds: float,
    seed: int,
    without: tuple[str, ...],
) -> None:
    """Measure CELLS: suites (direct), layers of one (direct/conv3), or call; default: the rows'.

    The document is saved after each; an interrupted run goes on with --resume.
    """
    try:
        named = [name for name in cells if name != CALL]
        chosen = suites.cells(named) if named or not cells else []
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    whole = document.load(path) if resume and path.exists() else document.new(seed)
    if whole["seed"] != seed:
        raise click.UsageError(f"{path} was made with --seed {whole['seed']}")
    left = [cell for cell in chosen if "entries" not in whole["cells"].get(cell.name, {})]
    console = Console(stderr=True)
    begin = time.perf_counter()
    with Progress(
        TextColumn("{task.description:<24}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(left[0].name if left else "", total=len(left))

        def done(cell: suites.Cell, found: dict[str, Any]) -> None:
            whole["cells"][cell.name] = found
            for entry in found.get("entries", ()):  # of peers in environments of their own
                if "version" in entry:
                    whole["versions"][entry["name"]] = entry["version"]
            document.save(whole, path)
            following = left.index(cell) + 1
            bar.update(
                task, advance=1,
                description=left[following].name if following < len(left) else "done",
            )  # fmt: skip
            _say(console, cell, found)

        try:
            session.run(left, done, seconds=seconds, seed=seed, without=without)
        except KeyboardInterrupt:
            console.print(f"interrupted; {path} has what was measured, --resume goes on")
            sys.exit(130)
    if not cells or CALL in cells:
        whole["call"] = overhead.measure()
    document.save(whole, path)
    console.print(f"{path}: {len(left)} cells in {time.perf_counter() - begin:.0f} s")


def _say(console: Console, cell: suites.Cell, found: dict[str, Any]) -> None:
    if "failed" in found:
        console.print(f"{cell.name}: {found['failed']}", markup=False, highlight=False)
        return
    for who, why in found["missing"].items():
        console.print(f"{cell.name}: without {who}: {why}", markup=False, highlight=False)


@main.command("show")
@click.argument("cells", nargs=-1)
@_to
def show_command(cells: tuple[str, ...], path: Path) -> None:
    """Print the times of CELLS (default: all that the document has)."""
    whole = document.load(path)
    console = _console()
    for name, found in whole["cells"].items():
        if cells and name not in cells and name.partition("/")[0] not in cells:
            continue
        if "entries" in found:
            console.print(_table(name, found))


def _table(name: str, found: dict[str, Any]) -> Table:
    roofs = {key: value / 1e9 for key, value in found["roofs_flop_per_s"].items()}
    table = Table(
        title=f"{name}: {found['shape']}, batch {found['batch']}, {found['isa']}; roofs "
        f"{roofs['aligned']:.0f} aligned, {roofs['unaligned']:.0f} unaligned, "
        f"{roofs['registers']:.0f} in registers (GFLOP/s, one thread)",
        title_justify="left",
    )
    for heading in ("who", "pattern", "threads", "median ms", "best ms", "5-95 % ms", "of roof"):
        words = heading in ("who", "pattern")
        table.add_column(heading, justify="left" if words else "right", no_wrap=words)
    order = sorted(found["entries"], key=lambda e: (e["pattern"], e["median_s"]))
    for entry in order:
        share = figures.share_of_roof(found, entry)
        table.add_row(
            entry["name"], entry["pattern"], str(entry["threads"]),
            f"{entry['median_s'] * 1e3:.3f}",
            f"{entry['best_s'] * 1e3:.3f}",
            f"{entry['low_s'] * 1e3:.3f}-{entry['high_s'] * 1e3:.3f}",
            "" if share is None else f"{share:.0%}",
        )  # fmt: skip
    return table


@main.command("summary")
@_to
@click.option("--page", "to", type=click.Path(path_type=Path), default=PAGE, show_default=True,
              help="Where the tables are written, between their markers.")  # fmt: skip
@click.option("--write/--no-write", default=True, help="Write the page, or print only.")
@click.option("--schedule", default="", metavar="NAME",
              help="Rows of this schedule (lanes), not of a method's choice.")  # fmt: skip
def summary_command(path: Path, to: Path, write: bool, schedule: str) -> None:
    """Compute the rows from the document, print them, and write them into the page."""
    whole = document.load(path)
    rows = figures.rows(whole, schedule)
    _console().print(page.rows_table(rows))
    if write and not schedule:
        page.write(to, whole, rows)


@main.command("child", hidden=True)
@click.argument("order")
def child_command(order: str) -> None:
    """Measure for the process that started this one (session.py)."""
    try:
        session.serve(json.loads(order))
    except KeyboardInterrupt:  # the parent says what there is to say
        sys.exit(130)


@main.command("list")
def list_command() -> None:
    """Print layers and suites."""
    console = _console()
    for name, layer in suites.layers().items():
        console.print(f"{name:<10} {layer.network}/{layer.name}", highlight=False)
    for suite in suites.suites().values():
        named = " (only when named)" if suite.only_when_named else ""
        console.print(f"\n{suite.name}{named}: {suite.about}", highlight=False)
        console.print(f"    {' '.join(suite.layers)}", highlight=False)


@main.command("errors")
@click.option("--isa", help="Instruction set [default: the widest]")
@click.option("--seed", default=0, show_default=True)
def errors_command(isa: str | None, seed: int) -> None:
    """Print the errors of Winograd, connected and structured kernels in units of their bounds."""
    from benchmarks import errors

    headings = ("method", "schedule", "weights", "layer", "error of the largest", "of the bound")
    table = Table(*headings)
    for found in errors.measure(isa, seed):
        table.add_row(
            found.method, found.schedule, found.weights, found.layer, f"{found.error:.1e}",
            f"{found.of_bound:.1e}",
        )  # fmt: skip
    _console().print(table)


@main.command("roofs")
@click.option("--isa", help="Instruction set [default: the widest]")
def roofs_command(isa: str | None) -> None:
    """Print multiply-adds with loads from each level of the memory."""
    from archsim import kernels

    for kib in (24, 384, 1024, 4096, 16384):
        rates = [
            max(kernels.load_roof(isa, size_bytes=kib << 10, aligned=a) for _ in range(20)) / 1e9
            for a in (True, False)
        ]
        click.echo(f"{kib:6d} KiB: aligned {rates[0]:6.1f}, unaligned {rates[1]:6.1f} GFLOP/s")
