"""Strict YAML: plain data only, every value with its line.

PyYAML's loaders accept a duplicate key in silence, read ``2.4e9`` as a string and ``on`` as a
truth value, and follow aliases, which a short file can grow without bound.  Files from strangers
are read here instead, from the parser's events: mappings with text keys, lists, and scalars by
YAML 1.2's core rules.  Tags, anchors and aliases are refused, so that nothing is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from archsim.errors import InputError, input_error

MAX_BYTES: Final = 2**19
MAX_DEPTH: Final = 32

_INT: Final = re.compile(r"[+-]?[0-9]+")
_FLOAT: Final = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?\.inf|\.nan", re.I
)
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "true": True, "false": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, to begin an error with."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(slots=True)
class Node:
    """One value of a YAML file.

    ``value`` is a scalar, a ``list[Node]`` or a ``dict[str, Node]``.
    """

    value: Any
    mark: Mark

    def plain(self) -> Any:
        """Return the value without marks: dicts, lists, scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mark_at(self, path: tuple[str | int, ...]) -> Mark:
        """Return the mark of the deepest node along ``path`` that exists."""
        node = self
        for step in path:
            try:
                node = node.value[step]
            except (KeyError, IndexError, TypeError):
                break
        return node.mark


def read_yaml(path: str | Path) -> Node:
    """Read a file.

    Raises
    ------
    InputError
        Missing or unreadable file, text that is not YAML, duplicate keys, tags, aliases.
    """
    return parse_yaml(read_text(path), shown_path(path))


def shown_path(path: str | Path) -> str:
    """Return a path as errors show it, on one line."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def read_text(path: str | Path, max_bytes: int = MAX_BYTES) -> str:
    """Read a small UTF-8 file.

    Raises
    ------
    InputError
        Missing, unreadable or too large a file, or another encoding.
    """
    path, shown = Path(path), shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)  # never more, whatever a device or a pipe delivers
    except OSError as error:
        raise input_error(shown, f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # a zero byte in the path
        raise input_error(shown, f"cannot be read ({error})") from error
    if len(data) > max_bytes:
        raise input_error(shown, f"file is larger than {max_bytes // 2**10} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise input_error(f"{shown}:{line}", f"is not UTF-8 text ({error.reason})") from error


def parse_yaml(text: str, file: str = "<text>") -> Node:
    """Parse ``text``; ``file`` is the name that errors give."""
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        return _Builder(file).document(_events(loader))
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise input_error(f"{file}:{line}", f"not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise input_error(f"{file}:{line}", f"not YAML: {error.reason}") from error
    except (ValueError, OverflowError) as error:  # "\\U00110000": no such character
        line = loader.line + 1 if loader is not None else 1
        raise input_error(f"{file}:{line}", f"not YAML: {error}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _events(loader: yaml.SafeLoader) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()  # type: ignore[no-untyped-call]


class _Builder:
    """Turns parser events into nodes."""

    def __init__(self, file: str) -> None:
        self.file = file

    def document(self, events: Any) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._error(event, "only one document is allowed in a file")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, 0)
        if root is None:
            raise input_error(f"{self.file}:1", "file is empty")
        return root

    def _node(self, event: Any, events: Any, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._error(event, "anchors and aliases are not allowed; write the value out")
        if event.tag is not None:
            raise self._error(event, "tags are not allowed", event.tag)
        mark = Mark(self.file, event.start_mark.line + 1)
        if isinstance(event, yaml.ScalarEvent):
            return Node(_scalar(event), mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(events, depth), mark)
        return Node(self._mapping(events, depth), mark)

    def _sequence(self, events: Any, depth: int) -> list[Node]:
        items = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, depth + 1))
        return items

    def _mapping(self, events: Any, depth: int) -> dict[str, Node]:
        items: dict[str, Node] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            if isinstance(key.value, (dict, list)):
                raise self._error(event, "a key must be a word")
            name = event.value
            if name in items:
                raise self._error(
                    event, f"duplicate key (first on line {items[name].mark.line})", name
                )
            items[name] = self._node(next(events), events, depth + 1)
            items[name].mark = key.mark
        return items

    def _error(self, event: Any, what: str, found: object = None) -> InputError:
        return input_error(f"{self.file}:{event.start_mark.line + 1}", what, found=found)


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = event.value
    if event.style is not None:  # quoted or block: text
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text) if len(text) <= 20 else float(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
