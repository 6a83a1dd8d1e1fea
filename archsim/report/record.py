"""One JSON object, read field by field: what is wrong is named by its place in the document."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from archsim.errors import InputError, input_error

#: the document itself, as errors call it
TOP: Final = "results document"


class Record:
    """A JSON object; every reader raises InputError where the field is not what it should be."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, Mapping):
            raise input_error(where, "must be an object", found=value)
        self._value, self._where = value, where

    def __iter__(self) -> Any:
        return iter(self._value)

    def _get(self, key: str, *, needed: bool = False) -> Any:
        if needed and key not in self._value:
            raise input_error(self._where, f"has no {key!r}")
        return self._value.get(key)

    def _place(self, key: str) -> str:
        return key if self._where == TOP else f"{self._where}.{key}"

    def _wrong(self, key: str, allowed: str) -> InputError:
        found = repr(self._value.get(key))  # as text, so that null is shown as well
        return input_error(self._place(key), f"wrong value {found[:60]}", allowed=allowed)

    def text(self, key: str) -> str:
        """Return a text, without control characters."""
        value = self._get(key, needed=True)
        if not isinstance(value, str):
            raise self._wrong(key, "text")
        return clean(value)

    def text_or_none(self, key: str) -> str | None:
        """Return a text, or None where there is none."""
        return None if self._get(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty where there is none."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of texts")
        return tuple(clean(item) for item in value)

    def number(self, key: str, *, needed: bool = False) -> float | None:
        """Return a finite number of at least 0, or None; the field must be there if ``needed``."""
        value = self._get(key, needed=needed)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number or null")
        try:
            found = float(value)
        except OverflowError:  # a whole number that no float can hold
            found = math.inf
        if not (math.isfinite(found) and found >= 0.0):
            raise self._wrong(key, "a finite number of at least 0, or null")
        return found

    def share(self, key: str) -> float:
        """Return a number in 0..1."""
        value = self.number(key, needed=True)
        if value is None or value > 1.0:
            raise self._wrong(key, "a number in 0..1")
        return value

    def count(self, key: str) -> int:
        """Return a whole number of at least 1."""
        value = self.number(key, needed=True)
        if value is None or value != int(value) or value < 1:
            raise self._wrong(key, "a whole number of at least 1")
        return int(value)

    def numbers(self, key: str) -> dict[str, float]:
        """Return an object's numbers; nulls are left out."""
        inner = self.record(key)
        found = {clean(str(name)): inner.number(name) for name in inner}
        return {name: value for name, value in found.items() if value is not None}

    def record(self, key: str, *, needed: bool = False) -> Record:
        """Return an object, empty where there is none."""
        value = self._get(key, needed=needed)
        return Record({} if value is None and not needed else value, self._place(key))

    def records(self, key: str, *, needed: bool = False) -> list[Record]:
        """Return a list of objects, empty where there is none."""
        value = self._get(key, needed=needed)
        if value is None and not needed:
            return []
        if not isinstance(value, list | tuple):
            raise self._wrong(key, "a list")
        return [Record(item, f"{self._place(key)}[{n}]") for n, item in enumerate(value)]


def clean(text: str) -> str:
    """Return ``text`` with control characters (terminal escapes among them) replaced."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text
    )
