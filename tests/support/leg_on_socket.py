"""One leg on a real socket: the server's end, with a peer that sends any bytes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import picows
from live_raw import RawSocket, connected

from _codec import Handshake
from bridge.call.leg import Leg
from bridge.http.front import Front, Request, Response

LIMITS = {
    "max_message_bytes": 1000,
    "control_per_s": 5000,
    "hold_ms": 1000,
    "silence_s": 60.0,
    "ping_s": 60.0,
    "stall_s": 60.0,
    "close_s": 0.2,
    "send_buffer_bytes": 4096,
    "write_high_bytes": 2048,
}
TICK_S = 0.02
UPGRADE = (
    b"GET /leg HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class OneLeg:
    """An app that hands every socket to one leg."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg

    async def handle(self, request: Request) -> Response:
        return Response(404)

    def upgrade(self, request: Request) -> picows.WSListener | Response:
        return Handshake(self.leg.wire, self.leg.open)

    def on_not_http(self, kind: str, peer: str) -> None:
        raise AssertionError(f"{peer} sent {kind}")


@contextlib.asynccontextmanager
async def serving_leg(leg: Leg, *, ticks: bool = True) -> AsyncIterator[RawSocket]:
    """The peer's end of a leg's socket, the upgrade done and the clock ticking."""

    async def tick() -> None:
        while True:
            leg.on_tick(time.monotonic())
            await asyncio.sleep(TICK_S)

    front = Front(OneLeg(leg))
    await front.start("127.0.0.1", 0)
    ticking = asyncio.ensure_future(tick()) if ticks else None
    try:
        async with connected(front.port) as socket:
            socket.mask = not leg.is_client
            await socket.send(UPGRADE)
            assert (await socket.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            yield socket
    finally:
        if ticking is not None:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
        leg.abort()
        await front.close()
