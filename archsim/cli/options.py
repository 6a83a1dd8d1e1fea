"""Options and output that commands share."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from archsim.machine import Machine

F = TypeVar("F", bound=Callable[..., Any])
Progress = Callable[[str, int, int], None]


class Whole(click.IntRange):
    """A whole number in a range; what is none is told so in plain words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a whole number", param, ctx)
        return super().convert(value, param, ctx)


_MOST = 2**31 - 1
_PIPE_WIDTH = 10_000


def filled(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse empty text, as an unset shell variable gives it."""
    for text in value if isinstance(value, tuple) else (value,):
        if text is not None and not text.strip():
            raise click.BadParameter("must not be empty", ctx, param)
    return value


def filled_path(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """Read a path; refuse empty text."""
    return None if filled(ctx, param, value) is None else Path(str(value))


def distinct(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> Any:
    """Refuse a layer that is named twice: it would count twice, or once in silence."""
    for name in value:
        if value.count(name) > 1:
            raise click.BadParameter(f"a layer is named twice; found {name!r}", ctx, param)
    return value


def path_ending(*allowed: str) -> Callable[..., Path | None]:
    """Return a reader of a path to write whose ending says the form; refuses other endings."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
        path = filled_path(ctx, param, value)
        if path is not None and path.suffix not in allowed:
            raise click.BadParameter(
                f"unknown ending; found {path.name!r}; allowed: {', '.join(allowed)}", ctx, param
            )
        return path

    return read


def check_schedule(schedule: str, methods: Sequence[str]) -> None:
    """Refuse a schedule that none of the named methods has, though others do."""
    from archsim.methods import METHODS, get_method

    owners = [name for name, method in METHODS.items() if schedule in method.schedules]
    if schedule == "auto" or "auto" in methods or not owners:  # unknown ones are refused by name
        return
    if not any(schedule in get_method(name).schedules for name in methods):
        raise click.UsageError(
            f"--schedule {schedule} is for {', '.join(owners)}; the methods here are "
            f"{', '.join(methods)}",
            click.get_current_context(),
        )


def finite(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse infinity and what is not a number."""
    if not math.isfinite(value):
        raise click.BadParameter(f"must be finite; found {value}", ctx, param)
    return value


def machine_option(default: tuple[str, ...]) -> Callable[[F], F]:
    """Add ``-m/--machine``, which repeats, and ``--assume``, which `load_machines` looks up."""
    machine = click.option(
        "-m", "--machine", "machines", multiple=True, default=default, show_default=True,
        metavar="NAME|FILE", callback=filled,
        help="Machine by name or file; repeats. 'host' is this machine.",
    )  # fmt: skip
    assume = click.option(
        "--assume", is_flag=True, expose_value=False, is_eager=True, callback=_remember,
        help="Take what a machine's file lacks from the generic machine.",
    )  # fmt: skip
    return lambda function: machine(assume(function))


_ASSUME = "archsim.assume"


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    ctx.meta[_ASSUME] = value


def load_machines(names: Sequence[str]) -> list[Machine]:
    """Load machines; refuse two of one name, for results are told apart by it."""
    from archsim.errors import input_error
    from archsim.machinefile import load_machine

    context = click.get_current_context(silent=True)
    assume = bool(context is not None and context.meta.get(_ASSUME))
    found: dict[str, Machine] = {}
    for name in names:
        machine = load_machine(name, assume=assume)
        if machine.name in found:
            raise input_error("--machine", "two machines have one name", found=machine.name)
        found[machine.name] = machine
    return list(found.values())


def workload_options(*, auto: bool, one: bool = False) -> Callable[[F], F]:
    """Add what describes the work: sparsity, methods, batch, threads, schedule, partition, seed.

    With ``one`` a single method is named, ``--method``.
    """
    methods = click.option("--methods", default="all", show_default=True, metavar="LIST",
                           help="Methods, comma separated" + ("; 'auto' keeps the fastest." if auto
                                                              else "."))  # fmt: skip
    if one:
        methods = click.option(
            "--method", default="auto", show_default=True, metavar="NAME", callback=filled,
            help="A method; 'auto' is the fastest.",
        )  # fmt: skip
    options = (
        click.option("--sparsity", metavar="SPEC", callback=filled,
                     help="Share of zeros: 0..1, a map of the "
                     "network (gesl), FILE.npz, a folder of .mtx, FILE.yaml, or layer=VALUE,... "
                     "[default: the network's own map, else dense]"),
        click.option("--density-domain", default=None, metavar="DOMAIN",
                     help="spatial or winograd: where zeros are counted."),
        methods,
        click.option("--schedule", default="auto", show_default=True,
                     help="Schedule of the methods that have it, such as row or row:dyn32."),
        click.option("--partition", default="nnz", show_default=True, metavar="HOW",
                     help="How sparse methods cut an image among threads: equal nonzeros (nnz), "
                     "equal output channels (rows), or smaller parts taken at run time (dynamic)."),
        click.option("--batch", type=Whole(min=1, max=_MOST), metavar="N",
                     help="Images " + ("[default: 1]" if auto else "[default: one per thread]")),
        click.option("--threads", type=Whole(min=1, max=_MOST), metavar="N",
                     help="Threads [default: all hardware threads; host: physical cores]"),
        click.option("--seed", type=Whole(min=0), metavar="N", default=0, show_default=True,
                     help="Seed of patterns."),
    )  # fmt: skip

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def named(*options: str) -> bool:
    """Return whether any of the command's options was given, by its name in Python."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return any(context.get_parameter_source(option) != default for option in options)


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
        if name in ("all", "auto"):
            raise click.BadParameter(
                f"{name!r} stands alone, without other methods; found {text!r}",
                param_hint="--methods",
            )
        get_method(name)
    if not names:
        raise click.BadParameter("no method is named", param_hint="--methods")
    return list(dict.fromkeys(names))


def print_json(document: Any) -> None:
    """Print a JSON document on stdout."""
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def _console() -> Console:
    """Return stdout: as wide as the terminal; into a pipe every line has the room it needs."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH)


def output_width() -> int:
    """Return how many columns a table may have."""
    return _console().width


def print_tables(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal; into a pipe as wide as they are."""
    console = _console()
    for index, table in enumerate(tables):
        if index:
            console.print()
        console.print(table)


def new_table(title: str, caption: str = "", *, gap: int = 2) -> Table:
    """Return an empty table, as narrow as may be, titled with text from a file."""
    from rich import box
    from rich.table import Table

    return Table(
        title=plain(title), caption=plain(caption) if caption else None, title_justify="left",
        caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False,
        show_edge=False,
    )  # fmt: skip


def plain(text: str) -> Text:
    """Return text from a file as a table shows it: no markup, no control characters."""
    from rich.text import Text

    return Text(one_line(text))


def one_line(text: str) -> str:
    """Return text from a file as one line without control characters."""
    from archsim.report.record import clean

    return clean(" ".join(text.splitlines()))


def say(text: str) -> None:
    """Print a remark on stderr."""
    click.echo(one_line(text), err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on stderr when it is a terminal, and leave no trace when done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description:<32}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)

        def update(what: str, done: int, total: int) -> None:
            bar.update(task, description=one_line(what), completed=done, total=total)

        yield update
