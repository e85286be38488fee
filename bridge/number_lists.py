"""The file of numbers that may call, and of those that may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from bridge.agents.described_problems import read_model
from bridge.agents.setting_types import E164
from bridge.agents.toml_file import Problem, TomlFile

# Stands for all callers without a number.
ANONYMOUS = "anonymous"
BEGINNING = re.compile(r"\+[1-9][0-9]{0,13}\*")
# Of one list; a list of this length takes some 20 MB.
MOST_NUMBERS = 100_000


def _entry(text: str) -> str:
    if not (text == ANONYMOUS or E164.fullmatch(text) or BEGINNING.fullmatch(text)):
        raise ValueError(
            "must be a number such as +14155550100, a beginning of numbers such as +4930*, or anonymous"
        )
    return text


Entries = Annotated[list[Annotated[str, AfterValidator(_entry)]], Field(max_length=MOST_NUMBERS)]


class _NumbersFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    refused: Entries = []
    allowed: Entries = []
    only_allowed: bool = Field(default=False, strict=True)


@dataclass(frozen=True, slots=True)
class NumberLists:
    """
    Who may call: E.164 numbers, beginnings with ``*`` behind them, and `ANONYMOUS`.

    Attributes:
        allowed: Callers without bounds.
        only_allowed: Whether nobody else may call.
    """

    refused: frozenset[str] = frozenset()
    allowed: frozenset[str] = frozenset()
    only_allowed: bool = False

    def is_allowed(self, number: str) -> bool:
        """Whether a caller has no bounds; of two entries that fit the longer one counts."""
        return _longest(number, self.allowed) > _longest(number, self.refused)

    def refusal(self, number: str) -> str:
        """Why a caller may not call, as a label of a metric; empty for who may."""
        if self.is_allowed(number):
            return ""
        if _longest(number, self.refused):
            return "number_refused"
        return "number_not_allowed" if self.only_allowed else ""


def _longest(number: str, entries: frozenset[str]) -> int:
    """The length of the longest entry that fits; that of a whole number is longer than that of any beginning."""
    if number in entries:
        return len(number) + 2
    fitting = (n for n in range(len(number), 0, -1) if f"{number[:n]}*" in entries)
    return next(fitting, 0)


def read_number_lists(path: str, problems: list[Problem]) -> NumberLists:
    """
    Read the file.

    Args:
        path: Empty for none: then everybody may call.
        problems: Gets what is wrong.
    """
    file = TomlFile("bridge_numbers_file", path, problems)
    content = file.read()
    if content is None:
        return NumberLists()
    read, wrong = read_model(_NumbersFile, content)
    for place, text in wrong:
        file.add_problem(text, *place)
    if read is None:
        return NumberLists()
    lists = NumberLists(frozenset(read.refused), frozenset(read.allowed), read.only_allowed)
    for entry in sorted(lists.refused & lists.allowed):
        file.add_problem(f"{entry} is in allowed too; leave one of the two out", "refused")
    if lists.only_allowed and not lists.allowed:
        file.add_problem("needs numbers in allowed, or nobody may call", "only_allowed")
    return lists
