"""Appends results to a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_line(path: Path | None, result: Mapping[str, Any]) -> None:
    """Append a result to the file; does nothing without a file."""
    if path:
        with path.open("a") as output:
            output.write(json.dumps(result) + "\n")
