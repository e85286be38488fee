"""The sockets of a flood: handshakes by aiohttp's judgement, what is counted, and how much is sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from benchmarks.floods_sockets import CHUNKS, Socket, accept, upgrade
from benchmarks.generator.driver import Caller

DEADLINE_S = 20.0
CHUNK = b"\x81\x01x\x89\x011"


@asynccontextmanager
async def agent(counts: Counter[str], rate_per_s: float) -> AsyncIterator[tuple[str, list[str]]]:
    """Yields the URL of an agent that floods with `CHUNK`, and the paths it was asked for."""
    paths: list[str] = []
    flooding: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append(await accept(reader, writer))
        socket = Socket(reader, writer, counts)
        flooding.add(asyncio.create_task(socket.flood(CHUNK, 2, rate_per_s)))
        await socket.closed.wait()
        socket.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths
    finally:
        server.close()
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)


async def test_pongs_and_codes_are_counted() -> None:
    counts: Counter[str] = Counter()
    async with (
        agent(counts, 0.0) as (url, paths),
        aiohttp.ClientSession() as session,
        session.ws_connect(url + "/CA1", autoping=False) as bridge,
    ):
        for _ in range(2 * CHUNKS):
            assert (await bridge.receive_str()) == "x"
            ping = await bridge.receive()
            assert ping.type is aiohttp.WSMsgType.PING
            await bridge.pong(b"100")
        # An answer to no chunk.
        await bridge.pong(b"")
        await bridge.close(code=1008)
    assert paths == ["/CA1"]
    assert counts == {"read": 2 * CHUNKS * 100, "closed 1008": 1}


async def test_flood_at_a_rate_sends_one_chunk_at_once() -> None:
    # Another chunk would be due after hours.
    async with agent(Counter(), 0.0001) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(CHUNK)) == CHUNK
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("is_refused", [True, False])
async def test_upgrade_opens_a_media_socket_or_raises(is_refused: bool) -> None:
    async def media(request: web.Request) -> web.StreamResponse:
        assert request.headers["X-Twilio-Signature"] == "signature"
        if is_refused:
            return web.Response(status=403)
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close(code=1001)
        return socket

    app = web.Application()
    app.router.add_get("/media/1", media)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        caller = Caller(
            number=0,
            address="127.0.0.1",
            port=runner.addresses[0][1],
            host="example.com",
            path="/media/1",
            signature="signature",
            account_sid="AC1",
            call_sid="CA1",
            stream_sid="MZ1",
            parameters={},
        )
        if is_refused:
            with pytest.raises(ConnectionRefusedError, match="403"):
                await upgrade(caller)
            return
        counts: Counter[str] = Counter()
        socket = Socket(*await upgrade(caller), counts)
        async with asyncio.timeout(DEADLINE_S):
            await socket.closed.wait()
        socket.abort()
        assert counts == {"closed 1001": 1}
    finally:
        await runner.cleanup()
