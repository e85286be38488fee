"""
`Wire` in plain Python: the specification of the native one, and its oracle in the tests.

It reads and writes the same bytes and calls its owner in the same order; masks alone differ, being random.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from collections.abc import Callable
from typing import Any, Protocol

import picows

from _codec.reference import Envelope, FrameRing, SpanFinder

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MAX_FRAGMENTS = 1024
NO_STATUS = 1005
MAX_AFTER_HELD = 1024

Codec = Callable[[bytes], bytes]


class Owner(Protocol):
    """Whom a wire tells what happens on it."""

    def on_text(self, message: bytes) -> None: ...
    def on_audio(self, payload: bytes) -> None: ...
    def on_binary(self, message: bytes) -> None: ...
    def on_peer_closed(self, code: int) -> None: ...
    def on_violation(self, code: int, detail: str) -> None: ...
    def on_congestion(self, is_congested: bool) -> None: ...
    def on_gone(self) -> None: ...


def apply_mask(data: bytes, mask: bytes) -> bytes:
    """XOR with the mask repeated (RFC 6455 5.3)."""
    n = len(data)
    wide = (mask * (n // 4 + 1))[:n]
    return (int.from_bytes(data) ^ int.from_bytes(wide)).to_bytes(n)


def may_close_with(code: int) -> bool:
    """Whether a peer may send this code (RFC 6455 7.4, and IANA's register for 1012 to 1014)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


class _Violation(Exception):
    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Wire(asyncio.BufferedProtocol):
    """One side's WebSocket after its handshake; see the native one for the arguments."""

    def __init__(self, owner: Owner, *, is_client: bool, max_message_bytes: int, hold_ms: int) -> None:
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, got {max_message_bytes}")
        self.is_client = is_client
        self.is_ready = self.is_congested = self.is_closing = self.is_paused = False
        self.ws_frames_in = self.messages_in = 0
        self.media_in = self.audio_in_bytes = self.audio_out_frames = self.audio_out_bytes = 0
        self.dropped_frames = self.cleared_frames = self.decoded_frames = 0
        self._owner: Owner | None = owner
        self._max_message_bytes = max_message_bytes
        self._held = FrameRing(hold_ms)
        self._before_held: bytes | None = None
        self._after_held: list[bytes] = []
        self._paused_source: Wire | None = None
        self._envelope = Envelope(b"", b"")
        self._is_binary = False
        self._numbered: tuple[bytes, bytes, bytes] | None = None
        self._messages_numbered = 0
        self._decode: Codec | None = None
        self._encode: Codec | None = None
        self._mark_around: tuple[bytes, bytes] = (b"", b"")
        self._mark_every_bytes = 0
        self._bytes_since_mark = 0
        self._generation = 0
        self._finder: SpanFinder | None = None
        self._partner: Wire | None = None
        self._transport: Any = None
        self._is_failed = False
        self._received = b""
        self._fragments: list[bytes] = []
        self._message_opcode: int | None = None

    def open(self, transport: Any) -> None:
        self._transport = transport

    def set_format(
        self,
        finder: SpanFinder | None,
        envelope: Envelope,
        *,
        is_binary: bool = False,
        numbered: tuple[bytes, bytes, bytes] | None = None,
        decode: Codec | None = None,
        encode: Codec | None = None,
    ) -> None:
        self._finder = finder
        self._envelope = envelope
        self._is_binary = is_binary
        self._numbered = numbered
        self._decode = decode
        self._encode = encode

    def set_marks(self, prefix: bytes, suffix: bytes, every_bytes: int) -> None:
        if every_bytes < 3:
            raise ValueError(f"every_bytes must be at least 3, got {every_bytes}")
        self._mark_around = prefix, suffix
        self._mark_every_bytes = every_bytes
        self._bytes_since_mark = self._generation = 0

    def next_number(self) -> int:
        self._messages_numbered += 1
        return self._messages_numbered

    def new_generation(self) -> None:
        self._generation += 1
        self._bytes_since_mark = 0

    @property
    def held_bytes(self) -> int:
        return self._held.samples

    def set_ready(self) -> None:
        self.is_ready = True
        self._flush()

    def join(self, partner: Wire | None) -> None:
        self._partner = partner

    # Sending

    def send_audio(self, payload: bytes) -> None:
        if self.is_closing:
            return
        if not self.is_ready or self.is_congested or len(self._held):
            self.dropped_frames += self._held.push(payload)
        else:
            self._write_audio(payload)

    def send_text(self, message: bytes) -> None:
        if not self.is_closing:
            self._write(TEXT, message)

    def send_text_before_audio(self, message: bytes) -> None:
        if self.is_congested and not self.is_closing:
            self._before_held = message
        else:
            self.send_text(message)

    def send_text_after_audio(self, message: bytes) -> None:
        if not self.is_ready or self.is_congested or len(self._held):
            if len(self._after_held) < MAX_AFTER_HELD:
                self._after_held.append(message)
        else:
            self.send_text(message)

    def send_ping(self) -> None:
        if not self.is_closing and not self.is_congested:
            self._write(PING, b"")

    def send_close(self, code: int) -> None:
        if self.is_closing:
            return
        if self.is_ready:
            self.lose_held()
        self._write(CLOSE, b"" if code == NO_STATUS else struct.pack(">H", code))
        self.is_closing = True
        self._partner = None

    def drop_held(self) -> None:
        self.cleared_frames += len(self._held)
        self._forget_held()

    def hand_held_to(self, other: Wire) -> None:
        while (payload := self._held.pop()) is not None:
            other.dropped_frames += other._held.push(payload)

    def lose_held(self) -> None:
        self.dropped_frames += len(self._held)
        self._forget_held()

    def _forget_held(self) -> None:
        self._held.clear()
        self._before_held = None
        self._after_held.clear()
        self._resume_source()

    def _write_audio(self, payload: bytes) -> None:
        self.audio_out_frames += 1
        if self._is_binary or self._encode is not None:
            audio = base64.b64decode(payload)
            if audio and self._encode is not None:
                audio = self._encode(audio)
            if not audio:
                return
            if self._is_binary:
                self._write(BINARY, audio)
            else:
                self._write(TEXT, self._envelope.wrap_payload(base64.b64encode(audio)))
        elif self._mark_every_bytes:
            self._write_marked(payload)
        elif self._numbered is not None:
            self._write_numbered(payload, self._numbered)
        else:
            self._write(TEXT, self._envelope.wrap_payload(payload))

    def _write_numbered(self, payload: bytes, between: tuple[bytes, bytes, bytes]) -> None:
        counts = self.next_number(), self.audio_out_frames, self.audio_out_bytes // 8
        head = b"".join(b"%d%b" % pair for pair in zip(counts, between, strict=True))
        self.audio_out_bytes += len(base64.b64decode(payload))
        before, after = self._envelope.wrap_payload(b"|").split(b"|")
        self._write(TEXT, before + head + payload + after)

    def _write_marked(self, payload: bytes) -> None:
        audio = base64.b64decode(payload)
        most = self._mark_every_bytes // 3 * 3
        while True:
            piece = audio if len(audio) <= self._mark_every_bytes else audio[:most]
            audio = audio[len(piece) :]
            # The text as it came, whatever its last bits are.
            characters = len(payload) if not audio else len(piece) // 3 * 4
            self._write(TEXT, self._envelope.wrap_payload(payload[:characters]))
            payload = payload[characters:]
            self.audio_out_bytes += len(piece)
            self._bytes_since_mark += len(piece)
            if self._bytes_since_mark + 2 >= self._mark_every_bytes:
                self._bytes_since_mark = 0
                before, after = self._mark_around
                self._write(TEXT, before + b"g%d-%d" % (self._generation, self.audio_out_bytes) + after)
            if not audio:
                return

    def _write(self, opcode: int, payload: bytes) -> None:
        if self._transport is None:
            return
        n = len(payload)
        flag = 0x80 if self.is_client else 0
        if n < 126:
            head = struct.pack(">BB", 0x80 | opcode, flag | n)
        elif n < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, flag | 126, n)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, flag | 127, n)
        if self.is_client:
            mask = os.urandom(4)
            head += mask
            payload = apply_mask(payload, mask)
        self._transport.write(head + payload)

    def _flush(self) -> None:
        if self._before_held is not None and not self.is_congested:
            message, self._before_held = self._before_held, None
            self.send_text(message)
        while self.is_ready and not self.is_congested and not self.is_closing:
            payload = self._held.pop()
            if payload is None:
                break
            self._write_audio(payload)
        if self._after_held and self.is_ready and not self.is_congested and not len(self._held):
            messages, self._after_held = self._after_held, []
            for message in messages:
                self.send_text(message)
        self._resume_source()

    def _pause_source(self, source: Wire) -> None:
        if source.is_client and source._transport is not None and not source.is_paused:
            source.is_paused = True
            self._paused_source = source
            source._transport.pause_reading()

    def _resume_source(self) -> None:
        source = self._paused_source
        if source is None or self._held.duration_ms * 4 > self._held.capacity_ms:
            return
        self._paused_source = None
        source.is_paused = False
        if source._transport is not None:
            source._transport.resume_reading()

    # Reading

    def feed(self, data: bytes) -> None:
        self._received += data
        while not self._is_failed:
            try:
                frame = self._next_frame()
                if frame is None:
                    return
                self._on_frame(*frame)
            except _Violation as violation:
                self._violate(violation)
        self._received = b""

    def _next_frame(self) -> tuple[int, bool, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        fin, opcode = bool(data[0] & 0x80), data[0] & 0x0F
        masked, length, header = bool(data[1] & 0x80), data[1] & 0x7F, 2
        if data[0] & 0x70:
            raise _Violation(1002, "reserved bits set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise _Violation(1002, "reserved opcode")
        if masked == self.is_client:
            raise _Violation(1002, "masked frame from a server" if masked else "unmasked frame from a client")
        if opcode >= CLOSE and (length > 125 or not fin):
            raise _Violation(1002, "control frame too long or in fragments")
        if length == 126:
            header = 4
            if len(data) < header:
                return None
            length = int.from_bytes(data[2:4])
            if length < 126:
                raise _Violation(1002, "length not in its shortest form")
        elif length == 127:
            header = 10
            if len(data) < header:
                return None
            length = int.from_bytes(data[2:10])
            if length < 65536 or length >> 63:
                raise _Violation(1002, "length not in its shortest form, or negative")
        if opcode < CLOSE and sum(map(len, self._fragments)) + length > self._max_message_bytes:
            raise _Violation(1009, "message too big")
        header += 4 * masked
        if len(data) < header + length:
            return None
        payload = data[header : header + length]
        self._received = data[header + length :]
        return opcode, fin, apply_mask(payload, data[header - 4 : header]) if masked else payload

    def _on_frame(self, opcode: int, fin: bool, payload: bytes) -> None:
        self.ws_frames_in += 1
        if opcode == CLOSE:
            self._on_close(payload)
        elif self.is_closing or opcode == PONG:
            return
        elif opcode == PING:
            if not self.is_congested:
                self._write(PONG, payload)
        elif opcode != CONTINUATION and self._message_opcode is None and fin:
            self._on_message(opcode, payload)
        elif (opcode == CONTINUATION) == (self._message_opcode is None):
            raise _Violation(1002, "fragments out of order")
        else:
            self._on_fragment(opcode, fin, payload)

    def _on_fragment(self, opcode: int, fin: bool, payload: bytes) -> None:
        if self._message_opcode is None:
            self._message_opcode = opcode
        self._fragments.append(payload)
        if len(self._fragments) > MAX_FRAGMENTS:
            raise _Violation(1009, "message in too many fragments")
        if fin:
            message, opcode = b"".join(self._fragments), self._message_opcode
            self._fragments.clear()
            self._message_opcode = None
            self._on_message(opcode, message)

    def _on_message(self, opcode: int, message: bytes) -> None:
        assert self._owner is not None
        self.messages_in += 1
        if opcode == BINARY:
            if self._is_binary:
                self.media_in += 1
                self._on_other_audio(message)
            else:
                self._owner.on_binary(message)
            return
        span = self._finder.find(message) if self._finder is not None else None
        if span is not None:
            payload = message[span[0] : span[1]]
            self.media_in += 1
            if self._decode is not None:
                self._on_other_audio(base64.b64decode(payload))
                return
            self.audio_in_bytes += len(payload) // 4 * 3 - payload[-2:].count(b"=")
            self._pass_on(payload)
            return
        try:
            message.decode()
        except UnicodeDecodeError:
            raise _Violation(1007, "text is not UTF-8") from None
        self._owner.on_text(message)

    def _on_other_audio(self, audio: bytes) -> None:
        if self._decode is not None:
            self.decoded_frames += 1
            audio = self._decode(audio)
        if audio:
            self.audio_in_bytes += len(audio)
            self._pass_on(base64.b64encode(audio))

    def _pass_on(self, payload: bytes) -> None:
        if self._partner is None:
            assert self._owner is not None
            self._owner.on_audio(payload)
            return
        self._partner.send_audio(payload)
        if self._partner._held.duration_ms * 2 > self._partner._held.capacity_ms:
            self._partner._pause_source(self)

    def _on_close(self, payload: bytes) -> None:
        code = NO_STATUS
        if len(payload) == 1:
            raise _Violation(1002, "close frame of one byte")
        if payload:
            code = int.from_bytes(payload[:2])
            if not may_close_with(code):
                raise _Violation(1002, "close code must not be sent")
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                raise _Violation(1007, "close reason is not UTF-8") from None
        is_answer = self.is_closing
        self.send_close(code)
        self._is_failed = True
        self._transport.close()
        if not is_answer and self._owner is not None:
            self._owner.on_peer_closed(code)

    def _violate(self, violation: _Violation) -> None:
        was_closing = self.is_closing
        self.send_close(violation.code)
        self._is_failed = True
        if not was_closing and self._owner is not None:
            self._owner.on_violation(violation.code, violation.detail)

    # The transport's other callbacks

    def on_broken(self, code: int) -> None:
        if not self.is_closing and self._owner is not None:
            self.is_closing = self._is_failed = True
            self._owner.on_violation(code, "broke the protocol")

    def get_buffer(self, sizehint: int) -> bytearray:
        self._buffer = bytearray(65536)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.feed(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = self._is_failed = True
        self._partner = None
        owner, self._owner, self._transport = self._owner, None, None
        if owner is not None:
            owner.on_gone()
        self.lose_held()

    def pause_writing(self) -> None:
        self.is_congested = True
        if self._owner is not None:
            self._owner.on_congestion(True)

    def resume_writing(self) -> None:
        self.is_congested = False
        if self._owner is not None:
            self._owner.on_congestion(False)
        self._flush()


class Handshake(picows.WSListener):
    """The native one's twin, but picows reads on for a client: only C sees what it has taken beyond a frame."""

    def __init__(self, wire: Wire, on_open: Callable[[asyncio.Transport], None]) -> None:
        self._wire = wire
        self._on_open = on_open

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._wire.open(transport.underlying_transport)
        if not transport.is_client_side:
            transport.underlying_transport.set_protocol(self._wire)
        self._on_open(transport.underlying_transport)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        n = frame.payload_size
        first = frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4 | int(frame.msg_type)  # type: ignore[call-overload]
        if n < 126:
            head = struct.pack(">BB", first, n)
        elif n < 65536:
            head = struct.pack(">BBH", first, 126, n)
        else:
            head = struct.pack(">BBQ", first, 127, n)
        self._wire.feed(head + frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if transport.close_handshake is not None and transport.close_handshake.sent is not None:
            self._wire.on_broken(int(transport.close_handshake.sent.code))  # type: ignore[call-overload]
        self._wire.connection_lost(None)
        # picows keeps what it found wrong there, and asyncio complains of what nobody looked at.
        self._reaping = asyncio.ensure_future(self._reap(transport))

    async def _reap(self, transport: picows.WSTransport) -> None:
        with contextlib.suppress(Exception):
            await transport.wait_disconnected()

    def pause_writing(self) -> None:
        self._wire.pause_writing()

    def resume_writing(self) -> None:
        self._wire.resume_writing()
