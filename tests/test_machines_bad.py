"""Broken machine files: one error each, on one line, with file, line, key, found and allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import archsim
from archsim.errors import InputError
from archsim.machinefile import load_machine, machine_from_node
from archsim.yamlfile import parse_yaml

GOOD = """\
format: 1
name: good
clock: 2.4 GHz
cores: 8
barrier: 500 cycles
source: lab
core:
  issue_width: 2 /cycle
  scalar: 2 /cycle
  scalar_loads: 1 /cycle
  load_latency: 3 cycles
  mispredict: {value: 10 cycles, range: [8 cycles, 12 cycles], source: lab, note: a note}
  reorder_window: 32
  isa:
    sse42:
      lanes: 4
      registers: 16
      fma: false
      multiply: 0.5 /cycle
      add: 1 /cycle
      multiply_latency: 5 cycles
      add_latency: 3 cycles
      loads: 1 /cycle
      stores: 1 /cycle
      line_crossing: 3 cycles
      page_crossing: 9.5 cycles
caches:
  - name: L1
    size: 24 KiB
    ways: 6
    latency: 3 cycles
    bandwidth: 16 B/cycle
    overlap: latency
  - name: L2
    size: 1 MiB
    ways: 16
    shared_by: 2
    latency: 14 cycles
    bandwidth: 32 B/cycle
memory:
  - name: DDR
    bandwidth: 15 GB/s
    latency: 95 ns
rates:
  alpha: 1.2
sources:
  lab:
    kind: measured
    text: A measurement.
