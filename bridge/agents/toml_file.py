"""TOML files that settings name, with every problem in them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

# A setting's name in lower case, and a sentence.
Problem = tuple[str, str]


def where_it_begins(path: str) -> str:
    """Where a relative path begins, as the end of a message without the path; empty for an absolute one."""
    return "" if Path(path).is_absolute() else f"; a relative path begins at {Path.cwd()}"


class TomlFile:
    """
    One file, and the problems found in it.

    Args:
        setting: The variable that names the file, in lower case.
        path: Empty if the variable is not set; the file then has no content.
        problems: Gets the problems.
    """

    def __init__(self, setting: str, path: str, problems: list[Problem]) -> None:
        self._setting = setting
        self._path = path
        self._problems = problems

    def read(self) -> dict[str, Any] | None:
        """Return the content; None if there is none or it cannot be read."""
        if not self._path:
            return None
        try:
            return tomllib.loads(Path(self._path).read_text(encoding="utf-8"))
        except OSError as error:
            # Without the path, which may be a secret in the wrong variable.
            text = (
                f"{self._setting.upper()}: cannot be read: {error.strerror}; look at its path and permissions"
            )
            self._problems.append((self._setting, text + where_it_begins(self._path)))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            self.add_problem(f"cannot be read: {error}")
        return None

    def place(self, *keys: str | int) -> str:
        """Name a place in the file, for a message."""
        return ": ".join([self._setting.upper(), self._path, *([".".join(map(str, keys))] if keys else [])])

    def add_problem(self, text: str, *keys: str | int) -> None:
        """Add a problem at a place in the file."""
        self._problems.append((self._setting, f"{self.place(*keys)}: {text}"))
