"""
The relay's half of `Wire` in plain Python, the oracle of the native one.

RFC 6455 is not written down here a second time: `websockets`, which others maintain, parses and judges all frames.
The twin calls its owner in the same order and writes the same bytes; masks alone differ, being random.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from _codec.owner import Owner
from _codec.reference import Envelope, SpanFinder, decoded_bytes
from _codec.reference_ring import FrameRing

CONTINUATION, TEXT, BINARY = Opcode.CONT, Opcode.TEXT, Opcode.BINARY
CLOSE, PING, PONG = Opcode.CLOSE, Opcode.PING, Opcode.PONG
# The wire's own rules, beside those of RFC 6455.
MAX_FRAGMENTS = 1024
NO_STATUS = 1005
SHORT_AUDIO_BYTES = 40
LONGEST_MESSAGE_MS = 1_600_000

WRITE_BYTES = 4096
SCRATCH_BYTES = 65536
MOST_WRITERS = 256
HEADER_MAX_BYTES = 14

Codec = Callable[[bytes], bytes]


class Gathering:
    """What waits to be written at the end of a read or a flush: frames of one wire after frames of another."""

    def __init__(self) -> None:
        self._depth = 0
        self._pieces: list[tuple[Wire, bytearray]] = []
        self._total_bytes = 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.write()

    def add(self, wire: Wire, frame: bytes, payload_bytes: int) -> None:
        room = payload_bytes + HEADER_MAX_BYTES
        if self._total_bytes + room > SCRATCH_BYTES or len(self._pieces) == MOST_WRITERS:
            self.write()
        if not self._pieces or self._pieces[-1][0] is not wire:
            self._pieces.append((wire, bytearray()))
        _, frames = self._pieces[-1]
        frames += frame
        self._total_bytes += len(frame)
        if self._depth == 0 or len(frames) >= WRITE_BYTES or room > SCRATCH_BYTES:
            self.write()

    def write(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._total_bytes = 0
        for wire, frames in pieces:
            wire.write_to_transport(bytes(frames))


gathering = Gathering()


class Oracle(Protocol):
    """Gives each frame to ``on_frame`` as soon as it is read and judged."""

    def __init__(self, wire: Wire, max_message_bytes: int) -> None:
        super().__init__(Side.CLIENT if wire.is_client else Side.SERVER, max_size=max_message_bytes)
        self._wire = wire
        # The frame that arrives, as far as it has been read.
        self._frame = b""

    def read(self, data: bytes) -> None:
        """Read part by part, so that an error shows as soon as the bytes that are wrong are there."""
        while data and not self._wire.is_failed:
            part = data[: self._part_bytes()]
            data = data[len(part) :]
            self._frame += part
            self.receive_data(part)
            if self.parser_exc is None and len(self._frame) == 2 and self._is_refused_at_once():
                # What completes it: a length of 126, a mask and the payload, each as far as the frame has one.
                length_bytes = {126: 2, 127: 8}.get(part[-1] & 0x7F, 0)
                self.receive_data((126 if length_bytes else 0).to_bytes(length_bytes) + bytes(4 + 126))
                assert self.parser_exc is not None
            if self.parser_exc is not None and not self._wire.is_failed:
                assert self.close_sent is not None
                self._wire.violate(self.close_sent.code, str(self.parser_exc))

    def recv_frame(self, frame: Frame) -> None:
        self._frame = b""
        self._wire.ws_frames_in += 1
        # After its own close frame the wire waits for the peer's, and for nothing else.
        if self._wire.is_closing and frame.opcode is not CLOSE:
            return
        try:
            super().recv_frame(frame)
        except ProtocolError:
            # A close frame among fragments: websockets complains of the unfinished message; the wire closes.
            if self.close_rcvd is None:
                raise
        if self.close_rcvd is not None:
            self._wire.on_close(self.close_rcvd.code, self.close_rcvd.reason)
        else:
            self._wire.on_frame(frame)

    def _part_bytes(self) -> int:
        """The most bytes that may be missing to the end of the current part of a frame."""
        frame = self._frame
        if len(frame) < 2:
            return 2 - len(frame)
        length, mask_bytes = frame[1] & 0x7F, 4 if frame[1] & 0x80 else 0
        header = {126: 4, 127: 10}.get(length, 2)
        if len(frame) < header:
            return header - len(frame)
        if header > 2:
            length = int.from_bytes(frame[2:header])
        return header + mask_bytes + length - len(frame)

    def _is_refused_at_once(self) -> bool:
        """websockets judges these at the end of the frame, the wire by the header."""
        first, second = self._frame
        return bool(first & 0x70) or (first & 0x0F >= CLOSE and (second & 0x7F > 125 or not first & 0x80))


class Wire:
    """One side's socket after its handshake; see the native one for the arguments and methods."""

    def __init__(
        self,
        owner: Owner,
        *,
        is_client: bool,
        max_message_bytes: int,
        messages_per_s: int,
        hold_ms: int,
        budget: object,
    ) -> None:
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, got {max_message_bytes}")
        self.is_client = is_client
        self._messages_per_s = self.messages_left = messages_per_s
        self._looked_at = 0.0
        self.is_ready = self.is_congested = self.is_closing = False
        self.ws_frames_in = self.messages_in = 0
        self.media_in = self.audio_in_bytes = self.audio_out_frames = self.audio_out_bytes = 0
        self.dropped_frames = self.overflowed_frames = self.cleared_frames = 0
        self._owner: Owner | None = owner
        self._held = FrameRing(hold_ms if is_client else hold_ms + LONGEST_MESSAGE_MS)
        self._most_ahead_bytes = self._ahead_bytes = 0
        self._frames_at_clear = -1
        self._envelope = Envelope(b"", b"")
        self._is_binary_in = self._is_binary_out = False
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
        self.is_failed = False
        self._oracle = Oracle(self, max_message_bytes)
        self._fragments: list[bytes] = []
        self._message_opcode: Opcode | None = None

    def open(self, transport: Any) -> None:
        self._transport = transport

    def set_format(
        self,
        finder: SpanFinder | None,
        envelope: Envelope,
        *,
        is_binary_in: bool = False,
        is_binary_out: bool = False,
        numbered: tuple[bytes, bytes, bytes] | None = None,
        decode: Codec | None = None,
        encode: Codec | None = None,
    ) -> None:
        self._finder = finder
        self._envelope = envelope
        self._is_binary_in = is_binary_in
        self._is_binary_out = is_binary_out
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

    def set_most_ahead(self, most_bytes: int) -> None:
        self._most_ahead_bytes = most_bytes

    def set_ahead(self, ahead_bytes: int) -> None:
        self._ahead_bytes = ahead_bytes
        if len(self._held):
            self._flush()

    def look(self, now: float, _: object) -> None:
        allowed = round((now - self._looked_at) * self._messages_per_s)
        self.messages_left = min(self._messages_per_s, self.messages_left + allowed)
        self._looked_at = now

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
        if self._must_wait() or self._is_far_ahead():
            self._hold(payload)
        else:
            self._write_audio(payload)

    def _hold(self, payload: bytes) -> None:
        overflowed = self._held.push(payload)
        self.dropped_frames += overflowed
        self.overflowed_frames += overflowed

    def _must_wait(self) -> bool:
        return not self.is_ready or self.is_congested or len(self._held) > 0 or self._held.item_count > 0

    def _is_far_ahead(self) -> bool:
        return 0 < self._most_ahead_bytes <= self._ahead_bytes

    def send_text(self, message: bytes) -> None:
        if not self.is_closing:
            self._write(TEXT, message)

    def send_in_order(self, item: str) -> bool:
        if self._must_wait():
            return self._held.push_item(item)
        if not self.is_closing:
            assert self._owner is not None
            self._owner.on_due(item)
        return True

    def clear_audio(self, message: bytes | None) -> None:
        self.cleared_frames += len(self._held)
        self._held.clear()
        self._generation += 1
        self._bytes_since_mark = self._ahead_bytes = 0
        if message is not None and not (self.is_congested and self._frames_at_clear == self.audio_out_frames):
            self._frames_at_clear = self.audio_out_frames
            self.send_text(message)
        self._flush()

    def send_ping(self) -> None:
        if not self.is_closing and not self.is_congested:
            self._write(PING, b"")

    def send_close(self, code: int) -> None:
        if self.is_closing:
            return
        self._write(CLOSE, b"" if code == NO_STATUS else struct.pack(">H", code))
        self.is_closing = True
        self._partner = None

    def hand_held_to(self, other: Wire) -> None:
        while self._held.item_count or len(self._held):
            item = self._held.pop_item()
            if isinstance(item, str):
                other.send_in_order(item)
            else:
                payload = self._held.pop()
                assert payload is not None
                other._hold(payload)

    def lose_held(self) -> None:
        self.dropped_frames += self._held.clear()
        self._held.clear_items()

    def _write_audio(self, payload: bytes) -> None:
        self.audio_out_frames += 1
        self._ahead_bytes += decoded_bytes(payload)
        if self._mark_every_bytes:
            self._write_marked(payload)
            return
        if self._is_binary_out or self._encode is not None:
            audio = base64.b64decode(payload)
            if audio and self._encode is not None:
                audio = self._encode(audio)
            if audio and self._is_binary_out:
                self._write(BINARY, audio)
            elif audio:
                self._write(TEXT, self._envelope.wrap_payload(base64.b64encode(audio)))
        elif self._numbered is not None:
            self._write_numbered(payload, self._numbered)
        else:
            self._write(TEXT, self._envelope.wrap_payload(payload))
        self.audio_out_bytes += decoded_bytes(payload)

    def _write_numbered(self, payload: bytes, between: tuple[bytes, bytes, bytes]) -> None:
        counts = self.next_number(), self.audio_out_frames, self.audio_out_bytes // 8
        head = b"".join(b"%d%b" % pair for pair in zip(counts, between, strict=True))
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

    def _write(self, opcode: Opcode, payload: bytes) -> None:
        if self._transport is not None:
            frame = Frame(opcode, payload).serialize(mask=self.is_client, extensions=[])
            gathering.add(self, frame, len(payload))

    def write_to_transport(self, frames: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames)

    def _flush(self) -> None:
        with gathering:
            self._flush_held()

    def _flush_held(self) -> None:
        while self.is_ready and not self.is_congested and not self.is_closing:
            item = self._held.pop_item()
            if isinstance(item, str):
                assert self._owner is not None
                self._owner.on_due(item)
            elif not len(self._held) or self._is_far_ahead():
                break
            else:
                payload = self._held.pop()
                assert payload is not None
                self._write_audio(payload)

    # Reading

    def feed(self, data: bytes) -> None:
        with gathering:
            self._oracle.read(data)

    def on_frame(self, frame: Frame) -> None:
        """Take a frame that the oracle accepts."""
        if frame.opcode in (PING, PONG):
            self._spend()
            if self.is_closing:
                return
        if frame.opcode is PING:
            if not self.is_congested:
                self._write(PONG, frame.data)
        elif frame.opcode is not PONG:
            self._on_fragment(frame)

    def _on_fragment(self, frame: Frame) -> None:
        if frame.fin and frame.opcode is not CONTINUATION:
            self._on_message(frame.opcode, frame.data)
            return
        if frame.opcode is not CONTINUATION:
            self._message_opcode = frame.opcode
        self._fragments.append(frame.data)
        if len(self._fragments) > MAX_FRAGMENTS:
            self.violate(1009, "message in too many fragments")
        elif frame.fin:
            assert self._message_opcode is not None
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._on_message(self._message_opcode, message)

    def _on_message(self, opcode: int, message: bytes) -> None:
        assert self._owner is not None
        self.messages_in += 1
        if opcode == BINARY and self._is_binary_in:
            self._on_other_audio(message)
            return
        span = self._finder.find(message) if self._finder is not None and opcode == TEXT else None
        if span is not None:
            payload = message[span[0] : span[1]]
            if self._decode is not None:
                self._on_other_audio(base64.b64decode(payload))
            elif self._takes_audio(decoded_bytes(payload)):
                self.audio_in_bytes += decoded_bytes(payload)
                self._pass_on(payload)
            return
        self._spend()
        if self.is_closing:
            return
        if opcode == BINARY:
            self._owner.on_binary(message)
            return
        try:
            message.decode()
        except UnicodeDecodeError:
            self.violate(1007, "text is not UTF-8")
        else:
            self._owner.on_text(message)

    def _spend(self) -> None:
        self.messages_left -= 1
        if self.messages_left < 0:
            self.violate(1008, "too many messages that are not plain audio")

    def _takes_audio(self, audio_bytes: int) -> bool:
        if audio_bytes < SHORT_AUDIO_BYTES:
            self._spend()
            if self.is_closing:
                return False
            if not audio_bytes:
                assert self._owner is not None
                self._owner.on_ignored("empty_audio")
                return False
        self.media_in += 1
        return True

    def _on_other_audio(self, audio: bytes) -> None:
        if not self._takes_audio(len(audio)):
            return
        if self._decode is not None:
            audio = self._decode(bytes(audio))
        if audio:
            self.audio_in_bytes += len(audio)
            self._pass_on(base64.b64encode(audio))

    def _pass_on(self, payload: bytes) -> None:
        if self._partner is None:
            assert self._owner is not None
            self._owner.on_audio(payload)
            return
        self._partner.send_audio(payload)

    def on_close(self, code: int, reason: str) -> None:
        """Take a close frame that the oracle accepts."""
        is_answer = self.is_closing
        self.send_close(code)
        self.is_failed = True
        gathering.write()
        self._transport.close()
        if not is_answer and self._owner is not None:
            self._owner.on_peer_closed(code, reason)

    def violate(self, code: int, detail: str) -> None:
        """Close with a code; nothing is read any more."""
        was_closing = self.is_closing
        self.send_close(code)
        self.is_failed = True
        if not was_closing and self._owner is not None:
            self._owner.on_violation(code, detail)

    # The transport's other callbacks

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closing = self.is_failed = True
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
