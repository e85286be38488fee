"""A set-up that works, of which a test of `bridge check` breaks one part."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from live import API_KEY, DEFAULTS, Live, make_settings

from bridge.commands.check import check_all
from bridge.commands.finding import Finding, Level
from bridge.server.store.sqlite import SqliteStore
from bridge.settings import Settings
from bridge.standins.twilio.rest import TwilioRest

NUMBER = "+14155550100"


class Setup:
    """A bridge that works, with its account, its number, its agent and its settings; tests break one part."""

    def __init__(self, live: Live, rest: TwilioRest, folder: Path, overrides: dict[str, str]) -> None:
        self.live = live
        self.rest = rest
        self.variables = {
            **live.agent.environment(),
            **DEFAULTS,
            "BRIDGE_STORE": f"sqlite:{folder}/check.sqlite3",
            "PUBLIC_URL": live.server._settings.public_url,
            **rest.environment(),
            **overrides,
        }
        self.number: dict[str, Any] = {}

    def settings(self, **overrides: str) -> Settings:
        return make_settings({**self.variables, **overrides})

    async def check(self, number: str = "", opens_agents: bool = False, **overrides: str) -> list[Finding]:
        found = await check_all(self.settings(**overrides), number, opens_agents=opens_agents)
        for finding in found:
            assert finding.level is Level.OK or finding.todo
            assert "\n" not in str(finding)
            assert API_KEY not in str(finding)
        return found

    async def faults(self, *args: Any, **options: Any) -> list[str]:
        """All that is not ok, but for the address of this machine."""
        found = await self.check(*args, **options)
        texts = [str(finding) for finding in found if finding.level is not Level.OK]
        return [text for text in texts if "is this machine's own address" not in text]


@pytest.fixture
async def rest() -> AsyncIterator[TwilioRest]:
    async with TwilioRest() as rest:
        yield rest
    assert rest.violations == []


@pytest.fixture
def start(live_server, rest, tmp_path):
    """Starts a set-up whose public URL is the bridge's own or that of a proxy."""

    async def start(public_url: str = "", protocol: str = "retell", **overrides: str) -> Setup:
        with socket.socket() as held:
            # Bound until the server has it: the port is part of its public URL, and nobody else may take it.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
            own = {"PORT": port, "PUBLIC_URL": public_url or f"http://127.0.0.1:{port}"}
            live = await live_server(
                agent={"protocol": protocol}, **{**own, **rest.environment(), **overrides}
            )
        setup = Setup(live, rest, tmp_path, overrides)
        # As the bridge does that has this store.
        store = SqliteStore(tmp_path / "check.sqlite3")
        await store.beat("bridge", "", 3600.0)
        await store.close()
        public = live.server._settings.public_url
        sid = rest.add_number(
            NUMBER,
            voice_url=f"{public}/voice",
            status_callback=f"{public}/voice/status",
            voice_fallback_url="https://handler.twilio.com/twiml/EH1",
        )
        setup.number = rest.numbers[sid]
        return setup

    return start
