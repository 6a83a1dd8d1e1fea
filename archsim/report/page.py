"""Pages of which a part is made by a command."""

from __future__ import annotations

from pathlib import Path

from archsim.errors import input_error


def write_between(path: Path, name: str, text: str) -> Path:
    """Write *text* between a page's marks ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    A page that is not there yet becomes the marks and the text.

    Raises
    ------
    InputError
        The page has no such marks, or cannot be written.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    try:
        old = path.read_text(encoding="utf-8") if path.exists() else f"{begin}\n{end}\n"
        head, found, rest = old.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise input_error(str(path), f"has no marks {begin} and {end}")
        part = path.with_name(path.name + ".part")
        part.write_text(f"{head}{begin}\n\n{text}\n{end}{tail}", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from error
    return path
