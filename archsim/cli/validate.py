"""``archsim validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from archsim.cli.options import json_option, new_table, plain, print_json, print_tables

if TYPE_CHECKING:
    from archsim.validate import Suite

_KEYS = ("figure", "machine", "network", "layer", "method", "quantity")


@click.command("validate")
@click.argument("suite")
@click.option("--check", is_flag=True, help="Exit with status 1 if a scored point fails.")
@json_option
@click.pass_context
def validate_command(ctx: click.Context, suite: str, check: bool, as_json: bool) -> None:
    """Compare predictions with a witness. SUITE: projections."""
    from archsim.validate import run_suite

    found = run_suite(suite)
    document = found.as_document()
    if as_json:
        print_json(document)
    else:
        _print(found)
    if check and document["summary"]["failed"]:
        ctx.exit(1)


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
    for column in ("points", "failed", "worst off", "median error", "max error"):
        table.add_column(column, justify="right", overflow="fold")
    for key, members in groups.items():
        points = [suite.points[i] for i in members]
        scored = [p for p in points if p.scored]
        off = max((abs(p.predicted - p.measured) for p in scored), default=None)
        errors = sorted(abs(p.error) for p in scored if p.error is not None)
        unit = " x" if points[0].unit == "x" else ""
        table.add_row(
            *(plain(text) for text, same in zip(key, common, strict=True) if not same),
            str(len(points)),
            str(sum(p.passed is False for p in points)) if scored else "not scored",
            f"{off:.4f}{unit}" if off is not None else "-",
            f"{errors[len(errors) // 2]:.2%}" if errors else "-",
            f"{errors[-1]:.2%}" if errors else "-",
        )
    summary = suite.as_document()["summary"]
    counted = f"{summary['points']} scored points, {summary['failed']} failed"
    table.caption = plain("; ".join([counted, *suite.notes]))
    print_tables(table)
