"""
Base of the two legs: liveness checks, deadlines, callbacks.

A leg owns one `_codec.Wire`, which handles the frames and the audio that waits. The leg turns the wire's callbacks
into calls of its subclass, the caller's or the agent's leg.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVarTuple

import structlog

from _codec import HeldBudget, SocketSet, Wire
from _codec.tls_memory import give_back
from bridge.agents.json_dialogue import worded
from bridge.call.ends import Why
from bridge.call.kept import Kept
from bridge.call.sides import Relayed, SideCounts
from bridge.call.state import Call
from bridge.metrics import Metrics

log = structlog.get_logger()
Arguments = TypeVarTuple("Arguments")

# Python has the name on Linux; on macOS from 3.13 on.
TCP_NOTSENT_LOWAT: int = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else 0x201)
# A peer that is quiet for longer is looked at: a reset that comes together with the last bytes wakes nobody.
QUIET_S = 1.0
# How late the deadlines of a peer that does well may be: its wire looks at it meanwhile, without Python.
SETTLED_S = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LegLimits:
    """
    Bounds of one side's socket.

    ``hold_ms``: audio kept while the side cannot take it; beyond, the oldest is dropped.
    ``silence_s``: a caller without a message, or an agent without any frame, for this long is dead.
    ``ping_s``: time between pings.
    ``control_per_s``: messages other than plain audio; beyond, the peer is closed with 1008.
    ``stall_s``: a peer that has not read for this long is aborted.
    ``close_s``: from the close frame sent to the end of the socket; beyond, the socket is aborted.
    ``send_buffer_bytes``: kernel send buffer; ``write_high_bytes``: unsent bytes in the process from which on
    audio is held.
    """

    max_message_bytes: int
    control_per_s: int
    hold_ms: int
    silence_s: float
    ping_s: float
    stall_s: float
    close_s: float
    send_buffer_bytes: int
    write_high_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """
    What a process lends each of its legs.

    ``clock``: seconds, monotonic. ``tls``: the client's settings, made once, because making them takes 20 ms.
    ``held``: the bytes that all legs hold together. ``sockets``: reads the legs' while many calls are up. ``on_gone``:
    called once per leg, when its socket is closed for good.
    """

    clock: Callable[[], float]
    metrics: Metrics
    tls: ssl.SSLContext
    held: HeldBudget
    sockets: SocketSet
    on_gone: Callable[[Leg], None]


class Leg:
    """
    One side's socket. Subclasses say what a message means and what the end of the peer means.

    Args:
        call: The call that this socket carries.
        limits: The bounds.
        process: Clock, metrics and the callback at the end.
    """

    side: ClassVar[str]
    # True on the agent's side, which this process connects: any frame proves life, and pings wait for silence.
    is_client: ClassVar[bool]

    # Whether the other side's wire may send to this one's directly; else each frame goes through `send_audio`.
    takes_wire = True

    # The subclasses' attributes are in the dictionary of each leg. With some 30 in there, that has over a kilobyte.
    __slots__ = (
        "_clock",
        "_close_reason",
        "_closing_since",
        "_congested_since",
        "_has_left",
        "_is_reported",
        "_metrics",
        "_on_gone",
        "_pinged_at",
        "_relayed_before",
        "_sockets",
        "_transport",
        "call",
        "how_closed",
        "limits",
        "wire",
    )

    def __init__(self, call: Call, limits: LegLimits, process: Process) -> None:
        self.call = call
        self.limits = limits
        self.wire = Wire(
            self,
            is_client=self.is_client,
            max_message_bytes=limits.max_message_bytes,
            budget=process.held,
            messages_per_s=limits.control_per_s,
            now=process.clock(),
            hold_ms=limits.hold_ms,
        )
        self._clock = process.clock
        self._metrics = process.metrics
        self._on_gone = process.on_gone
        self._sockets = process.sockets
        # Set by `open`, cleared by the wire's `on_gone`.
        self._transport: asyncio.Transport | None = None
        # Frames and bytes received at the last `relayed`; None: nothing passes natively.
        self._relayed_before: tuple[int, int] | None = None
        # Whether the socket is closed for good, and whether the process knows it.
        self._has_left = False
        self._is_reported = False
        # When either end began to close; from then on the peer's messages mean nothing.
        self._closing_since: float | None = None
        # The words of the peer's close frame.
        self._close_reason = ""
        # Who closed the socket, and how; empty while it is open.
        self.how_closed = ""
        # Since when the peer has not read; None while it does.
        self._congested_since: float | None = None
        self._pinged_at = self.wire.heard_at

    # What the peer's messages mean: for subclasses

    def read_audio(self, payload: bytes) -> None:
        """One frame that the wire found and does not pass on natively."""
        raise NotImplementedError

    def read_text(self, message: bytes) -> None:
        """Any other whole text message, valid UTF-8."""
        raise NotImplementedError

    def send_item(self, item: str) -> None:
        """The turn of an item has come that `Wire.send_in_order` took."""
        raise NotImplementedError

    def end_by_peer(self, code: int | None, detail: str) -> None:
        """
        The peer sent its close frame (1005: one without a code), or is gone without one (None).

        Not called after this side has closed.
        """
        raise NotImplementedError

    def end_by_violation(self, code: int, detail: str) -> None:
        """The peer broke the protocol and was closed with ``code``."""
        raise NotImplementedError

    def end_by_fault(self) -> None:
        """A message could not be handled because of a fault in this program: close this side."""
        raise NotImplementedError

    def on_ignored(self, reason: str) -> None:
        """Count a message that is dropped while the call goes on."""
        self.call.stats.ignore(self.side, reason)
        self.guard(self._metrics.ignored, self.side, reason)

    # What a call asks of both its sides

    def send_audio(self, payload: bytes) -> None:
        """Send one frame, base64 text of mu-law, or hold it while the side is not ready or does not read."""
        self.wire.send_audio(payload)

    def relay_to(self, other: object) -> None:
        """Pass plain audio straight to the other side's socket; for a side without one it goes through the call."""
        if isinstance(other, Leg | Kept) and other.takes_wire:
            self.wire.join(other.wire)
            self._relayed_before = (self.wire.media_in, self.wire.audio_in_bytes)
        else:
            self.wire.join(None)
            self._relayed_before = None

    def relayed(self) -> Relayed:
        """Audio that went there since the last question."""
        if self._relayed_before is None:
            return Relayed(0, 0)
        frames, audio_bytes = self._relayed_before
        self._relayed_before = (self.wire.media_in, self.wire.audio_in_bytes)
        return Relayed(self.wire.media_in - frames, self.wire.audio_in_bytes - audio_bytes)

    def counts(self) -> SideCounts:
        """The media messages of this side so far."""
        wire = self.wire
        return SideCounts(
            wire.audio_out_frames, wire.dropped_frames, wire.cleared_frames, wire.overflowed_frames
        )

    # Opening and closing

    def open(self, transport: asyncio.Transport) -> None:
        """Set the socket's bounds after the handshake; frames flow from now on."""
        self._transport = transport
        self.wire.heard_at = self._pinged_at = self._clock()
        tcp = transport.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.limits.send_buffer_bytes)
        tcp.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, self.limits.write_high_bytes)
        give_back(transport)
        transport.set_write_buffer_limits(
            high=self.limits.write_high_bytes, low=self.limits.write_high_bytes // 4
        )
        if self._closing_since is not None:
            transport.abort()

    def close(self, code: int) -> None:
        """Close with ``code``; the peer has ``close_s`` to answer. A second close changes nothing."""
        if self._begin_closing(f"bridge {code}"):
            self.wire.send_close(code)
        self.wire.lose_held()

    def abort(self) -> None:
        """End the socket now, without a close frame."""
        self._begin_closing("bridge, without a close frame")
        self.wire.lose_held()
        if self._transport is not None:
            self._transport.abort()

    # The clock

    def on_tick(self, now: float) -> None:
        """Act on what is due; called a few times a second for every leg."""
        if self._has_left:
            self._report()
        else:
            self.guard(self._look_at_peer, now)

    def _look_at_peer(self, now: float) -> None:
        if self.wire.look(now, self._sockets):
            self._on_tick(now)
            self.wire.settled_until = now + SETTLED_S if self._is_settled() else 0.0

    def _is_settled(self) -> bool:
        """Whether nothing is due soon; what makes something due sets ``settled_until`` back."""
        return self._transport is not None and self._closing_since is None

    def _on_tick(self, now: float) -> None:
        if self._closing_since is not None:
            if now - self._closing_since >= self.limits.close_s:
                if self._transport is not None:
                    self._transport.abort()
                else:
                    self._leave_unopened()
            return
        if self._transport is None:
            return
        wire = self.wire
        self._move_deadlines(wire.stood_still_s)
        if now - wire.heard_at >= QUIET_S and self._is_reset():
            self._lose("reset")
            return
        if wire.is_paused:
            # A peer that is not read, because the process holds too much, is not silent.
            wire.heard_at = max(wire.heard_at, now - QUIET_S)
        ping_due = self.limits.ping_s + (
            max(self._pinged_at, wire.heard_at) if self.is_client else self._pinged_at
        )
        if self._congested_since is not None and now - self._congested_since >= self.limits.stall_s:
            self._lose(f"did not read for {self.limits.stall_s:g} s")
        elif now - wire.heard_at >= self.limits.silence_s:
            self._lose(f"silent for {self.limits.silence_s:g} s")
        elif now >= ping_due:
            self._pinged_at = now
            wire.send_ping()

    def _move_deadlines(self, late_s: float) -> None:
        self._pinged_at += late_s
        if self._congested_since is not None:
            self._congested_since += late_s

    def _is_reset(self) -> bool:
        assert self._transport is not None
        try:
            self._transport.get_extra_info("socket").getpeername()
        except OSError:
            return True
        return False

    def _lose(self, detail: str) -> None:
        # Without a close frame. Held audio stays until the call knows: another agent may take it over.
        self._begin_closing(detail)
        self.guard(self.end_by_peer, None, detail)
        self.abort()

    def _begin_closing(self, how: str) -> bool:
        """Note that the socket closes from now on, and how; False if it closes already."""
        if self._closing_since is not None:
            return False
        self._closing_since, self.how_closed = self._clock(), how
        self.wire.settled_until = 0.0
        return True

    # The wire's callbacks

    def guard(self, act: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        """Act on an event: a fault in this program ends the call, not the process."""
        try:
            act(*arguments)
        except Exception:
            log.exception("fault on a leg", side=self.side, call_sid=self.call.call_sid)
            if not self.call.run_each(self.end_by_fault):
                self.call.run_each(lambda: self.call.end(Why.FAULT, self._clock()), self.abort)

    def on_text(self, message: bytes) -> None:
        self.guard(self.read_text, message)

    def on_audio(self, payload: bytes) -> None:
        self.guard(self.read_audio, payload)

    def on_due(self, item: str) -> None:
        self.guard(self.send_item, item)

    def on_binary(self, message: bytes) -> None:
        self.on_ignored("binary")

    def on_peer_closed(self, code: int, reason: str) -> None:
        if self._begin_closing(worded(f"peer {code} {reason}")):
            self._close_reason = reason
            self.guard(self.end_by_peer, code, worded(f"close {code} {reason}"))

    def on_violation(self, code: int, detail: str) -> None:
        if self._begin_closing(worded(f"bridge {code} {detail}")):
            self.guard(self.end_by_violation, code, detail)

    def on_congestion(self, is_congested: bool) -> None:
        self.guard(self._set_congested, is_congested)

    def _set_congested(self, is_congested: bool) -> None:
        self._congested_since = self._clock() if is_congested else None

    def on_gone(self) -> None:
        if self._begin_closing("no close frame"):
            self.guard(self.end_by_peer, None, "no close frame")
        self._transport = None
        self._has_left = True
        self._report()

    def _report(self) -> None:
        # After a fault the next tick tries again.
        self._is_reported = self._is_reported or self.call.run_each(lambda: self._on_gone(self))

    def _leave_unopened(self) -> None:
        """Leave without a connection, whose loss would have cleared the cycle of wire and leg."""
        if not self._has_left:
            self.wire.connection_lost(None)
