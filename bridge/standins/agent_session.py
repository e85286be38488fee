"""One call at the stand-in agent: Retell's audio socket, from the agent's side."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from aiohttp import WSMsgType, web

from .audio import SAMPLE_RATE_HZ
from .inject import Delivery, Injector
from .sockets import abort_with_reset

CLOSE_TIMEOUT_S = 5.0
# The whole of what a bridge says on this socket.
_TO_AGENT = {"type": "audio", "audio_encoding": "mulaw", "sample_rate": SAMPLE_RATE_HZ}


class AudioSent(NamedTuple):
    """Audio as it was meant to be sent: an injected fault does not show here."""

    at: float
    audio: bytes


class AudioReceived(NamedTuple):
    """Audio of the caller, decoded and as the base64 text that came."""

    at: float
    audio: bytes
    payload: str


class AgentSession:
    """
    One call: what came, what was sent, and the means to misbehave.

    Attributes:
        call_id, access_token: As registered; ``request`` is the body of that request.
        received: Caller audio, in order.
        sent: Agent audio, in order.
        interrupts_at: When an interrupt was sent; ``ended_at``: when ``call_ended`` was, None before.
        faults: What the bridge did against the protocol, in words.
        opened, closed: Set when the socket is; ``close_code`` is the one received, 1006 if it went away.

    Times are those of the event loop.
    """

    def __init__(
        self, call_id: str, access_token: str, request: dict[str, Any], inject: Injector | None = None
    ) -> None:
        self.call_id = call_id
        self.access_token = access_token
        self.request = request
        self.received: list[AudioReceived] = []
        self.sent: list[AudioSent] = []
        self.interrupts_at: list[float] = []
        self.faults: list[str] = []
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        self.opened_at = 0.0
        self.ended_at: float | None = None
        self.close_code: int | None = None
        self.close_reason = ""
        # Called with an event ("interrupt", "call_ended") or the name of a recording as it begins.
        self.on_event: Callable[[str], None] | None = None
        self._inject = inject
        self._socket: web.WebSocketResponse[bool] | None = None
        self._transport: asyncio.Transport | None = None
        self._close_done = asyncio.Event()
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield the caller's audio as it comes, until the socket closes; for one reader."""
        while (audio := await self._audio.get()) is not None:
            yield audio

    async def send_audio(self, audio: bytes, **fields: Any) -> None:
        """Send one ``audio`` message of any length; ``fields`` are added to it."""
        self.sent.append(AudioSent(self._now(), audio))
        for delivery in self._inject.plan(audio) if self._inject else (Delivery(audio),):
            if delivery.wait_s:
                await asyncio.sleep(delivery.wait_s)
            data = base64.b64encode(delivery.audio).decode()
            await self._send({"type": "audio", **fields, "data": data})

    async def send_frames(self, audio: Iterable[bytes], *, paced: bool = True) -> None:
        """Send frames, frame ``n`` when the ones before it have lasted; unpaced: as fast as they go."""
        started, lasted_bytes = self._now(), 0
        for frame in audio:
            if paced:
                await asyncio.sleep(started + lasted_bytes / SAMPLE_RATE_HZ - self._now())
            lasted_bytes += len(frame)
            await self.send_audio(frame)

    async def send_interrupt(self) -> None:
        """Say that the caller speaks: what was said but not yet heard is void."""
        self.interrupts_at.append(self._now())
        await self._send({"type": "interrupt"})
        self.tell("interrupt")

    async def send_call_ended(self) -> None:
        """Say that the agent has ended the call."""
        self.ended_at = self._now()
        await self._send({"type": "call_ended"})
        self.tell("call_ended")

    async def send_raw(self, message: str | bytes) -> None:
        """Send any text frame, or a binary one."""
        if isinstance(message, str):
            await self._open_socket().send_str(message)
        else:
            await self._open_socket().send_bytes(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the socket with a code; waits for the answer, with a deadline."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._open_socket().close(code=code, message=reason.encode())
        except (ConnectionError, TimeoutError):
            self.abort()
        finally:
            self._close_done.set()

    def abort(self) -> None:
        """Cut the socket with a reset."""
        assert self._transport is not None, "the socket is not open"
        abort_with_reset(self._transport)

    def pause_reading(self) -> None:
        """Read nothing more: pings are not answered either."""
        assert self._transport is not None, "the socket is not open"
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        assert self._transport is not None, "the socket is not open"
        self._transport.resume_reading()

    def tell(self, event: str) -> None:
        """Tell the observer, if there is one."""
        if self.on_event is not None:
            self.on_event(event)

    async def run(
        self,
        socket: web.WebSocketResponse[bool],
        transport: asyncio.Transport,
        behaviour: Callable[[AgentSession], Awaitable[None]],
    ) -> None:
        """Serve the open socket until it closes."""
        self._socket, self._transport = socket, transport
        self.opened_at = self._now()
        self.opened.set()
        task = asyncio.create_task(self._behave(behaviour))
        try:
            await self._read(socket)
        finally:
            self._note_closed(socket.close_code or 1006)
            self._audio.put_nowait(None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _behave(self, behaviour: Callable[[AgentSession], Awaitable[None]]) -> None:
        try:
            await behaviour(self)
        except ConnectionError:
            # The bridge closed the socket while the agent spoke; the reader notes how.
            return
        except Exception as error:
            self.faults.append(f"the stand-in's behaviour failed: {error!r}")
            raise

    async def _read(self, socket: web.WebSocketResponse[bool]) -> None:
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                self._on_text(message.data)
            elif message.type is WSMsgType.BINARY:
                self.faults.append(f"a binary frame of {len(message.data)} bytes")
            elif message.type is WSMsgType.CLOSE:
                # A close frame without a code is 1005 for its receiver.
                self._note_closed(message.data or 1005, str(message.extra or ""))
                return
            elif message.type is WSMsgType.CLOSING:
                # close() reads the answer to its own close frame, with a deadline.
                await self._close_done.wait()
                return
            else:
                if message.type is WSMsgType.ERROR:
                    self.faults.append(f"WebSocket protocol violation: {message.data}")
                self._note_closed(1006)
                return

    def _on_text(self, text: str) -> None:
        try:
            message = json.loads(text)
            data = message.pop("data")
            if message != _TO_AGENT:
                raise ValueError(f"{message} around the data, not {_TO_AGENT}")
            if not isinstance(data, str):
                raise ValueError("data is not a text")
            audio = base64.b64decode(data, validate=True)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            self.faults.append(f"{error!r} in {text[:80]!r}")
            return
        self.received.append(AudioReceived(self._now(), audio, data))
        self._audio.put_nowait(audio)

    async def _send(self, message: dict[str, Any]) -> None:
        await self.send_raw(json.dumps(message, separators=(",", ":")))

    def _open_socket(self) -> web.WebSocketResponse[bool]:
        assert self._socket is not None, "the socket is not open"
        return self._socket

    def _note_closed(self, code: int, reason: str = "") -> None:
        if not self.closed.is_set():
            self.close_code, self.close_reason = code, reason
            self.closed.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
