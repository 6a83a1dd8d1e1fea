"""``archsim validate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli.groups import Group
from archsim.cli.options import (
    Whole,
    filled,
    filled_path,
    json_option,
    load_machines,
    machine_option,
    new_table,
    plain,
    print_json,
    print_tables,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from rich.table import Table

    from archsim.validate import Point, Suite
    from archsim.validate.sensitivity import Sensitivity

#: a change of the bias that a table lists
_LISTED = 0.001
_KEYS = ("figure", "machine", "network", "layer", "method", "quantity")


@click.group("validate", cls=Group)
def validate_command() -> None:
    """Compare predictions with a witness."""


check_option = click.option(
    "--check", is_flag=True, help="Exit with status 1 if a scored point fails."
)


@validate_command.command("projections")
@check_option
@json_option
@click.pass_context
def projections_command(ctx: click.Context, check: bool, as_json: bool) -> None:
    """Hold the published model against its paper's projections."""
    from archsim.validate import run_suite

    found = run_suite("projections")
    document = found.as_document()
    if as_json:
        print_json(document)
    else:
        _print(found)
    if check and document["summary"]["failed"]:
        ctx.exit(1)


@validate_command.command("traffic")
@machine_option(("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250", "xeon-phi-7250-1024bit"))
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, metavar="N",
              help="Of patterns.")  # fmt: skip
