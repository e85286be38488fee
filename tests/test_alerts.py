"""The delivered alerts: valid, each shown when it fires and when not, and explained on a page."""

import re
import subprocess

import pytest
from pages import DOCS
from prometheus import DEPLOY, RULES, program

TEXT = RULES.read_text()
ALERTS = re.findall(r"- alert: (\w+)", TEXT)
PAGE = (DOCS / "alerts.md").read_text()


def promtool(*arguments):
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_rules_are_valid():
    code, printed = promtool("check", "rules", str(RULES))
    assert (code, f"SUCCESS: {len(ALERTS)} rules found" in printed) == (0, True), printed


def test_each_alert_fires_and_stays_quiet_as_its_scene_says():
    scenes = RULES.with_name("voice-bridge.test.yml")
    code, printed = promtool("test", "rules", str(scenes))
    assert code == 0, printed
    text = scenes.read_text()
    assert re.findall(r"- name: (\w+)", text) == ALERTS
    assert set(re.findall(r"alertname=\"(\w+)\", instance=\"loud\"", text)) == set(ALERTS)


def test_configuration_is_valid():
    code, printed = promtool(
        "check", "config", "--syntax-only", str(DEPLOY / "prometheus" / "prometheus.yml")
    )
    assert code == 0, printed


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_has_its_section_in_the_page(alert):
    rule = TEXT.split(f"- alert: {alert}\n")[1].partition("- alert: ")[0]
    assert f"runbook: docs/alerts.md#{alert.lower()}\n" in rule
    section = PAGE.split(f"### {alert}\n")[1].partition("### ")[0]
    for part in ("**Means**", "**Do**"):
        assert part in section


def test_page_has_no_other_alerts():
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == ALERTS


def test_pages_name_panels_that_exist():
    dashboard = (DEPLOY / "grafana" / "voice-bridge.json").read_text()
    texts = re.findall(r"\*\*Do\*\* (.*?)\n\n", PAGE, re.DOTALL)
    texts += (DOCS / "operations.md").read_text().partition("## Watching it")[2].partition("\n## ")[:1]
    for text in texts:
        for title in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", text.replace("\n", " ")):
            assert f'"{title}' in dashboard, title


def test_page_names_lines_and_metrics_that_exist():
    sources = "\n".join(path.read_text() for path in (DEPLOY.parent / "bridge").rglob("*.py"))
    metrics = (DOCS / "metrics.md").read_text()
    for section in re.findall(r"\*\*Do\*\* (.*?)\n\n", PAGE, re.DOTALL):
        text = section.replace("\n", " ")
        for name in re.findall(r"`((?!bridge )[a-z]+[_' ][a-z_' ]+)`", text):
            assert f"`{name}`" in metrics or f'"{name}' in sources or f"{name}=" in sources, name
