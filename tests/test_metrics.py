"""Metrics: a scraper can read them, and their names and labels are the ones that dashboards are built on."""

import asyncio
import itertools
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from live import serving, until
from metric_families import FAMILIES
from prometheus_client.parser import text_string_to_metric_families

from bridge.call.ends import Why
from bridge.metric_labels import IGNORED, PASSED_OVER, REFUSALS
from bridge.metrics import Metrics, Traffic

ROOT = Path(__file__).parents[1]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    metrics.watch_traffic(lambda: Traffic(1, 2, 3, 4, 50, 60, 5, 6, 7, 8, 9))
    metrics.refused("full")
    metrics.events.labels("call.started", "delivered")
    metrics.answers.labels("used")
    metrics.recordings.labels("call_ended")
    metrics.recordings_encoded.labels("encoded")
    metrics.ignored("caller", "not_json")
    metrics.calls_ended.labels("agent_ended", "openai").inc()
    metrics.calls.labels("openai", "default").inc()
    metrics.agent_errors.labels("openai", "other").inc()
    for of_agent in (metrics.agents_replaced, metrics.calls_without_agent_audio):
        of_agent.labels("openai")
    for of_agent in (metrics.agent_connect_s, metrics.first_agent_audio_s, metrics.caller_wait_s):
        of_agent.labels("openai").observe(0.1)
    metrics.requests.labels("/voice", "200").inc()
    metrics.interrupt_to_clear(0.0007)
    metrics.agents_passed_over.labels("openai", "failing").inc()
    metrics.agent_available.labels("openai").set(1)
    metrics.full.labels("agent:openai").set(0)
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_every_family_has_its_name_type_and_labels(metrics):
    found = {
        family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(metrics.text().decode())
    }
    assert found == FAMILIES


def test_every_family_says_what_it_is(metrics):
    for family in text_string_to_metric_families(metrics.text().decode()):
        assert family.documentation


def test_traffic_is_read_when_scraped(metrics):
    read = samples(metrics)
    assert read["bridge_frames_total", (("direction", "from_caller"),)] == 1
    assert read["bridge_frames_total", (("direction", "to_agent"),)] == 2
    assert read["bridge_frames_total", (("direction", "from_agent"),)] == 3
    assert read["bridge_frames_total", (("direction", "to_caller"),)] == 4
    dropped = {
        labels: value for (name, labels), value in read.items() if name == "bridge_frames_dropped_total"
    }
    assert {tuple(label for _, label in labels): value for labels, value in dropped.items()} == {
        ("to_agent", "full"): 5,
        ("to_agent", "ended"): 45,
        ("to_caller", "full"): 6,
        ("to_caller", "ended"): 54,
    }
    assert read["bridge_frames_cleared_total", ()] == 7
    assert read["bridge_interrupts_total", ()] == 8
    assert read["bridge_dtmf_total", ()] == 9


def test_counts_are_read_back(metrics):
    read = samples(metrics)
    assert read["bridge_calls_refused_total", (("reason", "full"),)] == 1
    assert read["bridge_messages_ignored_total", (("reason", "not_json"), ("side", "caller"))] == 1
    assert read["bridge_interrupt_to_clear_seconds_bucket", (("le", "0.0005"),)] == 0
    assert read["bridge_interrupt_to_clear_seconds_bucket", (("le", "0.001"),)] == 1


def test_no_time_of_creation_is_exposed(metrics):
    assert b"_created" not in metrics.text()


def test_labels_are_escaped():
    metrics = Metrics()
    metrics.refused('a"b\nc\\')
    assert samples(metrics)["bridge_calls_refused_total", (("reason", 'a"b\nc\\'),)] == 1


def test_processes_metrics_do_not_share_anything():
    first, second = Metrics(), Metrics()
    first.agents_ahead.inc()
    assert samples(second)["bridge_agents_ahead_total", ()] == 0


def test_traffic_adds_up():
    total = Traffic()
    for _ in range(3):
        total.add(Traffic(*range(1, len(fields(Traffic)) + 1)))
    assert total == Traffic(*(3 * n for n in range(1, len(fields(Traffic)) + 1)))


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed: apt-get install prometheus")
async def test_promtool_finds_nothing_to_complain_of_in_a_used_process():
    async with serving() as live:
        async with live.bridged() as (caller, agent):
            await agent.send_audio(bytes(160))
            await until(lambda: caller.received)
        await until(lambda: live.is_idle)
        _, text = await live.get("/metrics")
    command = [PROMTOOL, "check", "metrics"]
    checked = await asyncio.to_thread(
        subprocess.run, command, input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_known_labels_are_exported_from_the_start():
    async with serving() as live:
        metrics = await live.metrics()
        for why in Why:
            assert f'bridge_calls_ended_total{{agent="retell",why="{why.value}"}}' in metrics
        for reason in REFUSALS:
            assert f'bridge_calls_refused_total{{reason="{reason}"}}' in metrics
        for side, reasons in IGNORED.items():
            for reason in reasons:
                assert f'bridge_messages_ignored_total{{reason="{reason}",side="{side}"}}' in metrics
        for why in PASSED_OVER:
            assert f'bridge_agents_passed_over_total{{agent="retell",why="{why}"}}' in metrics
        for direction, reason in itertools.product(("to_agent", "to_caller"), ("full", "ended")):
            assert f'bridge_frames_dropped_total{{direction="{direction}",reason="{reason}"}}' in metrics
        assert metrics["bridge_calls_max"] == 500


@pytest.mark.parametrize("reason", REFUSALS)
def test_exported_refusals_are_those_that_the_bridge_counts(reason):
    sources = "\n".join(path.read_text() for path in (ROOT / "bridge" / "server").rglob("*.py"))
    of_start = rf"return \"{reason}\"\n"
    assert re.search(rf"(refused|fallback|webhook|labels)\([^()]*\"{reason}\"|{of_start}", sources), reason


def test_exported_reasons_of_ignored_messages_are_those_of_the_code():
    found: dict[str, set[str]] = {"caller": set(), "agent": set()}
    for path in (*(ROOT / "bridge").rglob("*.py"), ROOT / "_codec" / "wire.pyx"):
        of_caller = path.name in ("caller.py", "media.py", "media_socket.py")
        sides = found if path.name in ("leg.py", "wire.pyx") else ("caller" if of_caller else "agent",)
        for side in sides:
            found[side] |= set(
                re.findall(r"(?:on_ignored|Ignored|BadMessage)\(\"(\w+)\"\)", path.read_text())
            )
    assert {side: sorted(reasons) for side, reasons in found.items()} == {
        side: list(reasons) for side, reasons in IGNORED.items()
    }
