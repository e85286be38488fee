"""Debian's Prometheus watches a bridge process with calls: every query of dashboard and alerts works, and has data."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, soon, until
from metric_families import FAMILIES
from prometheus import DEPLOY, RULES, Prometheus, program, prometheus
from user_side import user_side

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller

dashboard = importlib.import_module("tools.dashboard").dashboard
DASHBOARD = json.loads((DEPLOY / "grafana" / "voice-bridge.json").read_text())
QUERIES = [
    target["expr"] for panel in DASHBOARD["panels"] if panel["type"] != "row" for target in panel["targets"]
]
CHOICES = {one["name"]: one["query"]["query"] for one in DASHBOARD["templating"]["list"][1:]}
# A metric, and what it is filtered by.
SELECTOR = re.compile(r"\b(?:up|ALERTS|(?:bridge|process)_\w+)(?:\{[^}]*\})?")
TOKEN = "canary-metrics-token"
# The log's is counted apart.
KINDS = {name: kind for name, (kind, _) in FAMILIES.items()} | {"bridge_log_lines_dropped": "counter"}
# What the dashboard leaves to a query by hand.
DETAILS = {
    "bridge_agents_ahead",
    "bridge_gc_pause_longest_seconds",
    "bridge_gc_pauses",
    "bridge_lost_audio_seconds",
    "process_virtual_memory_bytes",
}
STREAM, FALLBACK = ["Connect", "Redirect"], ["Say", "Hangup"]


class Scene(NamedTuple):
    url: str
    agent: AgentService
    prometheus: Prometheus

    def caller(self) -> Caller:
        return Caller(self.url, public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN)

    async def talk(self) -> None:
        """A call with an interrupt, a key and a message that nobody knows; another caller finds the agent full."""
        async with self.caller() as caller, self.caller() as second:
            assert (await caller.post_voice()).verbs == STREAM
            await caller.open_stream()
            session = await self.agent.next_session(DEADLINE_S)
            await soon(session.opened.wait())
            await caller.send_media(bytes(160))
            await caller.send_dtmf("5")
            await caller.send_raw('{"event":"news"}')
            for sound, frames in ((b"\xff", 25), (b"\x80", 25), (b"\xff", 25)):
                await caller.send_frames([sound * 160] * frames, paced=False)
            await until(lambda: len(session.received) >= 75)
            await session.send_audio(b"\x80" * 800)
            await session.send_interrupt()
            await until(lambda: session.received and caller.received)
            assert (await second.post_voice()).verbs == FALLBACK
            await session.send_call_ended()
            await soon(caller.closed.wait())

    async def fail(self) -> None:
        """A call whose agent refuses it."""
        self.agent.rest_answers.append(HttpAnswer(status=403))
        async with self.caller() as caller:
            assert (await caller.post_voice()).verbs == FALLBACK


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    program("prometheus")
    async with contextlib.AsyncExitStack() as stack:
        user = await stack.enter_async_context(user_side())
        agent = await stack.enter_async_context(AgentService(behaviour=silent, account=Account(key=API_KEY)))
        port, folder, recordings = free_port(), tmp_path / "bridge", tmp_path / "recordings"
        folder.mkdir()
        recordings.mkdir()
        settings = {
            **agent.environment(),
            **DEFAULTS,
            "PORT": str(port),
            "BRIDGE_METRICS_TOKEN": TOKEN,
            "BRIDGE_MAX_CALLS_OF": "retell=1",
            "BRIDGE_DAY_MINUTES": "1000",
            "BRIDGE_RECORD_DIR": str(recordings),
            # Nobody listens there.
            "BRIDGE_EVENTS_URL": f"http://127.0.0.1:{free_port()}/events",
            "BRIDGE_EVENTS_SECRET": "whsec_" + base64.b64encode(bytes(32)).decode(),
            **{name: str(value) for name, value in user.settings(tmp_path).items()},
        }
        process = stack.enter_context(BridgeProcess(folder, settings))
        await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
        watching = await stack.enter_async_context(prometheus(tmp_path, port, TOKEN))
        # Counters that begin with the first call have grown after the second.
        scene = Scene(f"http://127.0.0.1:{port}", agent, watching)
        await watching.until_sum("bridge_calls_ended_total", 0)
        for n in (1, 2):
            await scene.talk()
            await scene.fail()
            await watching.until_sum("bridge_calls_ended_total", n)
            await watching.until_sum('bridge_calls_refused_total{reason="no_session"}', 2 * n)
        yield scene


async def chosen(watching: Prometheus) -> dict[str, str]:
    """What Grafana puts in place of its variables where all values are chosen."""
    found = {"__rate_interval": "1m", "__range": "1m"}
    for name, query in CHOICES.items():
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        data = await watching.get("series", **{"match[]": with_values(series, found)})
        values = {one[label] for one in data}
        assert values, query
        found[name] = f"({'|'.join(sorted(map(re.escape, values)))})".replace("\\", "\\\\")
    return found


def with_values(query: str, values: dict[str, str]) -> str:
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], query)


async def without_data(watching: Prometheus, queries: set[str]) -> set[str]:
    """Those of the queries that have no data even after a while; the event loop's ticks come twice a second."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while queries and asyncio.get_running_loop().time() < deadline:
        queries = {query for query in queries if not await watching.values(query)}
    return queries


async def test_every_query_of_dashboard_and_alerts_has_data(scene):
    watching = scene.prometheus
    rules = await watching.rules()
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert {rule["name"] for rule in rules} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    # Two callers heard the fallback.
    await watching.until_sum('ALERTS{alertname="VoiceBridgeNoAgent", alertstate="firing"}', 1)

    for rule in rules:
        await watching.values(rule["query"])
    selectors = {f"count({one})" for rule in rules for one in SELECTOR.findall(rule["query"])}
    assert await without_data(watching, selectors) == set()
    values = await chosen(watching)
    assert await without_data(watching, {with_values(query, values) for query in QUERIES}) == set()


def exported() -> set[str]:
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count"), "gauge": ("",)}
    return {f"{name}{suffix}" for name, kind in KINDS.items() for suffix in suffixes[kind]}


def named_in(text: str) -> set[str]:
    found = {name.partition("{")[0] for name in SELECTOR.findall(text)} - {"up", "ALERTS"}
    assert found
    return found


def test_metrics_of_alerts_are_exported():
    rules = "\n".join(line for line in RULES.read_text().splitlines() if "runbook" not in line)
    assert named_in(rules) <= exported()


def test_dashboard_shows_every_metric_but_details():
    named = named_in("\n".join([*QUERIES, *CHOICES.values()]))
    assert named <= exported()
    families = {re.sub(r"_(total|bucket|count)$", "", name) for name in named}
    assert KINDS.keys() - families == DETAILS


def test_dashboard_is_the_one_of_its_source():
    assert (DEPLOY / "grafana" / "voice-bridge.json").read_text() == dashboard(), (
        "run: python -m tools.dashboard > deploy/grafana/voice-bridge.json"
    )


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
