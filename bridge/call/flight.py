"""
The flight record of a call: its last events with all that its machine read and commanded, without audio.

An *event* is a call of one of the machine's methods. Its *steps*, in order, are the commands to the sides, the chain
and the observer, and the values that were read from them. `bridge.call.replay` runs them again.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

from bridge.agents.turns import HeardTurn
from bridge.call.flight_state import StatefulCall

# Raised where a reader of the former form would be wrong.
VERSION = 1
# What a sealed flight record is sealed for.
PURPOSE = "flight"
# In the state directory.
FOLDER = "flights"
# Two of these are kept of each call: some hundred events each, which are whole calls in nearly all cases.
SEGMENT_BYTES = 32 * 1024
# Compressed at once, to a fifth or so.
PACKED_BYTES = 4096
# Of a text in an event. Names of marks are shorter.
MOST_CHARS = 512

# Types that JSON has as they are.
PLAIN = frozenset({bool, float, int})

T = TypeVar("T")


class Labelled:
    """What a record refers to by its label."""

    __slots__ = ("label",)

    def __init__(self, label: str) -> None:
        self.label = label


class Step(NamedTuple):
    """
    One command, or one value that was read.

    Attributes:
        of: The label of the side, the chain or the observer.
        gives: What it returned.
        events: Those that it led to before it returned.
        meters: As in `StatefulCall.meters`, where they moved meanwhile.
        fault: The name of the exception that it raised.
    """

    of: str
    name: str
    args: Sequence[Any] = ()
    gives: Any = None
    events: Sequence[Any] = ()
    meters: Sequence[Any] | None = None
    fault: str | None = None


class Event(NamedTuple):
    """
    One event.

    Attributes:
        at: Seconds of the call's clock.
        name: The machine's method.
        meters: As in `StatefulCall.meters`, before the event.
        state: The machine's state after it.
        gives: What the method returned.
        fault: The name of the exception that it raised.
    """

    at: float
    name: str
    args: Sequence[Any]
    meters: Sequence[Any]
    state: str
    steps: Sequence[Any] = ()
    gives: Any = None
    fault: str | None = None


class Fault(Exception):
    """Raised by a replay in place of the exception of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def coded(value: Any) -> Any:
    """A value as a record has it."""
    if value is None or type(value) in PLAIN:
        return value
    match value:
        case Labelled():
            return value.label
        case enum.Enum():
            return value.value
        case str():
            # A lone surrogate is no text in JSON.
            return value[:MOST_CHARS].encode(errors="replace").decode()
        case HeardTurn(name, heard_ms, is_all):
            return [coded(name), heard_ms, is_all]
        case tuple() | list():
            return [coded(each) for each in value]
        case dict():
            return {name: coded(each) for name, each in value.items()}
        case Fault(name=name):
            return name
        case Exception():
            return type(value).__name__
    return value


def row(entry: Step | Event) -> list[Any]:
    """A step or an event as a record has it: without the defaults at its end."""
    fields, defaults = list(entry), entry._field_defaults
    for name in reversed(entry._fields):
        if name not in defaults or fields[-1] not in (None, (), []):
            break
        del fields[-1]
    return fields


class _Segment:
    """
    Events in order, and the machine's state before the first of them.

    Attributes:
        count: How many events there are.
        size_bytes: The length of all as JSON.
    """

    __slots__ = ("_checkpoint", "_events", "_packed", "count", "size_bytes")

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        # Not what `orjson` returns: that keeps the kilobytes in which it was made.
        self._checkpoint = bytearray(orjson.dumps(checkpoint))
        # As JSON, with a comma behind each: the first ones compressed, and the last ones.
        self._packed: list[bytes] = []
        self._events = bytearray()
        self.count = 0
        self.size_bytes = len(self._checkpoint)

    def add(self, event: list[Any]) -> None:
        before = len(self._events)
        self._events += orjson.dumps(event)
        self._events += b","
        self.size_bytes += len(self._events) - before
        self.count += 1
        if len(self._events) >= PACKED_BYTES:
            self._packed.append(zlib.compress(self._events, level=1))
            self._events.clear()

    def fields(self) -> dict[str, Any]:
        events = b"".join([*map(zlib.decompress, self._packed), self._events])
        return {
            "checkpoint": orjson.Fragment(bytes(self._checkpoint)),
            "events": orjson.Fragment(b"[%b]" % events[:-1]),
        }


