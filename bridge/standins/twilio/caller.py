"""One phone call through Twilio: webhook, TwiML, media stream, playout to the caller."""

from __future__ import annotations

import asyncio
import secrets
import ssl as tls
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

from bridge.standins.audio import SAMPLE_RATE_HZ, SILENT_FRAME, frames
from bridge.standins.inject import Delivery, Injector
from bridge.standins.sockets import ClientSocket, abort_with_reset, pause_reading
from bridge.standins.twilio.messages import FromServer, ToServer, TwilioWarning, read_from_server
from bridge.standins.twilio.playout import Playout
from bridge.standins.twilio.twiml import TwimlAnswer
from bridge.standins.twilio.webhook import PhoneCall, sign

CLOSE_TIMEOUT_S = 5.0
# Twilio documents "any size"; its own bound is unknown.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class Sent(NamedTuple):
    """Audio before faults are injected."""

    at: float
    audio: bytes


class Received(NamedTuple):
    """One valid message from the bridge."""

    at: float
    message: FromServer


class Caller(PhoneCall):
    """
    Plays Twilio for one call.

    Args:
        url: Base URL to connect to.
        public_url: Base URL that Twilio knows and signs; default: ``url``.
        account_sid, call_sid: Default: random.
        auth_token: Signs webhook and upgrade; None sends no signatures.
        inject: Faults in the audio that is sent.
        ssl: For https URLs: a context that trusts a private certificate.

    Attributes:
        sent: Audio frames sent, in order.
        received: Valid messages from the bridge, in order, over all streams.
        warnings: Warnings that Twilio would log, each with Twilio's number.
        playout: The caller's playout, created when a stream opens.
        closed: Set when either side closes the present socket.
        close_code: The code from the bridge; 1006 without a closing handshake.
        streams: The number of streams so far.

    Times are those of the event loop. Use as an async context manager, which ends the call.
    """

    def __init__(
        self,
        url: str,
        *,
        public_url: str | None = None,
        account_sid: str | None = None,
        call_sid: str | None = None,
        auth_token: str | None = None,
        caller: str = "+14155550123",
        called: str = "+14155550100",
        inject: Injector | None = None,
        ssl: tls.SSLContext | bool = True,
    ) -> None:
        super().__init__(
            url,
            public_url=public_url,
            account_sid=account_sid,
            call_sid=call_sid,
            auth_token=auth_token,
            caller=caller,
            called=called,
        )
        self.sent: list[Sent] = []
        self.received: list[Received] = []
        self.warnings: list[str] = []
        self.closed = asyncio.Event()
        self.close_code: int | None = None
        self.close_reason = ""
        self.streams = 0
        self.opened_at = 0.0
        self.closed_at = 0.0
        self.writer = ToServer(
            account_sid=self.account_sid, call_sid=self.call_sid, stream_sid=self.stream_sid
        )
        # Called with every valid message after it is recorded.
        self.on_message: Callable[[Received], None] | None = None
        self._inject = inject
        self._ssl = ssl
        self._socket: ClientSocket | None = None
        self._playout: Playout | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._line_task: asyncio.Task[None] | None = None
        self._to_say: deque[bytes] = deque()
        self._said = asyncio.Event()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            ws_response_class=ClientSocket,  # type: ignore[arg-type]
            connector=aiohttp.TCPConnector(ssl=self._ssl, limit=0),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up(stop=False)

    # The media stream ----------------------------------------------------------------------------------

    async def open_stream(
        self,
        stream_url: str | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        signature: str | None = None,
        headers: Mapping[str, str] | None = None,
        greet: bool = True,
    ) -> None:
        """
        Open the media socket of the answer and send ``connected`` and ``start``; another stream has another SID.

        Args:
            stream_url, parameters, signature, headers: Replace the values of the TwiML.
            greet: False opens only the socket.

        Raises:
            aiohttp.WSServerHandshakeError: Twilio's error 31920, with the HTTP status.
        """
        assert self._session is not None, "use the caller as an async context manager"
        url = stream_url or (self.answer.stream_url if self.answer else None)
        if url is None:
            raise ValueError("there is no <Stream> to open")
        if parameters is None:
            parameters = self.answer.parameters if self.answer else {}
        sent = {"Host": url.partition("://")[2].partition("/")[0]}
        if signature is None and self._auth_token is not None:
            signature = sign(self._auth_token, url)
        if signature is not None:
            sent["X-Twilio-Signature"] = signature
        self._socket = await self._session.ws_connect(  # type: ignore[assignment]
            self.endpoint.dialled(url),
            headers={**sent, **(headers or {})},
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
        )
        self.streams += 1
        if self.streams > 1:
            await self._forget_stream()
        self.opened_at = self._now()
        self._playout = Playout(self.opened_at)
        if greet:
            await self.send_raw(self.writer.connected())
            await self.send_raw(self.writer.start(parameters))
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._echo_marks())]

    async def _forget_stream(self) -> None:
        await self._cancel_tasks()
        self.closed.clear()
        self.close_code, self.close_reason, self.closed_at = None, "", 0.0
        self.stream_sid = "MZ" + secrets.token_hex(16)
        self.writer = ToServer(
            account_sid=self.account_sid, call_sid=self.call_sid, stream_sid=self.stream_sid
        )

    async def go_on(self) -> TwimlAnswer:
        """Do what Twilio does when the socket is closed: follow the ``<Redirect>``, and open the stream it leads to."""
        await self.closed.wait()
        answer = await self.follow_redirect()
        if answer.stream_url is not None:
            await self.open_stream()
        return answer

    @property
    def playout(self) -> Playout:
        """The playout of the caller's phone."""
        assert self._playout is not None, "the stream is not open"
        return self._playout

    @property
    def received_audio(self) -> list[bytes]:
        """The audio of every ``media`` from the bridge, in order."""
        return [item.message.audio for item in self.received if item.message.event == "media"]

    def heard(self) -> bytes:
        """Return the audio heard since the stream opened, with silence where nothing played."""
        self.playout.advance(self.closed_at or self._now())
        return bytes(self.playout.heard)

    async def send_media(self, audio: bytes) -> None:
        """Send one ``media`` of any length."""
        self.sent.append(Sent(self._now(), audio))
        for delivery in self._inject.plan(audio) if self._inject else (Delivery(audio),):
            if delivery.wait_s:
                await asyncio.sleep(delivery.wait_s)
            elapsed_ms = round(1000 * (self._now() - self.opened_at))
            await self.send_raw(self.writer.media(delivery.audio, elapsed_ms))

    async def send_frames(self, audio: Iterable[bytes], *, paced: bool = True) -> None:
        """Send frames in real time; unpaced: as fast as the socket takes them."""
        started, lasted_bytes = self._now(), 0
        for frame in audio:
            if paced:
                await asyncio.sleep(started + lasted_bytes / SAMPLE_RATE_HZ - self._now())
            lasted_bytes += len(frame)
            await self.send_media(frame)

    def open_line(self) -> None:
        """Send a frame every 20 ms from now on, as a real line does: words from ``say``, else silence."""

        async def talk() -> None:
            try:
                await self.send_frames(self._line())
            except ConnectionError:
                # The bridge closed the socket between two frames; the reader records the close code.
                return

        self._line_task = asyncio.create_task(talk())
        self._tasks.append(self._line_task)

    async def close_line(self) -> None:
        """Send no further frames and discard unsent words. The socket stays open."""
        if self._line_task is not None:
            self._line_task.cancel()
            await asyncio.wait([self._line_task])
            self._line_task = None

    async def say(self, audio: bytes) -> None:
        """Speak on the open line; returns when all audio is sent or the socket is closed."""
        assert self._line_task is not None, "open_line first"
        self._said.clear()
        self._to_say.extend(frames(audio))
        ends = [asyncio.ensure_future(event.wait()) for event in (self._said, self.closed)]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def _line(self) -> Iterator[bytes]:
        while not self.closed.is_set():
            if self._to_say:
                yield self._to_say.popleft()
                if not self._to_say:
                    self._said.set()
            else:
                yield SILENT_FRAME

    async def send_dtmf(self, digit: str) -> None:
        """Press a key."""
        await self.send_raw(self.writer.dtmf(digit))

    async def send_stop(self) -> None:
        """Send ``stop``: the caller has hung up. The socket stays open."""
        await self.send_raw(self.writer.stop())

    async def send_raw(self, message: str | bytes) -> None:
        """Send any text frame, or a binary one."""
        if isinstance(message, str):
            await self._open_socket().send_str(message)
        else:
            await self._open_socket().send_bytes(message)

    # Going away ----------------------------------------------------------------------------------------

    async def hang_up(self, *, stop: bool = True, code: int = 1000) -> None:
        """End the call: close the line, send ``stop`` if wanted, close the socket with a deadline."""
        await self.close_line()
        if self._socket is not None and not self._socket.closed:
            try:
                if stop:
                    await self.send_stop()
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._socket.close(code=code)
            except (ConnectionError, TimeoutError):
                self.abort()
        await self._cancel_tasks()
        if self._socket is not None:
            self._note_closed(self._socket.close_code or 1006)
        if self._session is not None:
            await self._session.close()

    def abort(self) -> None:
        """Close the connection with a reset, without ``stop`` or a closing handshake."""
        abort_with_reset(self._open_socket().transport)

    def pause_reading(self) -> None:
        """Stop reading, as a slow or dead peer does."""
        pause_reading(self._open_socket().transport)

    def resume_reading(self) -> None:
        """Resume reading."""
        self._open_socket().transport.resume_reading()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    # Private -------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _open_socket(self) -> ClientSocket:
        assert self._socket is not None, "the stream is not open"
        return self._socket

    async def _read(self) -> None:
        socket = self._open_socket()
        try:
            while True:
                message = await socket.receive()
                if message.type is aiohttp.WSMsgType.TEXT:
                    await self._on_text(message.data)
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self.warnings.append(f"31950: a binary frame of {len(message.data)} bytes")
                elif message.type is aiohttp.WSMsgType.ERROR:
                    self.warnings.append(f"31924: WebSocket protocol violation: {message.data}")
                    break
                elif message.type is aiohttp.WSMsgType.CLOSE:
                    # The code 1005 stands for a close frame without a code.
                    self._note_closed(message.data or 1005, str(message.extra or ""))
                    return
                elif message.type is aiohttp.WSMsgType.CLOSING:
                    # hang_up waits for the bridge's close frame itself.
                    return
                else:
                    break
        except ConnectionError:
            # The socket closed just before the echo of a mark.
            pass
        self._note_closed(1006)

    async def _on_text(self, text: str) -> None:
        now = self._now()
        try:
            message = read_from_server(text, self.stream_sid)
        except TwilioWarning as warning:
            self.warnings.append(str(warning))
            return
        item = Received(now, message)
        self.received.append(item)
        if message.event == "media":
            overflowed = self.playout.overflowed_bytes
            self.playout.add(message.audio, now)
            if self.playout.overflowed_bytes and not overflowed:
                self.warnings.append("31931: more than ten minutes of audio are buffered")
        elif message.event == "clear":
            for name in self.playout.clear(now):
                await self.send_raw(self.writer.mark(name))
        else:
            self.playout.mark(message.name, now)
            self._changed.set()
        if self.on_message is not None:
            self.on_message(item)

    async def _echo_marks(self) -> None:
        try:
            while not self.closed.is_set():
                self._changed.clear()
                for name in self.playout.take_marks(self._now()):
                    await self.send_raw(self.writer.mark(name))
                try:
                    async with asyncio.timeout_at(self.playout.next_deadline()):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        except ConnectionError:
            # The reader records the close code.
            return

    def _note_closed(self, code: int, reason: str = "") -> None:
        if not self.closed.is_set():
            self.closed_at = self._now()
            self.close_code, self.close_reason = code, reason
            self.closed.set()
