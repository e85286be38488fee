"""The pages: the README's length, links that lead somewhere, and the table of ends."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readme_has_at_most_100_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_table_of_ends_is_the_one_in_the_code():
    spec = importlib.util.spec_from_file_location("ends_table", ROOT / "tools" / "ends_table.py")
    ends_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ends_table)
    page = (ROOT / "docs" / "design.md").read_text()
    assert page == ends_table.with_table(page), "run python tools/ends_table.py"
