"""docs/settings.md is equal to the page that the code prints."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_page_is_equal_to_the_printed_descriptions():
    printed = subprocess.run(
        [sys.executable, "-m", "tools.settings_page"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert (ROOT / "docs/settings.md").read_text("utf-8") == printed, (
        "run: python -m tools.settings_page > docs/settings.md"
    )
