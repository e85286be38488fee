"""The agent's leg: what its messages, its silence and its end mean to the call."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

import structlog

from _codec import decoded_bytes, is_base64
from bridge.agents.agent import (
    MULAW_8K,
    Agent,
    Audio,
    AudioFormat,
    Control,
    Corrected,
    Event,
    Failed,
    Ignored,
    Mark,
    Reply,
    StreamInfo,
    Transfer,
    Troubled,
    Turn,
    Used,
    Warned,
)
from bridge.agents.json_dialogue import shape_of, worded
from bridge.agents.setting_types import E164, as_e164
from bridge.agents.succession import FailureKind, Said, Speaker
from bridge.call.agent_sender import AgentSender
from bridge.call.ends import Why
from bridge.call.farewell import Farewell
from bridge.call.leg import LegLimits, Process
from bridge.call.limits import AgentLimits
from bridge.call.state import Call
from bridge.call.transcode import can_transcode, is_of, to_mulaw
from bridge.call.trouble import Trouble

log = structlog.get_logger()

# Longest name of an agent's mark, because marks queue up while Twilio does not read.
MARK_NAME_CHARS = 256
# Reasons of ignored messages that say that this agent speaks another protocol than the one that is set.
NOT_UNDERSTOOD = frozenset({"unknown_type", "not_json", "not_object", "missing_field", "unknown_audio"})


class AgentLeg(AgentSender):
    """
    Turns the agent's messages into events of the call.

    Args:
        transfer_prefixes: Beginnings of the numbers to which the agent may transfer the call.
    """

    def __init__(
        self,
        agent: Agent,
        stream: StreamInfo,
        call: Call,
        limits: LegLimits,
        process: Process,
        *,
        agent_limits: AgentLimits,
        transfer_prefixes: tuple[str, ...],
        on_session: Callable[[dict[str, str]], None],
    ) -> None:
        super().__init__(
            agent, stream, call, limits, process, agent_limits=agent_limits, on_session=on_session
        )
        self._transfer_prefixes = transfer_prefixes
        # Each warning is logged once a call.
        self._has_warned = False
        self._has_warned_of_transfer = False
        self._trouble = Trouble(agent_limits.trouble_s)
        # From a request to hang up or transfer until the agent's last words are said.
        self._farewell: Farewell | None = None
        # Whether the message that is being read counts as audio, of which it may have several parts.
        self._is_counted = False
        self._not_understood = 0
        self._first_not_understood = ""
        # What the service bills so far, if it tells.
        self.used_s: float | None = None

    def _on_tick(self, now: float) -> None:
        super()._on_tick(now)
        if self._transport is None or self._closing_since is not None:
            return
        if not self._is_ready:
            if now - self._connecting_since >= self._connect_s:
                self._fail(f"not ready within {self._connect_s:g} s")
            return
        if not self._is_overdue(now):
            self._send_due(now)

    def _is_settled(self) -> bool:
        return super()._is_settled() and self._farewell is None and not self._trouble.is_open

    def _is_overdue(self, now: float) -> bool:
        """Act on last words that are over and on errors that no audio followed; True if the agent is done."""
        if self._farewell is not None:
            if self._farewell.is_due(self._audio_frames(), now):
                self._say_goodbye()
        elif self._trouble.is_open and self._trouble.is_due(self._audio_frames(), now):
            error = self._trouble.last(self._audio_frames())
            assert error is not None
            self._fail(f"{error.detail}, and no audio after it", error.kind)
        else:
            return False
        return self._closing_since is not None

    def _audio_frames(self) -> int:
        self.call.count_relayed()
        return self.call.stats.frames_from_agent

    def _fail(self, detail: str, kind: FailureKind = FailureKind.LOST) -> None:
        # The call first: the next agent may take over the audio that waits here.
        self._lose_agent(detail, kind)
        self.close(1000)

    def _lose_agent(self, detail: str, kind: FailureKind) -> None:
        if self._farewell is not None:
            # It has nothing to say but its last words.
            self._say_goodbye()
        else:
            self.call.on_agent_lost(self._clock(), detail=detail, kind=kind)

    # The agent's messages

    def read_audio(self, payload: bytes) -> None:
        # After a failure the call is another agent's.
        if self.call.has(self):
            self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def on_binary(self, message: bytes) -> None:
        if self._dialogue.reads_binary:
            self.guard(self.read_text, message)
        else:
            super().on_binary(message)

    def read_text(self, message: bytes) -> None:
        self._is_counted = False
        # Whatever it says may make something due.
        self.wire.settled_until = 0.0
        for event in self._dialogue.read(message):
            if isinstance(event, Used):
                self.used_s = event.seconds
            elif self._parting_until is not None:
                if event is Control.CLOSED:
                    self._leave()
            elif self.call.has(self):
                self._on_event(event)
                if isinstance(event, Ignored) and event.reason in NOT_UNDERSTOOD:
                    self._not_understood += 1
                    self._first_not_understood = self._first_not_understood or shape_of(message)

    def _on_event(self, event: Event) -> None:
        match event:
            case Audio():
                self._on_audio(event)
            case Control.INTERRUPT:
                self._on_interrupt()
            case Turn(name):
                self.call.on_agent_turn(name, self._clock())
            case Control.INSPECT_AUDIO | Control.RELAY_AUDIO:
                self._set_inspects_audio(event is Control.INSPECT_AUDIO)
            case Control.READY:
                self._on_ready()
            case Control.ENDED | Control.HANG_UP if not self._is_ready:
                self._fail("ended before it was ready")
            case Control.ENDED:
                self.call.on_agent_ended(self._clock())
            case Control.HANG_UP:
                self._await_last_words(lambda: self.call.on_agent_hang_up(self._clock()))
            case Control.SPEECH_ENDED:
                if self._farewell is not None:
                    self._say_goodbye()
            case Reply(message, after_s) if after_s > 0:
                self._later.append((self._clock() + after_s, message))
            case Reply(message):
                self._send((message,))
            case Mark(name) if len(name) > MARK_NAME_CHARS:
                self.on_ignored("mark_name_too_long")
            case Mark(name):
                self.call.on_agent_mark(name)
            case Transfer():
                self._on_transfer(event)
            case Failed(detail, kind):
                self._fail(detail, kind)
            case Troubled():
                self._on_trouble(event)
            case Warned(detail):
                if self._trouble.is_new(detail):
                    log.warning("agent warns", call_sid=self.call.call_sid, detail=detail)
            case Said(speaker):
                self.call.conversation.add(event, self._clock())
                if speaker is Speaker.CALLER:
                    self._trouble.on_sign(self._clock())
            case Corrected(text):
                self.call.conversation.correct(text)
            case Ignored(reason):
                self.on_ignored(reason)

    def _on_trouble(self, error: Troubled) -> None:
        if not self._is_ready:
            self._fail(error.detail, error.kind)
            return
        if self._trouble.is_new(error.detail):
            log.warning("agent reports an error", call_sid=self.call.call_sid, detail=error.detail)
        self._trouble.report(error, self._audio_frames(), self._clock())

    def _await_last_words(self, end: Callable[[], None]) -> None:
        if self._farewell is None:
            self._farewell = Farewell(end, self._audio_frames(), self._clock())

    def _say_goodbye(self) -> None:
        farewell, self._farewell = self._farewell, None
        assert farewell is not None
        farewell.end()

    def _set_inspects_audio(self, inspects_audio: bool) -> None:
        if inspects_audio == self._inspects_audio:
            return
        self._inspects_audio = inspects_audio
        if self._is_ready:
            self._set_format()

    def _on_interrupt(self) -> None:
        began = self._clock()
        self._trouble.on_sign(began)
        heard = self.call.on_interrupt(began)
        if self._decode is not None:
            self._decode.restart()
        to_clear_s = self._clock() - began
        self._metrics.interrupt_to_clear(to_clear_s)
        self.call.stats.interrupted.add(began, to_clear_s)
        self._send(self._dialogue.on_interrupt(heard))

    def _on_transfer(self, transfer: Transfer) -> None:
        to_number = as_e164(transfer.to_number)
        if E164.fullmatch(to_number) and to_number.startswith(self._transfer_prefixes or ("-",)):
            self._send(transfer.acceptance)
            self._await_last_words(lambda: self.call.on_agent_transfer(to_number, self._clock()))
            return
        self.on_ignored("transfer_not_allowed")
        self._send(transfer.refusal)
        if not self._has_warned_of_transfer:
            self._has_warned_of_transfer = True
            log.warning(
                "transfer refused: BRIDGE_TRANSFER_TO does not allow the number, and a call of the page has none",
                call_sid=self.call.call_sid,
            )

    def _on_audio(self, audio: Audio) -> None:
        payload = audio.payload
        if not is_base64(payload):
            self.on_ignored("not_base64")
            return
        if not self._is_counted:
            self._is_counted = True
            self.wire.count_as_audio(payload)
        if not payload:
            self.on_ignored("empty_audio")
            return
        if audio.format != MULAW_8K:
            self._warn_of_audio(audio)
            if not can_transcode(audio.format):
                self._on_unplayable(audio.format)
                return
            if self._decode is None or not is_of(self._decode, audio.format):
                self._decode = to_mulaw(audio.format)
            payload = b64encode(self._decode(b64decode(payload)))
            if not payload:
                return
        self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def _on_unplayable(self, format: AudioFormat) -> None:
        self.on_ignored("unknown_audio")
        # An agent that sends nothing else would leave the caller in silence.
        detail = worded(f"it sends audio of {format.encoding[:40]} at {format.sample_rate_hz} Hz")
        self._trouble.report(Troubled(detail, FailureKind.REFUSED), self._audio_frames(), self._clock())

    def _warn_of_audio(self, audio: Audio) -> None:
        if not self._has_warned and audio.format != self._dialogue.from_agent_format:
            self._has_warned = True
            log.warning(
                "agent sends audio that is not mu-law 8000 Hz, which is transcoded or lost: change the agent's format",
                encoding=audio.format.encoding[:40],
                sample_rate_hz=audio.format.sample_rate_hz,
                is_lost=not can_transcode(audio.format),
                call_sid=self.call.call_sid,
            )

    # The end of the peer

    def end_by_peer(self, code: int | None, detail: str) -> None:
        # Node's and the browsers' close without arguments sends no code.
        error = self._trouble.last(self._audio_frames())
        if error is not None:
            # What a vendor says before it closes decides, also where the close is an ordinary one.
            self._lose_agent(f"{error.detail}, then {detail}", error.kind)
        elif code in (1000, 1005) and self._is_ready and self._farewell is None:
            self.call.on_agent_ended(self._clock())
        else:
            self._lose_agent(detail, self._dialogue.on_close(code, self._close_reason))

    def end_by_violation(self, code: int, detail: str) -> None:
        if self._farewell is not None:
            self._say_goodbye()
        else:
            self.call.on_agent_lost(self._clock(), Why.AGENT_VIOLATION, f"{code} {detail}")

    def on_gone(self) -> None:
        super().on_gone()
        if self._is_ready:
            self.guard(self._log_session)
        if self.used_s is not None:
            log.info("agent's session is over", call_sid=self.call.call_sid, billed_s=self.used_s)
        if self._not_understood:
            log.warning(
                "messages of the agent were not understood",
                call_sid=self.call.call_sid,
                messages=self._not_understood,
                first=self._first_not_understood,
            )

    def _log_session(self) -> None:
        for warned in self._dialogue.on_over(self._clock() - self._ready_at):
            log.warning("agent warns", call_sid=self.call.call_sid, detail=warned.detail)

    def end_by_fault(self) -> None:
        if not self.call.has(self):
            pass
        elif self._is_ready:
            self.call.end(Why.FAULT, self._clock())
        else:
            self.call.on_agent_lost(self._clock(), detail="fault in the bridge")
        self.close(1011)
