"""
What both sides' sockets share: RFC 6455 where picows leaves it open, the bounds, and audio that must wait.

picows parses frames, checks masks and lengths and answers pings. Left to us, and done here: RSV bits, reassembly
with a bound on the sum, UTF-8, the close handshake with a deadline, a peer that does not read.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import structlog
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from _codec import Envelope, FrameRing

log = structlog.get_logger()

# A message of 64 KiB in fragments of a few bytes costs an object each: more than this is an attack.
MAX_FRAGMENTS = 1024

# RFC 6455 7.4.1: 1005 stands for a close frame without a code; these are never sent by an honest peer.
NO_STATUS = 1005
NEVER_ON_THE_WIRE = frozenset({0, 1004, 1005, 1006, 1015})
# RFC 6455 7.4.2: the last code that anybody may use.
LAST_CODE = 4999
CONTROL = frozenset({WSMsgType.CLOSE, WSMsgType.PING, WSMsgType.PONG})


@dataclass(frozen=True, kw_only=True, slots=True)
class LegLimits:
    """
    Bounds of one side's socket.

    ``hold_ms``: audio kept while the side cannot take it; beyond, the oldest is dropped.
    ``silence_s``: without any frame for so long, the peer is dead.
    ``ping_s``: time between pings.
    ``stall_s``: a peer that has not read for so long is aborted.
    ``close_s``: from our close frame to the end of the socket, then abort.
    ``send_buffer_bytes``: kernel send buffer; ``write_high_bytes``: unsent bytes in the process from which on
    audio is held back.
    """

    max_message_bytes: int
    hold_ms: int
    silence_s: float
    ping_s: float
    stall_s: float
    close_s: float
    send_buffer_bytes: int
    write_high_bytes: int


@dataclass(slots=True)
class LegStats:
    """Counters of one leg; a *frame* is one media message."""

    frames_sent: int = 0
    frames_dropped: int = 0
    frames_cleared: int = 0


class Leg(WSListener):
    """
    One side's socket. Subclasses say what a message means (`on_text`) and what the end of the peer means.

    Args:
        limits: The bounds.
        to_peer: The envelope in which audio goes out.
        clock: Seconds, monotonic.
        on_gone: Called once, when the socket is closed for good.
    """

    side: ClassVar[str]
    # Whether control frames prove that the peer is alive.
    control_frames_count: ClassVar[bool]
    # Whether a ping waits for the peer to be idle, rather than going out at a steady pace.
    pings_when_idle: ClassVar[bool]

    def __init__(
        self, limits: LegLimits, to_peer: Envelope, clock: Callable[[], float], on_gone: Callable[[Leg], None]
    ) -> None:
        self.limits = limits
        self.stats = LegStats()
        self.close_code: int | None = None
        self._to_peer = to_peer
        self._clock = clock
        self._on_gone = on_gone
        self._transport: WSTransport | None = None
        self._ready = False
        self._closing_since: float | None = None
        self._congested_since: float | None = None
        self._held = FrameRing(limits.hold_ms)
        self._after_held: list[bytes] = []
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._in_fragments = False
        self._fragments_kind = WSMsgType.TEXT
        # Liveness without a clock read per frame: the tick looks whether anything came since the last one.
        self._frames_seen = 0
        self._frames_at_tick = 0
        self._heard_at = clock()
        self._pinged_at = self._heard_at

    # What the peer's messages mean: for subclasses

    def on_text(self, message: bytes) -> None:
        """A whole text message, valid UTF-8."""
        raise NotImplementedError

    def on_binary(self, message: bytes) -> None:
        """A whole binary message; no format spoken today has one."""
        self.on_ignored("binary")

    def on_ignored(self, reason: str) -> None:
        """A message was dropped and counted, and the call goes on."""
        raise NotImplementedError

    def on_peer_closed(self, code: int | None) -> None:
        """
        The peer sent its close frame, 1005 standing for one without a code, or is gone without (None).

        Not called after our own close.
        """
        raise NotImplementedError

    def on_violation(self, code: int, detail: str) -> None:
        """The peer broke the protocol and was closed with ``code``."""
        raise NotImplementedError

    # Sending

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and neither side has closed."""
        return self._transport is not None and self._closing_since is None

    def set_ready(self) -> None:
        """Audio may go out from now on; what was held goes first, in order."""
        self._ready = True
        self._flush()

    def send_audio(self, payload: bytes) -> None:
        """
        Send one frame, or hold it while the side is not ready or does not read.

        Args:
            payload: Base64 text of mu-law, 8 kHz.
        """
        if self._closing_since is not None:
            return
        if self._transport is None or not self._ready or self._congested_since is not None or len(self._held):
            self.stats.frames_dropped += self._held.push(payload)
            return
        self.stats.frames_sent += 1
        self._transport.send(WSMsgType.TEXT, self._to_peer.wrap_payload(payload))

    def send_text(self, message: bytes) -> None:
        """Send a control message at once, past audio that is held."""
        if self.is_open and self._transport is not None:
            self._transport.send(WSMsgType.TEXT, message)

    def send_text_after_audio(self, message: bytes) -> None:
        """Send a control message once the audio before it has gone out."""
        if len(self._held) or not self._ready or self._congested_since is not None:
            self._after_held.append(message)
        else:
            self.send_text(message)

    def drop_held(self) -> None:
        """Forget the audio, and what was to follow it, that has not gone out yet."""
        self.stats.frames_cleared += self._held.clear()
        self._after_held.clear()

    def _flush(self) -> None:
        transport = self._transport
        while transport is not None and self._ready and self._congested_since is None:
            payload = self._held.pop()
            if payload is None:
                break
            self.stats.frames_sent += 1
            transport.send(WSMsgType.TEXT, self._to_peer.wrap_payload(payload))
        if not len(self._held) and self._congested_since is None and self._after_held:
            messages, self._after_held = self._after_held, []
            for message in messages:
                self.send_text(message)

    # Closing

    def close(self, code: int) -> None:
        """Close with ``code``; the peer has ``close_s`` to answer. A second close changes nothing."""
        if self._closing_since is not None:
            return
        self._closing_since = self._clock()
        self.drop_held()
        if self._transport is None:
            return
        self.close_code = code
        self._transport.send_close(WSCloseCode(code))

    def abort(self) -> None:
        """End the socket now, without a close frame."""
        if self._closing_since is None:
            self._closing_since = self._clock()
            self.drop_held()
        if self._transport is not None:
            self._transport.disconnect(False)

    def _violate(self, code: int, detail: str) -> None:
        if self._closing_since is None:
            self.close(code)
            self.on_violation(code, detail)

    # The clock

    def on_tick(self, now: float) -> None:
        """Act on what is due; called a few times a second for every leg."""
        if self._transport is None:
            return
        if self._closing_since is not None:
            if now - self._closing_since >= self.limits.close_s:
                self._transport.disconnect(False)
            return
        if self._frames_seen != self._frames_at_tick:
            self._frames_at_tick = self._frames_seen
            self._heard_at = now
        if self._congested_since is not None and now - self._congested_since >= self.limits.stall_s:
            self._lose(f"did not read for {self.limits.stall_s:g} s")
        elif now - self._heard_at >= self.limits.silence_s:
            self._lose(f"silent for {self.limits.silence_s:g} s")
        else:
            ping_due = self.limits.ping_s + (
                max(self._pinged_at, self._heard_at) if self.pings_when_idle else self._pinged_at
            )
            if now >= ping_due:
                self._pinged_at = now
                self._transport.send_ping(b"")

    def _lose(self, detail: str) -> None:
        self.abort()
        log.info("leg lost", side=self.side, detail=detail)
        self.on_peer_closed(None)

    # picows' callbacks

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._heard_at = self._pinged_at = self._clock()
        tcp = transport.underlying_transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
        transport.underlying_transport.set_write_buffer_limits(
            high=self.limits.write_high_bytes, low=self.limits.write_high_bytes // 4
        )
        if self._closing_since is not None:
            transport.disconnect(False)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        try:
            self._on_frame(transport, frame)
        except Exception:
            # One of the two catch-alls: a fault of ours ends this call, not the process.
            log.exception("fault while handling a frame", side=self.side)
            self._violate(1011, "internal error")

    def _on_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self.control_frames_count or kind not in CONTROL:
            self._frames_seen += 1
        if self._closing_since is not None:
            # picows still delivers what it had read before the close.
            if kind == WSMsgType.CLOSE:
                transport.disconnect()
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._violate(1002, "reserved bits set")
        elif kind == WSMsgType.TEXT and frame.fin and not self._in_fragments:
            if frame.payload_size > self.limits.max_message_bytes:
                self._violate(1009, "message too big")
            else:
                self._take_text(frame.get_payload_as_bytes())
        elif kind == WSMsgType.CLOSE:
            self._on_close_frame(transport, frame)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._take_fragment(frame)

    def _take_fragment(self, frame: WSFrame) -> None:
        if (frame.msg_type == WSMsgType.CONTINUATION) is not self._in_fragments:
            self._violate(1002, "fragments out of order")
            return
        if not self._in_fragments:
            self._in_fragments = True
            self._fragments_kind = frame.msg_type
        self._fragments.append(frame.get_payload_as_bytes())
        self._fragments_bytes += frame.payload_size
        if self._fragments_bytes > self.limits.max_message_bytes or len(self._fragments) > MAX_FRAGMENTS:
            self._violate(1009, "message too big")
        elif frame.fin:
            message = b"".join(self._fragments)
            self._fragments.clear()
            self._fragments_bytes = 0
            self._in_fragments = False
            if self._fragments_kind == WSMsgType.TEXT:
                self._take_text(message)
            else:
                self.on_binary(message)

    def _take_text(self, message: bytes) -> None:
        if not message.isascii():
            try:
                message.decode()
            except UnicodeDecodeError:
                self._violate(1007, "text is not UTF-8")
                return
        self.on_text(message)

    def _on_close_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if transport.is_close_frame_sent:
            # The answer to picows' own close after a violation; `on_ws_disconnected` deals with that.
            transport.disconnect()
            return
        code = int.from_bytes(frame.get_payload_as_bytes()[:2]) if frame.payload_size else NO_STATUS
        if frame.payload_size and (code in NEVER_ON_THE_WIRE or code > LAST_CODE):
            self._violate(1002, "close code must not be sent")
            return
        self._closing_since = self._clock()
        self.drop_held()
        self.close_code = code
        # An empty close has no code to echo, and picows would put an illegal 0 on the wire.
        transport.send_close(WSCloseCode.OK if code == NO_STATUS else WSCloseCode(code))
        transport.disconnect()
        self.on_peer_closed(code)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._closing_since is None:
            self._closing_since = self._clock()
            self.drop_held()
            handshake = transport.close_handshake
            if handshake is not None and handshake.sent is not None:
                self.close_code = int(handshake.sent.code)  # type: ignore[call-overload]
                self.on_violation(self.close_code, "broke the protocol")
            else:
                self.on_peer_closed(None)
        self._on_gone(self)

    def pause_writing(self) -> None:
        # Called from within our own write: only a flag.
        self._congested_since = self._clock()

    def resume_writing(self) -> None:
        self._congested_since = None
        self._flush()
