"""Strict YAML: what is read, with which type and line, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.yamlfile import MAX_BYTES, MAX_DEPTH, Node, parse_yaml, read_yaml

SCALARS: list[tuple[str, Any]] = [
    ("12", 12),
    ("-3", -3),
    ("017", 17),  # not octal 15
    ("2.4e9", 2.4e9),  # not a string
    ("1e9", 1e9),
    (".5", 0.5),
    ("5.", 5.0),
    (".inf", math.inf),
    ("-.INF", -math.inf),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("on", "on"),  # not true
    ("NO", "NO"),  # not false
    ("y", "y"),
    ("1:30", "1:30"),  # not 90
    ("0x10", "0x10"),
    ("1_000", "1_000"),
    ("2026-11-22", "2026-11-22"),
    ("32 KiB", "32 KiB"),
    ("'12'", "12"),
    ('"true"', "true"),
    ("'2.4e9'", "2.4e9"),
    ("٣", "٣"),  # a digit, but not one of YAML's
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(f"key: {text}").plain()["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read_as_such() -> None:
    assert math.isnan(parse_yaml("[.nan, .NaN]").plain()[1])


def test_long_whole_numbers_become_floats() -> None:
    assert parse_yaml("9" * 19).plain() == int("9" * 19)
    assert parse_yaml("9" * 400).plain() == math.inf


def test_every_value_knows_its_line() -> None:
    node = parse_yaml("a: 1\n\nb:\n  - x\n  -\n    y: 2\nc: >-\n  folded\n  text\n", "f.yaml")
    lines = {
        path: node.mark_at(path).line
        for path in [("a",), ("b", 0), ("b", 1, "y"), ("c",), ("b", 1, "z"), ("b", 7)]
    }
    assert lines == {
        ("a",): 1, ("b", 0): 4, ("b", 1, "y"): 6, ("c",): 7, ("b", 1, "z"): 6, ("b", 7): 3,
    }  # fmt: skip
    assert str(node.mark_at(("a",))) == "f.yaml:1"
    assert node.plain()["c"] == "folded text"


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
BROKEN = [
    ("duplicate key", "a: 1\nb: 2\na: 3\n", 3, ["duplicate key (first on line 1)", "'a'"]),
    ("nested duplicate", "a:\n  x: 1\n  x: 1\n", 3, ["duplicate key (first on line 2)"]),
    ("duplicate in braces", "a: {x: 1, x: 2}", 1, ["duplicate key"]),
    ("python tag", "a: !!python/object/apply:os.system [ls]", 1, ["tags are not", "python"]),
    ("standard tag", "a: !!int 3", 1, ["tags are not allowed", "int"]),
    ("own tag", "x: 1\na: !mine 3", 2, ["tags are not allowed", "!mine"]),
    ("tag without a name", "a: ! 3", 1, ["tags are not allowed"]),
    ("unknown tag handle", "a: !x!y 3", 1, ["not YAML"]),
    ("anchor", "a: &x 1", 1, ["anchors and aliases are not allowed"]),
    ("alias", "a: *x", 1, ["anchors and aliases are not allowed"]),
    ("alias as key", "*x : 1", 1, ["anchors and aliases are not allowed"]),
    ("merge key", "a: {b: 1}\nc:\n  <<: *a\n", 3, ["anchors and aliases are not allowed"]),
    ("alias bomb", BOMB, 1, ["anchors and aliases are not allowed"]),
    ("two documents", "a: 1\n---\nb: 2\n", 2, ["only one document"]),
    ("empty", "", 1, ["file is empty"]),
    ("comment only", "# nothing\n", 1, ["file is empty"]),
    ("list as key", "a: 1\n[x, y]: 2\n", 2, ["a key must be a word"]),
    ("map as key", "? {x: 1}\n: 2\n", 1, ["a key must be a word"]),
    ("tab", "a:\n\tb: 1\n", 2, ["not YAML"]),
    ("truncated", "a: [1, 2\nb: {", 2, ["not YAML"]),
    ("open quote", 'a: "no end\n', 2, ["not YAML"]),
    ("control character", "a: 1\nb: \x07\n", 2, ["not YAML"]),
    ("no such character", 'a: 1\nb: "\\U00110000"\n', 2, ["not YAML"]),
    ("far from a character", 'a: "\\Uffffffff"\n', 1, ["not YAML"]),
    ("deep list", "x: 1\ny: " + "[" * 500 + "]" * 500, 2, [f"deeper than {MAX_DEPTH} levels"]),
    ("deep map", "{a: " * 500, 1, [f"deeper than {MAX_DEPTH} levels"]),
]


@pytest.mark.parametrize(
    ("text", "line", "fragments"), [c[1:] for c in BROKEN], ids=[c[0] for c in BROKEN]
)
def test_refused_with_file_and_line(text: str, line: int, fragments: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "some.yaml")
    error = str(caught.value)
    assert error.startswith(f"some.yaml:{line}:")
    assert "\n" not in error
    for fragment in fragments:
        assert fragment in error


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    with pytest.raises(InputError, match="anchors and aliases"):
        parse_yaml("\n".join(levels))


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(InputError, match=r"latin\.yaml:2: is not UTF-8 text"):
        read_yaml(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert read_yaml(path).plain() == {"a": 1, "b": 2}


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(1000 * MAX_BYTES)  # a hole: takes no space
    with pytest.raises(InputError, match=r"huge\.yaml: file is larger than 512 KiB"):
        read_yaml(path)


def test_an_endless_device_is_not_read() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero here")
    with pytest.raises(InputError, match="larger than"):
        read_yaml("/dev/zero")


def test_a_zero_byte_in_a_path() -> None:
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_yaml("a\0b\n.yaml")
    assert str(caught.value).isprintable()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read \(No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=list("ab:-[]{}&*!|>'\"#?,%@ \n\t0.~é\x00"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever stands in a file, the answer is a tree or one InputError on one line."""
    error = ""
    try:
        assert isinstance(parse_yaml(text), Node)
    except InputError as refusal:
        error = str(refusal)
    assert "\n" not in error