class Tape:
    """
    The ring of one call's last events.

    Attributes:
        is_listening: Whether the machine runs, so that its commands and what it reads are steps of an event.
        dropped: Events that the ring does not have any more.
    """

    __slots__ = ("_call", "_labels", "_open", "_segments", "dropped", "is_listening")

    def __init__(self) -> None:
        self.is_listening = False
        self.dropped = 0
        # Two at most; the last one grows.
        self._segments: list[_Segment] = []
        # Of each event that is under way its steps, and of each command the events within it: the innermost last.
        self._open: list[list[Any]] = []
        # While an event is under way.
        self._call: StatefulCall | None = None
        # How many labels there are of each kind.
        self._labels: dict[str, int] = {}

    def label(self, kind: str) -> str:
        """The label of the next one of its kind."""
        number = self._labels[kind] = self._labels.get(kind, 0) + 1
        return f"{kind} {number}"

    def event(
        self,
        call: StatefulCall,
        name: str,
        at: float,
        act: Callable[[], T],
        args: Sequence[Any],
        is_kept: bool,
    ) -> T:
        """
        Run an event and note it; a step of another event that the machine takes by itself is only run.

        Args:
            act: Calls the machine's method ``name``.
            args: Those that a replay calls it with.
            is_kept: Whether it is kept if nothing comes of it.
        """
        if self.is_listening:
            return act()
        if not self._open:
            self._call = call
            self._make_room(call)
        steps: list[Any] = []
        meters, gives, fault = call.meters(), None, None
        self._open.append(steps)
        self.is_listening = True
        try:
            gives = act()
            return gives
        except Exception as error:
            fault = coded(error)
            raise
        finally:
            self.is_listening = False
            self._open.pop()
            if not self._open:
                self._call = None
            if is_kept or steps or fault:
                of_event = coded(args), meters, call.state.value, steps, coded(gives), fault
                self._add(row(Event(at, name, *of_event)))

    def _make_room(self, call: StatefulCall) -> None:
        """Begin the next segment where the present one is full."""
        if self._segments and self._segments[-1].size_bytes < SEGMENT_BYTES:
            return
        self.dropped += sum(segment.count for segment in self._segments[:-1])
        self._segments = [*self._segments[-1:], _Segment(coded(call.checkpoint()))]

    def _add(self, event: list[Any]) -> None:
        if self._open:
            self._open[-1].append(event)
        else:
            self._segments[-1].add(event)

    def command(self, of: Labelled, name: str, act: Callable[[], T], *args: Any) -> T:
        """Run a command of the machine and note it; what others ask is only run."""
        call = self._call
        if not self.is_listening or call is None:
            return act()
        events: list[Any] = []
        meters, gives, fault = call.meters(), None, None
        self._open.append(events)
        self.is_listening = False
        try:
            gives = act()
            return gives
        except Exception as error:
            fault = coded(error)
            raise
        finally:
            self.is_listening = True
            self._open.pop()
            moved = call.meters()
            of_step = coded(args), coded(gives), events, moved if moved != meters else None, fault
            self._open[-1].append(row(Step(of.label, name, *of_step)))

    def read(self, of: Labelled, name: str, value: T) -> T:
        """Note a value that the machine reads."""
        if self.is_listening:
            # As `row` makes it.
            step = [of.label, name] if value is None else [of.label, name, (), coded(value)]
            self._open[-1].append(step)
        return value

    @property
    def is_open(self) -> bool:
        """Whether an event is under way."""
        return bool(self._open)

    def segments(self) -> list[dict[str, Any]]:
        """What there is so far, the oldest first, for `orjson.dumps` alone."""
        return [segment.fields() for segment in self._segments]
