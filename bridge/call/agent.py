"""The agent's leg: the socket to the agent's service, from connecting to closing."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar

import picows
import structlog

from _codec import FromMulaw, Handshake, ToMulaw, decoded_bytes, is_base64
from bridge.agents.agent import (
    MULAW_8K,
    Agent,
    Audio,
    Control,
    Corrected,
    Event,
    Failed,
    Ignored,
    Mark,
    Reply,
    SessionError,
    StreamInfo,
    Transfer,
)
from bridge.agents.setting_types import E164
from bridge.agents.succession import FailureKind, Said
from bridge.call.agent_socket import AgentSocket, why_lost, why_not_open
from bridge.call.ends import Why
from bridge.call.leg import Leg, LegLimits, Process
from bridge.call.sides import AgentSide
from bridge.call.state import Call
from bridge.call.transcode import can_transcode

log = structlog.get_logger()

# Longest name of an agent's mark, because marks queue up while Twilio does not read.
MARK_NAME_CHARS = 256


class AgentLeg(Leg):
    """
    Turns the agent's messages into events of the call, and the call's commands into messages to the agent.

    Args:
        agent: An agent with a socket.
        stream: The call; without a session, one is opened before the socket.
        connect_s: Deadline for DNS, TCP, TLS, upgrade and `Control.READY` together.
        transfer_prefixes: Beginnings of the numbers to which the agent may transfer the call.
        on_session: Called with a session that was opened here.
    """

    side: ClassVar[str] = "agent"
    is_client: ClassVar[bool] = True

    def __init__(
        self,
        agent: Agent,
        stream: StreamInfo,
        call: Call,
        limits: LegLimits,
        process: Process,
        *,
        connect_s: float,
        transfer_prefixes: tuple[str, ...],
        on_session: Callable[[dict[str, str]], None],
    ) -> None:
        super().__init__(call, limits, process)
        self._on_session = on_session
        assert agent.dialogue is not None
        assert agent.endpoint is not None
        self._agent = agent
        self._endpoint_of = agent.endpoint
        self._stream = stream
        self._dialogue = agent.dialogue(stream, self.wire.next_number)
        self._connect_s = connect_s
        self._transfer_prefixes = transfer_prefixes
        self._socket = AgentSocket(process.tls, connect_s, limits.close_s, limits.max_message_bytes)
        # Opens the socket, from `connect` on.
        self._connecting: asyncio.Task[None] | None = None
        self._connecting_since = self._clock()
        # Set by `Control.READY`, or by the open socket if the dialogue does not wait for that.
        self._is_ready = False
        # Transcode the audio; None while it is mu-law at 8000 Hz. Set when the agent is ready, and by a frame that
        # states another format.
        self._decode: ToMulaw | None = None
        self._encode: FromMulaw | None = None
        # Between `Control.INSPECT_AUDIO` and `Control.RELAY_AUDIO`.
        self._inspects_audio = False
        # Each warning is logged once a call.
        self._has_warned = False
        self._has_warned_of_transfer = False
        self._kept_alive_at = self._clock()

    @property
    def tracks_heard(self) -> bool:
        return self._dialogue.tracks_heard

    @property
    def is_speaking(self) -> bool | None:
        return self._dialogue.is_speaking

    # Opening

    def connect(self) -> None:
        self._connecting_since = self._clock()
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="agent connect")

    async def _connect(self) -> None:
        detail, kind = "closed before the upgrade", FailureKind.LOST
        try:
            async with asyncio.timeout(self._connect_s):
                await self._socket.open(
                    self._endpoint_of(await self._session(), self._stream.call), self._handshake
                )
        except asyncio.CancelledError:
            if self._transport is None:
                self._socket.cut()
            # The task keeps this exception, whose traceback leads back here: a cycle.
            self._connecting = None
            raise
        except TimeoutError:
            detail = f"not open within {self._connect_s:g} s"
        except (SessionError, OSError, picows.WSError) as error:
            detail, kind = why_not_open(error), why_lost(error)
        except Exception as error:
            # Nobody awaits this task, so any fault must end the call here.
            log.exception("fault while opening the agent's socket", call_sid=self.call.call_sid)
            detail = why_not_open(error)
        if self._transport is not None or self._closing_since is not None:
            # The socket has been open, and the wire has reported its end.
            return
        # picows returns without an error if the peer closes before it answers the upgrade.
        self._socket.cut()
        self._closing_since = self._clock()
        # The call first: the next agent may take over the audio that waits here.
        lost = partial(self.call.on_agent_lost, self._clock(), detail=detail, kind=kind)
        self.guard(lost)
        self._leave_unopened()

    def _handshake(self) -> picows.WSListener | None:
        return None if self._has_left else Handshake(self.wire, self.open)

    async def _session(self) -> Mapping[str, str]:
        stream = self._stream
        if stream.has_session:
            return stream.session
        session = await self._agent.open_session(stream.call)
        self._on_session(session)
        return session

    def open(self, transport: asyncio.Transport) -> None:
        self._socket.hand_over()
        super().open(transport)
        if self._closing_since is None:
            # All of them, however long: an agent that misses one does not know what was said.
            for message in self._dialogue.opening():
                self.wire.send_text(message)
            if not self._dialogue.waits_for_ready:
                self._on_ready()

    def _on_ready(self) -> None:
        if self._is_ready:
            return
        self._is_ready = True
        dialogue = self._dialogue
        if dialogue.from_agent_format != MULAW_8K:
            self._decode = ToMulaw(dialogue.from_agent_format.sample_rate_hz)
        if dialogue.to_agent_format != MULAW_8K:
            self._encode = FromMulaw(dialogue.to_agent_format.sample_rate_hz)
        self._set_format()
        self.call.on_agent_open(self._clock())
        self.wire.set_ready()

    def _set_format(self) -> None:
        dialogue = self._dialogue
        self.wire.set_format(
            None if self._inspects_audio else dialogue.audio,
            dialogue.to_agent,
            is_binary=dialogue.is_binary,
            numbered=dialogue.numbered,
            decode=self._decode,
            encode=self._encode,
        )

    def close(self, code: int) -> None:
        if self._is_ready and self._closing_since is None:
            self.call.run_each(lambda: self._send(self._dialogue.closing()))
        super().close(code)
        if self._transport is None and self._connecting is not None:
            self._connecting.cancel()
            # Here, not in the task: a task that is cancelled before its first step never runs its own clean-up.
            self._leave_unopened()

    def take_over(self, other: AgentSide) -> None:
        if isinstance(other, AgentLeg):
            other.wire.hand_held_to(self.wire)

    def _on_tick(self, now: float) -> None:
        super()._on_tick(now)
        if self._transport is None or self._closing_since is not None:
            return
        if not self._is_ready and now - self._connecting_since >= self._connect_s:
            self._fail(f"not ready within {self._connect_s:g} s")
            return
        keepalive = self._dialogue.keepalive if self._is_ready else None
        if keepalive is not None and now - self._kept_alive_at >= self._dialogue.keepalive_s:
            self._kept_alive_at = now
            self._send((keepalive,))

    def _fail(self, detail: str, kind: FailureKind = FailureKind.LOST) -> None:
        # The call first: the next agent may take over the audio that waits here.
        self.call.on_agent_lost(self._clock(), detail=detail, kind=kind)
        self.close(1000)

    def _send(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            if self.wire.is_congested:
                # Answers must not pile up for a peer that does not read.
                self.on_ignored("answer_to_a_peer_that_does_not_read")
            else:
                self.wire.send_text(message)

    def send_dtmf(self, digit: str) -> None:
        if not self.wire.send_in_order(digit):
            self.on_ignored("too_many_keys")

    def send_item(self, item: str) -> None:
        for message in self._dialogue.on_dtmf(item):
            self.wire.send_text(message)

    def on_played(self, name: str) -> None:
        self._send(self._dialogue.on_played(name))

    # The agent's messages

    def read_audio(self, payload: bytes) -> None:
        self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def read_text(self, message: bytes) -> None:
        for event in self._dialogue.read(message):
            # After a failure the call is another agent's.
            if self.call.has(self):
                self._on_event(event)

    def _on_event(self, event: Event) -> None:
        match event:
            case Audio():
                self._on_audio(event)
            case Control.INTERRUPT:
                self._on_interrupt()
            case Control.TURN:
                self.call.on_agent_turn(self._clock())
            case Control.INSPECT_AUDIO | Control.RELAY_AUDIO:
                self._set_inspects_audio(event is Control.INSPECT_AUDIO)
            case Control.READY:
                self._on_ready()
            case Control.ENDED | Control.HANG_UP if not self._is_ready:
                self._fail("ended before it was ready")
            case Control.ENDED:
                self.call.on_agent_ended(self._clock())
            case Control.HANG_UP:
                self.call.on_agent_hang_up(self._clock())
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
            case Said():
                self.call.conversation.add(event, self._clock())
            case Corrected(text):
                self.call.conversation.correct(text)
            case Ignored(reason):
                self.on_ignored(reason)

    def _set_inspects_audio(self, inspects_audio: bool) -> None:
        if inspects_audio == self._inspects_audio:
            return
        self._inspects_audio = inspects_audio
        if self._is_ready:
            self._set_format()

    def _on_interrupt(self) -> None:
        began = self._clock()
        heard_ms = self.call.on_interrupt(began)
        if self._decode is not None:
            self._decode.restart()
        self._metrics.interrupt_to_clear(self._clock() - began)
        self._send(self._dialogue.on_interrupt(heard_ms))

    def _on_transfer(self, transfer: Transfer) -> None:
        to_number = transfer.to_number
        if E164.fullmatch(to_number) and to_number.startswith(self._transfer_prefixes or ("-",)):
            self.call.on_agent_transfer(to_number, self._clock())
            return
        self.on_ignored("transfer_not_allowed")
        self._send(transfer.refusal)
        if not self._has_warned_of_transfer:
            self._has_warned_of_transfer = True
            log.warning(
                "transfer refused: BRIDGE_TRANSFER_TO does not allow the number", call_sid=self.call.call_sid
            )

    def _on_audio(self, audio: Audio) -> None:
        payload = audio.payload
        if not is_base64(payload):
            self.on_ignored("not_base64")
            return
        self.wire.count_as_audio(payload)
        if not payload:
            self.on_ignored("empty_audio")
            return
        if audio.format != MULAW_8K:
            self._warn_of_audio(audio)
            if not can_transcode(audio.format):
                self.on_ignored("unknown_audio")
                return
            if self._decode is None or self._decode.rate_hz != audio.format.sample_rate_hz:
                self._decode = ToMulaw(audio.format.sample_rate_hz)
            payload = b64encode(self._decode(b64decode(payload)))
            if not payload:
                return
        self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

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
        if code in (1000, 1005) and self._is_ready:
            self.call.on_agent_ended(self._clock())
        else:
            self.call.on_agent_lost(self._clock(), detail=detail, kind=self._dialogue.on_close(code))

    def end_by_violation(self, code: int, detail: str) -> None:
        self.call.on_agent_lost(self._clock(), Why.AGENT_VIOLATION, f"{code} {detail}")

    def end_by_fault(self) -> None:
        if not self.call.has(self):
            pass
        elif self._is_ready:
            self.call.end(Why.FAULT, self._clock())
        else:
            self.call.on_agent_lost(self._clock(), detail="fault in the bridge")
        self.close(1011)
