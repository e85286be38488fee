"""A call that keeps its last events: the bridge's flight recorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from _codec import MARK_NAME
from bridge.agents.succession import FailureKind
from bridge.agents.turns import HeardTurn
from bridge.call.ends import Why
from bridge.call.flight import MOST_CHARS, VERSION, Tape
from bridge.call.flight_sides import AgentTap, CallerTap, ChainTap, ObserverTap
from bridge.call.flight_state import StatefulCall
from bridge.call.limits import CallLimits
from bridge.call.sides import CallerSide, CallObserver, Chain
from bridge.call.state import Call

T = TypeVar("T")


class FlightCall(StatefulCall):
    """
    A call with a record of its last events; audio and quiet ticks cost the record nothing.

    Args:
        now: The time of the media socket's upgrade.
        clock: Seconds, monotonic: the clock of all events.
        agent_name: The name of the agent whose side was made last.
        on_over: Called once, when the call is over and its record is whole.
    """

    # As in `Talk`.
    __slots__ = ("_agent_name", "_agent_names", "_clock", "_on_over", "_tape")

    def __init__(
        self,
        limits: CallLimits,
        observer: CallObserver,
        now: float,
        clock: Callable[[], float],
        *,
        agent_name: Callable[[Call], str],
        on_over: Callable[[FlightCall], object],
    ) -> None:
        self._tape = Tape()
        super().__init__(limits, ObserverTap(observer, self._tape), now)
        self._clock = clock
        self._agent_name = agent_name
        # None once it was called.
        self._on_over: Callable[[FlightCall], object] | None = on_over
        # By the label of its side.
        self._agent_names: dict[str, str] = {}

    def flight(self, unix_now: float) -> dict[str, Any]:
        """
        The record so far, for `orjson.dumps` alone.

        Args:
            unix_now: The present moment by the Unix time.
        """
        opened = datetime.fromtimestamp(unix_now - self._clock() + self.opened_at, UTC)
        return {
            "version": VERSION,
            "call_sid": self.call_sid,
            "opened": opened.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "opened_at": self.opened_at,
            "why": self.why.value if self.why is not None else None,
            "agents": self._agent_names,
            "limits": asdict(self._limits),
            "dropped_events": self._tape.dropped,
            "segments": self._tape.segments(),
        }

    def _note(self, name: str, at: float, act: Callable[[], T], *args: Any, is_kept: bool = True) -> T:
        """Run an event and note it; ``args`` are those of a replay."""
        try:
            return self._tape.event(self, name, at, act, args, is_kept)
        finally:
            on_over = self._on_over
            if on_over is not None and self.is_over and not self._tape.is_open:
                self._on_over = None
                self.run_each(partial(on_over, self))

    def attach(self, caller: CallerSide) -> None:
        super().attach(self._tapped(caller))

    def _tapped(self, caller: CallerSide) -> CallerTap:
        return CallerTap(caller, self._tape.label("caller"), self._tape)

    def has(self, agent: object) -> bool:
        return isinstance(self._agent, AgentTap) and self._agent.side is agent

    # From the caller

    def on_start(self, chain: Chain, now: float) -> None:
        tap = ChainTap(chain, self._tape, self._on_made)
        self._note("on_start", now, partial(super().on_start, tap, now), tap, now)

    def _on_made(self, label: str) -> None:
        self._agent_names[label] = self._agent_name(self)

    def on_mark(self, name: str, now: float) -> None:
        # The bridge sends no mark with a longer name.
        name = name[:MOST_CHARS]
        act = partial(super().on_mark, name, now)
        if self._heard is not None and MARK_NAME.fullmatch(name):
            # Five of them come in a second of audio, and the next event has what they move.
            act()
        else:
            self._note("on_mark", now, act, name, now)

    def on_stop(self, now: float) -> None:
        self._note("on_stop", now, partial(super().on_stop, now), now)

    def on_caller_lost(self, now: float, why: Why = Why.CALLER_LOST, detail: str = "") -> None:
        act = partial(super().on_caller_lost, now, why, detail)
        self._note("on_caller_lost", now, act, now, why, detail)

    def on_caller_back(self, caller: CallerSide, now: float) -> None:
        tap = self._tapped(caller)
        self._note("on_caller_back", now, partial(super().on_caller_back, tap, now), tap, now)

    def on_dtmf(self, digit: str) -> None:
        # Pressed keys may be a card's number: no record has them.
        self._note("on_dtmf", self._clock(), partial(super().on_dtmf, digit), "")

    def drop_caller_audio(self) -> None:
        self._note("drop_caller_audio", self._clock(), super().drop_caller_audio)

    # From the agent

    def on_agent_open(self, now: float) -> None:
        self._note("on_agent_open", now, partial(super().on_agent_open, now), now)

    def on_first_audio(self) -> None:
        self._note("on_first_audio", self._clock(), super().on_first_audio)

    def on_agent_turn(self, name: str, now: float) -> None:
        self._note("on_agent_turn", now, partial(super().on_agent_turn, name, now), name, now)

    def on_agent_mark(self, name: str) -> None:
        self._note("on_agent_mark", self._clock(), partial(super().on_agent_mark, name), name)

    def on_interrupt(self, now: float) -> list[HeardTurn]:
        return self._note("on_interrupt", now, partial(super().on_interrupt, now), now)

    def on_agent_hang_up(self, now: float) -> None:
        self._note("on_agent_hang_up", now, partial(super().on_agent_hang_up, now), now)

    def on_agent_transfer(self, to_number: str, now: float) -> None:
        act = partial(super().on_agent_transfer, to_number, now)
        self._note("on_agent_transfer", now, act, to_number, now)

    def on_agent_ended(self, now: float) -> None:
        self._note("on_agent_ended", now, partial(super().on_agent_ended, now), now)

    def on_agent_lost(
        self,
        now: float,
        why: Why = Why.AGENT_LOST,
        detail: str = "",
        kind: FailureKind = FailureKind.LOST,
    ) -> None:
        act = partial(super().on_agent_lost, now, why, detail=detail, kind=kind)
        self._note("on_agent_lost", now, act, now, why, detail, kind)

    # From the clock, the operator and Twilio

    def on_due(self, now: float) -> None:
        self._note("on_due", now, partial(super().on_due, now), now, is_kept=False)

    def end(self, why: Why, now: float, detail: str = "") -> None:
        self._note("end", now, partial(super().end, why, now, detail), why, now, detail)

    def on_twilio_answered(self, now: float) -> None:
        self._note("on_twilio_answered", now, partial(super().on_twilio_answered, now), now)

    def close_caller(self) -> None:
        self._note("close_caller", self._clock(), super().close_caller)
