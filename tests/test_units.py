"""Units: every prefix of every kind, and every refusal with what would have been right."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.units import RANGES, UNITS, Unit, format_quantity, parse_quantity

# Written out, not computed: a wrong factor in the module must not repeat itself here.
READINGS = [
    ("3 Hz", "frequency", 3.0),
    ("3 kHz", "frequency", 3_000.0),
    ("2.4 MHz", "frequency", 2_400_000.0),
    ("2.3 GHz", "frequency", 2_300_000_000.0),
    ("1 THz", "frequency", 1_000_000_000_000.0),
    ("64 B", "size", 64.0),
    ("64 kB", "size", 64_000.0),
    ("64 MB", "size", 64_000_000.0),
    ("64 GB", "size", 64_000_000_000.0),
    ("2 TB", "size", 2_000_000_000_000.0),
    ("32 KiB", "size", 32_768.0),
    ("1 MiB", "size", 1_048_576.0),
    ("16 GiB", "size", 17_179_869_184.0),
    ("1 TiB", "size", 1_099_511_627_776.0),
    ("5 B/s", "bandwidth", 5.0),
    ("5 kB/s", "bandwidth", 5_000.0),
    ("5 MB/s", "bandwidth", 5_000_000.0),
    ("122 GB/s", "bandwidth", 122_000_000_000.0),
    ("1 TB/s", "bandwidth", 1_000_000_000_000.0),
    ("1 KiB/s", "bandwidth", 1_024.0),
    ("1 MiB/s", "bandwidth", 1_048_576.0),
    ("1 GiB/s", "bandwidth", 1_073_741_824.0),
    ("1 TiB/s", "bandwidth", 1_099_511_627_776.0),
    ("12.5 B/cycle", "bandwidth per cycle", 12.5),
    ("5 cycles", "cycles", 5.0),
    ("1 cycle", "cycles", 1.0),
    ("2 /cycle", "rate per cycle", 2.0),
    ("0.5 per cycle", "rate per cycle", 0.5),
    ("2 s", "time", 2.0),
    ("2 ms", "time", 0.002),
    ("2 us", "time", 0.000_002),
    ("95 ns", "time", 0.000_000_095),
    ("7 FLOP/s", "flop rate", 7.0),
    ("7 kFLOP/s", "flop rate", 7_000.0),
    ("7 MFLOP/s", "flop rate", 7_000_000.0),
    ("62 GFLOP/s", "flop rate", 62_000_000_000.0),
    ("4.54 TFLOP/s", "flop rate", 4_540_000_000_000.0),
]


@pytest.mark.parametrize(("text", "kind", "value"), READINGS)
def test_each_unit_has_its_factor(text: str, kind: str, value: float) -> None:
    assert parse_quantity(text, kind) == pytest.approx(value, rel=1e-15)


def test_the_table_above_names_every_unit() -> None:
    tried = {(kind, re.sub(r"^[\d.]+ ", "", text)) for text, kind, _ in READINGS}
    assert tried == {(kind, unit) for kind, table in UNITS.items() for unit in table}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2GHz", 2e9), ("  2   GHz ", 2e9), ("2.4e3 MHz", 2.4e9), (".5 GHz", 5e8), ("+2. GHz", 2e9)],
)
def test_spaces_and_exponents_are_free(text: str, value: float) -> None:
    assert parse_quantity(text, "frequency") == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "kind", "fragments"),
    [
        (2.4e9, "frequency", ["needs its unit", "2400000000.0", "'2.4 GHz'", "Hz, kHz"]),
        ("2.4e9", "frequency", ["needs its unit", "'2.4e9'", "write '2.4 GHz'"]),
        (32768, "size", ["needs its unit", "'32 KiB'"]),
        ("24", "size", ["needs its unit", "'24 B'"]),
        (5, "cycles", ["needs its unit", "'5 cycles'"]),
        (2, "rate per cycle", ["'2 /cycle'"]),
        ("2.4 GHZ", "frequency", ["unknown unit 'GHZ'", "allowed: Hz, kHz, MHz, GHz, THz"]),
        ("32 KB", "size", ["unknown unit 'KB'", "kB", "KiB"]),
        ("32 KiB", "frequency", ["unknown unit 'KiB' for a frequency"]),
        ("122 Gbit/s", "bandwidth", ["unknown unit 'Gbit/s'", "GB/s"]),
        ("1 2 GHz", "frequency", ["unknown unit '2 GHz'"]),
        ("GHz", "frequency", ["a number and a unit", "'GHz'"]),
        ("", "frequency", ["a number and a unit"]),
        ("nan GHz", "frequency", ["a number and a unit", "'nan GHz'"]),
        (float("nan"), "frequency", ["must be finite", "nan"]),
        (float("inf"), "size", ["must be finite", "inf"]),
        ("1e999 GHz", "frequency", ["must be finite"]),
        ("1e300 TiB", "size", ["must be finite"]),
        ("1e308 THz", "frequency", ["must be finite", "1e308 THz"]),
        (True, "cycles", ["a number and a unit", "True"]),
        (None, "cycles", ["None"]),
        ([1], "time", ["[1]"]),
        ({"a": 1}, "flop rate", ["a flop rate"]),
    ],
)
def test_refusals_say_what_was_found_and_what_is_allowed(
    text: object, kind: str, fragments: list[str]
) -> None:
    with pytest.raises(ValueError, match=kind) as caught:
        parse_quantity(text, kind)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_signs_are_a_field_s_own_rule() -> None:
    assert Unit("cycles", allow_zero=True).parse("0 cycles") == 0.0
    with pytest.raises(ValueError, match="must be above zero; found '0 cycles'"):
        Unit("cycles").parse("0 cycles")
    with pytest.raises(ValueError, match="must not be negative; found '-1 cycles'"):
        Unit("cycles", allow_zero=True).parse("-1 cycles")
    with pytest.raises(ValueError, match="must be above zero; found '-32 KiB'"):
        Unit("size").parse("-32 KiB")


def test_quantities_lie_in_a_range_that_models_can_bear() -> None:
    assert set(RANGES) == set(UNITS)
    assert Unit("frequency").parse("1 kHz") == 1e3
    for text, kind in [("999 Hz", "frequency"), ("1e7 s", "time"), ("0.5 B", "size")]:
        with pytest.raises(ValueError, match=rf"a {kind} must lie in .*\.\..*; found '{text}'"):
            Unit(kind).parse(text)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (2.4e9, "frequency", "2.4 GHz"),
        (32768.0, "size", "32 KiB"),
        (45 * 2.0**20, "size", "45 MiB"),
        (38.5 * 2.0**20, "size", "38.5 MiB"),
        (64.0, "size", "64 B"),
        (16e9, "size", "16 GB"),
        (64e3, "size", "64 kB"),
        (1.5 * 2.0**20, "size", "1.5 MiB"),
        (33554431.0, "size", "33.5544 MB"),
        (122e9, "bandwidth", "122 GB/s"),
        (12.5, "bandwidth per cycle", "12.5 B/cycle"),
        (1.0, "cycles", "1 cycles"),
        (0.5, "rate per cycle", "0.5 /cycle"),
        (95e-9, "time", "95 ns"),
        (2.15e12, "flop rate", "2.15 TFLOP/s"),
        (0.0, "cycles", "0 cycles"),
    ],
)
def test_quantities_are_written_readably(value: float, kind: str, text: str) -> None:
    assert format_quantity(value, kind) == text
    assert parse_quantity(text, kind) == pytest.approx(value, rel=1e-5)


@given(st.sampled_from(sorted(UNITS)), st.floats(1e-6, 1e15))
def test_what_is_written_can_be_read(kind: str, value: float) -> None:
    """Six digits survive writing and reading, whatever unit is chosen."""
    assert parse_quantity(format_quantity(value, kind), kind) == pytest.approx(value, rel=1e-5)
