"""When a method that prunes in rounds is due: prune, retrain, prune more."""

from __future__ import annotations

from archsim.errors import input_error


def check_rounds(every: int, rounds: int) -> None:
    """Raise InputError unless both are at least 1."""
    for name, value in (("every", every), ("rounds", rounds)):
        if value < 1:
            raise input_error(name, "must be at least 1", found=value)


def round_after(step: int, every: int, rounds: int) -> int | None:
    """Return which round is due after a step (counted from 1), counted from 1, or None.

    The first comes after the first step, the others ``every`` steps apart.

    >>> [round_after(step, 2, 2) for step in (1, 2, 3, 4, 5)]
    [1, None, 2, None, None]
    """
    done, rest = divmod(step - 1, every)
    return done + 1 if rest == 0 and done < rounds else None
