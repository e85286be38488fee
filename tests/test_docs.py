"""The pages: the README's length, links that lead somewhere, and the table of ends."""

import base64
import importlib.util
import re
from pathlib import Path

import pytest
from metric_families import FAMILIES

from bridge.agents.vendors.retell import RetellDialogue
from bridge.standins.twilio.messages import ToServer
from bridge.twilio.media import media_envelope

ROOT = Path(__file__).parents[1]
FRAMES_PER_S = 50
# TLS 1.3: header, type and tag; IPv4, and TCP with time stamps.
PACKET_BYTES = 22 + 20 + 32
# With the longer length; what a client sends is masked.
FROM_SERVER_BYTES, FROM_CLIENT_BYTES = 4, 8
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_readme_has_at_most_100_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_into_pages_lead_to_headings_that_exist(page):
    links = re.findall(r"\]\(([^)#\s]*\.md)?#([^)\s]+)\)", page.read_text())
    missing = [
        (file, anchor)
        for file, anchor in links
        if anchor not in anchors_of(page.parent / file if file else page)
    ]
    assert missing == []


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_of_ends_is_the_one_in_the_code():
    spec = importlib.util.spec_from_file_location("ends_table", ROOT / "tools" / "ends_table.py")
    ends_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ends_table)
    page = (ROOT / "docs" / "design.md").read_text()
    assert page == ends_table.with_table(page), "run python tools/ends_table.py"


def test_each_trouble_has_a_line_of_the_log_and_a_metric_that_exist():
    page = (ROOT / "docs" / "troubles.md").read_text()
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) >= 15
    sources = "\n".join(path.read_text() for path in (ROOT / "bridge").rglob("*.py"))
    metrics = {name.partition("{")[0] for name in re.findall(r"`(bridge_[^`]*)`", page)}
    assert {re.sub("_total$", "", name) for name in metrics} <= FAMILIES.keys()
    for name, shown, _ in rows:
        assert "`bridge_" in shown, name
        texts = [text for text in re.findall(r"`([^`]+)`", shown) if not text.startswith("bridge_")]
        assert texts or "none: only Twilio sees it" in shown, name
        for text in texts:
            key, _, value = text.partition("=")
            assert key in sources and value in sources, text


def test_bandwidths_are_those_of_the_messages():
    frame, sid = bytes(range(160)), "MZ" + 32 * "a"
    payload = base64.b64encode(frame)
    twilio = ToServer(account_sid="AC" + 32 * "a", call_sid="CA" + 32 * "a", stream_sid=sid)
    # The numbers of a call of five minutes.
    from_twilio = [twilio.media(frame, 20 * n) for n in range(5 * 60 * FRAMES_PER_S)][-1]
    rows = {
        "Twilio": (
            len(from_twilio) + FROM_CLIENT_BYTES,
            len(media_envelope(sid).wrap_payload(payload)) + FROM_SERVER_BYTES,
        ),
        "agent, Retell's JSON": (
            len(b'{"type":"audio","data":"%s"}' % payload) + FROM_SERVER_BYTES,
            len(RetellDialogue.to_agent.wrap_payload(payload)) + FROM_CLIENT_BYTES,
        ),
        "agent, binary mu-law": (len(frame) + FROM_SERVER_BYTES, len(frame) + FROM_CLIENT_BYTES),
    }
    table = "".join(
        f"| {side} | {kilobits_per_s(to_bridge)} | {kilobits_per_s(from_bridge)} |\n"
        for side, (to_bridge, from_bridge) in rows.items()
    )
    assert table in (ROOT / "docs" / "operations.md").read_text()


def kilobits_per_s(message_bytes):
    return round((message_bytes + PACKET_BYTES) * FRAMES_PER_S * 8 / 1000)


def test_troubles_name_lines_and_metrics_that_exist():
    page = (ROOT / "docs" / "troubles.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "bridge").rglob("*.py"))
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| **")]
    assert len(rows) >= 15
    for _, shown, _ in rows:
        names = re.findall(r"`([^`=]+)`", shown)
        assert names or shown.startswith("none"), shown
        for name in names:
            if name.startswith("bridge_"):
                assert f"`{name.partition('{')[0]}`" in metrics, name
            else:
                assert f'"{name}' in sources or f"{name}=" in sources or f'"{name}"' in sources, name
