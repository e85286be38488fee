"""Shared by the tests of calls: sides that record their commands, and scripts on a clock of their own."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import orjson

from bridge.agents.succession import FailureKind
from bridge.agents.turns import HeardTurn
from bridge.call.flight_call import FlightCall
from bridge.call.limits import CallLimits
from bridge.call.sides import CallObserver, Relayed, SideCounts
from bridge.call.state import Call

LIMITS = CallLimits(
    start_s=10,
    duration_s=3600,
    caller_silent_s=60,
    playout_max_s=60,
    playout_margin_s=5,
    grace_s=5,
    twilio_api_s=10,
)
AUDIO_20MS = base64.b64encode(bytes(range(160)))
AUDIO_1S_BYTES = 8000


class Script:
    """
    One call between two recording sides.

    ``log`` holds every command of the call in order, as ``(side, command, *arguments)``; calls of the
    observer have the side ``"observer"``.
    """

    def __init__(self, limits: CallLimits = LIMITS, now: float = 0.0) -> None:
        # Of the present event.
        self.now = now
        self.log: list[tuple[Any, ...]] = []
        # The sides that stood in for a lost socket, in order; they log as "kept 1", "kept 2", ...
        self.kept: list[RecordingCaller] = []
        self.call = self._make_call(limits, _Observer(self.log, self.kept), now)
        self.caller = RecordingCaller(self.log)
        # All sockets of the caller, in order; those after the first log as "caller 2", "caller 3", ...
        self.callers = [self.caller]
        self.agent = RecordingAgent(self.log)
        # Tried if ``agent`` is unavailable; they log as "spare".
        self.spares: list[RecordingAgent] = []
        # Made by `start`.
        self.chain = RecordingChain([])
        # What each interrupt gave.
        self.heard: list[list[HeardTurn]] = []
        self.call.attach(self.caller)

    def _make_call(self, limits: CallLimits, observer: CallObserver, now: float) -> Call:
        return Call(limits, observer, now)

    def run(self, events: Iterable[tuple[Any, ...]]) -> None:
        """Play ``(now, event, *arguments)``."""
        for now, event, *arguments in events:
            self.now = now
            getattr(self, event)(now, *arguments)

    def sent_to(self, side: str) -> list[tuple[Any, ...]]:
        """The commands to one side."""
        return [entry[1:] for entry in self.log if entry[0] == side]

    # Events

    def start(self, now: float) -> None:
        self.chain = RecordingChain([self.agent, *self.spares])
        self.call.on_start(self.chain, now)

    def caller_audio(self, now: float, payload: bytes = AUDIO_20MS) -> None:
        self.call.on_caller_audio(payload)

    def dtmf(self, now: float, digit: str = "5") -> None:
        self.call.on_dtmf(digit)

    def mark(self, now: float, name: str) -> None:
        self.call.on_mark(name, now)

    def stop(self, now: float) -> None:
        self.call.on_stop(now)

    def caller_lost(self, now: float, *arguments: Any) -> None:
        self.call.on_caller_lost(now, *arguments)

    def caller_back(self, now: float) -> None:
        """A new stream goes on with the call, if it may."""
        if self.call.may_go_on:
            self.caller = RecordingCaller(self.log, f"caller {len(self.callers) + 1}")
            self.callers.append(self.caller)
            self.call.on_caller_back(self.caller, now)

    def caller_relayed(self, now: float, frames: int = 1) -> None:
        """Caller audio went past the call."""
        self.caller.pending.append(Relayed(frames, 160 * frames))

    def agent_relayed(self, now: float, frames: int = 1) -> None:
        """Agent audio went past the call."""
        self.agent.pending.append(Relayed(frames, 160 * frames))

    def agent_open(self, now: float) -> None:
        self.call.on_agent_open(now)

    def agent_audio(self, now: float, payload: bytes = AUDIO_20MS, audio_bytes: int = 160) -> None:
        self.call.on_agent_audio(payload, audio_bytes, lambda: now)

    def interrupt(self, now: float) -> None:
        self.heard.append(self.call.on_interrupt(now))

    def turn(self, now: float, name: str = "") -> None:
        self.call.on_agent_turn(name, now)

    def hang_up(self, now: float) -> None:
        self.call.on_agent_hang_up(now)

    def transfer(self, now: float, to_number: str) -> None:
        self.call.on_agent_transfer(to_number, now)

    def twilio_answered(self, now: float) -> None:
        self.call.on_twilio_answered(now)

    def agent_ended(self, now: float) -> None:
        self.call.on_agent_ended(now)

    def agent_lost(self, now: float, *arguments: Any) -> None:
        self.call.on_agent_lost(now, *arguments)

    def tick(self, now: float) -> None:
        self.call.on_tick(now)

    def end(self, now: float, *arguments: Any) -> None:
        why, *rest = arguments
        self.call.end(why, now, *rest)


class FlightScript(Script):
    """
    Likewise, of a call that keeps its last events.

    ``flights`` has its record when it was over, as a file has it.
    """

    def _make_call(self, limits: CallLimits, observer: CallObserver, now: float) -> FlightCall:
        self.flights: list[dict[str, Any]] = []
        return FlightCall(
            limits,
            observer,
            now,
            lambda: self.now,
            agent_name=lambda call: "an agent",
            on_over=lambda call: self.flights.append(self.flight()),
        )

    def flight(self) -> dict[str, Any]:
        """The record so far, as a file has it."""
        return orjson.loads(orjson.dumps(self.call.flight(1.0e9)))


def bridged(limits: CallLimits = LIMITS) -> Script:
    """A call whose sides are both open, at time 0."""
    script = Script(limits)
    script.run([(0.0, "start"), (0.0, "agent_open")])
    return script


class _Side:
    """``relays_to``: the sides that get audio directly; ``pending``: counts of that audio not yet reported."""

    def __init__(self, log: list[tuple[Any, ...]]) -> None:
        self.relays_to: list[object] = []
        self.pending: list[Relayed] = []
        self._log = log

    def relay_to(self, other: object) -> None:
        self.relays_to.append(other)

    def relayed(self) -> Relayed:
        pending, self.pending = self.pending, []
        return Relayed(sum(each.frames for each in pending), sum(each.audio_bytes for each in pending))


class RecordingCaller(_Side):
    """A caller's side that records its commands."""

    sent_bytes = 0
    held_bytes = 0
    unplayed_s = 0.0

    def __init__(self, log: list[tuple[Any, ...]], name: str = "caller") -> None:
        super().__init__(log)
        self.name = name
        self.is_taken_over = False

    def keep(self) -> RecordingCaller:
        return RecordingCaller(self._log, "kept")

    def take_over(self, other: RecordingCaller) -> None:
        other.is_taken_over = True
        held = [entry[1:] for entry in self._log if entry[0] == other.name]
        self._log.extend((self.name, *entry) for entry in held)

    def counts(self) -> SideCounts:
        return SideCounts()

    def mark_audio(self) -> None:
        self._log.append((self.name, "mark audio"))

    def send_audio(self, payload: bytes) -> None:
        self._log.append((self.name, "audio", payload))

    def set_unplayed(self, unplayed_s: float) -> None:
        self.unplayed_s = unplayed_s

    def send_clear(self) -> None:
        self._log.append((self.name, "clear"))

    def send_mark(self, name: str) -> None:
        self._log.append((self.name, "mark", name))

    def close(self, code: int) -> None:
        self._log.append((self.name, "close", code))


