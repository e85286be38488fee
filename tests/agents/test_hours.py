"""Opening hours: what is read, over midnight, and on the days when the clock changes."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.hours import DAYS, Hours

BERLIN = ZoneInfo("Europe/Berlin")
# A Monday.
MONDAY = datetime(2026, 11, 23, tzinfo=BERLIN)


def at(day: str, time: str) -> datetime:
    hour, minute = map(int, time.split(":"))
    return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (
            "Mon-Fri 09:00-17:30",
            ["Mon 09:00", "Wed 12:00", "Fri 17:29"],
            ["Mon 08:59", "Fri 17:30", "Sat 12:00", "Sun 09:00"],
        ),
        ("Sat 9:00-13:00", ["Sat 09:00"], ["Sat 08:59", "Sat 13:00", "Sun 10:00"]),
        ("Mon,Wed-Thu 10:00-11:00", ["Mon 10:30", "Wed 10:30", "Thu 10:30"], ["Tue 10:30", "Fri 10:30"]),
        ("Sat-Mon 10:00-11:00", ["Sat 10:00", "Sun 10:00", "Mon 10:00"], ["Tue 10:00", "Fri 10:00"]),
        ("Sun 00:00-24:00", ["Sun 00:00", "Sun 23:59"], ["Sat 23:59", "Mon 00:00"]),
        ("Fri 22:00-06:00", ["Fri 22:00", "Fri 23:59", "Sat 00:00", "Sat 05:59"], ["Fri 05:00", "Sat 06:00"]),
        ("Sun 22:00-06:00", ["Sun 23:00", "Mon 05:00"], ["Mon 22:00", "Sun 05:00"]),
        ("Fri 22:00-00:00", ["Fri 23:59"], ["Sat 00:00", "Fri 00:00"]),
        ("Fri 22:00-24:00", ["Fri 23:59"], ["Sat 00:00", "Fri 00:00"]),
    ],
)
def test_hours_include_these_times_and_not_those(text, inside, outside):
    hours = Hours.of(text)
    assert [time for time in inside if not hours.include(at(*time.split()))] == []
    assert [time for time in outside if hours.include(at(*time.split()))] == []


@given(st.integers(0, 7 * 24 * 60 - 1), st.integers(0, 1439), st.integers(1, 1440))
def test_every_minute_of_a_week_is_within_hours_or_within_the_rest_of_the_day(minute, start, end):
    if start == end % 1440:
        return
    clock = f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
    rest = f"{end % 1440 // 60:02}:{end % 60:02}-{start // 60:02}:{start % 60:02}"
    now = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=minute)
    assert Hours.of(f"Mon-Sun {clock}").include(now) != Hours.of(f"Mon-Sun {rest}").include(now)


def test_day_whose_clock_goes_forward_has_the_hours_that_the_wall_shows():
    # At 01:00 UTC of 2026-03-29 the clock of Berlin goes from 02:00 to 03:00.
    night = Hours.of("Sun 02:00-03:00")
    morning = Hours.of("Sun 03:00-04:00")
    instants = [datetime(2026, 3, 29, 0, tzinfo=UTC) + timedelta(minutes=n) for n in range(180)]
    shown = [instant.astimezone(BERLIN) for instant in instants]
    assert not any(night.include(wall) for wall in shown)
    assert [instants[n].hour for n, wall in enumerate(shown) if morning.include(wall)] == [1] * 60


def test_hour_that_the_clock_shows_twice_is_open_twice():
    # At 01:00 UTC of 2026-10-25 the clock of Berlin goes from 03:00 back to 02:00.
    hours = Hours.of("Sun 02:00-03:00")
    instants = [datetime(2026, 10, 25, 0, tzinfo=UTC) + timedelta(minutes=n) for n in range(180)]
    assert sum(hours.include(instant.astimezone(BERLIN)) for instant in instants) == 120


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be days and times, e.g. Mon-Fri 09:00-17:30"),
        ("always", "must be days and times"),
        ("Mon-Fri", "must be days and times"),
        ("Mon-Fri 9-17", "must be days and times"),
        ("Mon - Fri 09:00-17:00", "must be days and times"),
        ("Mon 09:00-17:00 ", "must be days and times"),
        (9, "must be days and times"),
        (None, "must be days and times"),
        ("Mo-Fr 09:00-17:30", "'Mo' is no day; the days are Mon, Tue, Wed, Thu, Fri, Sat, Sun"),
        ("mon 09:00-17:30", "'mon' is no day; the days are Mon, "),
        ("Mon- 09:00-17:30", "'' is no day"),
        ("Mon, 09:00-17:30", "'' is no day"),
        ("Mon-Tue-Wed 09:00-17:30", "'Tue-Wed' is no day"),
        ("Mon 09:60-17:30", "09:60 is no time; the times of a day are 00:00 to 24:00"),
        ("Mon 09:00-24:01", "24:01 is no time"),
        ("Mon 25:00-26:00", "25:00 is no time"),
        ("Mon 24:00-06:00", "must begin before 24:00"),
        ("Mon 09:00-09:00", "must begin and end at different times; a whole day is 00:00-24:00"),
    ],
)
def test_other_text_is_refused_with_what_would_be_right(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Hours.of(text)