"""

# name, text to replace, its replacement, where the error points to, fragments of the error
EDITS: list[tuple[str, str, str, str, list[str]]] = [
    ("misspelt key", "clock:", "clok:", "clok:",
     ["unknown key 'clok'", "allowed: ", "did you mean 'clock'?"]),
    ("misspelt key inside", "      lanes:", "      lane:", "lane:",
     ["core.isa.sse42", "unknown key 'lane'", "did you mean 'lanes'?"]),
    ("name of the field in code", "clock:", "clock_hz:", "clock_hz:",
     ["unknown key 'clock_hz'", "did you mean 'clock'?"]),
    ("unknown unit", "2.4 GHz", "2.4 Ghz", "2.4 Ghz",
     ["clock", "unknown unit 'Ghz'", "'2.4 Ghz'", "Hz, kHz, MHz, GHz"]),
    ("unit of another kind", "24 KiB", "24 GHz", "24 GHz",
     ["caches[0].size", "unknown unit 'GHz' for a size", "KiB"]),
    ("no unit", "2.4 GHz", "2.4e9", "2.4e9",
     ["clock", "needs its unit", "2400000000.0", "write '2.4 GHz'"]),
    ("no unit, as text", "15 GB/s", "'15e9'", "15e9",
     ["memory[0].bandwidth", "write '15 GB/s'"]),
    ("duplicate key", "cores: 8", "cores: 8\ncores: 4", "cores: 4",
     ["duplicate key (first on line 4)", "'cores'"]),
    ("negative size", "24 KiB", "-24 KiB", "-24 KiB",
     ["caches[0].size", "must be above zero", "'-24 KiB'"]),
    ("zero clock", "2.4 GHz", "0 GHz", "0 GHz", ["clock", "must be above zero"]),
    ("no cores", "cores: 8", "cores: 0", "cores: 0",
     ["cores", "greater than or equal to 1", "found 0"]),
    ("half a core", "cores: 8", "cores: 2.5", "cores: 2.5",
     ["cores", "found 2.5", "allowed: a whole number"]),
    ("cores: true", "cores: 8", "cores: true", "cores: true",
     ["cores", "found True", "allowed: a whole number"]),
    ("cores in words", "cores: 8", "cores: eight", "cores: eight",
     ["cores", "found 'eight'", "allowed: a whole number"]),
    ("cores with a unit", "cores: 8", "cores: 8 cores", "8 cores", ["allowed: a whole number"]),
    ("NaN", "clock: 2.4 GHz", "clock: .nan", ".nan", ["clock", "must be finite", "nan"]),
    ("infinite", "15 GB/s", ".inf", ".inf", ["memory[0].bandwidth", "must be finite"]),
    ("too slow a clock", "2.4 GHz", "1 Hz", "1 Hz", ["clock", "must lie in 1 kHz..1000 THz"]),
    ("endless latency", "95 ns", "1e7 s", "1e7 s", ["memory[0].latency", "must lie in"]),
    ("too many cores", "cores: 8", "cores: 2000000", "cores: 2", ["cores", "1048576"]),
    ("too many threads", "cores: 8", "cores: 131072", "cores: 1",
     ["cores", "must not exceed 65536", "found 131072"]),
    ("too few registers", "registers: 16", "registers: 3", "registers",
     ["core.isa.sse42.registers", "greater than or equal to 4"]),
    ("odd line", "    ways: 6", "    ways: 6\n    line: 48 B", "line: 48",
     ["caches[0].line", "power of two", "48 B"]),
    ("tiny line", "    ways: 6", "    ways: 6\n    line: 2 B", "line: 2",
     ["caches[0].line", "at least 4 B"]),
    ("odd page", "cores: 8", "page: 5000 B\ncores: 8", "page", ["page", "power of two", "5000"]),
    ("page below the line", "cores: 8", "page: 32 B\ncores: 8", "page",
     ["page", "no less than a cache line (64 B)"]),
    ("memory named like a cache", "name: DDR", "name: L2  # here", "# here",
     ["memory[0].name", "level names must differ", "L1, L2, L2"]),
    ("overflow", "2.4 GHz", "1e308 THz", "1e308", ["clock", "must be finite"]),
    ("NaN where no unit is due", "alpha: 1.2", "alpha: .nan", ".nan", ["rates.alpha", "finite"]),
    ("number as text", "alpha: 1.2", "alpha: '1.2'", "'1.2'",
     ["rates.alpha", "allowed: a number"]),
    ("negative alpha", "alpha: 1.2", "alpha: -1", "-1",
     ["rates.alpha", "greater than or equal to 0.000001"]),
    ("empty value", "clock: 2.4 GHz", "clock:", "clock:", ["clock", "frequency"]),
    ("empty block", "rates:\n  alpha: 1.2", "rates:", "rates:",
     ["rates", "is empty", "allowed: a map"]),
    ("missing key", "clock: 2.4 GHz\n", "", "format: 1", ["key 'clock' is missing"]),
    ("missing key inside", "    ways: 6\n", "", "name: L1",
     ["caches[0]", "key 'ways' is missing"]),
    ("missing name", "name: good\n", "", "format: 1", ["key 'name' is missing"]),
    ("name with a slash", "name: good", "name: ../good", "../good", ["name", "pattern"]),
    ("base missing", "clock:", "base: atom-c2751\nclock:", "base:",
     ["base", "no such machine", "'atom-c2751'", "did you mean 'atom-c2750'?"]),
    ("base file missing", "clock:", "base: other.yaml\nclock:", "base:",
     ["base", "no such file", "other.yaml"]),
    ("base too long for a file", "clock:", f"base: {'x' * 5000}\nclock:", "base:", ["base"]),
    ("base not text", "clock:", "base: [a]\nclock:", "base:",
     ["base", "the name or file of a machine is due", "['a']"]),
    ("base is a number", "clock:", "base: 12\nclock:", "base:", ["base", "found 12"]),
    ("base is itself", "clock:", "base: bad.yaml\nclock:", "base:",
     ["base is circular", "bad.yaml -> bad.yaml"]),
    ("python tag", "cores: 8", "cores: !!python/object/new:os.getcwd []", "cores:",
     ["tags are not allowed", "python"]),
    ("own tag", "cores: 8", "cores: !number 8", "cores:", ["tags are not allowed", "!number"]),
    ("anchor", "clock: 2.4 GHz", "clock: &c 2.4 GHz", "clock:", ["anchors and aliases"]),
    ("alias", "clock: 2.4 GHz", "clock: *c", "clock:", ["anchors and aliases"]),
    ("unknown source", "source: lab\ncore", "source: labor\ncore", "source: labor",
     ["source", "no such key in sources", "'labor'", "allowed: lab", "did you mean 'lab'?"]),
    ("unknown source of a number", "source: lab, note", "source: lap, note", "lap",
     ["core.mispredict.source", "no such key in sources", "'lap'"]),
    ("source is a list", "source: lab\ncore", "source: [lab]\ncore", "source: [lab]",
     ["source", "no such key in sources", "['lab']"]),
    ("source of an unknown kind", "kind: measured", "kind: guessed", "kind: guessed",
     ["sources.lab", "kind", "'guessed'", "datasheet", "measured"]),
    ("misspelt kind", "kind: measured", "kind: mesured", "kind: mesured",
     ["sources.lab", "did you mean 'measured'?"]),
    ("source without text", "    text: A measurement.\n", "", "lab:",
     ["sources.lab", "key 'text' is missing"]),
    ("range without the value", "[8 cycles, 12 cycles]", "[11 cycles, 12 cycles]", "mispredict",
     ["core.mispredict.range", "does not hold the value", "10 cycles outside 11 cycles..12"]),
    ("range of one", "[8 cycles, 12 cycles]", "[8 cycles]", "mispredict",
     ["core.mispredict.range", "two values are due", "allowed: [low, high]"]),
    ("range is no list", "[8 cycles, 12 cycles]", "8 cycles", "mispredict",
     ["core.mispredict.range", "two values are due"]),
    ("range without units", "[8 cycles, 12 cycles]", "[8, 12]", "mispredict",
     ["core.mispredict.range", "write '8 cycles'"]),
    ("range of a word", "overlap: latency", "overlap: {value: latency, range: [1, 2]}", "overlap",
     ["caches.L1.overlap.range", "only a number"]),
    ("range of words", "reorder_window: 32", "reorder_window: {value: 32, range: [a, 40]}",
     "reorder_window", ["core.reorder_window.range", "a number is due", "'a'"]),
    ("misspelt key of a number", "value: 10 cycles, range", "value: 10 cycles, rang", "mispredict",
     ["core.mispredict", "unknown key 'rang'", "did you mean 'range'?"]),
    ("a list as a value", "cores: 8", "cores: {value: [8]}", "cores",
     ["cores.value", "one value is due", "[8]"]),
    ("two caches of one name", "name: L2", "name: L1  # twice", "# twice",
     ["caches[1].name", "level names must differ", "L1, L1"]),
    ("odd name of a cache", "name: L2", "name: LLC", "LLC", ["caches[1].name", "pattern", "'LLC'"]),
    ("shared_by does not divide", "shared_by: 2", "shared_by: 3", "shared_by: 3",
     ["caches[1].shared_by", "L2: must divide cores (8)", "found 3"]),
    ("shared_by too many", "shared_by: 2", "shared_by: 16", "shared_by: 16",
     ["caches[1].shared_by", "must divide cores (8)", "found 16"]),
    ("size no multiple", "24 KiB", "25 KiB", "25 KiB",
     ["caches[0].size", "multiple of line x ways (64 B x 6)", "found 25600 B"]),
    ("lines of two sizes", "    ways: 16", "    ways: 16\n    line: 128 B", "line: 128 B",
     ["caches[1].line", "must be of one size", "64 B and 128 B"]),
    ("tiny outer cache", "1 MiB", "4.0 KiB", "4.0 KiB", ["caches[1].size", "far smaller than L1"]),
    ("lanes", "lanes: 4", "lanes: 12", "lanes: 12",
     ["core.isa.sse42.lanes", "power of two", "found 12"]),
    ("a word of a list", "overlap: latency", "overlap: latncy", "overlap",
     ["caches[0].overlap", "'latncy'", "serial", "did you mean 'latency'?"]),
    ("truth in words", "fma: false", "fma: no", "fma: no",
     ["core.isa.sse42.fma", "found 'no'", "true or false"]),
    ("odd name of an instruction set", "    sse42:", "    sse4.2:", "sse4.2",
     ["core.isa", "pattern", "'sse4.2'"]),
    ("text for a map", GOOD[GOOD.index("core:"):GOOD.index("caches:")], "core: fast\n", "core:",
     ["core", "found 'fast'", "allowed: a map"]),
    ("no instruction set", GOOD[GOOD.index("    sse42:"):GOOD.index("caches:")], "    {}\n",
     "isa:", ["core.isa", "at least 1"]),
    ("no caches", GOOD[GOOD.index("  - name: L1"):GOOD.index("memory:")], "  []\n", "caches:",
     ["caches", "at least 1"]),
    ("caches as a map", GOOD[GOOD.index("  - name: L1"):GOOD.index("memory:")],
     "  L1: {size: 24 KiB}\n", "caches:", ["caches", "allowed: a list"]),
    ("a cache in words", GOOD[GOOD.index("  - name: L1"):GOOD.index("memory:")], "  - L1\n",
     "- L1", ["caches[0]", "found 'L1'", "allowed: a map"]),
    ("name that is a list", "name: L2", "name: [L2]", "[L2]", ["caches[1].name", "text"]),
    ("wrong version", "format: 1", "format: 2", "format: 2", ["format", "found 2", "allowed: 1"]),
    ("key with a line break", "cores: 8", 'cores: 8\n"a\\nb": 1', "b", ["unknown key 'a\\nb'"]),
    ("line break further in", "    sse42:", '    "a\\nb":', '"a\\nb"', ["core.isa", "pattern"]),
]  # fmt: skip

WHOLE: list[tuple[str, str, int, list[str]]] = [
    ("a list at the top", "- name: x\n", 1, ["a map of machine keys is due"]),
    ("a word at the top", "machine\n", 1, ["a map of machine keys is due", "'machine'"]),
    ("empty", "", 1, ["file is empty"]),
    ("truncated", GOOD[: GOOD.index("[8 cycles") + 5], 12, ["not YAML"]),
    ("two documents", f"{GOOD}---\n{GOOD}", 50, ["only one document"]),
    ("alias bomb", "a: &a [x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n", 1, ["anchors and aliases"]),
    ("child without a name", "base: atom-c2750\n", 1, ["key 'name' is missing"]),
    ("child with a wrong number", "name: x\nbase: atom-c2750\ncores: 0\n", 3, ["cores", "found 0"]),
    ("child names a level twice",
     "name: x\nbase: atom-c2750\ncaches:\n  - {name: L2, ways: 8}\n  - {name: L2, ways: 4}\n", 5,
     ["caches", "L2"]),
    ("child with an unknown level",
     "name: x\nbase: atom-c2750\ncaches:\n  - {name: L3, size: 8 MiB}\n", 4,
     ["caches[2]", "is missing"]),
    ("child with an unknown source", "name: x\nbase: atom-c2750\nsource: ddr4\ncores: 4\n", 3,
     ["no such key in sources", "'ddr4'", "did you mean 'ddr3'?"]),
]  # fmt: skip


def line_of(text: str, place: str) -> int:
    """Return the number of the first line that holds ``place``."""
    return 1 + next(n for n, line in enumerate(text.splitlines()) if place in line)


def check(path: Path, line: int, fragments: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_machine(path)
    error = str(caught.value)
    assert error.startswith(f"{path}:{line}: "), error
    assert "\n" not in error
    for fragment in fragments:
        assert fragment in error


def test_the_file_that_the_others_break_is_good(tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    machine = load_machine(path)
    assert machine.core.mispredict_cycles == 10
    given_range = machine.provenance["core.mispredict"]
    assert (given_range.low, given_range.high, given_range.note) == (8.0, 12.0, "a note")


@pytest.mark.parametrize(
    ("old", "new", "place", "fragments"), [c[1:] for c in EDITS], ids=[c[0] for c in EDITS]
)
def test_broken_in_one_place(
    tmp_path: Path, old: str, new: str, place: str, fragments: list[str]
) -> None:
    assert GOOD.count(old) == 1 or old in ("clock:", "cores: 8"), f"ambiguous: {old!r}"
    text = GOOD.replace(old, new, 1)
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    check(path, line_of(text, place), fragments)


@pytest.mark.parametrize(
    ("text", "line", "fragments"), [c[1:] for c in WHOLE], ids=[c[0] for c in WHOLE]
)
def test_broken_as_a_whole(tmp_path: Path, text: str, line: int, fragments: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    check(path, line, fragments)


def test_two_files_that_start_from_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\nbase: b.yaml\n", encoding="utf-8")
    (tmp_path / "b.yaml").write_text("name: b\n\nbase: a.yaml\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_machine(tmp_path / "a.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'b.yaml'}:3: base: base is circular")
    assert "a.yaml -> b.yaml -> a.yaml" in str(caught.value)


def test_a_chain_of_bases_ends(tmp_path: Path) -> None:
    for n in range(40):
        base = "atom-c2750" if n == 0 else f"m{n - 1}.yaml"
        (tmp_path / f"m{n}.yaml").write_text(f"name: m{n}\nbase: {base}\n", encoding="utf-8")
    assert load_machine(tmp_path / "m15.yaml").name == "m15"
    with pytest.raises(InputError, match="more than 16 files start from each other"):
        load_machine(tmp_path / "m39.yaml")


def test_a_zero_byte_in_a_name(tmp_path: Path) -> None:
    for name in ("a\0b", "a\0b.yaml", tmp_path / "a\0b.yaml"):
        with pytest.raises(InputError) as caught:
            load_machine(name)
        assert str(caught.value).isprintable()


def test_machines_at_the_ends_of_the_ranges_give_finite_times(tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    slow = GOOD.replace("2.4 GHz", "1 kHz").replace("15 GB/s", "1 B/s").replace("95 ns", "1e6 s")
    slow = re.sub(r"[\d.]+ /cycle", "1e-6 /cycle", slow)
    slow = re.sub(
        r"[\d.]+ B/cycle", "1e-6 B/cycle", re.sub(r"(?m)[\d.]+ cycles$", "1e9 cycles", slow)
    )
    fast = GOOD.replace("2.4 GHz", "1e3 THz").replace("15 GB/s", "1e18 B/s")
    fast = re.sub(r"[\d.]+ /cycle", "1e6 /cycle", fast.replace("95 ns", "1e-6 ns"))
    fast = re.sub(
        r"[\d.]+ B/cycle", "1e9 B/cycle", re.sub(r"(?m)[\d.]+ cycles$", "1e-6 cycles", fast)
    )
    for text in (slow, fast):
        path.write_text(text, encoding="utf-8")
        for model in ("ecm", "park", "simulator"):
            found = archsim.predict(
                archsim.load_network("alexnet")["conv3"], path, density=0.1, model=model,
                method="direct_sparse",
            )  # fmt: skip
            assert found.seconds is not None
            assert 0 < found.seconds < float("inf")


def test_an_error_in_the_base_names_the_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD.replace("cores: 8", "cores: -1"), encoding="utf-8")
    child = tmp_path / "child.yaml"
    child.write_text("name: child\nbase: base.yaml\ncores: 4\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"base\.yaml:4: cores: .*found -1"):
        load_machine(child)


def test_not_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    with pytest.raises(InputError, match=r"machine: is a folder; a file is due.*folder\.yaml"):
        load_machine(folder)
    with pytest.raises(InputError, match="is a folder"):
        load_machine(tmp_path)
    with pytest.raises(InputError, match=r"machine: no such file.*none\.yaml"):
        load_machine(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="machine: cannot be read"):
        load_machine("x" * 5000)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"name: x\n\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.yaml:2: is not UTF-8 text"):
        load_machine(binary)


@pytest.mark.parametrize("name", ["atom-c2570", "xeon-phi-7210", "hots"])
def test_an_unknown_name_gets_the_nearest(name: str) -> None:
    near = {"atom-c2570": "atom-c2750", "xeon-phi-7210": "xeon-phi-7250", "hots": "host"}[name]
    with pytest.raises(InputError, match=f"no such machine.*did you mean '{near}'"):
        load_machine(name)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(alphabet="a:-{}[] \n0", max_size=3))
def test_any_damage_is_an_input_error(start: int, length: int, junk: str) -> None:
    """Cut a piece out of a good file and put junk there: it loads or is refused, on one line."""
    text = GOOD[:start] + junk + GOOD[start + length :]
    error = ""
    try:
        machine_from_node(parse_yaml(text))
    except InputError as refusal:
        error = str(refusal)
    assert "\n" not in error
