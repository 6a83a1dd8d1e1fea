"""Options and output that commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

F = TypeVar("F", bound=Callable[..., Any])
Progress = Callable[[str, int, int], None]


def machine_option(default: tuple[str, ...]) -> Callable[[F], F]:
    """Add ``-m/--machine``, which repeats."""
    return click.option(
        "-m", "--machine", "machines", multiple=True, default=default, show_default=True,
        metavar="NAME|FILE", help="Machine by name or file; repeats. 'host' is this machine.",
    )  # fmt: skip


def workload_options(function: F) -> F:
    """Add what describes the work: sparsity, methods, batch, threads, schedule, seed."""
    options = (
        click.option("--sparsity", metavar="SPEC", help="Share of zeros: 0..1, a map of the "
                     "network (gesl), FILE.npz, a folder of .mtx, FILE.yaml, or layer=VALUE,... "
                     "[default: the network's own map, else dense]"),
        click.option("--methods", default="all", show_default=True, metavar="LIST",
                     help="Methods, comma separated; 'auto' keeps the fastest."),
        click.option("--schedule", default="auto", show_default=True,
                     help="Schedule of the methods that have it, such as row or row:dyn32."),
        click.option("--batch", type=click.IntRange(min=1), help="Images."),
        click.option("--threads", type=click.IntRange(min=1),
                     help="Threads [default: all hardware threads; host: physical cores]"),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of patterns."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)


def method_list(text: str) -> list[str]:
    """Read ``--methods``: ``all``, ``auto``, or names separated by commas."""
    from archsim.methods import METHODS, get_method

    if text == "all":
        return list(METHODS)
    if text == "auto":
        return ["auto"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        get_method(name)
    if not names:
        raise click.BadParameter("no method is named", param_hint="--methods")
    return names


def print_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def print_tables(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal, or 140 columns into a pipe."""
    import sys

    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=140)
    for table in tables:
        console.print(table)


def say(text: str) -> None:
    """Print a remark on stderr."""
    click.echo(text, err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on stderr when it is a terminal, and leave no trace when done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield update
