"""The socket of the agent's leg: from connecting to ready, and to its close."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar

import picows
import structlog

from _codec import FromMulaw, Handshake, ToMulaw
from bridge.agents.agent import MULAW_8K, Agent, SessionError, StreamInfo
from bridge.agents.succession import FailureKind
from bridge.call.agent_socket import AgentSocket, why_lost, why_not_open
from bridge.call.leg import Leg, LegLimits, Process
from bridge.call.limits import AgentLimits
from bridge.call.sides import AgentSide
from bridge.call.silence_fill import MOST_AHEAD_BYTES, SILENCE, SilenceFill
from bridge.call.state import Call
from bridge.call.transcode import from_mulaw, to_mulaw

log = structlog.get_logger()


class AgentConnection(Leg):
    """
    Opens the socket, makes it ready for audio, and closes it.

    Args:
        agent: An agent with a socket.
        stream: The call; without a session, one is opened before the socket.
        agent_limits: Its deadlines.
        on_session: Called with a session that was opened here.
    """

    side: ClassVar[str] = "agent"
    is_client: ClassVar[bool] = True

    # As in `Leg`.
    __slots__ = (
        "_agent",
        "_agent_limits",
        "_close_code",
        "_connect_s",
        "_connecting",
        "_connecting_since",
        "_decode",
        "_dialogue",
        "_encode",
        "_endpoint_of",
        "_inspects_audio",
        "_is_ready",
        "_on_session",
        "_parting_until",
        "_ready_at",
        "_session_name",
        "_silence_fill",
        "_socket",
        "_stream",
    )

    def __init__(
        self,
        agent: Agent,
        stream: StreamInfo,
        call: Call,
        limits: LegLimits,
        process: Process,
        *,
        agent_limits: AgentLimits,
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
        self._agent_limits = agent_limits
        self._connect_s = agent_limits.connect_s
        self._socket = AgentSocket(process.tls, self._connect_s, limits.close_s, limits.max_message_bytes)
        # What the session says of itself, once it is open.
        self._session_name = ""
        # Opens the socket, from `connect` on.
        self._connecting: asyncio.Task[None] | None = None
        self._connecting_since = self._clock()
        # Set by `Control.READY`, or by the open socket if the dialogue does not wait for that.
        self._is_ready = False
        self._ready_at = 0.0
        # Transcode the audio; None while it is mu-law at 8000 Hz. Set when the agent is ready, and by a frame that
        # states another format.
        self._decode: ToMulaw | None = None
        self._encode: FromMulaw | None = None
        # Between `Control.INSPECT_AUDIO` and `Control.RELAY_AUDIO`.
        self._inspects_audio = False
        # Set with the agent's readiness if its dialogue wants silence in gaps; looks from a timer of its own until the
        # leg closes.
        self._silence_fill: SilenceFill | None = None
        # Set by `close` if the service is to say that the session is closed: until when the socket waits for that, and
        # the code of the close frame that follows.
        self._parting_until: float | None = None
        self._close_code = 1000

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
            raise
        except TimeoutError:
            detail = f"not open within {self._connect_s:g} s"
        except (SessionError, OSError, picows.WSError) as error:
            detail, kind = why_not_open(error), why_lost(error)
        except Exception as error:
            # Nobody awaits this task, so any fault must end the call here.
            log.exception("fault while opening the agent's socket", call_sid=self.call.call_sid)
            detail = why_not_open(error)
        finally:
            # A call needs no finished task; one that was cancelled would be a cycle, by its exception's traceback.
            self._connecting = None
        if self._transport is not None or self._closing_since is not None:
            # The socket has been open, and the wire has reported its end.
            return
        # picows returns without an error if the peer closes before it answers the upgrade.
        self._socket.cut()
        self._begin_closing(detail)
        # The call first: the next agent may take over the audio that waits here.
        lost = partial(self.call.on_agent_lost, self._clock(), detail=detail, kind=kind)
        self.guard(lost)
        self._leave_unopened()

    @property
    def session_id(self) -> str:
        """The service's name of the session; empty if it has none, or is not known yet."""
        return self._dialogue.session_id or self._session_name

    def _handshake(self) -> picows.WSListener | None:
        return None if self._has_left else Handshake(self.wire, self.open)

    async def _session(self) -> Mapping[str, str]:
        stream = self._stream
        if stream.has_session:
            self._session_name = stream.session.get(self._agent.session_key, "")
            return stream.session
        session = await self._agent.open_session(stream.call)
        self._session_name = session.get(self._agent.session_key, "")
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
        self._ready_at = self._clock()
        dialogue = self._dialogue
        if dialogue.from_agent_format != MULAW_8K:
            self._decode = to_mulaw(dialogue.from_agent_format)
        if dialogue.to_agent_format != MULAW_8K:
            self._encode = from_mulaw(dialogue.to_agent_format)
        self._set_format()
        self.call.on_agent_open(self._clock())
        if dialogue.silence_fill_ms > 0:
            loop = asyncio.get_running_loop()
            self._silence_fill = SilenceFill(dialogue.silence_fill_ms, loop.time())
            self.wire.set_most_ahead(MOST_AHEAD_BYTES)
            loop.call_soon(self._look)
        self.wire.set_ready()

    def _look(self) -> None:
        if self._closing_since is None:
            self.guard(self._fill_gap)

    def _fill_gap(self) -> None:
        assert self._silence_fill is not None
        wire, loop = self.wire, asyncio.get_running_loop()
        look = self._silence_fill.look(
            loop.time(), wire.audio_out_bytes, wire.held_bytes, is_blocked=wire.is_congested
        )
        wire.set_ahead(look.ahead_bytes)
        if look.is_silence_due:
            wire.send_audio(SILENCE)
        loop.call_at(look.next_at, self._look)

    def _set_format(self) -> None:
        dialogue = self._dialogue
        self.wire.set_format(
            None if self._inspects_audio else dialogue.audio,
            dialogue.to_agent,
            is_binary_in=dialogue.is_binary
            if dialogue.is_binary_from_agent is None
            else dialogue.is_binary_from_agent,
            is_binary_out=dialogue.is_binary,
            numbered=dialogue.numbered,
            decode=self._decode,
            encode=self._encode,
        )

    def close(self, code: int) -> None:
        if self._is_ready and self._closing_since is None:
            self.call.run_each(lambda: self._send(self._dialogue.closing()))
            if self._dialogue.closed_s > 0:
                self._part(code)
                return
        super().close(code)
        if self._transport is None and self._connecting is not None:
            self._connecting.cancel()
            # Here, not in the task: a task that is cancelled before its first step never runs its own clean-up.
            self._leave_unopened()

    def _part(self, code: int) -> None:
        """Keep the socket until the service has closed the session: all else that it sends is dropped."""
        self._begin_closing(f"bridge {code}")
        self._parting_until = self._clock() + self._dialogue.closed_s
        self._close_code = code
        self.relay_to(None)
        if self.call.has(self):
            self.call.drop_caller_audio()
        self.wire.lose_held()

    def _leave(self) -> None:
        """Send the close frame that `_part` put off."""
        if self._parting_until is not None:
            self._parting_until = None
            self._closing_since = self._clock()
            self.wire.send_close(self._close_code)

    def _on_tick(self, now: float) -> None:
        if self._parting_until is None:
            super()._on_tick(now)
        elif now >= self._parting_until:
            self._leave()

    def take_over(self, other: AgentSide) -> None:
        if isinstance(other, AgentConnection):
            other.wire.hand_held_to(self.wire)

    def _send(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            if self.wire.is_congested:
                # Answers must not pile up for a peer that does not read.
                self.on_ignored("answer_to_a_peer_that_does_not_read")
            else:
                self.wire.send_text(message)
