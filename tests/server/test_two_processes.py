"""Two real processes behind HAProxy: however a call ends, nobody apologizes, and no second agent says hello."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import aiohttp
import pytest
from aiohttp import web
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, soon, until
from redis_server import RedisServer, redis_server, started

from bridge.server.agent_chain import SESSIONS_AGAIN
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller

__all__ = ["redis_server"]

# Debian puts it where an ordinary user's PATH does not look.
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIG = """
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend public
    bind 127.0.0.1:{port}
    default_backend bridges
backend bridges
    balance roundrobin
    option redispatch 1
    retries 3
    option httpchk GET /readyz
"""
SERVER = "    server bridge-{n} 127.0.0.1:{port} check inter 100ms fall 1 rise 1\n"
CALLS_OF_A_KIND = 40
FALLBACK = ("Say", "Hangup")
TO_NUMBER = "+493012345678"


class Scene(NamedTuple):
    url: str
    ports: list[int]
    processes: list[BridgeProcess]
    agent: AgentService

    def caller(self) -> Caller:
        return Caller(self.url, public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN)

    @contextlib.asynccontextmanager
    async def calls(self, count: int) -> AsyncIterator[list[tuple[Caller, AgentSession]]]:
        """Calls with both sides open."""
        async with contextlib.AsyncExitStack() as stack:
            found = []
            for _ in range(count):
                caller = await stack.enter_async_context(self.caller())
                assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
                await caller.open_stream()
                # Three requests a call, so that round robin gives the sockets to both.
                await caller.post_stream_status("stream-started")
                session = await self.agent.next_session(DEADLINE_S)
                # The caller's words wait until the agent is ready.
                await caller.send_media(b"hello")
                await until(lambda session=session: session.received)
                found.append((caller, session))
            yield found

    async def requests(self, path: str) -> list[float]:
        """How many requests for a path each process has answered."""
        found = []
        async with aiohttp.ClientSession() as http:
            for port in self.ports:
                async with http.get(f"http://127.0.0.1:{port}/metrics") as response:
                    lines = (await response.text()).splitlines()
                start = f'bridge_http_requests_total{{path="{path}",status="200"}} '
                found.append(sum(float(line.removeprefix(start)) for line in lines if line.startswith(start)))
        return found


@pytest.fixture(params=["sqlite", "redis"])
async def scene(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> AsyncIterator[Scene]:
    if HAPROXY is None:
        assert not os.environ.get("CI"), "haproxy is not installed, and CI must run this"
        pytest.skip("haproxy is not installed")
    store = f"sqlite:{tmp_path}/store.sqlite3"
    if request.param == "redis":
        await started(redis_server)
        store = redis_server.url
    async with contextlib.AsyncExitStack() as stack:
        account = Account(key=API_KEY)
        agent, dialled = [
            await stack.enter_async_context(AgentService(protocol=name, behaviour=silent, account=account))
            for name in ("elevenlabs", "retell-sip")
        ]
        settings = {
            **dialled.environment(),
            **agent.environment(),
            **DEFAULTS,
            "BRIDGE_AGENT": "elevenlabs,retell-sip",
            "BRIDGE_STORE": store,
            "BRIDGE_TRANSFER_TO": "+49",
            "TWILIO_API_URL": await stack.enter_async_context(broken_api()),
        }
        ports = [free_port(), free_port()]
        processes = []
        for port in ports:
            folder = tmp_path / str(port)
            folder.mkdir()
            processes.append(stack.enter_context(BridgeProcess(folder, {**settings, "PORT": str(port)})))
        for process, port in zip(processes, ports, strict=True):
            await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
        url = await stack.enter_async_context(balanced(tmp_path, ports))
        yield Scene(url, ports, processes, agent)


@contextlib.asynccontextmanager
async def broken_api() -> AsyncIterator[str]:
    """Twilio's REST API on a bad day: what it does not do is left to `/voice/resume`."""

    async def fail(_: web.Request) -> web.Response:
        return web.Response(status=500)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def balanced(folder: Path, ports: list[int]) -> AsyncIterator[str]:
    port = free_port()
    config = folder / "haproxy.cfg"
    servers = "".join(SERVER.format(n=n, port=each) for n, each in enumerate(ports))
    config.write_text(CONFIG.format(port=port) + servers)
    assert HAPROXY is not None
    with (folder / "haproxy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            HAPROXY, "-db", "-f", str(config), stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(2 * DEADLINE_S), aiohttp.ClientSession() as http:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
                        if response.status == 200:
                            break
                await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


# How a call ends, and what its caller then gets from Twilio


async def by_the_agent(scene: Scene, caller: Caller, session: AgentSession) -> list[tuple[str, ...]]:
    await session.send_call_ended()
    return [await verbs_behind(caller)]


async def by_the_caller(scene: Scene, caller: Caller, _: AgentSession) -> list[tuple[str, ...]]:
    await caller.send_stop()
    # Twilio asks nothing; a late webhook of the call is the end too.
    await soon(caller.closed.wait())
    return [tuple((await caller.post_voice()).verbs)]


async def by_transfer(scene: Scene, caller: Caller, session: AgentSession) -> list[tuple[str, ...]]:
    await session.send_tool_call("transfer_call", {"to_number": TO_NUMBER})
    verbs = await verbs_behind(caller)
    assert TO_NUMBER in caller.answer.body
    return [verbs]


async def by_a_lost_agent(scene: Scene, caller: Caller, session: AgentSession) -> list[tuple[str, ...]]:
    # No other session of the same agent takes over.
    scene.agent.rest_answers.extend(SESSIONS_AGAIN * [HttpAnswer(status=403)])
    session.abort()
    verbs = await verbs_behind(caller)
    action = ElementTree.fromstring(caller.answer.body).find("Dial").get("action")
    answer = await caller.post(action, {**caller._form(None, {}), "DialCallStatus": "completed"})
    return [verbs, tuple(answer.verbs)]


async def by_a_lost_socket(scene: Scene, caller: Caller, _: AgentSession) -> list[tuple[str, ...]]:
    """The call goes on, and is then ended by its caller."""
    caller.abort()
    verbs = tuple((await soon(caller.go_on())).verbs)
    words = caller.call_sid.encode()
    await caller.send_media(words)
    await until(lambda: any(item.audio == words for one in every(scene) for item in one.received[-1:]))
    await caller.send_stop()
    await soon(caller.closed.wait())
    return [verbs]


def every(scene: Scene) -> list[AgentSession]:
    return list(scene.agent.sessions.values())


async def verbs_behind(caller: Caller) -> tuple[str, ...]:
    await soon(caller.closed.wait())
    return tuple((await caller.follow_redirect()).verbs)


Ending = Callable[[Scene, Caller, AgentSession], Coroutine[Any, Any, list[tuple[str, ...]]]]
# How many answers of which kind follow.
EXPECTED: dict[Ending, list[tuple[str, ...]]] = {
    by_the_agent: [("Hangup",)],
    by_the_caller: [("Hangup",)],
    by_transfer: [("Dial", "Hangup")],
    by_a_lost_agent: [("Dial",), ("Hangup",)],
    by_a_lost_socket: [("Connect", "Redirect")],
}


async def test_no_caller_hears_the_fallback_and_no_second_agent_follows_a_goodbye(scene):
    rows, wrong = [], []
    for ending, expected in EXPECTED.items():
        before = len(scene.agent.sessions)
        async with scene.calls(CALLS_OF_A_KIND) as calls:
            answers = await asyncio.gather(*(ending(scene, *call) for call in calls))
        scene.agent.rest_answers.clear()
        wrong += [(ending.__name__, found) for found in answers if found != expected]
        heard = Counter(verbs for found in answers for verbs in found)
        further = len(scene.agent.sessions) - before - CALLS_OF_A_KIND
        # Half of the lost sockets come back to the other process, which opens a session of its own.
        wrong += [(ending.__name__, further)] if further and ending is not by_a_lost_socket else []
        texts = ", ".join(f"{count} {' '.join(verbs)}" for verbs, count in heard.items())
        rows.append(f"| {ending.__name__} | {CALLS_OF_A_KIND} | {texts} | {heard[FALLBACK]} | {further} |")
    print("\n| ended | calls | answers | fallbacks | further sessions |\n|---|---|---|---|---|")
    print("\n".join(rows))
    assert wrong == []
    # Both processes were asked.
    assert min(await scene.requests("/voice/resume")) > CALLS_OF_A_KIND


async def test_calls_of_a_killed_process_are_back_with_an_agent_and_the_others_lose_nothing(scene):
    async with scene.calls(20) as calls:
        scene.processes[0].kill()
        lost = [call for call in calls if await is_closed(call[0])]
        kept = [call for call in calls if call not in lost]
        assert len(lost) in range(5, 16)
        answers = await asyncio.gather(*(soon(caller.go_on()) for caller, _ in lost))
        assert {tuple(answer.verbs) for answer in answers} == {("Connect", "Redirect")}
        for _ in lost:
            session = await scene.agent.next_session(DEADLINE_S)
            await soon(session.opened.wait())
            await session.send_audio(b"again")
        for caller, _ in lost:
            await until(lambda caller=caller: caller.received)
        for caller, session in kept:
            await session.send_audio(b"still here")
            await until(lambda caller=caller: caller.received)
    assert len(scene.agent.sessions) == 20 + len(lost)


async def is_closed(caller: Caller) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(caller.closed.wait(), 0.3)
    return caller.closed.is_set()
