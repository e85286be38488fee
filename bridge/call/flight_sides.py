"""What stands between a call's machine and its sides, chain and observer, so that its flight record sees both ways."""

from __future__ import annotations

from collections.abc import Callable

from bridge.agents.succession import FailureKind
from bridge.call.flight import Labelled, Tape
from bridge.call.sides import AgentSide, CallerSide, CallObserver, Chain, Relayed, SideCounts
from bridge.call.state import Call


class CallerTap(Labelled):
    """
    The caller's side, noted.

    Audio and what belongs to each tick goes to the side directly.
    """

    __slots__ = ("_tape", "counts", "send_audio", "set_unplayed", "side")

    def __init__(self, side: CallerSide, label: str, tape: Tape) -> None:
        super().__init__(label)
        self.side = side
        self.send_audio: Callable[[bytes], None] = side.send_audio
        self.set_unplayed: Callable[[float], None] = side.set_unplayed
        self.counts: Callable[[], SideCounts] = side.counts
        self._tape = tape

    @property
    def sent_bytes(self) -> int:
        return self._tape.read(self, "sent_bytes", self.side.sent_bytes)

    @property
    def held_bytes(self) -> int:
        return self._tape.read(self, "held_bytes", self.side.held_bytes)

    def relayed(self) -> Relayed:
        return self._tape.read(self, "relayed", self.side.relayed())

    def mark_audio(self) -> None:
        self._tape.command(self, "mark_audio", self.side.mark_audio)

    def keep(self) -> CallerSide:
        return self._tape.command(self, "keep", lambda: self._tapped(self.side.keep()))

    def _tapped(self, kept: CallerSide) -> CallerSide:
        return CallerTap(kept, self._tape.label("kept"), self._tape)

    def take_over(self, other: CallerSide) -> None:
        self._tape.command(self, "take_over", lambda: self.side.take_over(caller_of(other)), other)

    def relay_to(self, other: AgentSide | None) -> None:
        to = agent_of(other) if other is not None else None
        self._tape.command(self, "relay_to", lambda: self.side.relay_to(to), other)

    def send_clear(self) -> None:
        self._tape.command(self, "send_clear", self.side.send_clear)

    def send_mark(self, name: str) -> None:
        self._tape.command(self, "send_mark", lambda: self.side.send_mark(name), name)

    def close(self, code: int) -> None:
        self._tape.command(self, "close", lambda: self.side.close(code), code)


class AgentTap(Labelled):
    """The agent's side, noted; audio goes to the side directly."""

    __slots__ = ("_tape", "counts", "send_audio", "side")

    def __init__(self, side: AgentSide, label: str, tape: Tape) -> None:
        super().__init__(label)
        self.side = side
        self.send_audio: Callable[[bytes], None] = side.send_audio
        self.counts: Callable[[], SideCounts] = side.counts
        self._tape = tape

    @property
    def tracks_heard(self) -> bool:
        return self._tape.read(self, "tracks_heard", self.side.tracks_heard)

    @property
    def is_speaking(self) -> bool | None:
        return self._tape.read(self, "is_speaking", self.side.is_speaking)

    def relayed(self) -> Relayed:
        return self._tape.read(self, "relayed", self.side.relayed())

    def connect(self) -> None:
        self._tape.command(self, "connect", self.side.connect)

    def take_over(self, other: AgentSide) -> None:
        self._tape.command(self, "take_over", lambda: self.side.take_over(agent_of(other)), other)

    def send_dtmf(self, digit: str) -> None:
        # Pressed keys may be a card's number: no record has them.
        self._tape.command(self, "send_dtmf", lambda: self.side.send_dtmf(digit), "")

    def on_played(self, name: str) -> None:
        self._tape.command(self, "on_played", lambda: self.side.on_played(name), name)

    def relay_to(self, other: CallerSide) -> None:
        self._tape.command(self, "relay_to", lambda: self.side.relay_to(caller_of(other)), other)

    def close(self, code: int) -> None:
        self._tape.command(self, "close", lambda: self.side.close(code), code)


def caller_of(side: CallerSide) -> CallerSide:
    """The side itself."""
    return side.side if isinstance(side, CallerTap) else side


def agent_of(side: AgentSide) -> AgentSide:
    """The side itself."""
    return side.side if isinstance(side, AgentTap) else side


class ChainTap(Labelled):
    """
    The chain of agents, noted.

    Args:
        on_made: Called with the label of each agent's side that is made.
    """

    __slots__ = ("_chain", "_on_made", "_tape")

    def __init__(self, chain: Chain, tape: Tape, on_made: Callable[[str], None]) -> None:
        super().__init__("chain")
        self._chain = chain
        self._tape = tape
        self._on_made = on_made

    def on_open(self) -> None:
        self._tape.command(self, "on_open", self._chain.on_open)

    def on_lost(self, kind: FailureKind, detail: str) -> None:
        self._tape.command(self, "on_lost", lambda: self._chain.on_lost(kind, detail), kind, detail)

    def on_over(self) -> None:
        self._tape.command(self, "on_over", self._chain.on_over)

    def next_side(self) -> AgentSide | None:
        return self._tape.command(self, "next_side", lambda: self._tapped(self._chain.next_side()))

    def successor(self, kind: FailureKind, was_open: bool) -> AgentSide | None:
        return self._tape.command(
            self, "successor", lambda: self._tapped(self._chain.successor(kind, was_open)), kind, was_open
        )

    def _tapped(self, side: AgentSide | None) -> AgentSide | None:
        if side is None:
            return None
        label = self._tape.label("agent")
        self._on_made(label)
        return AgentTap(side, label, self._tape)


class ObserverTap(Labelled):
    """The observer, noted; it gets the sides themselves."""

    __slots__ = ("_observer", "_tape")

    def __init__(self, observer: CallObserver, tape: Tape) -> None:
        super().__init__("observer")
        self._observer = observer
        self._tape = tape

    def on_call_bridged(self, call: Call) -> None:
        self._tape.command(self, "on_call_bridged", lambda: self._observer.on_call_bridged(call))

    def on_agent_replaced(self, call: Call, old: AgentSide, new: AgentSide, detail: str) -> None:
        def act() -> None:
            self._observer.on_agent_replaced(call, agent_of(old), agent_of(new), detail)

        self._tape.command(self, "on_agent_replaced", act, old, new, detail)

    def on_caller_kept(self, call: Call, kept: CallerSide, lost_s: float, detail: str) -> None:
        def act() -> None:
            self._observer.on_caller_kept(call, caller_of(kept), lost_s, detail)

        self._tape.command(self, "on_caller_kept", act, kept, lost_s, detail)

    def on_twilio_asked(self, call: Call) -> None:
        self._tape.command(self, "on_twilio_asked", lambda: self._observer.on_twilio_asked(call))

    def on_call_closed(self, call: Call) -> None:
        self._tape.command(self, "on_call_closed", lambda: self._observer.on_call_closed(call))

    def on_fault(self, call: Call, fault: Exception) -> None:
        self._tape.command(self, "on_fault", lambda: self._observer.on_fault(call, fault), fault)
