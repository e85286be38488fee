"""The agent of a restart's calls: every session sends numbered frames, and keeps what it hears."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from benchmarks.calls import agent_api

FRAME_BYTES = 160
FRAME_S = 0.02
# Call, source, number; the other bytes follow from these.
HEAD = struct.Struct(">III")
CALLER = 0


def frame(call: int, source: int, number: int) -> bytes:
    """
    Return 20 ms of audio that no other call, source or number has.

    Args:
        source: `CALLER`, or the session of the agent, counted from 1.
    """
    head = HEAD.pack(call, source, number)
    return head + hashlib.shake_128(head).digest(FRAME_BYTES - HEAD.size)


class AgentSession:
    """
    One audio socket of the agent, in Retell's protocol.

    Attributes:
        sent, received: The frames of both ways, in order.
    """

    def __init__(self, call: int, source: int, socket: web.WebSocketResponse[bool]) -> None:
        self.sent: list[bytes] = []
        self.received: list[bytes] = []
        self._call = call
        self._source = source
        self._socket = socket
        # Set by `fall_silent`.
        self._is_silent = False
        self._talking = asyncio.create_task(self._talk())

    async def fall_silent(self) -> None:
        """Send no further frame; returns when the last one is sent."""
        self._is_silent = True
        await asyncio.wait([self._talking])

    async def end_call(self) -> None:
        """Tell the bridge that the conversation is over; it closes the socket."""
        with contextlib.suppress(ConnectionError):
            await self._socket.send_str('{"type":"call_ended"}')

    async def listen(self) -> None:
        """Keep the caller's frames until the socket closes."""
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    self.received.append(base64.b64decode(json.loads(message.data)["data"]))
        finally:
            self._talking.cancel()
            await asyncio.gather(self._talking, return_exceptions=True)

    async def _talk(self) -> None:
        due = asyncio.get_running_loop().time()
        with contextlib.suppress(ConnectionError):
            while not self._is_silent:
                audio = frame(self._call, self._source, len(self.sent))
                self.sent.append(audio)
                await self._socket.send_str(f'{{"type":"audio","data":"{base64.b64encode(audio).decode()}"}}')
                due += FRAME_S
                await asyncio.sleep(due - asyncio.get_running_loop().time())


class Agents:
    """The sessions of all calls, by the number of the call; the last one is the present one."""

    def __init__(self) -> None:
        self.sessions: dict[int, list[AgentSession]] = {}

    async def serve_socket(self, request: web.Request) -> web.StreamResponse:
        """Serve ``/audio-websocket/load-NUMBER``."""
        socket: web.WebSocketResponse[bool] = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        call = int(request.match_info["number"])
        sessions = self.sessions.setdefault(call, [])
        session = AgentSession(call, len(sessions) + 1, socket)
        sessions.append(session)
        await session.listen()
        return socket


@asynccontextmanager
async def serving(agents: Agents, *routes: web.RouteDef) -> AsyncIterator[int]:
    """Serve the agent's REST API and its sockets, and further routes, on one port of 127.0.0.1; yields the port."""
    socket = web.get("/audio-websocket/load-{number}", agents.serve_socket)
    async with agent_api(routes=[socket, *routes]) as port:
        yield port
