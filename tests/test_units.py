"""Sizes, durations, rates and times as people write them."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncdup import units
from asyncdup.errors import UsageError

NOW = 1_700_000_000  # 2023-11-14T22:13:20Z


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("50M", 50 << 20),
        ("2G", 2 << 30),
        ("1.5GiB", 3 << 29),
        ("1 k", 1024),
        ("1KB", 1000),
        ("2MB", 2_000_000),
        ("7B", 7),
        (" 3t ", 3 << 40),
        ("999999999999999999", 999_999_999_999_999_999),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5", 0.5), ("2h", 7200), ("3D12h", 302400), ("1M", 2592000), ("1m", 60), ("1Y2W3s", 32745603)]
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "rate"), [("512k", 524288), ("2M/s", 2 << 20), ("10Mbit/s", 1_250_000), ("8bits", 1), ("0", 0)])
def test_rates(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", NOW),
        ("0", 0),
        ("5", 5),
        ("1700000000", NOW),
        ("20231114", 20231114),
        ("3D12h", NOW - 302400),
        ("12h3D", NOW - 302400),
        ("1M2Y", NOW - 30 * 86400 - 730 * 86400),
        ("3D3D", NOW - 6 * 86400),
        ("0D", NOW),
        ("20231114T221320Z", NOW),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20+02:00", NOW - 7200),
        ("2023-11-14T22:13:20-05:30", NOW + 19800),
    ],
)
def test_times_mean_what_they_mean_to_duplicity_3_2_1(text: str, seconds: int) -> None:
    """Format specification, section 26; values observed by running duplicity 3.2.1."""
    assert units.parse_time(text, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-14", 1699938000),
        ("2023/1/4", 1672808400),
        ("11/14/2023", 1699938000),
        ("1/4/2023", 1672808400),
        ("11-14-2023", 1699938000),
        ("2023-11-14T22:13:20", 1700018000),
        ("20231114T221320", 1700018000),
        ("2023-07-01T00:00:00", 1688184000),
    ],
)
@pytest.mark.usefixtures("new_york")
def test_dates_and_datetimes_without_a_zone_are_local(text: str, seconds: int) -> None:
    assert units.parse_time(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "NOW", " now", "-5", "+5", "3d", "3S", "1.5h", "3D 12h", "1e3", "2023-02-30", "2023-13-01", "2023-11-14T22:13"]
    + ["2023-11-14T25:00:00Z", "2023-11-14T22:13:20+99:00", "20231114t221320z", "2023-11-14 22:13:20", "99999999999999", "9999Y", "٣"],
)
def test_other_times_are_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        units.parse_time(text, NOW)

    assert repr(text) in str(caught.value)
    assert "20231114T221320Z" in (caught.value.hint or "")
    assert caught.value.exit_code == 23


@pytest.mark.parametrize("text", ["", "M", "-1", "1.2.3", "5X", "0x10", "1,5M", "9" * 40, "١٢"])
def test_other_sizes_durations_and_rates_are_refused_by_name(text: str) -> None:
    for parse in (units.parse_size, units.parse_duration, units.parse_rate):
        with pytest.raises(UsageError) as caught:
            parse(text)
        assert repr(text) in str(caught.value)
        assert caught.value.hint


@settings(max_examples=60)
@given(st.integers(0, units.LATEST))
def test_times_of_file_names_read_back(t: int) -> None:
    text = units.format_time(t)

    assert len(text) == 16
    assert units.parse_time(text, NOW) == t


@settings(max_examples=60)
@given(st.text(max_size=30))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    try:
        assert 0 <= units.parse_time(text, NOW) <= units.LATEST
    except UsageError:
        pass


@pytest.mark.parametrize("t", [-1, units.LATEST + 1])
def test_no_file_name_says_a_time_outside_four_digit_years(t: int) -> None:
    with pytest.raises(ValueError, match=str(t)):
        units.format_time(t)


@pytest.mark.usefixtures("new_york")
def test_local_times_read_as_duplicity_reports_them() -> None:
    assert units.format_local_time(NOW) == "Tue Nov 14 17:13:20 2023"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200.0 MiB"), ((1 << 30) - 1, "1.0 GiB"), (5 << 60, "5120.0 PiB")],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (12.34, "12.3s"), (59.99, "1m00s"), (245, "4m05s"), (11220, "3h07m"), (187200, "2d04h"), (math.inf, "forever")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text
