"""Runs a flight record through the call's machine again, and compares what the machine commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

from bridge.agents.succession import FailureKind
from bridge.call.ends import Why
from bridge.call.flight import VERSION, Event, Fault, Labelled, Step, coded, row
from bridge.call.flight_state import StatefulCall
from bridge.call.limits import CallLimits
from bridge.call.sides import Relayed
from bridge.call.state import Call

# The methods of the machine that a record may call, each with the kinds of its arguments; the others JSON has as they
# are.
EVENTS: dict[str, dict[int, Callable[[Any], Any]]] = {
    "close_caller": {},
    "drop_caller_audio": {},
    "end": {0: Why},
    "on_agent_ended": {},
    "on_agent_hang_up": {},
    "on_agent_lost": {1: Why, 3: FailureKind},
    "on_agent_mark": {},
    "on_agent_open": {},
    "on_agent_transfer": {},
    "on_agent_turn": {},
    "on_caller_back": {},
    "on_caller_lost": {1: Why},
    "on_dtmf": {},
    "on_due": {},
    "on_first_audio": {},
    "on_interrupt": {},
    "on_mark": {},
    "on_start": {},
    "on_stop": {},
    "on_twilio_answered": {},
}
# Events whose first argument is a side or the chain, and steps that return a side.
TAKES_LABELLED = frozenset({"on_start", "on_caller_back"})
GIVES_LABELLED = frozenset({"keep", "next_side", "successor"})
# What a side has as an attribute; all else is a method.
READS = frozenset({"sent_bytes", "held_bytes", "tracks_heard", "is_speaking"})


class BadFlightError(Exception):
    """The record is damaged, or none; the text says what is wrong with it."""


class Difference(NamedTuple):
    """
    The first place at which a replay differs from its record.

    Attributes:
        event: The number of the event, counted from 0; one within another has the other's number.
        recorded, replayed: A row of a step or an event, or None where there is none.
    """

    event: int
    recorded: list[Any] | None
    replayed: list[Any] | None


class _Stop(BaseException):
    """Ends a replay from within the machine, which goes on after any `Exception`."""


def events_of(flight: Mapping[str, Any]) -> list[Event]:
    """
    The events of a record, the oldest first.

    Raises:
        BadFlightError: It has not the form of one.
    """
    try:
        if flight["version"] != VERSION:
            text = f"is of version {flight['version']}, and this bridge reads version {VERSION}"
            raise BadFlightError(f"{text}: use the bridge that wrote it")
        events = [Event(*each) for segment in flight["segments"] for each in segment["events"]]
        for event in events:
            _check(event)
        float(flight["opened_at"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadFlightError(f"is no flight record, or is damaged ({error!r})") from None
    return events


def _check(event: Event) -> None:
    """See that an event has its form, and all that lies within it."""
    if event.name not in EVENTS or not isinstance(event.state, str):
        raise ValueError(event.name)
    float(event.at)
    len(event.args)
    for step in (Step(*each) for each in event.steps):
        if not (isinstance(step.of, str) and isinstance(step.name, str)):
            raise ValueError(step.name)
        len(step.args)
        for within in step.events:
            _check(Event(*within))


def replay(flight: Mapping[str, Any]) -> Difference | None:
    """
    Run a record through the machine again; returns where the machine does something else first.

    Raises:
        BadFlightError: The record cannot be run.
    """
    events_of(flight)
    replay = _Replay(flight["opened_at"])
    try:
        return replay.run(flight)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadFlightError(f"cannot be run: event {replay.event}: {error!r}") from None


class _Replay:
    """
    One run.

    Attributes:
        event: The number of the present event.
    """

    def __init__(self, opened_at: float) -> None:
        self.event = 0
        self._opened_at = opened_at
        self._labelled: dict[str, _Stub] = {}
        # What is left of the steps of each event that is under way, the innermost last.
        self._steps: list[Iterator[Any]] = []
        self._difference: Difference | None = None
        # A fault of the record itself.
        self._fault: Exception | None = None

    def run(self, flight: Mapping[str, Any]) -> Difference | None:
        call = StatefulCall(CallLimits(**flight["limits"]), self.labelled("observer"), self._opened_at)
        self._call = call
        try:
            for n, segment in enumerate(flight["segments"]):
                if n == 0:
                    call.restore(segment["checkpoint"], self.labelled)
                else:
                    self._compare(segment["checkpoint"], call)
                for event in segment["events"]:
                    self._run(Event(*event))
                    self.event += 1
        except _Stop:
            if self._fault is not None:
                raise self._fault from None
        return self._difference

    def _compare(self, checkpoint: dict[str, Any], call: StatefulCall) -> None:
        """Compare the machine with the state in which the record goes on, but for what moves between two events."""
        meters = checkpoint["meters"]
        call.set_meters(meters)
        if (found := coded(call.checkpoint())) != checkpoint:
            names = [name for name in checkpoint if found.get(name) != checkpoint[name]]
            self._differ(
                [{name: checkpoint[name] for name in names}], [{name: found.get(name) for name in names}]
            )

    def labelled(self, label: str) -> Any:
        """What has a label."""
        return self._labelled.setdefault(label, _Stub(label, self))

    def _differ(self, recorded: list[Any] | None, replayed: list[Any] | None) -> NoReturn:
        self._difference = Difference(self.event, recorded, replayed)
        raise _Stop

    def _run(self, event: Event) -> None:
        call = self._call
        call.set_meters(event.meters)
        args = list(event.args)
        for n, kind in EVENTS[event.name].items():
            args[n] = kind(args[n])
        if event.name in TAKES_LABELLED:
            args[0] = self.labelled(args[0])
        steps = iter(event.steps)
        self._steps.append(steps)
        gives, fault = None, None
        try:
            gives = getattr(call, event.name)(*args)
        except Exception as error:
            fault = coded(error)
        self._steps.pop()
        if (left := next(steps, None)) is not None:
            self._differ(left, None)
        after = row(event._replace(state=call.state.value, steps=(), gives=coded(gives), fault=fault))
        if after != (recorded := row(event._replace(steps=()))):
            self._differ(recorded, after)

    def take(self, of: str, name: str, args: Sequence[Any]) -> Any:
        """Answer the machine as the record says, if it asks what the record says."""
        asked = row(Step(of, name, [coded(arg) for arg in args if not isinstance(arg, Call)]))
        recorded = next(self._steps[-1], None)
        if recorded is None:
            self._differ(None, asked)
        step = Step(*recorded)
        if row(Step(step.of, step.name, list(step.args))) != asked:
            self._differ(recorded, asked)
        try:
            self._run_within(step)
            gives = self._result(step)
        except Exception as fault:
            # The machine would take it for a fault of a side.
            self._fault = fault
            raise _Stop from None
        if step.fault is not None:
            raise Fault(step.fault)
        return gives

    def _run_within(self, step: Step) -> None:
        for event in step.events:
            self._run(Event(*event))
        if step.meters is not None:
            self._call.set_meters(step.meters)

    def _result(self, step: Step) -> Any:
        if step.name == "relayed":
            frames, audio_bytes = step.gives
            return Relayed(frames, audio_bytes)
        if step.name in GIVES_LABELLED and step.gives is not None:
            return self.labelled(step.gives)
        return step.gives


class _Stub(Labelled):
    """A side, the chain or the observer, as the record has it."""

    def __init__(self, label: str, replay: _Replay) -> None:
        super().__init__(label)
        self._replay = replay

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return self._replay.take(self.label, name, ())
        return partial(self._take, name)

    def _take(self, name: str, *args: Any) -> Any:
        return self._replay.take(self.label, name, args)
