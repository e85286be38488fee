"""The code of a next version, which keeps and seals more than this one: made of a copy of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import bridge

# File, the line after which another one comes, and the new one.
GROWS = [
    ("server/store/agreement.py", "    is_successor: bool = False\n", '    language: str = "added"\n'),
    ("twilio/tokens.py", "    is_successor: bool = False\n", '    language: str = "added"\n'),
    (
        "twilio/tokens.py",
        "    reattached_at: list[int] = field(default_factory=list)\n",
        "    priority: int = 7\n",
    ),
    # The log shows which code runs.
    ("serve.py", '        "serving",\n', '        version="next",\n'),
    (
        "agents/sessions.py",
        "    values: dict[str, str] = field(default_factory=dict)\n",
        "    seed: int = 11\n",
    ),
]


def put_next_version(folder: Path) -> None:
    """Put the code where a process with this working directory finds it first."""
    package = folder / "bridge"
    shutil.copytree(Path(bridge.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, added in GROWS:
        text = (package / name).read_text()
        assert text.count(before) == 1, (name, before)
        (package / name).write_text(text.replace(before, before + added))
