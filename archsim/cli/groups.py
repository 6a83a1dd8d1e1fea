"""Groups of commands."""

from __future__ import annotations

import difflib

import click


class Group(click.Group):
    """Says which commands there are where an unknown one is named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            close = difflib.get_close_matches(args[0], known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(
                f"no such command {args[0]!r}; allowed: {', '.join(known)}{hint}", ctx
            )
        return super().resolve_command(ctx, args)
