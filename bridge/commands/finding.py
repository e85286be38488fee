"""What a check has found: one line, which says what to do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How much a finding matters: calls work, calls may fail, calls fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One line of a report.

    Attributes:
        subject: The part of the set-up.
        todo: What to do; empty for `Level.OK`, and where the text says it.
    """

    level: Level
    subject: str
    text: str
    todo: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.subject}: {self.text}"
        return f"{line}; {self.todo}" if self.todo else line


def ok(subject: str, text: str) -> Finding:
    """Nothing is wrong."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, todo: str) -> Finding:
    """Something may go wrong."""
    return Finding(Level.WARNING, subject, text, todo)


def problem(subject: str, text: str, todo: str = "") -> Finding:
    """Calls cannot work."""
    return Finding(Level.PROBLEM, subject, text, todo)
