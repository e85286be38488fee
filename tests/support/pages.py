"""Tables and examples in the documents."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def tables_of(page: Path) -> dict[str, list[list[str]]]:
    """The rows of tables, without their heads, by the heading before them."""
    heading, found = "", {}
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("| ---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found.setdefault(heading, []).append(cells)
    return found


def blocks_of(page: Path, *languages: str) -> list[str]:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [content for language, content in blocks if language in languages]
