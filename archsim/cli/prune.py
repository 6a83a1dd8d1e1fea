"""``archsim prune``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.options import (
    filled_path,
    json_option,
    new_table,
    plain,
    print_json,
    print_tables,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from archsim.pruning.training.loop import Row


@click.command("prune")
@click.argument("config", metavar="CONFIG.yaml", callback=filled_path)
@click.option("-o", "--output", metavar="FOLDER", callback=filled_path,
              help="Where results go [default: CONFIG, without its ending]. A run that was stopped "
              "goes on from its checkpoint there.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Remove checkpoints in the folder first.")
@json_option
def prune_command(config: Path, output: Path | None, fresh: bool, as_json: bool) -> None:
    """Train, prune and tune a PyTorch model as CONFIG.yaml says, guided by machines.

    The file names functions that make model and data; they are imported and run.  Results: weights
    for --sparsity, the network for `archsim study`, a report.
    """
    from archsim.pruning.training.checkpoint import previous_of
    from archsim.pruning.training.config import read_config
    from archsim.pruning.training.run import CHECKPOINT, run_config

    read = read_config(config)
    folder = config.with_suffix("") if output is None else output
    if fresh:
        checkpoint = folder / CHECKPOINT
        for path in (checkpoint, previous_of(checkpoint)):
            path.unlink(missing_ok=True)
    with _progress() as progress:
        report = run_config(read, folder, progress=progress, say=say)
    if as_json:
        print_json(report)
        return
    print_tables(*_tables(report))
    say(f"wrote {folder}/weights.npz, network.yaml, sparsities.yaml, report.json; next: archsim "
        f"study {folder}/network.yaml --sparsity {folder}/weights.npz")  # fmt: skip


@contextmanager
def _progress() -> Iterator[Callable[[Row], None]]:
    with progress_bar() as update:

        def show(row: Row) -> None:
            update(_line(row), row.epoch * row.steps + row.step, row.epochs * row.steps)

        yield show


def _line(row: Row) -> str:
    speedups = "  ".join(f"{name} {value:.2f}x" for name, value in row.speedups.items())
    accuracy = "" if row.accuracy is None else f"  accuracy {row.accuracy:.1%}"
    return f"{row.phase}  loss {row.loss:.3f}{accuracy}  sparsity {row.sparsity:.1%}  {speedups}"


def _tables(report: dict[str, Any]) -> list[Any]:
    summary = new_table(f"{report['method']} on {report['data']}")
    for heading in ("accuracy before", "pruned", "tuned", "sparsity"):
        summary.add_column(heading, justify="right")
    for machine in report["speedups"]:
        summary.add_column(plain(machine), justify="right")
    shares = (report[key] for key in ("accuracy_before", "accuracy_pruned", "accuracy", "sparsity"))
    cells = ["-" if share is None else f"{share:.2%}" for share in shares]
    summary.add_row(*cells, *(f"{value:.2f}x" for value in report["speedups"].values()))
    layers = new_table("", "speedups are predicted, of the whole network over best dense methods; "
                       "error: largest difference of a kernel to PyTorch")  # fmt: skip
    for heading, side in (("layer", "left"), ("weights", "right"), ("sparsity", "right"),
                          ("decided", "left"), ("error", "right")):  # fmt: skip
        layers.add_column(heading, justify="right" if side == "right" else "left")
    for row in report["layers"]:
        why = "-" if row["decided"] is None else f"{row['decided']}: {row['reason']}"
        error = "-" if row["largest_error"] is None else f"{row['largest_error']:.1e}"
        layers.add_row(plain(row["layer"]), f"{row['weights']:,}", f"{row['sparsity']:.1%}",
                       plain(why), error)  # fmt: skip
    return [summary, layers]
