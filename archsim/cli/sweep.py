"""``archsim sweep``."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager
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
    one_line,
    path_ending,
    print_json,
    print_tables,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archsim.sparsity import Domain
    from archsim.sweeps.found import Cells, Sweep


@click.command("sweep")
@click.argument("network")
@click.argument("layers", nargs=-1, callback=distinct)
@machine_option(("host",))
@click.option("--vary", "vary", multiple=True, metavar="PATH=VALUES", callback=filled,
              help="A number of the machine's file and its values: 20GB/s:400GB/s:8, the same with "
              ":log, or 50GB/s,80GB/s; repeats: every combination. A+B= sets both.")  # fmt: skip
@click.option("--sparsity", "sparsities", multiple=True, metavar="SPEC", callback=filled,
              help="As for predict, or numbers: 0.5:0.9:5, 0.5,0.9,gesl; repeats "
              "[default: the network's own map, else dense]")  # fmt: skip
@click.option("--density-domain", default=None, metavar="DOMAIN",
              help="spatial or winograd: where zeros are counted.")  # fmt: skip
@click.option("--batch", "batches", default="1", show_default=True, metavar="VALUES",
              callback=filled, help="Images: 1,8,64 or 1:64:7:log.")  # fmt: skip
@click.option("--threads", default="all", show_default=True, metavar="VALUES", callback=filled,
              help="Threads: all (host: physical cores), 1,2,all or 1:8:8.")  # fmt: skip
@click.option("--method", "--methods", "methods", default="auto", show_default=True, metavar="LIST",
              help="The fastest of these, comma separated; 'auto' is of all.")  # fmt: skip
@click.option("--model", default="ecm", show_default=True,
              help="ecm (points as arrays), ecm:counted or simulator (one by one).")  # fmt: skip
@click.option("--schedule", default="auto", show_default=True,
              help="Schedule of the methods that have it, such as row or row:dyn32.")  # fmt: skip
@click.option("--partition", default="nnz", show_default=True, metavar="HOW",
              help="How sparse methods cut an image among threads: nnz, rows or "
              "dynamic.")  # fmt: skip
@click.option("--clock", default="sustained", show_default=True, help="sustained or nominal.")
@click.option("--isa", callback=filled, help="Instruction set of the machine [default: the widest]")
@click.option("--seed", type=Whole(min=0), metavar="N", default=0, show_default=True,
              help="Seed of patterns.")  # fmt: skip
@click.option("-j", "--workers", type=Whole(min=1, max=256), default=1, show_default=True,
              metavar="N", help="Worker processes.")  # fmt: skip
@click.option("--csv", "table", metavar="FILE", callback=filled_path,
              help="Write a row for each point and layer.")  # fmt: skip
@click.option("--total", is_flag=True, help="--csv and --json: a row for each point.")
@click.option("--resume", metavar="FILE", callback=filled_path,
              help="Go on with such rows, whole or .part; writes them again unless --csv says "
              "where else.")  # fmt: skip
@click.option("-o", "--output", "page", metavar="FILE.html", callback=path_ending(".html"),
              help="Page with pictures to write.")  # fmt: skip
@json_option
def sweep_command(
    network: str,
    layers: tuple[str, ...],
    machines: tuple[str, ...],
    sparsities: tuple[str, ...],
    methods: str,
    workers: int,
    table: Path | None,
    total: bool,
    resume: Path | None,
    page: Path | None,
    density_domain: Domain | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Predict NETWORK, or LAYERS of it, at every point of machines, hardware and work.

    What varies of the hardware is named by the dotted path that `archsim machines show` prints.
    Interrupted, a sweep keeps what it found, and says how to go on.
    """
    from archsim.sweeps.found import Cells, Sweep
    from archsim.sweeps.rowfile import read_rows
    from archsim.sweeps.space import make_space

    names = method_list(methods)
    check_schedule(settings["schedule"], names)
    if total and table is None and not as_json:
        raise click.UsageError("--total is for --csv and --json", click.get_current_context())
    space = make_space(
        network, load_machines(machines), layers=layers or None, sparsities=sparsities or None,
        methods="auto" if names == ["auto"] else names, density_domain=density_domain, **settings,
    )  # fmt: skip
    cells = Cells(space)
    if resume is not None:
        say(f"{read_rows(resume, cells)} of {cells.seconds.size} rows are there already")
        table = table or _of(resume)
    _collect(cells, workers, table, resume)
    found = Sweep(cells, command=" ".join(["archsim", *sys.argv[1:]]))
    # rows that a sweep went on from stay rows unless totals were asked for there
    _write(found, table, page, total=total and named("table"))
    if as_json:
        print_json(found.as_document(total=total))


def _of(resume: Path) -> Path:
    """Return the table that rows of an interrupted sweep were to become."""
    from archsim.sweeps.rowfile import PART

    return resume.with_name(resume.name.removesuffix(PART) or resume.name)


def _collect(cells: Cells, workers: int, table: Path | None, resume: Path | None) -> None:
    """Run what is left; an interrupt leaves a file to go on with."""
    from archsim.sweeps.rowfile import Journal
    from archsim.sweeps.run import collect, journal_path

    journal = None if table is None else Journal(journal_path(table), cells, resume)
    with _kept(cells, journal), progress_bar() as progress:
        collect(cells, workers=workers, journal=journal, progress=progress)


@contextmanager
def _kept(cells: Cells, journal: Any) -> Iterator[None]:
    """Keep the rows of what was found so far where the work ends early, and say where they are."""
    import numpy as np

    from archsim.sweeps.rowfile import Journal

    try:
        yield
    except BaseException:
        left = int(np.isnan(cells.seconds).sum())
        done = cells.seconds.size - left
        if done:
            name = "".join(c if c.isalnum() or c in "._-" else "_" for c in cells.space.network)
            kept = journal or Journal(_free(f"sweep-{name}"), cells)
            command = shlex.join(["archsim", *sys.argv[1:], "--resume", str(kept.path)])
            say(f"{done} of {cells.seconds.size} rows are kept in {kept.path}; go on with: "
                + one_line(command))  # fmt: skip
        elif journal is not None:
            journal.remove()
        raise


def _free(name: str) -> Path:
    """Return where rows may be kept that nobody named a file for."""
    from itertools import count

    from archsim.sweeps.run import journal_path

    paths = (journal_path(f"{name}{f'-{n}' if n else ''}.csv") for n in count())
    return next(path for path in paths if not path.exists())


def _write(found: Sweep, table: Path | None, page: Path | None, *, total: bool) -> None:
    """Write what was asked for; print the tables unless JSON takes their place."""
    from archsim.report.sweep import sweep_tables, write_sweep_page
    from archsim.sweeps.rowfile import write_csv
    from archsim.sweeps.run import journal_path

    if table is not None:
        say(f"wrote {write_csv(found, table, total=total)}")
        Path(journal_path(table)).unlink(missing_ok=True)
    document = found.as_document(rows=False)
    if page is not None:
        say(f"wrote {write_sweep_page(document, page)}")
    if not click.get_current_context().params["as_json"]:
        print_tables(*sweep_tables(document))
