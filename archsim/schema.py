"""From a YAML node to a validated model, with errors that name file, line, key and remedy."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from archsim.errors import InputError, input_error
from archsim.yamlfile import Mark, Node

ModelT = TypeVar("ModelT", bound=BaseModel)
Path = tuple[str | int, ...]

#: pydantic's error types that say "another type is due", and how we say it
_TYPES: dict[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "dict_type": "a map",
    "mapping_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
    "list_type": "a list",
    "tuple_type": "a list",
}


class RuleError(ValueError):
    """A rule between fields is broken; ``path`` leads from the model to the field to blame."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path


def validate(model: type[ModelT], node: Node, data: Any = None) -> ModelT:
    """Validate a YAML node as ``model``.

    Parameters
    ----------
    model : type of BaseModel
    node : Node
        Where the data was read; gives errors their lines.
    data : object, optional
        The plain data, where it is no longer exactly ``node.plain()``.

    Raises
    ------
    InputError
        The first thing that is wrong, in the order of the lines.
    """
    try:
        return model.model_validate(node.plain() if data is None else data)
    except ValidationError as error:
        found = [_translate(model, node, item) for item in error.errors(include_url=False)]
        # A misspelt key makes two errors, itself and the field that is now missing: the first
        # is the one to mend, so unknown keys go before missing ones.
        raise min(found, key=lambda item: item[0])[1] from None


def _translate(model: type[BaseModel], node: Node, item: Any) -> tuple[tuple[int, int], InputError]:
    path: Path = tuple(step for step in item["loc"] if step != "[key]")
    kind = item["type"]
    if kind == "value_error" and isinstance(item["ctx"]["error"], RuleError):
        path += item["ctx"]["error"].path
    mark = node.mark_at(path)
    where = f"{mark}: {dotted(path)}" if path else str(mark)
    if kind == "extra_forbidden":
        names = keys_of(model_at(model, path[:-1]))
        error = input_error(
            str(mark) + (f": {dotted(path[:-1])}" if path[:-1] else ""),
            f"unknown key {path[-1]!r}",
            allowed=", ".join(names),
            near=(str(path[-1]), names),
        )
        return (0, mark.line), error
    if kind == "missing":
        inside = node.mark_at(path[:-1])
        place = f"{inside}: {dotted(path[:-1])}" if path[:-1] else str(inside)
        what = "entry" if isinstance(path[-1], int) else "key"
        return (2, mark.line), input_error(place, f"{what} {path[-1]!r} is missing")
    if kind == "too_short":  # also reported, beside the entry, when an entry is wrong
        least = item["ctx"]["min_length"]
        error = input_error(where, f"at least {least} is due", found=item["input"])
        return (3, mark.line), error
    if kind in _TYPES:
        what = "is empty" if item["input"] is None else "wrong type"
        error = input_error(where, what, found=item["input"], allowed=_TYPES[kind])
    elif kind == "value_error":
        error = InputError(f"{where}: {item['ctx']['error']}")
    elif kind == "literal_error":
        expected = item["ctx"]["expected"]
        names = re.findall(r"'([^']*)'", expected)
        near = (str(item["input"]), names) if names else None
        error = input_error(
            where, "not one of its values", found=item["input"], allowed=expected, near=near
        )
    else:
        message = item["msg"].replace("Input should", "should").replace("String should", "should")
        error = input_error(where, message, found=item["input"])
    return (1, mark.line), error


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """Return the model class that the field at ``path`` holds, or None."""
    annotation: Any = model
    for step in path:
        annotation = _strip(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            if step not in fields:
                return None
            annotation = fields[str(step)].annotation
        else:
            origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
            if not (isinstance(origin, type) and arguments):
                return None
            if issubclass(origin, Mapping):
                annotation = arguments[1]
            elif issubclass(origin, Sequence):
                annotation = arguments[0]
            else:
                return None
    annotation = _strip(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def keys_of(model: type[BaseModel] | None) -> list[str]:
    """Return the keys that a file may use for ``model``."""
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _strip(annotation: Any) -> Any:
    """Take ``| None`` and ``Annotated`` off."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            rest = [a for a in typing.get_args(annotation) if a is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def dotted(path: Path) -> str:
    """Write a path as errors show it, on one line whatever its keys hold."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if step.isprintable() else repr(step)}"
    return text.removeprefix(".")


__all__ = ["Mark", "RuleError", "dotted", "keys_of", "model_at", "validate"]
