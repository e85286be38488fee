"""Two real processes behind HAProxy: however a call ends, nobody apologizes, and no second agent says hello."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
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
from live import (
    ACCOUNT_SID,
    API_KEY,
    AUTH_TOKEN,
    DEADLINE_S,
    DEFAULTS,
    PUBLIC_URL,
    make_settings,
    soon,
    until,
)
from redis_server import RedisServer, redis_server, started

from bridge.seal import Seal
from bridge.server.agent_chain import SESSIONS_AGAIN
from bridge.server.store.opening import open_store
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession, Told
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
    timeout check 5s
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
async def store(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store.sqlite3"
    await started(redis_server)
    return redis_server.url


@contextlib.asynccontextmanager
async def two_processes(folder: Path, store: str, protocol: str, **given: str) -> AsyncIterator[Scene]:
    """Two bridges with an agent of this protocol, and retell-sip behind it."""
    if HAPROXY is None:
        assert not os.environ.get("CI"), "haproxy is not installed, and CI must run this"
        pytest.skip("haproxy is not installed")
    async with contextlib.AsyncExitStack() as stack:
        account = Account(key=API_KEY)
        agent, dialled = [
            await stack.enter_async_context(AgentService(protocol=name, behaviour=silent, account=account))
            for name in (protocol, "retell-sip")
        ]
        settings = {
            **dialled.environment(),
            **agent.environment(),
            **DEFAULTS,
            "BRIDGE_AGENT": f"{protocol},retell-sip",
            "BRIDGE_STORE": store,
            "BRIDGE_TRANSFER_TO": "+49",
            "TWILIO_API_URL": await stack.enter_async_context(broken_api()),
            **given,
        }
        ports = [free_port(), free_port()]
        processes = []
        for port in ports:
            own = folder / str(port)
            own.mkdir()
            processes.append(stack.enter_context(BridgeProcess(own, {**settings, "PORT": str(port)})))
        for process, port in zip(processes, ports, strict=True):
            await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
        url = await stack.enter_async_context(balanced(folder, ports))
        yield Scene(url, ports, processes, agent)


@pytest.fixture
async def scene(tmp_path: Path, store: str) -> AsyncIterator[Scene]:
    async with two_processes(tmp_path, store, "elevenlabs") as found:
        yield found


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
    by_a_lost_socket: [("Connect", "Redirect")],
    # The last one: calls pass the failing agent over then.
    by_a_lost_agent: [("Dial",), ("Hangup",)],
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
        for _ in range(further):
            await scene.agent.next_session(DEADLINE_S)
        # Half of the lost sockets come back to the other process, which opens a session of its own.
        wrong += [(ending.__name__, further)] if further and ending is not by_a_lost_socket else []
        texts = ", ".join(f"{count} {' '.join(verbs)}" for verbs, count in heard.items())
        rows.append(f"| {ending.__name__} | {CALLS_OF_A_KIND} | {texts} | {heard[FALLBACK]} | {further} |")
    print("\n| ended | calls | answers | fallbacks | further sessions |\n|---|---|---|---|---|")
    print("\n".join(rows))
    assert wrong == []
    # Both processes were asked.
    assert min(await scene.requests("/voice/resume")) > CALLS_OF_A_KIND


async def test_calls_of_a_killed_process_go_on_with_an_agent_that_knows_what_was_said(tmp_path, store):
    async with (
        two_processes(tmp_path, store, "openai", OPENAI_REALTIME_GREETS="1") as scene,
        scene.calls(2 * CALLS_OF_A_KIND) as calls,
    ):
        for caller, session in calls:
            await until(lambda session=session: session.asked_to_speak)
            session.transcript = f"I speak to {caller.call_sid}."
            await session.send_audio(frame("before"))
            await session.end_turn()
        await kept_in(store, [caller for caller, _ in calls])
        scene.processes[0].kill()
        are_closed = await asyncio.gather(*(is_closed(caller) for caller, _ in calls))
        lost = [caller for (caller, _), is_lost in zip(calls, are_closed, strict=True) if is_lost]
        kept = [call for call in calls if call[0] not in lost]
        assert len(lost) in range(CALLS_OF_A_KIND - 15, CALLS_OF_A_KIND + 16)
        answers, _ = await asyncio.gather(
            asyncio.gather(*(soon(caller.go_on()) for caller in lost)),
            asyncio.gather(*(talk(*call) for call in kept)),
        )
        assert {tuple(answer.verbs) for answer in answers} == {("Connect", "Redirect")}
        successors = [await scene.agent.next_session(DEADLINE_S) for _ in lost]
        for session in successors:
            # What it says before it has confirmed its format is not played.
            await until(lambda session=session: session.told and session.ready.is_set())
            await session.send_audio(frame("after"))
        for caller in lost:
            await until(lambda caller=caller: caller.received_audio[-1:] == [frame("after")])
        told = [[Told("agent", f"I speak to {caller.call_sid}.")] for caller in lost]
        assert sorted(session.told for session in successors) == sorted(told)
        # The last words were the agent's: nobody waits for an answer, and nobody is greeted again.
        assert sum(session.asked_to_speak for session in successors) == 0
        assert len(scene.agent.sessions) == len(calls) + len(lost)


async def kept_in(store: str, callers: list[Caller]) -> None:
    """Return when the store has a transcript of each call, to the end of the agent's utterance."""
    settings = make_settings({**DEFAULTS, "BRIDGE_AGENT": "echo", "BRIDGE_STORE": store})
    opened, seal = open_store(settings), Seal(settings.auth_tokens)

    async def is_whole(key: str) -> bool:
        kept = await opened.read(key)
        return kept is not None and not seal.open(key, kept.text, None)["is_awaited"]

    try:
        async with asyncio.timeout(4 * DEADLINE_S):
            for caller in callers:
                while not await is_whole(f"said:{caller.call_sid}"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    finally:
        await opened.close()


async def talk(caller: Caller, session: AgentSession) -> None:
    """Fifty frames each way, none lost and each in its place."""
    to_caller = [frame("to the caller", caller.call_sid, number) for number in range(50)]
    to_agent = [frame("to the agent", caller.call_sid, number) for number in range(50)]
    heard_before, told_before = len(caller.received_audio), len(session.received)
    for one, other in zip(to_caller, to_agent, strict=True):
        await session.send_audio(one)
        await caller.send_media(other)
    await until(lambda: caller.received_audio[heard_before:] == to_caller)
    await until(lambda: [item.audio for item in session.received[told_before:]] == to_agent)


def frame(text: str, *parts: object) -> bytes:
    """20 ms that no other text has."""
    return hashlib.shake_128(repr((text, *parts)).encode()).digest(160)


async def is_closed(caller: Caller) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(caller.closed.wait(), 0.3)
    return caller.closed.is_set()
