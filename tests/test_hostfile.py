"""The calibrated file of this host: used, and refused where it is not this host's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import archsim
from archsim import hostfile
from archsim.calibration.figures import Entry
from archsim.calibration.file import machine_text
from archsim.calibration.run import Calibration
from archsim.calibration.save import save
from archsim.hostfacts import read_facts
from archsim.hostfile import HostFileWarning, cached_path, calibrated_node
from archsim.machinefile import forget_host, machine_from_node


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget_host()
    yield
    forget_host()


ENTRIES = [Entry("clock", 1.234e9, "Hz", 1.2e9, 1.3e9)]


def _calibration(**changes: object) -> Calibration:
    return replace(Calibration(read_facts(), True, entries=ENTRIES), **changes)  # type: ignore[arg-type]


def test_what_was_calibrated_is_the_host(tmp_path: Path) -> None:
    written, failed = save(_calibration(), "archsim calibrate", tmp_path / "mine.yaml")
    assert written == [str(tmp_path / "mine.yaml"), str(cached_path(read_facts()))]
    assert failed == []
    host = archsim.load_machine("host")
    assert host.clock_hz == 1.234e9
    assert host.provenance["clock"].text.startswith("archsim calibrate, archsim ")
    assert archsim.load_machine(tmp_path / "mine.yaml").describe() == host.describe()


def test_what_the_system_says_stays_at_hand(tmp_path: Path) -> None:
    before = archsim.load_machine("host").describe()
    save(_calibration(), "archsim calibrate")
    forget_host()
    told = archsim.load_machine("host-as-told")
    assert told.name == "host-as-told"
    assert told.clock_hz != archsim.load_machine("host").clock_hz == 1.234e9
    assert {**told.describe(), "name": "host"} == before
    (tmp_path / "own.yaml").write_text(
        "format: 1\nname: own\nbase: host-as-told\nbarrier: 7 cycles\n"
    )
    assert archsim.load_machine(tmp_path / "own.yaml").clock_hz == told.clock_hz


def test_without_a_file_nothing_is_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert archsim.load_machine("host").clock_hz != 1.234e9


def test_other_hardware_is_refused() -> None:
    save(_calibration(), "archsim calibrate")
    path = cached_path(read_facts())
    path.write_text(path.read_text().replace("identity: ", "identity: x"))
    with pytest.warns(HostFileWarning, match="other hardware"):
        host = archsim.load_machine("host")
    assert host.clock_hz != 1.234e9
    path.rename(path.with_name("host-0123456789abcdef.yaml"))
    forget_host()
    with pytest.warns(HostFileWarning, match="none of them of this hardware"):
        archsim.load_machine("host")


@pytest.mark.parametrize("text", ["", "{", "- 1", "identity: 1", "clock: 3"])
def test_a_broken_file_is_refused(text: str) -> None:
    path = cached_path(read_facts())
    path.parent.mkdir()
    path.write_text(text)
    with pytest.warns(HostFileWarning):
        assert archsim.load_machine("host").name == "host"


def test_a_file_that_is_no_machine_is_refused() -> None:
    save(_calibration(), "archsim calibrate")
    path = cached_path(read_facts())
    path.write_text(path.read_text().replace("1.234 GHz", "1.234 miles"))
    with pytest.warns(HostFileWarning, match="unknown unit"):
        assert archsim.load_machine("host").clock_hz != 1.234e9


def test_another_number_of_cores() -> None:
    """The file was made with two cores more than this process may use."""
    facts = read_facts()
    more = replace(facts, cpus=tuple(range(len(facts.cpus) + 2)), cores=facts.cores + 2)
    path = cached_path(facts)
    path.parent.mkdir()
    path.write_text(machine_text(more, ENTRIES, about="x", disturbed=False, left_out=""))
    with pytest.warns(HostFileWarning, match="was calibrated with"):
        host = machine_from_node(calibrated_node(facts))
    assert host.total_cores == facts.cores
    assert host.clock_hz == 1.234e9


def test_a_disturbed_file_is_used_with_a_warning() -> None:
    save(_calibration(disturbed=["load: 1 of 3 rounds"]), "archsim calibrate --force")
    with pytest.warns(HostFileWarning, match="disturbed when it was measured"):
        assert archsim.load_machine("host").clock_hz == 1.234e9


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    written, failed = save(_calibration(), "archsim calibrate", tmp_path / "mine.yaml")
    assert written == [str(tmp_path / "mine.yaml")]
    assert "the cache is left as it was" in failed[0]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    monkeypatch.setenv("HOME", "/home/somebody")
    assert hostfile.cache_folder() == Path("/home/somebody/.cache/archsim")
