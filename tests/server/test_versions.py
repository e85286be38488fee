"""Two processes of which one is a version ahead, over one store: each goes on with the other's calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, until
from next_version import put_next_version

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import Account, AgentService
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller


class Versions:
    """The base URL of a process of each version, and the agent of both."""

    def __init__(self, urls: dict[str, str], agent: AgentService) -> None:
        self.urls = urls
        self.agent = agent

    def caller(self, version: str) -> Caller:
        return Caller(
            self.urls[version], public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN
        )

    async def session(self):
        session = await self.agent.next_session(DEADLINE_S)
        await asyncio.wait_for(session.opened.wait(), DEADLINE_S)
        return session


@pytest.fixture
async def versions(tmp_path: Path) -> AsyncIterator[Versions]:
    async with contextlib.AsyncExitStack() as stack:
        agent = await stack.enter_async_context(AgentService(behaviour=silent, account=Account(key=API_KEY)))
        urls = {}
        for version in ("present", "next"):
            folder = tmp_path / version
            folder.mkdir()
            if version == "next":
                put_next_version(folder)
            port = free_port()
            settings = {
                **agent.environment(),
                **DEFAULTS,
                "PORT": str(port),
                "BRIDGE_LOG_FORMAT": "json",
                "BRIDGE_STORE": f"sqlite:{tmp_path}/store.sqlite3",
            }
            process = stack.enter_context(BridgeProcess(folder, settings))
            urls[version] = f"http://127.0.0.1:{port}"
            await asyncio.to_thread(process.wait_ready, urls[version])
            assert ('"version"' in process.log) == (version == "next")
        yield Versions(urls, agent)


BOTH_WAYS = pytest.mark.parametrize(("one", "other"), [("present", "next"), ("next", "present")])


@BOTH_WAYS
async def test_one_answers_the_webhook_and_the_other_takes_the_stream_and_says_how_it_ended(
    versions, one, other
):
    async with versions.caller(one) as caller:
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        caller.endpoint.url = versions.urls[other]
        await caller.open_stream()
        session = await versions.session()
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        await session.send_call_ended()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        caller.endpoint.url = versions.urls[one]
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
        assert (await caller.post_voice()).verbs == ["Hangup"]
    assert len(versions.agent.sessions) == 1


@BOTH_WAYS
async def test_call_that_lost_its_socket_at_one_goes_on_at_the_other(versions, one, other):
    async with versions.caller(one) as caller:
        await caller.post_voice()
        await caller.open_stream()
        first = await versions.session()
        caller.abort()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        caller.endpoint.url = versions.urls[other]
        assert (await caller.go_on()).verbs == ["Connect", "Redirect"]
        second = await versions.session()
        assert second is not first
        await caller.send_media(b"back")
        await until(lambda: [item.audio for item in second.received] == [b"back"])
        # A late request to the first one, which had the call before.
        caller.endpoint.url = versions.urls[one]
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
