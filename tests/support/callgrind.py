"""Reads a profile of valgrind's callgrind: how often each function was called, and the instructions of all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

# A name is written out once, and from then on by its number. Source: valgrind manual, "Callgrind Format".
NAME = re.compile(r"\((\d+)\)(?: (.*))?")


@dataclass
class Profile:
    """``calls`` counts by object file and function; ``instructions`` is of the whole process."""

    instructions: int = 0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)

    def count(self, is_meant: Callable[[str, str], bool]) -> int:
        """Return the calls of all functions that are meant, by object file and name."""
        return sum(calls for place, calls in self.calls.items() if is_meant(*place))


def read_profile(lines: Iterable[str]) -> Profile:
    """
    Read a ``callgrind.out`` file.

    Raises:
        ValueError: If it has no sum, as when the process was killed.
    """
    profile = Profile()
    names: dict[tuple[str, str], str] = {}
    here = there = function = ""
    is_complete = False

    def name(kind: str, text: str) -> str:
        match = NAME.fullmatch(text)
        if match is None:
            return text
        number, written = match.groups()
        if written is not None:
            names[kind, number] = written
        return names[kind, number]

    for line in lines:
        key, _, text = line.rstrip("\n").partition("=")
        if key == "ob":
            here = there = name("ob", text)
        elif key == "cob":
            there = name("ob", text)
        elif key == "fn":
            name("fn", text)
        elif key == "cfn":
            # A function within itself is written as another, with '2 behind its name.
            function = name("fn", text).partition("'")[0]
        elif key == "calls":
            profile.calls[there, function] += int(text.split()[0])
            # Of one call only; the next without a cob= is in the same file as its caller.
            there = here
        elif key.startswith("summary:"):
            profile.instructions = int(key.split()[1])
            is_complete = True
    if not is_complete:
        raise ValueError("the profile has no sum: the process did not end in order")
    return profile
