"""``bridge replay``: runs a flight record through the call's state machine, and shows its events."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.call.flight import PURPOSE, Event, Step
from bridge.call.flight_masking import Masking
from bridge.call.replay import READS, BadFlightError, events_of, replay
from bridge.seal import BadSeal, Seal
from bridge.settings import SettingsError, read_auth_tokens

SAME, DIFFERS, UNREADABLE = 0, 1, 2
# What the machine reads, and no command.
ONLY_READ = READS | {"relayed"}
# Where a method's name says less.
TITLES = {"on_due": "deadline over", "on_start": "stream verified", "on_first_audio": "agent's first audio"}
TITLE_WIDTH, STATE_WIDTH = 52, 14
# A sealed record is the URL's kind of base64; of anything else so much is shown.
SEALED = re.compile(rb"[A-Za-z0-9_-]+=*")
SHOWN_BYTES = 40


def run(file: Path, *, reveals: bool, as_json: bool) -> int:
    """
    Replay a record, and print its events and whether the machine does the same again.

    Args:
        file: A file of the state directory, or JSON; ``-`` is standard input.
        reveals: Whether numbers and names are shown whole.

    Returns:
        The exit code: 1 if the replay differs, 2 if the record cannot be read.
    """
    try:
        report = _Report(_read(file), reveals)
        if as_json:
            text = orjson.dumps(report.fields(), option=orjson.OPT_INDENT_2).decode()
        else:
            text = "\n".join(map(_printable, report.lines()))
    except (BadFlightError, SettingsError) as error:
        click.echo(f"{file}: {error}", err=True)
        return UNREADABLE
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        click.echo(f"{file}: is no flight record, or is damaged ({error!r})", err=True)
        return UNREADABLE
    click.echo(text)
    return SAME if report.difference is None else DIFFERS


def _read(file: Path) -> dict[str, Any]:
    """The record in a file, sealed or not."""
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise BadFlightError(f"cannot be read: {error.strerror}") from None
    if data.lstrip().startswith(b"{"):
        try:
            return dict(orjson.loads(data))
        except ValueError as error:
            raise BadFlightError(f"is no JSON, or is cut off ({error})") from None
    if not (text := data.strip()):
        raise BadFlightError("is empty")
    if SEALED.fullmatch(text) is None:
        begins = text[:SHOWN_BYTES].decode("ascii", errors="replace")
        raise BadFlightError(f"is no flight record: it begins with {begins!r}")
    if not (tokens := read_auth_tokens()):
        todo = (
            "set TWILIO_AUTH_TOKEN, in the environment or in .env, to the token of the bridge that wrote it"
        )
        raise BadFlightError(f"is sealed: {todo}")
    try:
        return Seal(tokens).open(PURPOSE, text.decode("ascii"), None)
    except BadSeal:
        fault = "it is damaged or no flight record, or TWILIO_AUTH_TOKEN is not the one that sealed it"
        raise BadFlightError(f"cannot be opened: {fault}") from None


class _Report:
    """
    A record, masked unless ``reveals``, and what its replay gives.

    Attributes:
        difference: The number of the event that differs, with what is recorded and what comes now; None without one.
    """

    def __init__(self, flight: dict[str, Any], reveals: bool) -> None:
        events, difference = events_of(flight), replay(flight)
        masking = None if reveals else Masking()
        self.flight = flight
        self.events = events if masking is None else [masking.event(event) for event in events]
        self.difference: tuple[int, str, str] | None = None
        if difference is not None:
            recorded, replayed = (self._words_of(row, masking) for row in difference[1:])
            self.difference = difference.event, recorded, replayed

    def _words_of(self, row: list[Any] | None, masking: Masking | None) -> str:
        match row:
            case None:
                return "nothing more"
            case [dict() as state]:
                shown = list(state) if masking is not None else [f"{name} {state[name]}" for name in state]
                return "state: " + ", ".join(shown)
            case [str(), *_]:
                step = Step(*row)
                return _step_words(step if masking is None else masking.step(step))
        event = Event(*row)
        event = event if masking is None else masking.event(event)
        fault = f", fault {event.fault}" if event.fault else ""
        return f"{_title(event)}: state {event.state}, returns {event.gives}{fault}"

    def _at(self, event: Event) -> float:
        return round(event.at - float(self.flight["opened_at"]), 3)

    # As JSON

    def fields(self) -> dict[str, Any]:
        """The report as values that JSON has."""
        names = ("call_sid", "opened", "why", "agents", "dropped_events")
        found: dict[str, Any] = {name: self.flight.get(name) for name in names}
        found["events"] = [self._event_fields(event) for event in self.events]
        found["is_same"] = self.difference is None
        found["difference"] = None
        if self.difference is not None:
            found["difference"] = dict(zip(("event", "recorded", "replayed"), self.difference, strict=True))
        return found

    def _event_fields(self, event: Event) -> dict[str, Any]:
        return {
            "at_s": self._at(event),
            "event": event.name,
            "args": _args(event),
            "frames_from_caller": event.meters[0],
            "frames_from_agent": event.meters[1],
            "state": event.state,
            "returns": event.gives,
            "fault": event.fault,
            "commands": [self._step_fields(step) for step in _commands(event)],
        }

    def _step_fields(self, step: Step) -> dict[str, Any]:
        return {
            "to": step.of,
            "command": step.name,
            "args": list(step.args),
            "returns": step.gives,
            "fault": step.fault,
            "events": [self._event_fields(Event(*event)) for event in step.events],
        }

    # As a table

    def lines(self) -> Iterator[str]:
        """The report as lines for a person."""
        flight = self.flight
        agents = ", ".join(f"{label} is {name}" for label, name in flight["agents"].items())
        yield f"call {flight['call_sid']}, opened {flight['opened']}; {agents or 'no agent'}"
        if flight["dropped_events"]:
            yield f"the first {flight['dropped_events']} events are no longer in the ring"
        yield ""
        yield f"{'at s':>9}  {'event':{TITLE_WIDTH}}  {'state after it':{STATE_WIDTH}}  frames in, out"
        for event in self.events:
            yield from self._event_lines(event, "")
        yield ""
        count = len(self.events)
        if self.difference is None:
            yield f"the replay gives the same {count} event{'s' * (count != 1)} with the same commands"
            return
        number, recorded, replayed = self.difference
        event = self.events[number] if number < count else self.events[-1]
        yield f"the replay differs at event {number + 1} of {count}: {_title(event)}, at {self._at(event):.3f} s"
        yield f"  recorded: {recorded}"
        yield f"  replayed: {replayed}"

    def _event_lines(self, event: Event, indent: str) -> Iterator[str]:
        frames = f"{event.meters[0]}, {event.meters[1]}"
        title = f"{indent}{_title(event)}"
        yield f"{self._at(event):>9.3f}  {title:{TITLE_WIDTH}}  {event.state:{STATE_WIDTH}}  {frames}"
        for step in _commands(event):
            yield f"{'':9}  {indent}  {_step_words(step)}"
            for within in step.events:
                yield from self._event_lines(Event(*within), f"{indent}    ")
        if event.gives:
            turns = ", ".join(
                f"{name} {ms} ms{'' if is_all else ', cut'}" for name, ms, is_all in event.gives
            )
            yield f"{'':9}  {indent}  heard: {turns}"
        if event.fault:
            yield f"{'':9}  {indent}  fault: {event.fault}"


def _commands(event: Event) -> list[Step]:
    steps = (Step(*step) for step in event.steps)
    return [step for step in steps if step.name not in ONLY_READ or step.fault]


def _args(event: Event) -> list[Any]:
    """The arguments of an event but its time."""
    return [arg for arg in event.args if isinstance(arg, str)]


def _title(event: Event) -> str:
    return _words(TITLES.get(event.name, event.name), [arg for arg in _args(event) if arg != "chain"])


def _step_words(step: Step) -> str:
    words = f"{step.of}: {_words(step.name, step.args)}"
    if isinstance(step.gives, str):
        words += f" -> {step.gives}"
    return f"{words}, fault {step.fault}" if step.fault else words


def _words(name: str, args: Sequence[Any]) -> str:
    """A method's name and arguments in words."""
    name = name.removeprefix("on_").replace("_", " ")
    rounded = (round(arg, 3) if isinstance(arg, float) else arg for arg in args)
    shown = ", ".join(str(arg) for arg in rounded if arg not in ("", None))
    return f"{name}: {shown}" if shown else name


def _printable(text: str) -> str:
    """A text that a peer may have chosen, without what a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)
