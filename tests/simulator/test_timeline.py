"""Timelines, the files that they are written to, and what is left of a run that is broken off."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import archsim.simulation
from archsim.api import make_plan
from archsim.cli import run as cli
from archsim.errors import InputError
from archsim.machinefile import load_machine
from archsim.network import load_network
from archsim.simulator.engine import simulate
from archsim.simulator.timeline import Recorder
from archsim.simulator.trace import check_writable, write_trace

PHI = load_machine("xeon-phi-7250")
CONV3 = load_network("alexnet")["conv3"]
PLAN = make_plan(CONV3, PHI, method="direct_sparse", density=0.1, batch=34, threads=136)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    found = Recorder()
    simulate(PLAN, PHI, events=2048, recorder=found)
    return found


def test_slices_are_what_ran(recorder: Recorder) -> None:
    whole = simulate(PLAN, PHI, events=2048)
    assert len(recorder.slices) == whole.runs
    assert sum(s.tiles for s in recorder.slices) == whole.tiles
    by_thread: dict[int, float] = {}
    for s in recorder.slices:  # a thread does one thing at a time
        assert s.start_seconds >= by_thread.get(s.thread, 0.0) - 1e-15
        assert s.end_seconds >= s.start_seconds
        by_thread[s.thread] = s.end_seconds


def test_shares_add_up(recorder: Recorder) -> None:
    found = recorder.as_dict()
    whole = simulate(PLAN, PHI, events=2048)
    worked = sum(sum(row) for row in recorder.worked().values())
    assert worked == pytest.approx(sum(s.end_seconds - s.start_seconds for s in recorder.slices))
    served = sum(recorder.bytes_served["MCDRAM"].values())
    assert served == pytest.approx(whole.memories[0].served_bytes)
    assert recorder.steps <= 481
    for shares in (found["working"], *found["memories"].values()):
        assert len(shares) == recorder.steps
        assert all(0.0 <= share <= 1.0 + 1e-9 for share in shares)
    assert all(-1 <= label < len(found["labels"]) for row in found["gantt"] for label in row)
    json.dumps(found, allow_nan=False)


def test_a_cap_on_slices_is_kept_and_said(tmp_path: Path) -> None:
    small = Recorder(slices=100)
    simulate(PLAN, PHI, events=2048, recorder=small)
    assert len(small.slices) == 100
    path = write_trace(small, tmp_path / "t.json")
    assert f"{small.dropped} later ones" in json.loads(path.read_text())["otherData"]["slices"]
    raw = write_trace(small, tmp_path / "t.pftrace").read_bytes()
    assert f"{small.dropped} later ones".encode() in raw


def test_chromes_form_reads_back(recorder: Recorder, tmp_path: Path) -> None:
    document = json.loads(write_trace(recorder, tmp_path / "t.json").read_text())
    events = document["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    assert len(slices) == len(recorder.slices)
    assert slices[0]["dur"] == pytest.approx(
        1e6 * (recorder.slices[0].end_seconds - recorder.slices[0].start_seconds)
    )
    assert {e["name"] for e in events if e["ph"] == "C"} >= {"MCDRAM GB/s", "threads at work"}
    assert sum(e["name"] == "thread_name" for e in events) == 136


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Read a protocol buffer: (field, value)."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 1:
            yield key >> 3, struct.unpack_from("<d", data, at)[0]
            at += 8
        else:
            assert key & 7 == 2
            length = varint()
            yield key >> 3, data[at : at + length]
            at += length


def test_perfettos_form_reads_back(recorder: Recorder, tmp_path: Path) -> None:
    raw = write_trace(recorder, tmp_path / "t.pftrace").read_bytes()
    packets = [dict(_fields(body)) for field, body in _fields(raw) if field == 1]
    tracks = [dict(_fields(p[60])) for p in packets if 60 in p]
    names = {track[2].decode() for track in tracks}
    assert {"core 0", "thread 1", "MCDRAM"} <= names
    assert len({track[1] for track in tracks}) == len(tracks)
    events = [(p[8], dict(_fields(p[11]))) for p in packets if 11 in p]
    begins = [(at, event) for at, event in events if event[9] == 1]
    assert len(begins) == len(recorder.slices)
    assert sum(event[9] == 2 for _, event in events) == len(recorder.slices)
    assert begins[0][0] == round(recorder.slices[0].start_seconds * 1e9)
    assert {event[11] for _, event in events} <= {track[1] for track in tracks}
    counters = [event[44] for _, event in events if event[9] == 4]
    assert max(counters) > 0


def test_perfettos_own_reader(recorder: Recorder, tmp_path: Path) -> None:
    proto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = proto.Trace()
    trace.ParseFromString(write_trace(recorder, tmp_path / "t.pftrace").read_bytes())
    begins = [p for p in trace.packet if p.HasField("track_event") and p.track_event.type == 1]
    assert len(begins) == len(recorder.slices)
    assert begins[0].track_event.debug_annotations[0].name == "tiles"
    interned = [n for p in trace.packet for n in p.interned_data.event_names]
    assert {n.name for n in interned} >= {"conv3 products"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "none" / "t.json")
    with pytest.raises(InputError, match="cannot be written"):
        write_trace(Recorder(), tmp_path / "none" / "t.json")
    check_writable(tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()


class _Interrupted(Recorder):
    """Is interrupted after some slices."""

    def run(self, *about: Any) -> None:
        super().run(*about)
        if len(self.slices) == 50:
            raise KeyboardInterrupt


def test_an_interrupt_ends_at_once_and_keeps_what_was_seen() -> None:
    recorder = _Interrupted()
    with pytest.raises(KeyboardInterrupt):
        simulate(PLAN, PHI, recorder=recorder)
    assert 50 <= len(recorder.slices) <= 50 + PLAN.threads  # the others' of the same moment
    assert not recorder.complete
    assert recorder.end_seconds > 0.0


COMMAND = ["simulate", "alexnet", "conv3", "-m", "xeon-phi-7250", "--sparsity", "0.9", "--batch",
           "8"]  # fmt: skip


def test_an_interrupted_command_writes_its_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("archsim.simulator.timeline.Recorder", _Interrupted)
    path = tmp_path / "t.json"
    assert cli([*COMMAND, "--trace", str(path)]) == 130
    text = capsys.readouterr().err
    assert "slices, broken off" in text
    assert "broken off" in json.loads(path.read_text())["otherData"]["slices"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, folder = tmp_path / "t.pftrace", tmp_path / "out"
    assert cli([*COMMAND, "--trace", str(trace), "-o", str(folder)]) == 0
    out = capsys.readouterr()
    assert "conv3" in out.out
    assert "events" in out.out
    assert trace.stat().st_size > 1000
    document = json.loads((folder / "results.json").read_text())
    assert document["simulations"][0]["timeline"]["complete"]
    page = (folder / "report.html").read_text()
    assert "xeon-phi-7250 in time" in page
    assert cli(["report", str(folder / "results.json")]) == 0


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([*COMMAND, "--json", "--scenario", "one-slow-core", "--events", "0"]) == 0
    document = json.loads(capsys.readouterr().out)
    (layer,) = document["simulations"][0]["layers"]
    assert layer["runs"] >= layer["tiles"]
    assert document["results"][0]["model"] == "simulator"
    assert layer["critical_path"]


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--trace", "/nonexistent/t.json"], "cannot be written"),
        (["--scenario", "nothing"], "no such scenario"),
        (["--take", "all"], "take: unknown rule"),
        (["--start", "hot"], "start: unknown state"),
        (["-m", "atom-c2750", "--trace", "t.json"], "a trace is of one machine"),
        (["--chunk", "0"], "chunk"),
        (["--methods", "fc_dense"], "no method applies to conv3"),
    ],
)
def test_bad_commands(extra: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([*COMMAND, *extra]) in (1, 2)
    error = capsys.readouterr().err
    assert text in error
    assert len(error.strip().splitlines()) == 1


def test_broken_timelines_are_refused(tmp_path: Path) -> None:
    from archsim.report.course import read_courses

    run = archsim.simulation.simulate_network("lenet5", "atom-c2750", timeline=(r := Recorder()))
    good = {"machine": "m", "seconds": run.seconds, "timeline": r.as_dict()}
    assert len(read_courses({"simulations": [good]})) == 1
    for key, value in (
        ("gantt", [[99]]), ("working", [2.0]), ("cores", [1]), ("step_seconds", 0),
        ("labels", [1]), ("gantt", None),
    ):  # fmt: skip
        bad = {**good, "timeline": {**r.as_dict(), key: value}}
        with pytest.raises(InputError):
            read_courses({"simulations": [bad]})
