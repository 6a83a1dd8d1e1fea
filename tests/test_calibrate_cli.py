"""``archsim calibrate`` on made-up calibrations: what is written, printed and refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import archsim.calibration
import archsim.calibration.check
from archsim.calibration.check import Checked, Compared
from archsim.calibration.figures import Entry
from archsim.calibration.run import Calibration
from archsim.calibration.sampling import Figure
from archsim.cli import run
from archsim.hostfacts import read_facts
from archsim.hostfile import cached_path
from archsim.machinefile import forget_host

FIGURE = Figure(0.5, 0.5, 0.51, 2, 2, 0.9, 0.0, 0.02, (0.5, 0.51), 3e9)


def _found(**changes: Any) -> Calibration:
    entries = [
        Entry("clock", 2.5e9, "Hz", 2.4e9, 2.6e9, "made up"),
        Entry("caches.L1.overlap", "overlapped"),
    ]
    return Calibration(read_facts(), True, entries=entries, figures={"load": FIGURE}, **changes)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let the calibration find what the test says, and keep its cache to itself."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    forget_host()

    def is_found(**changes: Any) -> None:
        monkeypatch.setattr(archsim.calibration, "calibrate", lambda **_: _found(**changes))

    yield is_found
    forget_host()


def test_a_trusted_one_is_written(
    host: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    host(left_out=["several cores"])
    assert run(["calibrate", "--quick", "-o", "mine.yaml"]) == 0
    told = capsys.readouterr()
    assert "2.5 GHz" in told.out
    assert "left out: several cores" in told.err
    assert "wrote mine.yaml" in told.err
    assert archsim.load_machine("mine.yaml").clock_hz == 2.5e9
    assert (
        archsim.load_machine("host")
        .provenance["clock"]
        .text.startswith("archsim calibrate --quick, archsim ")
    )


@pytest.mark.parametrize("kind", ["disturbed", "contradictions"])
def test_any_other_is_refused(
    kind: str, host: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = [f"load: {i} of 9 rounds" for i in range(20)]
    host(**{kind: reasons})
    assert run(["calibrate", "-o", "mine.yaml"]) == 1
    told = capsys.readouterr().err
    assert "refused: load: 0 of 9 rounds" in told
    assert "and 8 more" in told
    assert not Path("mine.yaml").exists()
    assert not cached_path(read_facts()).exists()
    assert run(["calibrate", "-o", "mine.yaml", "--force"]) == 0
    machine = archsim.load_machine("mine.yaml")
    assert "DISTURBED" in machine.description
    assert machine.note is not None
    assert "load: 19 of 9 rounds" in machine.note


def test_json(host: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    host()
    assert run(["calibrate", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["trusted"]
    assert document["written"] == [str(cached_path(read_facts()))]
    assert document["figures"]["load"]["agreeing"] == 2
    assert document["numbers"][0] == {
        "path": "clock", "value": 2.5e9, "unit": "Hz", "low": 2.4e9, "high": 2.6e9,
        "note": "made up",
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_to(
    host: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    host()
    assert run(["calibrate", "-o", "nowhere/mine.yaml"]) == 2
    assert "nowhere/mine.yaml: cannot be written" in capsys.readouterr().err
    Path("cache").write_text("")
    assert run(["calibrate", "-o", "mine.yaml"]) == 0
    assert "the cache is left as it was" in capsys.readouterr().err
    assert run(["calibrate"]) == 1  # nothing was written at all


def test_interrupted(
    host: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(**_: object) -> Calibration:
        raise KeyboardInterrupt

    host()
    monkeypatch.setattr(archsim.calibration, "calibrate", stop)
    assert run(["calibrate", "-o", "mine.yaml"]) == 130
    assert not Path("mine.yaml").exists()


@pytest.mark.parametrize(
    ("measured", "disturbed", "status", "said"),
    [
        (2.0, (), 0, "matches this host"),
        (1.0, (), 1, "does not match this host"),
        (2.0, ("load: 1 of 9 rounds",), 1, "cannot be checked now"),
    ],
)
def test_check(
    measured: float,
    disturbed: tuple[str, ...],
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = Checked((Compared("core.scalar", 1.9, 2.1, measured, 0.05, "/cycle"),), disturbed)
    monkeypatch.setattr(archsim.calibration.check, "check", lambda *_, **__: found)
    assert run(["calibrate", "--check", "host"]) == status
    assert said in capsys.readouterr().out
    assert run(["calibrate", "--check", "host", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["matches"] is (status == 0)


def test_check_refuses_other_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "--check", "atom-c2750"]) == 1
    assert "is of other hardware" in capsys.readouterr().err
    assert run(["calibrate", "--check", "nowhere.yaml"]) == 2
