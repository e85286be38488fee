"""The flooding process, at a stand-in for the bridge that reads some messages and closes."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from benchmarks.floods_attack import Aim, Attack
from benchmarks.floods_messages import NO_FLOOD, OF_AGENT, OF_CALLER
from benchmarks.tls import make_certificate

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0
# More than two chunks of the longest kind.
READ = 2100
TWIML = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Connect><Stream url="ws://{host}/media/1"><Parameter name="token" value="t"/></Stream></Connect>
<Redirect method="POST">http://{host}/voice/resume</Redirect></Response>"""

Socket = aiohttp.ClientWebSocketResponse[bool] | web.WebSocketResponse[bool]


class Reader:
    """
    Plays the bridge: refuses the first call, reads `READ` messages of each other one, and closes with 1008.

    Attributes:
        first_texts: Of each flood; empty where it has none.
        second_call: Set once the second call is read.
    """

    def __init__(self, agent_url: str, kind: str, tls: ssl.SSLContext | None) -> None:
        self.first_texts: list[str] = []
        self.second_call = asyncio.Event()
        self._agent_url = agent_url
        self._kind = kind
        self._tls = tls
        self._has_refused = False

    async def answer(self, request: web.Request) -> web.Response:
        if not self._has_refused:
            self._has_refused = True
            return web.Response(status=403)
        assert "X-Twilio-Signature" in request.headers
        assert (await request.post())["From"] == "+15010550199"
        return web.Response(text=TWIML.format(host=request.host), content_type="text/xml")

    async def media(self, request: web.Request) -> web.WebSocketResponse[bool]:
        caller: web.WebSocketResponse[bool] = web.WebSocketResponse(autoping=False)
        await caller.prepare(request)
        assert (await caller.receive_json())["event"] == "connected"
        start = (await caller.receive_json())["start"]
        assert start["customParameters"] == {"token": "t"}
        url = f"{self._agent_url}/{start['callSid']}"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, autoping=False, ssl=self._tls or True) as agent,
        ):
            flooding: Socket = caller if self._kind == OF_CALLER else agent
            if self._kind == NO_FLOOD:
                assert (await caller.receive_json())["event"] == "media"
                self.first_texts.append("")
            else:
                self.first_texts.append(await self._read(flooding))
            if len(self.first_texts) > 1:
                self.second_call.set()
            await flooding.close(code=1008)
            await caller.close()
        return caller

    async def _read(self, socket: Socket) -> str:
        texts: list[str] = []
        for _ in range(READ):
            message = await socket.receive()
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            else:
                assert message.type is WSMsgType.TEXT
                texts.append(message.data)
        return texts[0] if texts else ""


@asynccontextmanager
async def attacked(kind: str, folder: Path | None = None) -> AsyncIterator[tuple[Reader, Any]]:
    """Yields the stand-in, which is called from now on, and the process."""
    served, trusted = make_certificate(folder) if folder else (None, None)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.floods_attack"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(Attack(kind=kind, tls_pem=str(served or "")).to_line())
        port = json.loads(await process.stdout.readline())["port"]
        tls = ssl.create_default_context(cafile=trusted) if trusted else None
        reader = Reader(f"http{'s' if tls else ''}://127.0.0.1:{port}", kind, tls)
        app = web.Application()
        app.add_routes([web.post("/voice", reader.answer), web.get("/media/1", reader.media)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            process.stdin.write(Aim(url=url, account_sid="AC" + "0" * 32, auth_token="secret").to_line())
            yield reader, process
        finally:
            await runner.cleanup()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("kind", [*OF_AGENT, OF_CALLER])
async def test_flood_goes_on_until_it_is_closed_and_another_call_follows(kind: str) -> None:
    async with asyncio.timeout(DEADLINE_S), attacked(kind) as (reader, process):
        await reader.second_call.wait()
        output, _ = await process.communicate(b"")
    counts = json.loads(output)["counts"]
    assert counts["refused"] == 1
    assert counts["calls"] >= 2
    # Only pongs count, so that what waits unread in a buffer does not.
    assert counts["read"] >= READ // 1000 * 1000
    assert counts["closed 1008"] >= 1
    assert process.returncode == 0
    first = reader.first_texts[0]
    if kind == OF_CALLER:
        assert json.loads(first)["media"]["payload"] == "/w=="
    else:
        assert first == OF_AGENT[kind].text


async def test_agent_floods_over_tls(tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE_S), attacked("interrupts", tmp_path) as (reader, process):
        await reader.second_call.wait()
        output, _ = await process.communicate(b"")
    assert json.loads(output)["counts"]["read"] >= READ // 100 * 100


async def test_agent_without_a_flood_is_silent() -> None:
    async with asyncio.timeout(DEADLINE_S), attacked(NO_FLOOD) as (reader, process):
        await reader.second_call.wait()
        output, _ = await process.communicate(b"")
    assert "read" not in json.loads(output)["counts"]
