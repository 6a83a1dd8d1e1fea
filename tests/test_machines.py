"""Machine files that ship, and the rules of files that start from them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from archsim.errors import InputError
from archsim.machine import Machine
from archsim.machinefile import load_machine, machine_names
from archsim.machinepath import value_at
from archsim.machineview import machine_schema, show_value, skeleton
from archsim.yamlfile import read_yaml

NAMES = machine_names()
LEAST_TEXT = 20
XEON, ATOM, PHI = "xeon-e5-2697v4-2s", "atom-c2750", "xeon-phi-7250"


def child(folder: Path, text: str, base: str = XEON) -> Machine:
    """Load a machine that starts from ``base``."""
    path = folder / "child.yaml"
    path.write_text(f"name: child\nbase: {base}\n{text}", encoding="utf-8")
    return load_machine(path)


def numbers(block: BaseModel, path: str = "") -> Iterator[tuple[str, float]]:
    """Give every number and truth value of a machine with its dotted path in the file."""
    for name, field in type(block).model_fields.items():
        value, key = getattr(block, name), field.alias or name
        if key in ("format", "sources"):
            continue
        if isinstance(value, BaseModel):
            yield from numbers(value, f"{path}{key}.")
        elif isinstance(value, Mapping):
            for inner, entry in value.items():
                yield from numbers(entry, f"{path}{key}.{inner}.")
        elif isinstance(value, tuple):
            for entry in value:
                yield from numbers(entry, f"{path}{key}.{entry.name}.")
        elif isinstance(value, (int, float)):
            yield path + key, value


def test_what_ships() -> None:
    assert set(NAMES) >= {
        "atom-c2750", "generic-aarch64", "generic-x86-64", "xeon-e5-2697v4-2s",
        "xeon-e5-2697v4-2s-hbm", "xeon-phi-7250", "xeon-phi-7250-1024bit", "xeon-skylake-sp-2s",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_number_says_where_it_comes_from(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert machine.description
    provenance = machine.provenance
    for path, value in numbers(machine):
        assert path in provenance, f"{path} has no provenance"
        assert value_at(machine, path) == value
    for path, entry in provenance.items():
        assert entry.text != "no source stated", path
        assert len(entry.text) > LEAST_TEXT, (
            f"{path}: the text of source {entry.key!r} is too short to find the number again: "
            f"write more than {LEAST_TEXT} characters (document and table, command and date)"
        )
        assert "/" not in (entry.key or "")
        if entry.low is not None and entry.high is not None:
            assert entry.low <= value_at(machine, path) <= entry.high, path


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_used(name: str) -> None:
    machine = load_machine(name)
    used = {entry.key for entry in machine.provenance.values()}
    own = read_yaml(str(resources.files("archsim") / "machines" / f"{name}.yaml"))
    assert set(own.plain()["sources"]) <= used


@pytest.mark.parametrize("name", NAMES)
def test_numbers_agree_with_each_other(name: str) -> None:
    machine = load_machine(name)
    for isa in machine.core.isa.values():
        clock = isa.vector_clock_hz
        assert clock is None or clock <= machine.clock_hz
        assert isa.line_crossing_cycles >= 1 / isa.loads
        assert isa.page_crossing_cycles >= isa.line_crossing_cycles
    latencies = [cache.latency_cycles for cache in machine.caches]
    assert latencies == sorted(latencies)
    assert all(memory.latency_s * machine.clock_hz > latencies[-1] for memory in machine.memory)
    widest = machine.instruction_set()
    first = machine.caches[0].bandwidth_bytes_per_cycle
    assert first >= 4 * widest.lanes, "a load per cycle at least"
    sgemm, stream = machine.rates.sgemm_flops_per_s, machine.rates.stream_bytes_per_s
    assert sgemm is None or sgemm <= machine.peak_flops_per_s(clock="nominal")
    if stream is not None:
        assert stream == machine.memory[0].bandwidth_bytes_per_s * machine.sockets


@pytest.mark.parametrize("name", NAMES)
def test_describe_and_pickle(name: str) -> None:
    machine = load_machine(name)
    plain = machine.describe()
    assert plain["clock_hz"] == machine.clock_hz
    assert "_provenance" not in plain
    again = pickle.loads(pickle.dumps(machine))
    assert again == machine
    assert again.provenance == machine.provenance
    assert hash(again) == hash(machine)


def test_facts_that_models_rest_on() -> None:
    atom, xeon, phi = load_machine(ATOM), load_machine(XEON), load_machine(PHI)
    assert (atom.total_cores, xeon.total_cores, phi.total_cores) == (8, 36, 68)
    assert (atom.total_threads, xeon.total_threads, phi.total_threads) == (8, 72, 272)
    assert [m.instruction_set().lanes for m in (atom, xeon, phi)] == [4, 8, 16]
    assert [m.instruction_set().line_crossing_cycles for m in (atom, xeon, phi)] == [3, 1, 1.01]
    assert [m.instruction_set().page_crossing_cycles for m in (atom, xeon, phi)] == [9.5, 31, 14.1]
    rates = [(m.rates.sgemm_flops_per_s, m.rates.stream_bytes_per_s) for m in (atom, xeon, phi)]
    assert rates == [(62e9, 15e9), (2150e9, 122e9), (4540e9, 480e9)]
    assert [m.rates.alpha for m in (atom, xeon, phi)] == [1.2, 3.0, None]
    assert atom.peak_flops_per_s() == pytest.approx(76.8e9)
    assert xeon.peak_flops_per_s(clock="nominal") == pytest.approx(2649.6e9)
    assert xeon.clock_for() == 2.0e9
    assert xeon.clock_for(clock="nominal") == 2.3e9
    assert xeon.caches[2].size_bytes == 45 * 2**20
    assert phi.memory[0].name == "MCDRAM"
    assert load_machine("xeon-skylake-sp-2s").provenance["cores"].kind == "assumed"


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("generic-")])
def test_generic_machines_only_assume(name: str) -> None:
    machine = load_machine(name)
    assert {entry.kind for entry in machine.provenance.values()} == {"assumed"}
    assert "baseline" in machine.core.isa
    lanes = [isa.lanes for isa in machine.core.isa.values()]
    assert lanes == sorted(lanes), "worst to best"


def test_default_isa_is_the_widest_and_of_equals_the_last() -> None:
    assert load_machine("generic-x86-64").default_isa == "avx512"
    assert load_machine("generic-aarch64").default_isa == "neon"
    assert load_machine("xeon-phi-7250-1024bit").default_isa == "avx1024"


def test_unknown_isa_and_clock_suggest_the_nearest() -> None:
    machine = load_machine("generic-x86-64")
    with pytest.raises(InputError, match=r"isa of generic-x86-64: .*did you mean 'avx512'\?"):
        machine.target("avx521")
    with pytest.raises(InputError, match="allowed: sustained, nominal"):
        machine.clock_for(clock="turbo")


def test_target_counts_hardware_threads() -> None:
    target = load_machine(PHI).target()
    assert (target.lanes, target.registers, target.fma) == (16, 32, True)
    assert (target.l1_bytes, target.l1_sharers) == (32768, 4)
    assert (target.l2_bytes, target.l2_sharers) == (2**20, 8)
    assert (target.line_bytes, target.page_bytes) == (64, 4096)


def test_hypothetical_machines() -> None:
    xeon, hbm = load_machine(XEON), load_machine("xeon-e5-2697v4-2s-hbm")
    assert hbm.rates.stream_bytes_per_s == pytest.approx(480e9)
    assert hbm.provenance["rates.stream"].kind == "derived"
    assert (hbm.rates.sgemm_flops_per_s, hbm.rates.alpha) == (2150e9, 3.0)  # cores are the same
    assert hbm.caches == xeon.caches
    phi, wide = load_machine(PHI), load_machine("xeon-phi-7250-1024bit")
    assert wide.instruction_set().lanes == 32
    assert wide.peak_flops_per_s() == pytest.approx(2 * phi.peak_flops_per_s())
    assert wide.rates.sgemm_flops_per_s == pytest.approx(2 * 4540e9)
    assert wide.rates.stream_bytes_per_s == 480e9


# --- rules of files with a base ---------------------------------------------------------------


def test_a_child_that_changes_nothing_is_its_base(tmp_path: Path) -> None:
    machine, base = child(tmp_path, ""), load_machine(XEON)
    renamed = {"name", "base", "description"}
    assert machine.model_dump(exclude=renamed) == base.model_dump(exclude=renamed)
    assert machine.provenance == base.provenance
    assert machine.description == ""  # the base's describes the base


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("cores: 36\ncaches:\n  - {name: L3, shared_by: 36}\n", 2.0),
        ("sockets: 1\n", 0.5),
        ("clock: 4.6 GHz\n", 2.0),
        ("core: {isa: {avx2: {lanes: 16}}}\n", 2.0),
        ("core: {isa: {avx2: {fma: false, multiply: 1 /cycle, add: 1 /cycle}}}\n", 0.25),
        ("clock: 4.6 GHz\ncores: 9\ncaches:\n  - {name: L3, shared_by: 9}\n", 1.0),
    ],
)
def test_changed_compute_scales_sgemm_and_drops_alpha(
    tmp_path: Path, text: str, ratio: float
) -> None:
    machine = child(tmp_path, text)
    assert machine.rates.sgemm_flops_per_s == pytest.approx(2150e9 * ratio)
    entry = machine.provenance["rates.sgemm"]
    assert entry.kind == "derived"
    assert f"{XEON}'s 2.15 TFLOP/s, times the peak's ratio {ratio:g}" in entry.text
    assert machine.rates.alpha is None
    assert "rates.alpha" not in machine.provenance


def test_a_changed_clock_scales_the_vector_clock_and_its_range(tmp_path: Path) -> None:
    machine = child(tmp_path, "clock: 4.6 GHz\n")
    assert machine.clock_for() == pytest.approx(4.0e9)
    entry = machine.provenance["core.isa.avx2.vector_clock"]
    assert (entry.kind, entry.key) == ("derived", None)
    assert entry.low == pytest.approx(3.74e9)
    assert entry.high == pytest.approx(4.6e9)
    unchanged = child(tmp_path, "sockets: 1\n").provenance["core.isa.avx2.vector_clock"]
    assert unchanged.kind == "assumed"


def test_a_changed_memory_scales_stream_only(tmp_path: Path) -> None:
    machine = child(tmp_path, "memory:\n  - {name: DDR, bandwidth: 30.5 GB/s}\n")
    assert machine.rates.stream_bytes_per_s == pytest.approx(61e9)
    assert machine.provenance["rates.stream"].kind == "derived"
    assert machine.rates.sgemm_flops_per_s == 2150e9
    assert machine.provenance["rates.sgemm"].kind == "published"
    assert machine.rates.alpha == 3


def test_one_socket_has_half_the_stream_rate(tmp_path: Path) -> None:
    assert child(tmp_path, "sockets: 1\n").rates.stream_bytes_per_s == pytest.approx(61e9)


def test_changes_elsewhere_scale_nothing(tmp_path: Path) -> None:
    machine = child(tmp_path, "caches:\n  - {name: L2, size: 512 KiB}\n")
    assert machine.rates == load_machine(XEON).rates
    assert machine.provenance["rates.alpha"].kind == "published"


def test_what_the_child_writes_itself_is_kept(tmp_path: Path) -> None:
    machine = child(
        tmp_path,
        "clock: 4.6 GHz\nsource: mine\nsources: {mine: {kind: measured, text: Done today.}}\n"
        "rates: {sgemm: 3 TFLOP/s, alpha: 2.5, stream: 100 GB/s}\n"
        "core: {isa: {avx2: {vector_clock: 4.5 GHz}}}\n"
        "memory: [{name: DDR, bandwidth: 10 GB/s}]\n",
    )
    assert machine.rates.sgemm_flops_per_s == 3e12
    assert (machine.rates.stream_bytes_per_s, machine.rates.alpha) == (100e9, 2.5)
    assert machine.clock_for() == 4.5e9
    for path in ("rates.sgemm", "rates.stream", "rates.alpha", "core.isa.avx2.vector_clock"):
        assert machine.provenance[path].kind == "measured"


def test_entries_merge_by_name_and_keep_their_order(tmp_path: Path) -> None:
    machine = child(
        tmp_path,
        "caches:\n  - {name: L3, latency: 60 cycles}\n  - {name: L1, ways: 4}\n"
        "memory:\n  - {name: NVM, bandwidth: 5 GB/s, latency: 300 ns}\n",
    )
    base = load_machine(XEON)
    assert [cache.name for cache in machine.caches] == ["L1", "L2", "L3"]
    assert (machine.caches[0].ways, machine.caches[0].size_bytes) == (4, 32768)
    assert machine.caches[1] == base.caches[1]
    assert (machine.caches[2].latency_cycles, machine.caches[2].ways) == (60, 20)
    assert [memory.name for memory in machine.memory] == ["DDR", "NVM"]


def test_a_new_instruction_set_stands_beside_the_base_s(tmp_path: Path) -> None:
    wide = {**load_machine(XEON).core.isa["avx2"].model_dump(by_alias=True, exclude_none=True)}
    units = {"multiply": "/cycle", "add": "/cycle", "loads": "/cycle", "stores": "/cycle",
             "gathers": "/cycle",
             "multiply_latency": "cycles", "add_latency": "cycles", "line_crossing": "cycles",
             "page_crossing": "cycles", "vector_clock": "Hz"}  # fmt: skip
    wide |= {key: f"{wide[key]} {unit}" for key, unit in units.items()} | {"lanes": 64}
    wide.pop("source")
    inner = ", ".join(f"{key}: {str(v).lower() if v in (True, False) else v}"
                      for key, v in wide.items()).replace(" hz", " Hz")  # fmt: skip
    machine = child(tmp_path, f"core: {{isa: {{simd2048: {{{inner}}}}}}}\n")
    assert list(machine.core.isa) == ["avx2", "simd2048"]
    assert machine.default_isa == "simd2048"
    assert machine.rates.sgemm_flops_per_s == pytest.approx(8 * 2150e9)


def test_inherited_numbers_name_the_base_s_file(tmp_path: Path) -> None:
    machine = child(tmp_path, "cores: 9\ncaches:\n  - {name: L3, shared_by: 9}\n")
    theirs, ours = machine.provenance["clock"], machine.provenance["cores"]
    assert theirs.where is not None
    assert re.search(rf"{XEON}\.yaml:\d+$", theirs.where)
    assert (theirs.kind, theirs.key) == ("published", "park")
    assert ours.where == f"{tmp_path / 'child.yaml'}:3"
    assert (ours.kind, ours.text) == ("assumed", "no source stated")


def test_sources_of_the_base_can_be_cited_and_replaced(tmp_path: Path) -> None:
    machine = child(
        tmp_path,
        "cores: {value: 9, source: kerncraft}\ncaches: [{name: L3, shared_by: 9}]\n"
        "sources: {park: {kind: assumed, text: Another text of the same key.}}\n"
        "barrier: {value: 9 cycles, source: park}\n",
    )
    assert machine.provenance["cores"].kind == "published"
    assert machine.provenance["barrier"].kind == "assumed"
    assert machine.provenance["clock"].kind == "published"  # written when park was the paper


def test_a_chain_of_bases_scales_step_by_step(tmp_path: Path) -> None:
    (tmp_path / "middle.yaml").write_text(
        f"name: middle\nbase: {XEON}\nclock: 4.6 GHz\n", encoding="utf-8"
    )
    machine = child(tmp_path, "sockets: 1\n", base="middle.yaml")
    assert machine.rates.sgemm_flops_per_s == pytest.approx(2150e9)
    assert "middle's 4.3 TFLOP/s" in machine.provenance["rates.sgemm"].text
    assert machine.clock_for() == pytest.approx(4.0e9)


def test_what_starts_from_a_host_is_not_that_host(tmp_path: Path) -> None:
    text = read_yaml(str(resources.files("archsim") / "machines" / "atom-c2750.yaml"))
    assert "identity" not in text.value
    (tmp_path / "here.yaml").write_text(
        "name: here\nbase: atom-c2750\nidentity: abc\n", encoding="utf-8"
    )
    assert load_machine(tmp_path / "here.yaml").identity == "abc"
    assert child(tmp_path, "cores: 4\n", base="here.yaml").identity is None


# --- schema and skeleton ----------------------------------------------------------------------


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for title, block in [("Machine", schema), *schema["$defs"].items()]:
        for key, entry in block["properties"].items():
            yield f"{title}.{key}", entry


def test_every_key_of_the_schema_is_described() -> None:
    schema = machine_schema()
    assert {"Core", "Cache", "Memory", "InstructionSet", "Rates", "Source"} <= set(schema["$defs"])
    for name, entry in properties(schema):
        assert entry.get("description") or name in ("Machine.core", "Machine.rates"), name
    assert schema["additionalProperties"] is False


def test_units_are_in_the_schema() -> None:
    plain, mapping = machine_schema()["properties"]["clock"]["anyOf"]
    for good in ("2.4 GHz", "2.4GHz", "1e3 MHz"):
        assert re.search(plain["pattern"], good)
    for bad in ("2.4", "2.4 ghz", "GHz", "2.4 GHz or so"):
        assert not re.search(plain["pattern"], bad)
    assert mapping["properties"]["value"] == plain
    assert machine_schema()["$defs"]["Cache"]["properties"]["line"]["default"] == "64 B"


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_accepts_what_ships(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(machine_schema())
    plain = read_yaml(str(resources.files("archsim") / "machines" / f"{name}.yaml")).plain()
    assert [error.message for error in validator.iter_errors(plain)] == []
    for key, wrong in [("clock", 2.4e9), ("cores", 0), ("caches", {}), ("clok", "2 GHz")]:
        assert list(validator.iter_errors(plain | {key: wrong})), key


@pytest.mark.parametrize("name", NAMES)
def test_a_skeleton_loads_as_it_is_and_with_its_lines_in_use(tmp_path: Path, name: str) -> None:
    text = skeleton("mine", name)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    machine, base = load_machine(path), load_machine(name)
    assert machine.name == "mine"
    assert machine.rates == base.rates
    head, _, tail = text.partition("are shown):\n")
    path.write_text(head + "are shown):\n" + re.sub(r"(?m)^# ", "", tail), encoding="utf-8")
    in_use = load_machine(path)
    assert in_use.model_dump(include={"clock_hz", "cores", "core", "caches"}) == base.model_dump(
        include={"clock_hz", "cores", "core", "caches"}
    )
    assert in_use.rates == base.rates
    assert in_use.provenance["clock"].key == "mine"
    assert len(in_use.provenance["clock"].text) > LEAST_TEXT


def test_a_skeleton_finds_a_base_in_a_file_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my base.yaml").write_text(f"name: theirs\nbase: {XEON}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "mine.yaml"
    path.write_text(skeleton("mine", "my base.yaml"), encoding="utf-8")
    assert load_machine(path).clock_hz == load_machine(XEON).clock_hz


def test_values_are_shown_as_files_write_them() -> None:
    machine = load_machine(XEON)
    written = {
        "clock": "2.3 GHz", "cores": "18", "caches.L3.size": "45 MiB",
        "memory.DDR.latency": "95 ns", "core.isa.avx2.fma": "true",
        "core.isa.avx2.loads": "2 /cycle", "caches.L1.overlap": "serial",
        "rates.sgemm": "2.15 TFLOP/s", "rates.alpha": "3.0",
    }  # fmt: skip
    assert {path: show_value(machine, path) for path in written} == written
