"""A front with an app that records, raw clients for it, and a runner that lets nothing leak."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import picows
import uvloop
from certificates import Tls

from bridge.http.front import Front, FrontLimits, Request, Response

FACTOR = float(os.environ.get("BRIDGE_TEST_TIMEOUT_FACTOR", "1"))
DEADLINE_S = 5.0 * FACTOR
SHORT_S = 0.2
LIMITS = FrontLimits(request_s=DEADLINE_S, linger_s=SHORT_S, half_close_s=DEADLINE_S)
SECRET = "db-password-hunter2"

T = TypeVar("T")


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on uvloop; fail it if the loop's exception handler was called or a task is left."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def watched() -> None:
            problems: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
            await test(*args, **kwargs)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                _, left = await asyncio.wait(left, timeout=SHORT_S)
            assert not left, f"tasks left: {left}"
            assert not problems, f"the loop's exception handler was called: {problems}"

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(watched())

    return run


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, DEADLINE_S)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class RecordingListener(picows.WSListener):
    """Answers each text frame with its own text, or with its length if that is long."""

    def __init__(self) -> None:
        self.is_connected = False
        self.is_disconnected = False
        self.sizes: list[int] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.is_connected = True

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        self.sizes.append(len(payload))
        transport.send(picows.WSMsgType.TEXT, payload if len(payload) < 126 else str(len(payload)).encode())

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.is_disconnected = True


class RecordingApp:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.upgrades: list[Request] = []
        self.listeners: list[RecordingListener] = []
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.not_http: list[tuple[str, str]] = []
        self.release = asyncio.Event()

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._handle(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _handle(self, request: Request) -> Response:
        match request.path:
            case "/":
                return Response(200, b"hello")
            case "/echo":
                await asyncio.sleep(0)
                return Response(200, request.query.encode() + request.body)
            case "/slow":
                await self.release.wait()
                return Response(200, b"at last")
            case "/stubborn":
                with contextlib.suppress(asyncio.CancelledError):
                    await self.release.wait()
                self.cancelled += 1
                return Response(200, b"too late")
            case "/big":
                return Response(200, bytes(256 * 1024))
            case "/fails":
                raise RuntimeError(SECRET)
            case "/cancels-itself":
                raise asyncio.CancelledError
            case _:
                return Response(404)

    def on_not_http(self, kind: str, peer: str) -> None:
        self.not_http.append((kind, peer))

    def upgrade(self, request: Request) -> picows.WSListener | Response:
        self.upgrades.append(request)
        match request.path:
            case "/media":
                self.listeners.append(RecordingListener())
                return self.listeners[-1]
            case "/fails":
                raise RuntimeError(SECRET)
            case _:
                return Response(403, b"no\n")

    def live_listeners(self) -> int:
        return sum(not listener.is_disconnected for listener in self.listeners)


@dataclass
class Answer:
    version: str
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes, step: int = 0) -> None:
        """Send at once, or ``step`` bytes at a time, each read by itself."""
        if not step:
            self.writer.write(data)
            return
        for start in range(0, len(data), step):
            if self.writer.is_closing():
                return
            self.writer.write(data[start : start + step])
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response; the rules are this file's own."""
        lines = (await soon(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
        assert len(headers) == len(lines) - 3, f"a header is doubled: {lines}"
        length = 0 if to_head or int(status) < 200 else int(headers.get("content-length", 0))
        return Answer(version, int(status), headers, await soon(self.reader.readexactly(length)))

    async def request(self, data: bytes, step: int = 0) -> Answer:
        await self.send(data, step)
        return await self.answer()

    async def closed(self) -> bytes:
        """Read up to the end that the server makes; a reset raises."""
        return await soon(self.reader.read())

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Scene:
    front: Front
    app: RecordingApp
    is_tls: bool
    clients: list[Client] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """Open HTTP connections, without the upgraded ones."""
        return len(self.front._connections.connections)

    async def connect(self) -> Client:
        context = client_tls() if self.is_tls else None
        client = Client(*await soon(asyncio.open_connection("127.0.0.1", self.front.port, ssl=context)))
        self.clients.append(client)
        return client


@contextlib.asynccontextmanager
async def serving(is_tls: bool = False, limits: FrontLimits = LIMITS, **options: Any) -> AsyncIterator[Scene]:
    """Serve a `RecordingApp`; at the end no connection may be open."""
    app = RecordingApp()
    front = Front(app, limits, upgraded=app.live_listeners, **options)
    await front.start("127.0.0.1", 0, ssl_context=_tls().server() if is_tls else None)
    scene = Scene(front, app, is_tls)
    try:
        yield scene
    finally:
        for client in scene.clients:
            client.writer.transport.abort()
        app.release.set()
        await soon(front.close())
    assert scene.connections == 0
    assert app.running == 0
    await until(lambda: app.live_listeners() == 0)


@functools.cache
def _tls() -> Tls:
    return Tls(Path(tempfile.mkdtemp(prefix="http-front-")))


def client_tls() -> ssl.SSLContext:
    """The context of a client that trusts the front of `serving`."""
    return _tls().client


def queued(listening: socket.socket) -> int:
    """Connections that the kernel keeps for a listening socket: ``tcpi_unacked`` of its ``struct tcp_info``."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("<I", info, 24)[0])
