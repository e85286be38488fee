"""Calls with agents of a table whose audio takes other ways than text or binary both ways, on real sockets."""

from __future__ import annotations

import asyncio
import audioop
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from live import until

from bridge.standins.numbered import make_numbered

FRAMES = [make_numbered(n) for n in range(20)]
TO_AGENT = """to_agent = '{"in":{"b64":"{audio}"}}'\n"""
FROM_AGENT = 'from_agent = { path = "out.parts[*].b64" }\n'
TABLES = {
    "deep places": TO_AGENT + FROM_AGENT,
    "binary to the agent": 'binary = "to_agent"\n' + FROM_AGENT,
    "binary from the agent": 'binary = "from_agent"\n' + TO_AGENT,
    "binary to the agent, json in binary": 'binary = "to_agent"\njson_in_binary = true\n' + FROM_AGENT,
    "json in binary": "json_in_binary = true\n" + TO_AGENT + FROM_AGENT,
    "larger frames": "frame_ms = 100\n" + TO_AGENT + FROM_AGENT,
    "larger frames, binary": "binary = true\nframe_ms = 200",
    "alaw": 'encoding = "alaw"\n' + TO_AGENT + FROM_AGENT,
    "alaw to the agent, binary": 'binary = true\nto_agent_encoding = "alaw"',
}


class EchoAgent:
    """Sends back what it receives, in the form that a table asks for."""

    def __init__(self, table: str) -> None:
        self.sends_binary = table.startswith(("binary = true", 'binary = "from_agent"'))
        self.sends_json_in_binary = "json_in_binary" in table
        self.received: list[bytes] = []

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            binary = message.type is WSMsgType.BINARY
            audio = message.data if binary else base64.b64decode(json.loads(message.data)["in"]["b64"])
            self.received.append(audio)
            await self.send(socket, audio)
        return socket

    async def send(self, socket: web.WebSocketResponse, audio: bytes) -> None:
        if self.sends_binary:
            await socket.send_bytes(audio)
            return
        halves = [audio[:80], audio[80:]]
        parts: list[dict[str, Any]] = [{"b64": base64.b64encode(half).decode()} for half in halves]
        text = json.dumps({"out": {"parts": [*parts, {"text": "no audio"}]}})
        await (socket.send_bytes(text.encode()) if self.sends_json_in_binary else socket.send_str(text))


@pytest.fixture(params=TABLES)
async def echo(request) -> AsyncIterator[tuple[str, EchoAgent, str]]:
    """An echoing agent, with the name of its table and its lines."""
    agent = EchoAgent(TABLES[request.param])
    app = web.Application()
    app.router.add_get("/agent", agent.handle)
    async with TestServer(app) as server:
        url = f"ws://127.0.0.1:{server.port}/agent"
        yield request.param, agent, f'[echoing]\nurl = "{url}"\n{TABLES[request.param]}'


async def test_audio_takes_the_way_and_the_form_of_the_table(live_server, tmp_path, echo):
    name, agent, table = echo
    (tmp_path / "agents.toml").write_text(table)
    live = await live_server(BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", BRIDGE_AGENT="echoing")
    said = b"".join(FRAMES)
    to_agent, heard = said, said
    if "alaw" in name:
        to_agent = audioop.lin2alaw(audioop.ulaw2lin(said, 2), 2)
        heard = to_agent if "binary" in name else audioop.lin2ulaw(audioop.alaw2lin(to_agent, 2), 2)
    async with live.answered() as caller:
        await caller.open_stream()
        # The first half waits for the store and the agent; the second one takes the way of a call that is up.
        await caller.send_frames(FRAMES[:10], paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) == len(heard) // 2)
        await caller.send_frames(FRAMES[10:], paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) == len(heard))
        assert b"".join(agent.received) == to_agent
        lengths = {len(audio) for audio in agent.received}
        assert lengths == {800 if "100" in table else 1600} if "larger" in name else lengths <= {160}
        assert b"".join(caller.received_audio) == heard
        assert await live.ignored("agent", "binary") == 0


async def test_message_of_several_parts_is_one_message_of_audio(live_server, tmp_path, agent_address):
    agent, url = agent_address
    (tmp_path / "agents.toml").write_text(f'[parts]\nurl = "{url}"\n{TO_AGENT}{FROM_AGENT}')
    live = await live_server(BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", BRIDGE_AGENT="parts")
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: agent.is_open)
        await until(lambda: live.agent_legs and live.agent_legs[0].wire.is_ready)
        [leg] = live.agent_legs
        before = leg.wire.messages_left
        parts = [{"b64": base64.b64encode(frame).decode()} for frame in FRAMES[:9]]
        leg.read_text(json.dumps({"out": {"parts": parts}}).encode())
        assert leg.wire.messages_left == before + 1
        await until(lambda: caller.received_audio == FRAMES[:9])


ITEMS = """
interrupt = { type = "stop" }
from_agent = { path = "b64", equal = { type = "audio" } }
item = "item"
turn_id = "turn"
heard = '{"type":"truncate","item":"{item}","ms":{heard_ms}}'
"""


class ItemAgent:
    """Sends the messages that a test wants, and keeps those that are not audio."""

    def __init__(self) -> None:
        self.is_open = False
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.received: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.is_open = True
        sending = asyncio.create_task(self.send(socket))
        try:
            async for message in socket:
                fields = json.loads(message.data)
                if "in" not in fields:
                    self.received.append(fields)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return socket

    async def send(self, socket: web.WebSocketResponse) -> None:
        while True:
            await socket.send_json(await self.messages.get())

    def say(self, numbers: range, item: str, turn: int) -> None:
        for n in numbers:
            payload = base64.b64encode(make_numbered(n)).decode()
            self.messages.put_nowait({"type": "audio", "item": item, "turn": turn, "b64": payload})


@pytest.fixture
async def agent_address() -> AsyncIterator[tuple[ItemAgent, str]]:
    """An agent that a test speaks for, and the address of its socket."""
    agent = ItemAgent()
    app = web.Application()
    app.router.add_get("/agent", agent.handle)
    async with TestServer(app) as server:
        yield agent, f"ws://127.0.0.1:{server.port}/agent"


async def test_interrupted_turn_is_discarded_and_the_agent_learns_what_was_heard(
    live_server, tmp_path, agent_address
):
    agent, url = agent_address
    (tmp_path / "agents.toml").write_text(f'[items]\nurl = "{url}"\n{TO_AGENT}{ITEMS}')
    live = await live_server(BRIDGE_AGENTS_FILE=tmp_path / "agents.toml", BRIDGE_AGENT="items")
    async with live.answered() as caller:
        await caller.open_stream()
        agent.say(range(50), "first", 1)
        await until(lambda: len(caller.received_audio) == 50)
        agent.messages.put_nowait({"type": "stop"})
        # On its way when the caller cut in.
        agent.say(range(50, 55), "first", 1)
        agent.say(range(60, 70), "second", 2)
        await until(lambda: len(caller.received_audio) == 60)
        numbers = [*range(50), *range(60, 70)]
        assert caller.received_audio == [make_numbered(n) for n in numbers]
        assert await live.ignored("agent", "void_audio") == 5
        await until(lambda: agent.received)
        [heard] = agent.received
        assert (heard["type"], heard["item"]) == ("truncate", "first")
        assert 0 <= heard["ms"] < 1000
