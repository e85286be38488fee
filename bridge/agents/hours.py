"""Opening hours: days of the week with times, by the wall clock of a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS = re.compile(r"(\S+) +([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
MINUTES_OF_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Hours:
    """
    Times of some days of the week.

    Attributes:
        days: Counted from Monday.
        start, end: Minutes after midnight. An end before the start is one of the next day.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def of(cls, text: object) -> Hours:
        """
        Read text such as ``Mon-Fri 09:00-17:30`` or ``Sat,Sun 22:00-06:00``.

        Raises:
            ValueError: The text is another one; the error says what would be right.
        """
        found = HOURS.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ValueError("must be days and times, e.g. Mon-Fri 09:00-17:30 or Sat,Sun 22:00-06:00")
        start, end = _minutes(found[2], found[3]), _minutes(found[4], found[5])
        if start == MINUTES_OF_A_DAY:
            raise ValueError("must begin before 24:00")
        if start == end:
            raise ValueError("must begin and end at different times; a whole day is 00:00-24:00")
        return cls(frozenset(_days(found[1])), start, end)

    def include(self, at: datetime) -> bool:
        """Whether the wall clock shows one of these times."""
        day, minute = at.weekday(), 60 * at.hour + at.minute
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or (
            (day - 1) % len(DAYS) in self.days and minute < self.end
        )


def _minutes(hour: str, minute: str) -> int:
    minutes = 60 * int(hour) + int(minute)
    if int(minute) > 59 or minutes > MINUTES_OF_A_DAY:
        raise ValueError(f"{hour}:{minute} is no time; the times of a day are 00:00 to 24:00")
    return minutes


def _days(text: str) -> set[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start, end = _day(first), _day(last if dash else first)
        # From Saturday to Monday are three days.
        days |= {(start + n) % len(DAYS) for n in range((end - start) % len(DAYS) + 1)}
    return days


def _day(text: str) -> int:
    if text not in DAYS:
        raise ValueError(f"{text[:20]!r} is no day; the days are {', '.join(DAYS)}")
    return DAYS.index(text)
