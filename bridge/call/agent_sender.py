"""What goes to the agent: the caller's audio and keys, and the messages that are due at a time."""

from __future__ import annotations

from collections.abc import Callable

from _codec import is_base64
from bridge.agents.agent import Agent, StreamInfo
from bridge.call.agent_connection import AgentConnection
from bridge.call.chunks import Chunks
from bridge.call.keys import Keys
from bridge.call.leg import LegLimits, Process
from bridge.call.limits import AgentLimits
from bridge.call.sides import AgentSide
from bridge.call.state import Call


class AgentSender(AgentConnection):
    """Turns the call's commands into messages to the agent."""

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
        super().__init__(
            agent, stream, call, limits, process, agent_limits=agent_limits, on_session=on_session
        )
        # There if the agent wants larger frames: the caller's wire must not send to this one's then.
        frame_ms = self._dialogue.frame_ms
        self._chunks = Chunks(frame_ms) if frame_ms else None
        self.takes_wire = not frame_ms
        self._keys = Keys()
        # Messages to send later, each with its time, in the order of their requests.
        self._later: list[tuple[float, bytes]] = []
        self._kept_alive_at = self._clock()
        # Whether the agent has learned that the end is near.
        self._knows_limit = False

    @property
    def tracks_heard(self) -> bool:
        return self._dialogue.tracks_heard

    @property
    def is_speaking(self) -> bool | None:
        return self._dialogue.is_speaking

    def send_audio(self, payload: bytes) -> None:
        if self._chunks is None:
            super().send_audio(payload)
        elif is_base64(payload):
            for whole in self._chunks.add(payload):
                super().send_audio(whole)
        else:
            self.on_ignored("not_base64")

    def take_rest(self) -> bytes:
        """Take the caller's audio that is less than a frame of the agent's."""
        return self._chunks.rest() if self._chunks is not None else b""

    def take_over(self, other: AgentSide) -> None:
        super().take_over(other)
        if isinstance(other, AgentSender) and (rest := other.take_rest()):
            self.send_audio(rest)

    def _send_rest(self) -> None:
        if rest := self.take_rest():
            super().send_audio(rest)

    def send_dtmf(self, digit: str) -> None:
        self._send_rest()
        if not self.wire.send_in_order(digit):
            self.on_ignored("too_many_keys")

    def send_item(self, item: str) -> None:
        dialogue = self._dialogue
        self.wire.settled_until = 0.0
        keys = self._keys.add(item, self._clock()) if dialogue.gathers_keys else item
        if keys:
            for message in dialogue.on_dtmf(keys):
                self.wire.send_text(message)

    def on_played(self, name: str) -> None:
        self._send(self._dialogue.on_played(name))

    def _is_settled(self) -> bool:
        return (
            super()._is_settled()
            and self._is_ready
            and self._dialogue.keepalive is None
            and self._chunks is None
            and not self._later
            and not self._keys.are_waiting
        )

    def _send_due(self, now: float) -> None:
        """Send what a tick makes due."""
        dialogue = self._dialogue
        if dialogue.keepalive is not None and now - self._kept_alive_at >= dialogue.keepalive_s:
            self._kept_alive_at = now
            self._send((dialogue.keepalive,))
        if self._chunks is not None and self._chunks.is_idle():
            self._send_rest()
        if pressed := self._keys.due(now):
            self._send(dialogue.on_dtmf(pressed))
        while self._later and self._later[0][0] <= now:
            self._send((self._later.pop(0)[1],))
        if not self._knows_limit and (left_s := self._left_s(now)) <= self._agent_limits.notice_s:
            self._knows_limit = True
            self._send(dialogue.on_limit_near(left_s))

    def _left_s(self, now: float) -> float:
        """How long the call, or the agent's session, will still last."""
        left_s = self.call.left_s(now)
        limit_s = self._dialogue.session_limit_s
        return left_s if limit_s is None else min(left_s, self._ready_at + limit_s - now)
