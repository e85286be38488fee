"""What goes between the two sides of a call while it lasts: audio, keys, marks, interrupts."""

from __future__ import annotations

import enum
from collections.abc import Callable

from _codec import Playout, Wire
from bridge.agents.turns import HeardTurn
from bridge.call.heard import Heard
from bridge.call.hearing import Hearing
from bridge.call.sides import AgentSide, CallerSide, CallStats

# Stands before the names of the agent's own marks, which it chooses freely: for the call's first agent, and for those
# that replace one another, by number.
AGENT_MARK = "agent:"
NEXT_AGENT_MARK = "agent-{}:"


class State(enum.Enum):
    AWAITING_START = "awaiting_start"
    CONNECTING = "connecting"
    BRIDGED = "bridged"
    PLAYING_OUT = "playing_out"
    CLOSED = "closed"


class Talk:
    """
    Passes on what the sides have for each other, and counts it; `bridge.call.state.Call` decides about the sides.

    Args:
        now: The time of the media socket's upgrade.
    """

    # The other attributes are in the dictionary of each call. With some 30 in there, that has over a kilobyte.
    __slots__ = (
        "_agent",
        "_agent_mark",
        "_caller",
        "_heard",
        "_is_relayed",
        "_playout",
        "audio",
        "hearing",
        "started_at",
        "state",
        "stats",
    )

    def __init__(self, now: float) -> None:
        self.state = State.AWAITING_START
        self.stats = CallStats()
        # What both sides say and the caller hears; the caller's side adds to its audio.
        self.hearing = Hearing()
        self.audio = self.hearing.audio
        # Set by the verified `start`.
        self.started_at: float | None = None
        # The two sides, from `attach` and `on_start` until the call is closed; the caller's until `close_caller`.
        self._caller: CallerSide | None = None
        self._agent: AgentSide | None = None
        # Whether the present agent's audio goes natively to the caller.
        self._is_relayed = False
        self._agent_mark = AGENT_MARK
        # There once an agent tracks what the caller heard.
        self._heard: Heard | None = None
        self._playout = Playout(now)

    def attach(self, caller: CallerSide) -> None:
        """Set the caller's side, before any other event."""
        self._caller = caller

    def on_caller_audio(self, payload: bytes) -> None:
        """One frame of the caller's. ``payload`` is base64 text of mu-law, 8 kHz, any length."""
        if self._agent is not None:
            self.stats.frames_from_caller += 1
            if self.state is State.BRIDGED or self.state is State.CONNECTING:
                self._agent.send_audio(payload)

    def drop_caller_audio(self) -> None:
        """The agent takes no more audio: the caller's goes through `on_caller_audio` again."""
        if self._caller is not None:
            self.count_relayed()
            self._caller.relay_to(None)

    def on_dtmf(self, digit: str) -> None:
        """The caller pressed a key."""
        self.stats.dtmf += 1
        if self._agent is not None and self.state in (State.CONNECTING, State.BRIDGED):
            self._agent.send_dtmf(digit)

    def on_agent_audio(self, payload: bytes, audio_bytes: int, now: Callable[[], float]) -> None:
        """
        One frame of the agent.

        Args:
            payload: Base64 text of mu-law, 8 kHz, any length.
            audio_bytes: Its length decoded; 8 bytes are 1 ms.
            now: The clock, read only at the first frame.
        """
        if self._caller is None or self.state in (State.PLAYING_OUT, State.CLOSED):
            return
        self.stats.frames_from_agent += 1
        if self.stats.first_agent_audio_s is None and self.started_at is not None:
            self.stats.first_agent_audio_s = now() - self.started_at
        if not self._is_relayed and self._agent is not None:
            self.on_first_audio()
        self._playout.add(audio_bytes)
        self._caller.send_audio(payload)

    def on_first_audio(self) -> None:
        """The present agent's first audio, for `on_agent_audio`: what follows goes natively to the caller."""
        if self._agent is not None and self._caller is not None:
            self._is_relayed = True
            self._agent.relay_to(self._caller)

    def on_agent_turn(self, name: str, now: float) -> None:
        """The agent's next audio begins a new turn."""
        if self._heard is not None and self._caller is not None:
            self._heard.on_turn(name, self._caller.sent_bytes + self._caller.held_bytes, now)

    def on_agent_mark(self, name: str) -> None:
        """The agent asks for a mark behind its audio; its side's ``on_played`` answers once that has played."""
        if self._caller is not None and self.state in (State.CONNECTING, State.BRIDGED):
            self._caller.send_mark(self._agent_mark + name)

    def on_interrupt(self, now: float) -> list[HeardTurn]:
        """
        The caller speaks over the agent: discard unplayed audio of the agent. Caller audio is kept.

        Returns:
            The agent's turns that the caller did not hear whole, and its present one; none if no agent tracks it.
        """
        if self._caller is None or self.state is State.CLOSED:
            return []
        self.count_relayed()
        self.stats.interrupts += 1
        self._playout.restart()
        held_bytes = self._caller.held_bytes
        self._caller.send_clear()
        if self._heard is None:
            return []
        return self._heard.on_clear(self._caller.sent_bytes, held_bytes, now)

    def is_mid_utterance(self) -> bool:
        """Whether the loss of the agent would cut what it says now."""
        if self._agent is None or self.state is not State.BRIDGED:
            return False
        is_speaking = self._agent.is_speaking
        return self._playout.unplayed_s > 0 if is_speaking is None else is_speaking

    def count_relayed(self) -> None:
        """Add natively relayed audio to ``stats``."""
        if self._caller is not None and self._agent is not None:
            self.stats.frames_from_caller += self._caller.relayed().frames
            from_agent = self._agent.relayed()
            self.stats.frames_from_agent += from_agent.frames
            self._playout.add_relayed(from_agent.audio_bytes)

    def _advance_playout(self, now: float) -> None:
        self.hearing.poll(now)
        self._playout.advance(self._caller.held_bytes if self._caller is not None else 0, now)
        self._playout.unsettle()

    def settle(self, until: float, caller: Wire, agent: Wire) -> None:
        """
        Let `is_settled` take the place of ticks until then, if nothing else is due; call it right after a tick.

        Args:
            caller, agent: The wires of the two sides.
        """
        if self.state is State.BRIDGED and self._is_relayed and not self.hearing.turns.is_pending:
            self._playout.settle(until, self.audio, caller, agent)

    def is_settled(self, now: float) -> bool:
        """Whether there is no need of a tick: playout and speech have been followed up to ``now``."""
        return self._playout.look(now)
