"""Agents that cannot answer a call: `bridge check` names each fault."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from certificates import Tls
from check_setup import rest, start
from haproxy import free_port
from live import API_KEY

from bridge.commands.checks import agents, shutdowns
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService

__all__ = ["rest", "start"]

SOCKETS = ("retell", "retell-web", "retell-twilio", "openai", "openai-live", "elevenlabs", "deepgram")


@contextlib.asynccontextmanager
async def agent_with_tls(folder: Path, **validity: Any) -> AsyncIterator[AgentService]:
    tls = Tls(folder)
    async with AgentService(
        behaviour=silent, account=Account(key=API_KEY), ssl=tls.server(**validity)
    ) as service:
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(tls.trusted)}):
            yield service


async def test_expired_certificate_of_an_agent(start, tmp_path):
    setup = await start()
    over = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    async with agent_with_tls(
        tmp_path, not_after=over, not_before=over - datetime.timedelta(days=1)
    ) as service:
        found = await setup.faults(**service.environment())
    assert found
    assert all(line.startswith("problem  agent retell: the certificate of") for line in found)
    assert all("certificate has expired" in line for line in found)


async def test_certificate_of_an_agent_that_ends_soon(start, tmp_path):
    setup = await start()
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    async with agent_with_tls(tmp_path, not_after=soon) as service:
        found = await setup.faults(**service.environment())
    assert found
    assert all(line.startswith("warning  agent retell: the certificate of") for line in found)


async def test_agent_that_nobody_serves(start):
    setup = await start()
    found = await setup.faults(RETELL_API_URL=f"http://127.0.0.1:{free_port()}")
    (line,) = found
    assert line.startswith("problem  agent retell: 127.0.0.1:")
    assert "refuses connections" in line


async def test_agent_whose_name_cannot_be_found(start):
    setup = await start()
    (line,) = await setup.faults(RETELL_API_URL="https://api.retell.invalid")
    assert "the name api.retell.invalid cannot be found" in line


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        *((name, "opens a socket that gets ready") for name in SOCKETS),
        ("retell-sip", "gives a session; Twilio reaches it by itself, which is not tried"),
    ],
)
async def test_session_of_each_kind_of_agent_is_opened_and_closed(start, tmp_path, protocol, words):
    (tmp_path / "agent.json").write_text('{"language": "en"}')
    files = {"DEEPGRAM_AGENT_FILE": f"{tmp_path}/agent.json"} if protocol == "deepgram" else {}
    setup = await start(protocol=protocol, **files)
    found = await setup.check(opens_agents=True)
    assert (found[-1].subject, found[-1].text) == (f"agent {protocol}", words)
    assert len(setup.live.agent.sessions) == 1


async def test_agent_with_a_wrong_key(start):
    setup = await start()
    (line,) = await setup.faults(opens_agents=True, RETELL_API_KEY="another")
    assert line.startswith("problem  agent retell: gives no session: status 401")
    # The service noticed it too.
    setup.live.agent.violations.clear()


@pytest.mark.parametrize(("day", "level"), [("2027-01-19", "warning"), ("2027-01-20", "problem")])
async def test_model_that_is_shut_down(start, monkeypatch, day, level):
    setup = await start()
    today = datetime.date.fromisoformat(day)
    monkeypatch.setattr(agents.datetime, "date", mock.Mock(today=lambda: today))
    found = await setup.faults(
        BRIDGE_AGENT="openai",
        OPENAI_API_KEY="k",
        OPENAI_REALTIME_MODEL="gpt-realtime",
        OPENAI_REALTIME_URL=f"ws://127.0.0.1:{setup.live.server.port}",
    )
    (line,) = found
    assert line.startswith(f"{level:<8} agent openai: the model gpt-realtime w")
    assert line.endswith("use gpt-realtime-2.1")


def test_shutdowns_are_those_that_the_vendors_sdk_announces():
    realtime = pytest.importorskip("openai.types.realtime.realtime_session_create_request")
    text = Path(realtime.__file__).read_text()
    announced = text.partition("Deprecated values:")[2].partition("See https")[0]
    assert "2027-01-20" in announced
    names = {part for part in announced.split('"')[1::2] if "realtime" in part}
    known = {name for name, shutdown in shutdowns.SHUTDOWNS.items() if shutdown.day == shutdowns.LEGACY_DAY}
    assert names == known