class RecordingAgent(_Side):
    """An agent's side that records its commands."""

    tracks_heard = False
    is_speaking: bool | None = None

    def __init__(self, log: list[tuple[Any, ...]], name: str = "agent") -> None:
        super().__init__(log)
        self._name = name

    def connect(self) -> None:
        self._log.append((self._name, "connect"))

    def take_over(self, other: object) -> None:
        self._log.append((self._name, "take over", other))

    def send_audio(self, payload: bytes) -> None:
        self._log.append((self._name, "audio", payload))

    def counts(self) -> SideCounts:
        return SideCounts()

    def send_dtmf(self, digit: str) -> None:
        self._log.append((self._name, "dtmf", digit))

    def on_played(self, name: str) -> None:
        self._log.append((self._name, "played", name))

    def close(self, code: int) -> None:
        self._log.append((self._name, "close", code))


class RecordingChain:
    """The agents' sides of a script, in order."""

    def __init__(self, sides: Iterable[RecordingAgent]) -> None:
        self._sides = iter(sides)
        self.asked: list[tuple[FailureKind, bool]] = []
        # What became of the agents.
        self.reports: list[str] = []

    def on_open(self) -> None:
        self.reports.append("open")

    def on_lost(self, kind: FailureKind, detail: str) -> None:
        self.reports.append(f"lost: {kind.value} {detail}")

    def on_over(self) -> None:
        self.reports.append("over")

    def next_side(self) -> RecordingAgent | None:
        return next(self._sides, None)

    def successor(self, kind: FailureKind, was_open: bool) -> RecordingAgent | None:
        self.asked.append((kind, was_open))
        return next(self._sides, None)


class _Observer:
    def __init__(self, log: list[tuple[Any, ...]], kept: list[RecordingCaller]) -> None:
        self._log = log
        self._kept = kept

    def on_call_bridged(self, call: Call) -> None:
        self._log.append(("observer", "bridged"))

    def on_agent_replaced(self, call: Call, old: object, new: object, detail: str) -> None:
        self._log.append(("observer", "agent replaced", old, new, detail))

    def on_caller_kept(self, call: Call, kept: RecordingCaller, lost_s: float, detail: str) -> None:
        self._kept.append(kept)
        kept.name = f"kept {len(self._kept)}"
        self._log.append(("observer", "kept", lost_s))

    def on_fault(self, call: Call, fault: Exception) -> None:
        raise fault

    def on_twilio_asked(self, call: Call) -> None:
        self._log.append(("observer", "Twilio asked", call.transfer_to))

    def on_call_closed(self, call: Call) -> None:
        call.close_caller()
        self._log.append(("observer", "closed"))