@json_option
def traffic_command(machines: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Hold counted misses against valgrind's cachegrind under our kernels; some minutes."""
    from archsim.validate import run_suite

    with progress_bar() as progress:
        found = run_suite("traffic", machines=load_machines(machines), seed=seed, progress=progress)
    if as_json:
        print_json(found.as_document())
    else:
        print_tables(_traffic_table(found))


def _traffic_table(suite: Suite) -> Table:
    """Every point: misses of an image."""
    table = new_table("validate traffic: lines that an image misses")
    for column in ("machine", "layer", "method", "what"):
        table.add_column(column, overflow="fold")
    for column in ("cachegrind", "counted", "error", "scored"):
        table.add_column(column, justify="right")
    for p in suite.points:
        table.add_row(
            plain(p.machine), plain(f"{p.network}/{p.layer}"), plain(f"{p.method} {p.schedule}"),
            plain(p.quantity), f"{p.measured:.0f}", f"{p.predicted:.0f}",
            "-" if p.error is None else f"{p.error:+.1%}", "yes" if p.scored else "no",
        )  # fmt: skip
    summary = suite.as_document()["summary"]
    table.caption = plain(
        f"scored: median {_percent(summary['median_abs_error'])}, "
        f"p90 {_percent(summary['p90_abs_error'])}; " + "; ".join(suite.notes)
    )
    return table


@validate_command.command("rule")
@machine_option(("atom-c2750", "xeon-e5-2697v4-2s", "xeon-phi-7250"))
@check_option
@json_option
@click.pass_context
def rule_command(ctx: click.Context, machines: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Hold the rule of transfers against counted ones; some minutes a machine."""
    from archsim.validate import run_suite

    found = run_suite("rule", machines=load_machines(machines))
    document = found.as_document()
    if as_json:
        print_json(document)
    else:
        _print(found)
    if check and document["summary"]["failed"]:
        ctx.exit(1)


@validate_command.command("published")
@click.option("--model", default="ecm:counted", show_default=True,
              help="ecm (transfers by rule), ecm:counted or simulator.")  # fmt: skip
@click.option("--sensitivity", "vary_numbers", is_flag=True,
              help="Also what each uncertain number does to the error; a minute.")  # fmt: skip
@json_option
def published_command(model: str, vary_numbers: bool, as_json: bool) -> None:
    """Hold a model against rates published of an Atom, two Xeons and a Xeon Phi."""
    from archsim.validate import run_suite
    from archsim.validate.sensitivity import sensitivity

    found = run_suite("published", model=model)
    document = found.as_document()
    rows: list[Sensitivity] = []
    if vary_numbers:
        with progress_bar() as progress:
            rows = sensitivity(model=model, progress=progress)
        document["sensitivity"] = [row.as_dict() for row in rows]
    if as_json:
        print_json(document)
        return
    print_tables(*_published_tables(found, document["summary"]))
    if rows:
        print_tables(_sensitivity_table(rows))


def _sensitivity_table(rows: Sequence[Sensitivity]) -> Table:
    """Numbers that move a machine's errors by a tenth of a per cent or more."""
    table = new_table("what one uncertain number does to the error")
    for column in ("machine", "number", "source"):
        table.add_column(column, overflow="fold")
    for column in ("stated", "tried", "median", "then", "bias", "then"):
        table.add_column(column, justify="right")
    listed = [row for row in rows if row.moves_bias >= _LISTED]
    for row in listed:
        table.add_row(
            plain(row.machine), plain(row.path), plain(row.kind), _shown(row.stated),
            _shown(row.tried), _percent(row.base_median_abs_error),
            _percent(row.median_abs_error), f"{row.base_mean_signed_error:+.1%}",
            f"{row.mean_signed_error:+.1%}",
        )  # fmt: skip
    table.caption = (
        "base units; the ends of the file's range, or half and double of what has none; "
        f"{len(rows) - len(listed)} more change the bias by less than {_LISTED:.1%}"
    )
    return table


def _shown(value: float | str | bool) -> str:
    return str(value) if isinstance(value, (bool, str)) else f"{value:g}"


def _published_tables(suite: Suite, summary: dict[str, Any]) -> list[Table]:
    """Every point, then errors by machine."""
    points = new_table("validate published: effective GFLOP/s of the kernels")
    for column in ("figure", "machine", "layer", "pattern"):
        points.add_column(column, overflow="fold")
    for column in ("density", "published", "predicted", "error", "scored"):
        points.add_column(column, justify="right")
    for p in suite.points:
        points.add_row(
            plain(p.figure), plain(p.machine), plain(p.layer), plain(p.variant),
            f"{1 - (p.sparsity or 0.0):.4f}", f"{p.measured:.0f}", f"{p.predicted:.0f}",
            f"{p.error:+.1%}", "yes" if p.scored else "no",
        )  # fmt: skip
    points.caption = plain("; ".join(suite.notes))
    errors = new_table("errors by machine")
    errors.add_column("machine")
    for column in ("points", "median", "p90", "worst", "bias", "rank correlation"):
        errors.add_column(column, justify="right")
    for name, found in summary["by_machine"].items():
        if found["points"]:
            rank = found["rank_correlation"]
            cells = [_percent(found[key]) for key in list(_ERRORS.values())[1:5]]
            errors.add_row(
                plain(name), str(found["points"]), *cells, "-" if rank is None else f"{rank:.4f}"
            )
    errors.caption = plain(
        "rate of the Xeons over the Atom's at the same point, median error: "
        + _percent(summary["ratio_error"])
    )
    return [points, errors]


@validate_command.command("incore")
@json_option
def incore_command(as_json: bool) -> None:
    """Hold in-core cycles of inner loops against llvm-mca, a program of LLVM."""
    from archsim.validate import run_suite

    with progress_bar() as progress:
        found = run_suite("incore", progress=progress)
    document = found.as_document()
    if as_json:
        print_json(document)
    else:
        print_tables(_incore_table(found))


def _incore_table(suite: Suite) -> Table:
    """Errors by machine and schedule, and the worst loop of each."""
    table = new_table("validate incore: cycles of a nonzero against llvm-mca")
    for column in ("machine", "schedule"):
        table.add_column(column)
    for column in ("loops", "median", "worst", "loop", "predicted", "llvm-mca"):
        table.add_column(column, justify="right")
    groups: dict[tuple[str, str], list[Point]] = {}
    for p in suite.points:
        groups.setdefault((p.machine, f"{p.method} {p.schedule}"), []).append(p)
    for (machine, schedule), points in groups.items():
        errors = sorted(points, key=lambda p: abs(p.error or 0.0))
        middle, far = errors[len(errors) // 2], errors[-1]
        table.add_row(
            plain(machine), plain(schedule), str(len(points)), _percent(abs(middle.error or 0.0)),
            _percent(abs(far.error or 0.0)), plain(far.figure), f"{far.predicted:.2f}",
            f"{far.measured:.2f}",
        )  # fmt: skip
    found = suite.as_document()["summary"]
    table.caption = plain(
        f"all loops: median {_percent(found['median_abs_error'])}, "
        f"p90 {_percent(found['p90_abs_error'])}; " + "; ".join(suite.notes)
    )
    return table


@validate_command.command("native")
@click.option("-m", "--machine", default="host", show_default=True, metavar="NAME|FILE",
              callback=filled, help="File of this host.")  # fmt: skip
@click.option(
    "--model",
    default="ecm",
    show_default=True,
    help="ecm (transfers by rule), ecm:counted, simulator.",
)
@click.option("--layers", "layers", metavar="FILE", callback=filled_path,
              help="Network file or CSV layer table instead of the frozen lists.")  # fmt: skip
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, metavar="N",
              help="Of settings, patterns and inputs.")  # fmt: skip
@click.option("--full", is_flag=True, help="All layers and settings: hours.")
@click.option("--spread", metavar="FILE", callback=filled_path,
              help="Also write the model's error on seen layers, for intervals.")  # fmt: skip
@click.option("--worst", type=Whole(min=0), default=5, show_default=True, metavar="N",
              help="How many of the worst points to list.")  # fmt: skip
@json_option
def native_command(
    machine: str, model: str, layers: Path | None, seed: int, full: bool, spread: Path | None,
    worst: int, as_json: bool,
) -> None:  # fmt: skip
    """Hold a model against this host's own kernels, methods side by side."""
    from archsim.validate import run_suite

    with progress_bar() as progress:
        found = run_suite(
            "native", machine=machine, model=model, layers=layers, seed=seed, full=full,
            progress=progress,
        )  # fmt: skip
    if spread is not None:
        from archsim.validate.spread import write_model_errors

        say(f"wrote {write_model_errors(found.points, spread, source=_about())}")
    document = found.as_document()
    if as_json:
        print_json(document)
    else:
        print_tables(*_native_tables(found, document["summary"], worst))


@validate_command.command("scoreboard")
@click.option("-o", "--output", "page", metavar="FILE", callback=filled_path,
              help="Markdown page: what lies between its `scores` marks is made anew, or all of "
              "it [default: stdout]")  # fmt: skip
@click.option("--suites", default="all", show_default=True, metavar="LIST",
              help="Suites, comma separated.")  # fmt: skip
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, metavar="N",
              help="Of native settings.")  # fmt: skip
@json_option
def scoreboard_command(page: Path | None, suites: str, seed: int, as_json: bool) -> None:
    """Run every suite, and write one page of goals, figures and worst points."""
    from archsim.report.page import write_between
    from archsim.report.scoreboard import scoreboard
    from archsim.validate import SUITES, run_suite
    from archsim.validate.witness import WitnessMissingError

    names = list(SUITES) if suites == "all" else [name.strip() for name in suites.split(",")]
    documents, skipped = {}, {}
    with progress_bar() as progress:
        known: dict[str, dict[str, Any]] = {
            "native": {"seed": seed, "progress": progress},
            "incore": {"progress": progress},
            "traffic": {"progress": progress},
        }
        for name in names:
            progress(name, 0, 1)
            try:
                documents[name] = run_suite(name, **known.get(name, {})).as_document()
            except WitnessMissingError as error:
                skipped[name] = str(error)
    text = scoreboard(documents, skipped, about=_about())
    if page is not None:
        say(f"wrote {write_between(page, 'scores', text)}")
    if as_json:
        print_json({"schema": 1, "suites": documents, "skipped": skipped})
    elif page is None:
        click.echo(text, nl=False)


def _about() -> str:
    """Return date, versions and machine of a run."""
    import platform
    from datetime import date

    import archsim

    machine = archsim.load_machine("host")
    return (
        f"{date.today().isoformat()}; archsim {archsim.__version__}, Python "
        f"{platform.python_version()}; {machine.description}"
    )


def _native_tables(suite: Suite, summary: dict[str, Any], worst: int) -> list[Table]:
    """Errors by method, the choice among methods, and the worst points."""
    errors = new_table("validate native: errors of unseen points")
    for column, justify in (("method", "left"), *((name, "right") for name in _ERRORS)):
        errors.add_column(column, justify=justify)  # type: ignore[arg-type]
    rows = {**summary["by_schedule"], "all unseen": summary["by_split"]["unseen"],
            "seen": summary["by_split"]["seen"]}  # fmt: skip
    for name, found in rows.items():
        cells = [_percent(found[key]) for key in _ERRORS.values() if key != "points"]
        errors.add_row(plain(name), str(found["points"]), *cells)
    errors.caption = plain("; ".join(suite.notes))
    choice = new_table("choices, unseen points")
    choice.add_column("what")
    choice.add_column("found", justify="right")
    for label, key in _CHOICES.items():
        choice.add_row(label, _percent(summary[key]))
    points = [p for p in suite.points if p.error is not None]
    far = sorted(points, key=lambda p: -abs(p.error or 0.0))[:worst]
    listed = new_table(f"the {len(far)} worst points")
    for column in ("layer", "method", "setting", "predicted", "measured", "error", "right if"):
        listed.add_column(column, overflow="fold")
    told = {tuple(w[name] for name in _POINT): w["terms"] for w in summary["worst"]}
    for p in far:
        terms = told.get(tuple(getattr(p, name) for name in _POINT), [])
        listed.add_row(
            plain(f"{p.network}/{p.layer}"), plain(f"{p.method} {p.schedule}"), plain(p.figure),
            f"{p.predicted * 1e3:.4g} ms", f"{p.measured * 1e3:.4g} ms", f"{p.error:+.1%}",
            plain(" or ".join(f"{t['term']} x {t['times']:.2g}" for t in terms if t["times"])),
        )  # fmt: skip
    listed.caption = "right if: what one term's cost would have to be multiplied by"
    return [errors, choice, listed]


_POINT = ("network", "layer", "method", "schedule", "figure")


_ERRORS = {
    "points": "points", "median": "median_abs_error", "p90": "p90_abs_error",
    "worst": "max_abs_error", "bias": "mean_signed_error", "in interval": "coverage",
}  # fmt: skip
_CHOICES = {
    "order of two methods right": "ranking_accuracy",
    "regret of the chosen method": "regret",
    "error of sums over a network": "network_total_error",
    "noise floor (second run against first)": "noise_floor",
    "drift of the anchor": "anchor_drift",
    "points disturbed all the time": "disturbed_share",
}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _print(suite: Suite) -> None:
    groups: dict[tuple[str, str, str, str, str, str], list[int]] = {}
    for index, p in enumerate(suite.points):
        layer = p.layer if p.quantity == "speedup_over_dense" else "all shaded"
        key = (p.figure, p.machine, p.network, layer, p.method, p.quantity)
        groups.setdefault(key, []).append(index)
    common = [len({key[place] for key in groups}) == 1 for place in range(len(_KEYS))]
    first = next(iter(groups), ())
    shared = [text for text, same in zip(first, common, strict=False) if same]
    table = new_table(" · ".join([f"validate {suite.name}", *shared]))
    for column, same in zip(_KEYS, common, strict=True):
        if not same:
            table.add_column(column, overflow="fold")
    for column in ("scored", "failed", "worst off", "median error", "max error"):
        table.add_column(column, justify="right", overflow="fold")
    for key, members in groups.items():
        points = [suite.points[i] for i in members]
        scored = [p for p in points if p.scored]
        off = max((abs(p.predicted - p.measured) for p in scored), default=None)
        errors = sorted(abs(p.error) for p in scored if p.error is not None)
        unit = " x" if points[0].unit == "x" else ""
        table.add_row(
            *(plain(text) for text, same in zip(key, common, strict=True) if not same),
            str(len(scored)),
            str(sum(p.passed is False for p in points)) if scored else "not scored",
            f"{off:.4f}{unit}" if off is not None else "-",
            f"{errors[len(errors) // 2]:.2%}" if errors else "-",
            f"{errors[-1]:.2%}" if errors else "-",
        )
    summary = suite.as_document()["summary"]
    counted = f"{summary['points']} scored points, {summary['failed']} failed"
    table.caption = plain("; ".join([counted, *suite.notes]))
    print_tables(table)
