"""docs/metrics.md is equal to the page that the code prints, and names the labels that are exported."""

import importlib
from pathlib import Path

from metric_families import FAMILIES

ROOT = Path(__file__).parent.parent
metrics_page = importlib.import_module("tools.metrics_page")


def test_page_is_equal_to_the_metrics():
    assert (ROOT / "docs/metrics.md").read_text("utf-8") == metrics_page.page(), (
        "run: python -m tools.metrics_page > docs/metrics.md"
    )


def test_page_names_each_label():
    for name, (_, labels) in FAMILIES.items():
        for label in labels:
            assert f"`{label}`" in metrics_page.LABELS[name]
    assert {name for name, (_, labels) in FAMILIES.items() if labels} == metrics_page.LABELS.keys()
