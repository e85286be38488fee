"""The caller's side: the carrier's media socket, from the upgrade to the close."""

from __future__ import annotations

import asyncio
import socket
from typing import ClassVar, Protocol

import picows
import structlog

from _codec import MARK_NAME, Envelope, Handshake, SpanFinder, is_base64
from bridge.call.ends import Why
from bridge.call.heard import MARK_EVERY_BYTES
from bridge.call.kept import Kept
from bridge.call.leg import Leg, LegLimits, Process
from bridge.call.sides import CallerSide, Chain
from bridge.call.state import Call

log = structlog.get_logger()


BYTES_PER_S = 8000
# Twilio discards audio beyond ten minutes (warning 31931); the estimate of what it has may be late by a tick.
MOST_AHEAD_S = 540
# Bytes that the kernel may hold of what Twilio has not acknowledged, because an interrupt cannot recall them: 100 ms at
# 1 Mbit/s. In a round trip of 200 ms they are still four times the speed of speech.
MOST_QUEUED_BYTES = 12288


class Carrier(Protocol):
    """
    The messages of one media socket, in the carrier's format.

    ``read`` calls the leg's method for what a message means; all other members are asked after `CallerLeg.on_start`.
    ``mark_around_name`` is what stands before and after the name in a mark's message.
    """

    def read(self, message: bytes, leg: CallerLeg) -> None: ...
    @property
    def finder(self) -> SpanFinder: ...
    @property
    def envelope(self) -> Envelope: ...
    @property
    def mark_around_name(self) -> tuple[bytes, bytes]: ...
    def clear(self) -> bytes: ...
    def mark(self, name: str) -> bytes: ...


class CallerLeg(Leg):
    """
    Turns the carrier's messages into events of the call, and the call's commands into messages to the carrier.

    Args:
        carrier: Reads and writes the messages.
    """

    side: ClassVar[str] = "caller"
    is_client: ClassVar[bool] = False

    def __init__(self, carrier: Carrier, call: Call, limits: LegLimits, process: Process) -> None:
        super().__init__(call, limits, process)
        self._carrier = carrier
        self._budget = process.held
        # Set by `on_start`: from then on audio flows and messages can be sent.
        self._is_started = False
        self._has_warned = False
        call.attach(self)

    def handshake(self) -> picows.WSListener:
        """The listener that takes the upgraded socket."""
        return Handshake(self.wire, self.open)

    def open(self, transport: asyncio.Transport) -> None:
        tcp = transport.get_extra_info("socket")
        # A peer may wait for two segments before it acknowledges; on a loopback interface these are long.
        segment_bytes = tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        self.wire.bound_queue(tcp.fileno(), max(MOST_QUEUED_BYTES, 2 * segment_bytes))
        super().open(transport)

    # The carrier's messages

    def read_audio(self, payload: bytes) -> None:
        self.call.on_caller_audio(payload)

    def read_text(self, message: bytes) -> None:
        self._carrier.read(message, self)

    def on_start(self, chain: Chain) -> None:
        """The stream is verified; ``chain`` makes the agents' sides."""
        self._start()
        self.wire.set_ready()
        self.call.on_start(chain, self._clock())

    def on_return(self, call: Call) -> None:
        """The stream is verified and belongs to ``call``, whose former media socket is lost."""
        self.call = call
        self._start()
        call.on_caller_back(self, self._clock())
        # What was held for this socket goes first.
        self.wire.set_ready()

    def on_goodbye(self, why: Why, transfer_to: str) -> None:
        """The stream is verified, and the agent has ended the call since the carrier was led to it."""
        self._start()
        self.wire.set_ready()
        self.call.transfer_to = transfer_to
        self.call.end(why, self._clock())

    def _start(self) -> None:
        self._is_started = True
        self.wire.set_call_audio(self.call.audio)
        self.wire.set_format(self._carrier.finder, self._carrier.envelope)
        self.wire.set_most_ahead(MOST_AHEAD_S * BYTES_PER_S)

    def on_refused(self, reason: str) -> None:
        """The stream is not what its token says; ``reason`` is a metric label."""
        self._metrics.refused(reason)
        self.call.end(Why.REFUSED, self._clock(), reason)

    def on_media(self, payload: bytes) -> None:
        """One frame that the finder left: base64 text of mu-law, 8 kHz, if the carrier is right."""
        if not is_base64(payload):
            self.on_ignored("not_base64")
            return
        self.wire.count_as_audio(payload)
        if payload:
            self.call.audio.add_caller(payload, self._clock())
            self.call.on_caller_audio(payload)
        else:
            self.on_ignored("empty_audio")

    def on_mark(self, name: str) -> None:
        """The audio before this mark has played, or a clear has discarded it."""
        now, marks = self._clock(), self.call.stats.marks
        marks.count += 1
        if not MARK_NAME.fullmatch(name):
            marks.add(now)
        self.call.on_mark(name, now)

    def on_dtmf(self, digit: str) -> None:
        """The caller pressed a key."""
        self.call.on_dtmf(digit)

    def on_stop(self) -> None:
        """The caller hung up, or the carrier stopped the stream."""
        self.call.on_stop(self._clock())

    # The end of the peer

    def end_by_peer(self, code: int | None, detail: str) -> None:
        self.call.on_caller_lost(self._clock(), detail=detail)

    def end_by_violation(self, code: int, detail: str) -> None:
        self.call.on_caller_lost(self._clock(), Why.CALLER_VIOLATION, f"{code} {detail}")

    def end_by_fault(self) -> None:
        self.call.end(Why.FAULT, self._clock())

    # The call's commands

    @property
    def sent_bytes(self) -> int:
        return self.wire.audio_out_bytes

    @property
    def held_bytes(self) -> int:
        return self.wire.held_bytes

    def keep(self) -> CallerSide:
        # What the carrier has of the agent's audio goes with the socket.
        self.call.audio.cut(self._clock())
        kept = Kept(self.limits.hold_ms, self._budget)
        self.wire.hand_held_to(kept.wire)
        return kept

    def take_over(self, other: CallerSide) -> None:
        if isinstance(other, Kept):
            other.wire.hand_held_to(self.wire)

    def mark_audio(self) -> None:
        if self._is_started:
            self.wire.set_marks(*self._carrier.mark_around_name, MARK_EVERY_BYTES)

    def set_unplayed(self, unplayed_s: float) -> None:
        ahead_bytes = max(0, round(unplayed_s * BYTES_PER_S) - self.wire.held_bytes)
        self.wire.set_ahead(ahead_bytes)
        if ahead_bytes >= MOST_AHEAD_S * BYTES_PER_S and not self._has_warned:
            self._has_warned = True
            self._metrics.agents_ahead.inc()
            log.warning(
                "agent is minutes ahead of the caller: audio is held, because Twilio discards what it cannot keep",
                ahead_s=round(unplayed_s),
                call_sid=self.call.call_sid,
            )

    def send_clear(self) -> None:
        self.wire.clear_audio(self._carrier.clear() if self._is_started else None)

    def send_mark(self, name: str) -> None:
        if self._is_started and not self.wire.send_in_order(name):
            self.on_ignored("too_many_marks")

    def send_item(self, item: str) -> None:
        self.wire.send_text(self._carrier.mark(item))
