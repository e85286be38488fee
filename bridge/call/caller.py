"""The caller's side: Twilio's media socket, from the upgrade to the close."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import picows

from _codec import Handshake, is_base64
from bridge.call.heard import MARK_EVERY_BYTES
from bridge.call.leg import Leg, LegLimits
from bridge.call.state import AgentSide, Call, Why
from bridge.metrics import Metrics
from bridge.twilio import media as twilio

Authorize = Callable[["CallerLeg", twilio.Start], "Iterator[AgentSide] | str"]


class CallerLeg(Leg):
    """
    Turns Twilio's messages into events of the call, and the call's commands into messages to Twilio.

    Args:
        media_id: The last part of the socket's path.
        authorize: Checks ``start``; gives the agents' sides in the order in which they are tried, or the reason of
            the refusal.
    """

    side: ClassVar[str] = "caller"
    is_client: ClassVar[bool] = False

    def __init__(
        self,
        media_id: str,
        call: Call,
        limits: LegLimits,
        clock: Callable[[], float],
        *,
        authorize: Authorize,
        metrics: Metrics,
        on_gone: Callable[[Leg], None],
    ) -> None:
        super().__init__(call, limits, clock, on_gone)
        self.media_id = media_id
        self.stream_sid: str | None = None
        self._authorize = authorize
        self._metrics = metrics
        call.attach(self)

    def handshake(self) -> picows.WSListener:
        """Who takes the upgraded socket."""
        return Handshake(self.wire, self.open)

    # Twilio's messages

    def read_audio(self, payload: bytes) -> None:
        self.call.on_caller_audio(payload)

    def read_text(self, message: bytes) -> None:
        try:
            self._on_message(twilio.parse(message, self.stream_sid))
        except twilio.BadMessage as error:
            self.on_ignored(str(error))

    def _on_message(self, message: twilio.Message) -> None:
        now = self._clock()
        match message:
            case twilio.Start():
                self._on_start(message, now)
            case twilio.Connected():
                pass
            case _ if self.stream_sid is None:
                self.on_ignored("before_start")
            case twilio.Media(payload):
                if is_base64(payload):
                    self.call.on_caller_audio(payload)
                else:
                    self.on_ignored("not_base64")
            case twilio.Mark(name):
                self.call.on_mark(name, now)
            case twilio.Dtmf(digit):
                self.call.on_dtmf(digit)
            case twilio.Stop():
                self.call.on_stop(now)

    def _on_start(self, start: twilio.Start, now: float) -> None:
        if self.stream_sid is not None:
            self.on_ignored("second_start")
            return
        agents = self._authorize(self, start)
        if isinstance(agents, str):
            self._metrics.refused(agents)
            self.call.end(Why.REFUSED, now, agents)
            return
        self.stream_sid = start.stream_sid
        self.wire.set_format(twilio.media_finder(start.stream_sid), twilio.media_envelope(start.stream_sid))
        self.wire.set_ready()
        self.call.on_start(agents, now)

    def on_ignored(self, reason: str) -> None:
        self._metrics.ignored(self.side, reason)

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

    def mark_audio(self) -> None:
        if self.stream_sid is not None:
            self.wire.set_marks(*twilio.mark_around_name(self.stream_sid), MARK_EVERY_BYTES)

    def send_clear(self) -> None:
        self.wire.drop_held()
        self.wire.new_generation()
        if self.stream_sid is not None:
            self.wire.send_text_before_audio(twilio.clear(self.stream_sid))

    def send_mark(self, name: str) -> None:
        if self.stream_sid is not None:
            self.wire.send_text_after_audio(twilio.mark(self.stream_sid, name))
