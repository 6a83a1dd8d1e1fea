"""Timelines as files: Chrome's trace events, or Perfetto's protocol buffers (``.pftrace``).

Both open in https://ui.perfetto.dev.  The few messages of Perfetto's format that a timeline needs
are written here by hand: protos/perfetto/trace/{trace_packet, track_event/track_event,
track_event/track_descriptor}.proto of the Perfetto project, field numbers beside the calls.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from archsim.errors import input_error
from archsim.simulator.timeline import Recorder

PERFETTO_SUFFIX: Final = ".pftrace"
_SEQUENCE: Final = 1
_BEGIN, _END, _COUNTER = 1, 2, 4  # TrackEvent.Type
_CLEARED, _NEEDED = 1, 2  # TracePacket.SequenceFlags
_CORES, _THREADS, _MEMORIES = 1 << 20, 1 << 21, 1 << 22  # track numbers start there


def check_writable(path: Path) -> None:
    """Refuse a place where no file can be written, before the work.

    Raises
    ------
    InputError
    """
    fresh = not path.exists()
    try:
        with path.open("ab"):
            pass
        if fresh:
            path.unlink()
    except OSError as error:
        raise input_error(str(path), f"cannot be written ({error.strerror})") from None


def write_trace(recorder: Recorder, path: Path) -> Path:
    """Write a timeline; the suffix says which form.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            pieces = _perfetto(recorder) if path.suffix == PERFETTO_SUFFIX else _chrome(recorder)
            for piece in pieces:
                file.write(piece)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise input_error(str(path), f"cannot be written ({error.strerror})") from None
    return path


def _note(recorder: Recorder) -> str:
    """Say what is missing from a trace."""
    parts = []
    if recorder.dropped:
        parts.append(
            f"the first {len(recorder.slices)} slices; {recorder.dropped} later ones are left out"
        )
    if not recorder.complete:
        parts.append("broken off before the end")
    return "; ".join(parts) or "complete"


def _cores(recorder: Recorder) -> dict[int, list[int]]:
    """Return the threads of each core."""
    found: dict[int, list[int]] = {}
    for span in recorder.layers:
        for thread, core in enumerate(span.core_of_thread):
            threads = found.setdefault(core, [])
            if thread not in threads:
                threads.append(thread)
    return dict(sorted(found.items()))


def _counters(recorder: Recorder) -> Iterator[tuple[int, str, str, list[float]]]:
    """Yield (number, name, unit, values) of each counter, a value for each time step."""
    worked = recorder.worked().values()
    yield 0, "threads at work", "", [
        sum(row[i] for row in worked) / recorder.step_seconds for i in range(recorder.steps)
    ]  # fmt: skip
    for index, (name, served) in enumerate(sorted(recorder.bytes_served.items())):
        rates = [served.get(i, 0.0) / recorder.step_seconds / 1e9 for i in range(recorder.steps)]
        yield index + 1, name, "GB/s", rates


def _label(recorder: Recorder, layer: int, phase: int) -> str:
    span = recorder.layers[layer]
    return f"{span.name} {span.phases[phase]}"


def _chrome(recorder: Recorder) -> Iterator[bytes]:
    """Yield a JSON document of trace events: one track for each hardware thread."""
    first = True

    def event(**fields: Any) -> bytes:
        nonlocal first
        start, first = (b"" if first else b",\n"), False
        return start + json.dumps(fields, separators=(",", ":")).encode()

    yield b'{"displayTimeUnit":"ns","otherData":'
    yield json.dumps({"slices": _note(recorder)}).encode()
    yield b',"traceEvents":[\n'
    for core, threads in _cores(recorder).items():
        for thread in threads:
            name = f"core {core}" if len(threads) == 1 else f"core {core} thread {thread}"
            yield event(ph="M", name="thread_name", pid=0, tid=thread, args={"name": name})
            yield event(ph="M", name="thread_sort_index", pid=0, tid=thread,
                        args={"sort_index": core * 4096 + thread})  # fmt: skip
    for s in recorder.slices:
        yield event(
            ph="X", name=_label(recorder, s.layer, s.phase), pid=0, tid=s.thread,
            ts=s.start_seconds * 1e6, dur=(s.end_seconds - s.start_seconds) * 1e6,
            args={"tiles": s.tiles, "kind": s.kind},
        )  # fmt: skip
    for _, name, unit, values in _counters(recorder):
        for step, value in enumerate(values):
            yield event(ph="C", name=f"{name} {unit}".strip(), pid=0,
                        ts=step * recorder.step_seconds * 1e6, args={"value": value})  # fmt: skip
    yield b"\n]}\n"


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _packet(body: bytes, flags: int = _NEEDED) -> bytes:
    # Trace.packet = 1; trusted_packet_sequence_id = 10, sequence_flags = 13
    return _bytes(1, body + _number(10, _SEQUENCE) + _number(13, flags))


def _track(uuid: int, name: str, parent: int | None = None, counter: bytes | None = None) -> bytes:
    # TracePacket.track_descriptor = 60; uuid = 1, name = 2, parent_uuid = 5, counter = 8
    body = _number(1, uuid) + _bytes(2, name)
    if parent is not None:
        body += _number(5, parent)
    if counter is not None:
        body += _bytes(8, counter)
    return _packet(_bytes(60, body))


def _event(seconds: float, kind: int, track: int, rest: bytes = b"") -> bytes:
    # timestamp = 8 (ns), track_event = 11; TrackEvent.type = 9, track_uuid = 11
    body = _bytes(11, _number(9, kind) + _number(11, track) + rest)
    return _packet(_number(8, round(seconds * 1e9)) + body)


def _perfetto(recorder: Recorder) -> Iterator[bytes]:
    """Yield the packets of a trace: a track for each core, its threads below, and counters."""
    yield _packet(b"", _CLEARED)
    # the description of the whole trace is the name of its root track
    yield _track(1, f"archsim simulation ({_note(recorder)})")
    for core, threads in _cores(recorder).items():
        yield _track(_CORES + core, f"core {core}", parent=1)
        for thread in threads if len(threads) > 1 else ():
            yield _track(_THREADS + thread, f"thread {thread}", parent=_CORES + core)
    only = {t[0]: _CORES + core for core, t in _cores(recorder).items() if len(t) == 1}
    names: dict[str, int] = {}
    said: dict[tuple[float, int], bytes] = {}
    for s in recorder.slices:
        label = _label(recorder, s.layer, s.phase)
        number = names.get(label)
        if number is None:  # interned_data = 12, event_names = 2: iid = 1, name = 2
            number = names[label] = len(names) + 1
            yield _packet(_bytes(12, _bytes(2, _number(1, number) + _bytes(2, label))))
        track = only.get(s.thread, _THREADS + s.thread)
        # name_iid = 10; debug_annotations = 4: name = 10, uint_value = 3, double_value = 5
        about = said.get((s.tiles, s.kind))
        if about is None:
            about = said[s.tiles, s.kind] = _bytes(
                4, _bytes(10, "tiles") + _double(5, s.tiles)
            ) + _bytes(4, _bytes(10, "kind") + _number(3, s.kind))
        yield _event(s.start_seconds, _BEGIN, track, _number(10, number) + about)
        yield _event(s.end_seconds, _END, track)
    for index, name, unit, values in _counters(recorder):
        # CounterDescriptor.unit_name = 6; TrackEvent.double_counter_value = 44
        yield _track(_MEMORIES + index, name, parent=1, counter=_bytes(6, unit))
        for step, value in enumerate(values):
            yield _event(step * recorder.step_seconds, _COUNTER, _MEMORIES + index,
                         _double(44, value))  # fmt: skip
