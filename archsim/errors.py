"""The errors that archsim raises: one root, so that callers can catch all of them at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchsimError(ValueError):
    """Root of every error that archsim raises on purpose."""


class InputError(ArchsimError):
    """Something that the user gave is wrong; the text says where, what, found and allowed."""


class NotApplicableError(ArchsimError):
    """A method cannot compute this layer; the text is the reason that results carry."""


class HostMismatchError(ArchsimError):
    """A native run was asked for on a machine that is not this one."""


def input_error(
    where: str,
    what: str,
    *,
    found: object = None,
    allowed: str | None = None,
    near: tuple[str, Iterable[str]] | None = None,
) -> InputError:
    """Build the one-line error ``where: what; found X; allowed Y; did you mean 'Z'?``.

    Parameters
    ----------
    where : str
        File, line and key, or the name of the argument.
    what : str
        The rule that was broken.
    found : object, optional
        What was given; its ``repr`` is shown, shortened.
    allowed : str, optional
        What would have been accepted.
    near : (str, iterable of str), optional
        A misspelt name and the valid ones; the nearest is suggested when there is one.
    """
    parts = [f"{where}: {what}"]
    if found is not None:
        text = repr(found)
        parts.append(f"found {text if len(text) <= 80 else text[:77] + '...'}")
    if allowed is not None:
        parts.append(f"allowed: {allowed}")
    if near is not None:
        close = difflib.get_close_matches(str(near[0]), list(near[1]), n=1, cutoff=0.5)
        if close:
            parts.append(f"did you mean {close[0]!r}?")
    return InputError("; ".join(parts))
