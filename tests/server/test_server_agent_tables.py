"""Calls with agents of a table whose audio takes other ways than text or binary both ways, on real sockets."""

from __future__ import annotations

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
        await caller.send_frames(FRAMES, paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) == len(heard))
        assert b"".join(agent.received) == to_agent
        assert b"".join(caller.received_audio) == heard
        assert await live.ignored("agent", "binary") == 0
