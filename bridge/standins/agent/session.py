"""One call at the stand-in agent, in any protocol: its audio both ways and its messages."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from aiohttp import web

from bridge.standins.agent.faults import NO_FAULTS
from bridge.standins.agent.formats import MULAW, Decoder, Encoder
from bridge.standins.agent.session_socket import SessionSocket
from bridge.standins.audio import FRAME_BYTES, SAMPLE_RATE_HZ
from bridge.standins.inject import Delivery, Injector

# Audio on its way when the agent is interrupted; loud, and different from all its other audio.
STALE_FRAME = b"\x2a" * FRAME_BYTES


class AudioSent(NamedTuple):
    """Audio before faults are injected."""

    at: float
    audio: bytes


class Told(NamedTuple):
    """A text that the bridge tells an agent, such as an utterance of before; ``speaker`` is "agent" or "caller"."""

    speaker: str
    text: str


class AudioReceived(NamedTuple):
    """Audio of the caller, as mu-law and as the received base64 text, which is empty for binary audio."""

    at: float
    audio: bytes
    payload: str


class AgentSession(SessionSocket):
    """
    Base of the calls; each protocol is a subclass that writes and reads its messages.

    Attributes:
        call_id: The name of the call; ``request`` is the body or the query that registered or opened it.
        received: Caller audio, in order, as mu-law.
        sent: Agent audio, in order, as mu-law, without ``stale``, the frames sent after an interrupt.
        received_raw, sent_raw: The same audio, stale frames included, as the bytes on the wire.
        messages: The bridge's JSON messages, without audio.
        told: What was said before, as the bridge tells it to an agent that takes a call over.
        asked_to_speak: How often the bridge asks the agent to speak, by a greeting or for an answer.
        interrupts_at: Times of the interrupts sent; ``ended_at``: time of the end, None before.
        ready: Set once audio may flow.
        faults: The service's faults at the opening of the socket.
        stale_frames: Number of stale frames after an interrupt, in protocols that distinguish them.

    Times are those of the event loop.
    """

    # Whether audio may flow as soon as the socket is open.
    is_ready_at_once: ClassVar[bool] = True

    def __init__(
        self,
        call_id: str,
        request: Any,
        *,
        from_caller_format: str = MULAW,
        to_caller_format: str = MULAW,
    ) -> None:
        super().__init__()
        self.call_id = call_id
        self.request = request
        self.from_caller_format = from_caller_format
        self.to_caller_format = to_caller_format
        self.received: list[AudioReceived] = []
        self.received_raw: list[bytes] = []
        self.sent: list[AudioSent] = []
        self.sent_raw: list[bytes] = []
        self.stale: list[bytes] = []
        self.messages: list[dict[str, Any]] = []
        self.told: list[Told] = []
        self.asked_to_speak = 0
        self.interrupts_at: list[float] = []
        self.ready = asyncio.Event()
        self.opened_at = 0.0
        self.ended_at: float | None = None
        self.faults = NO_FAULTS
        self.stale_frames = 3
        self.injector: Injector | None = None
        # Called with an event ("interrupt", "call_ended") or the name of a recording as it begins.
        self.on_event: Callable[[str], None] | None = None
        self._encoder = Encoder(to_caller_format)
        self._decoder = Decoder(from_caller_format)
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def audio(self) -> AsyncIterator[bytes]:
        """Yield the caller's audio until the socket closes; for one reader."""
        while (audio := await self._audio.get()) is not None:
            yield audio

    async def send_audio(self, audio: bytes, **fields: Any) -> None:
        """Send mu-law of any length; ``fields`` are added to a JSON message."""
        self.sent.append(AudioSent(self._now(), audio))
        for delivery in self.injector.plan(audio) if self.injector else (Delivery(audio),):
            if delivery.wait_s:
                await asyncio.sleep(delivery.wait_s)
            await self._write_audio(self._encode(delivery.audio), fields)

    async def send_frames(self, audio: Iterable[bytes], *, paced: bool = True) -> None:
        """Send frames in real time; unpaced: as fast as the socket takes them."""
        started, lasted_bytes = self._now(), 0
        for frame in audio:
            if paced:
                await asyncio.sleep(started + lasted_bytes / SAMPLE_RATE_HZ - self._now())
            lasted_bytes += len(frame)
            await self.send_audio(frame)

    async def send_interrupt(self) -> None:
        """Report that the caller speaks: unplayed audio must be discarded."""
        self.interrupts_at.append(self._now())
        await self._write_interrupt()
        self.notify("interrupt")

    async def send_call_ended(self) -> None:
        """End the call by a message or, in protocols without one, by closing."""
        self.ended_at = self._now()
        await self._write_end()
        self.notify("call_ended")

    async def send_heard(self, text: str) -> None:
        """Report what the caller said, in protocols with transcripts."""
        raise NotImplementedError

    def notify(self, event: str) -> None:
        """Pass an event to ``on_event``."""
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
        if self.is_ready_at_once:
            self.ready.set()
        tasks = [
            asyncio.create_task(self._guard(lambda: self._converse(behaviour))),
            asyncio.create_task(self._guard(self._run_beside)),
        ]
        try:
            await self._read(socket)
        finally:
            self._note_closed(socket.close_code or 1006)
            self._audio.put_nowait(None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # Overridden by protocols

    async def _begin(self) -> bool:
        """Greet the bridge and wait until it is ready; returns whether the agent may speak."""
        return True

    async def _beside(self) -> None:
        """Run beside the conversation until the call ends."""

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        raise NotImplementedError

    async def _write_interrupt(self) -> None:
        raise NotImplementedError

    async def _write_end(self) -> None:
        await self.close()

    async def _on_message(self, message: dict[str, Any]) -> None:
        """Process a message; an exception that bad input raises counts as a violation."""
        raise NotImplementedError

    async def _on_text(self, text: str) -> None:
        message = json.loads(text)
        if not isinstance(message, dict):
            raise ValueError("not an object")
        await self._on_message(message)

    async def _on_binary(self, data: bytes) -> None:
        raise ValueError(f"a binary frame of {len(data)} bytes")

    # Used by protocols

    async def _make_ready(self, answer: dict[str, Any], refusal: dict[str, Any]) -> bool:
        """Send the answer, or the refusal if ``faults`` wants it, after the delay; returns whether audio may flow."""
        await asyncio.sleep(self.faults.ready_delay_s)
        if self.faults.fail_ready:
            await self.send_json(refusal)
            return False
        self.ready.set()
        await self.send_json(answer)
        return True

    def _receive(self, wire: bytes, payload: str = "") -> None:
        """Record the caller's audio, given as on the wire."""
        audio = self._decoder.decode(wire)
        self.received_raw.append(wire)
        self.received.append(AudioReceived(self._now(), audio, payload))
        self._audio.put_nowait(audio)

    def _receive_base64(self, payload: object) -> None:
        if not isinstance(payload, str):
            raise ValueError("the audio is not a text")
        self._receive(base64.b64decode(payload, validate=True), payload)

    def _check_ready(self, before: str) -> None:
        """Raise if audio comes too early; ``before`` names the message that it must wait for."""
        if not self.ready.is_set():
            raise ValueError(f"audio before {before}")

    def _encode(self, audio: bytes) -> bytes:
        wire = self._encoder.encode(audio)
        self.sent_raw.append(wire)
        return wire

    def _encode_stale(self) -> bytes:
        self.stale.append(STALE_FRAME)
        return self._encode(STALE_FRAME)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _converse(self, behaviour: Callable[[AgentSession], Awaitable[None]]) -> None:
        if await self._begin():
            await behaviour(self)

    async def _run_beside(self) -> None:
        await self.ready.wait()
        await self._beside()

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except ConnectionError:
            # The bridge closed the socket while the agent spoke; the reader records the close code.
            return
        except Exception as error:
            self.violations.append(f"the stand-in itself failed: {error!r}")
            raise
