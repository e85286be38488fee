"""The dialogue of an agent that a table describes: what its messages mean, and the messages to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from _codec import Envelope
from bridge.agents.agent import (
    Audio,
    Control,
    Dialogue,
    Event,
    Failed,
    Ignored,
    Reply,
    StreamInfo,
    Transfer,
    Troubled,
    Turn,
    Warned,
)
from bridge.agents.described import AUDIO_HERE, Description
from bridge.agents.json_dialogue import parse, worded
from bridge.agents.places import Match, path_of, shape_fits
from bridge.agents.succession import FailureKind, Said
from bridge.agents.table_request import of_session
from bridge.agents.template import fill_json
from bridge.agents.turns import HeardTurn

Events = tuple[Event, ...]
# An item or a turn of the agent, as its audio names it.
Id = str | int | None


class DescribedDialogue(Dialogue):
    """
    Follows a `Description`.

    Args:
        process: Values of the process for placeholders.
    """

    def __init__(
        self, described: Description, stream: StreamInfo, process: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._described = described
        self._values = {
            **process,
            **stream.call.placeholders,
            **of_session(stream.session),
            "stream_sid": stream.stream_sid,
            "history": stream.memory.as_text() if stream.memory is not None else "",
        }
        self.is_binary = described.is_binary_to_agent
        self.is_binary_from_agent = described.is_binary_from_agent
        self.reads_binary = described.json_in_binary
        self.waits_for_ready = described.ready is not None
        self.tracks_heard = bool(described.heard)
        self.audio = None if described.ids else described.finder
        before, _, after = described.to_agent.partition(AUDIO_HERE)
        self.to_agent = Envelope(self._text(before), self._text(after, before))
        self.to_agent_format = described.to_agent_format
        self.from_agent_format = described.from_agent_format
        self.keepalive = self._text(described.keepalive) or None
        self.keepalive_s = described.keepalive_s
        self.gathers_keys = bool(described.keys)
        self.frame_ms = described.frame_ms
        self.silence_fill_ms = described.silence_fill_ms
        self.session_limit_s = described.session_limit_s
        self._is_ready = False
        # Of the last audio.
        self._item: Id = None
        self._turn: Id = None
        # Whether all audio of that item was sent, as the agent says, or it was cut; cleared by audio of another one.
        self._is_complete = False
        # The turn that the caller interrupted: its audio is discarded.
        self._interrupted: Id = None

    # Messages to the agent

    def opening(self) -> Iterable[bytes]:
        return self._texts(self._described.first)

    def closing(self) -> Iterable[bytes]:
        return self._texts(self._described.closing)

    def on_interrupt(self, heard: Sequence[HeardTurn]) -> Iterable[bytes]:
        self._interrupted = self._turn
        described = self._described
        cut = [turn for turn in heard if not turn.is_all or self._is_being_made(turn)]
        # Once cut, an item is not cut again.
        self._is_complete = True
        if described.item is None:
            # Without names only the present turn can be meant.
            return [
                text for turn in cut[-1:] for text in self._texts([described.heard], heard_ms=turn.heard_ms)
            ]
        return [
            text
            for turn in cut
            if turn.name
            for text in self._texts([described.heard], item=orjson.loads(turn.name), heard_ms=turn.heard_ms)
        ]

    def _is_being_made(self, turn: HeardTurn) -> bool:
        """Whether more audio of an item would follow, which only an agent with ``speech_ended`` tells."""
        described = self._described
        is_open = described.item is not None and described.speech_ended is not None and not self._is_complete
        return is_open and self._item is not None and turn.name == _name_of(self._item)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        described = self._described
        return self._texts([described.dtmf, described.keys], digit=digit, keys=digit)

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        return self._texts([self._described.limit_near], left_s=round(left_s))

    def _texts(self, templates: Iterable[str], **more: Any) -> list[bytes]:
        values = self._values | more
        return [fill_json(template, values.get) for template in templates if template]

    def _text(self, template: str, before: str = "") -> bytes:
        return fill_json(template, self._values.get, before)

    def _answer(self, template: str, fields: Any) -> bytes:
        """Fill the answer to a message: its own values come first."""

        def value_of(name: str) -> Any:
            found = path_of(name).value(fields)
            return self._values.get(name) if found is None else found

        return fill_json(template, value_of)

    # The agent's messages

    def read(self, message: bytes) -> Iterable[Event]:
        fields = parse(message)
        meaning = (
            self._control(message, fields) or self._report(message, fields) or self._request(message, fields)
        )
        if Control.INTERRUPT in meaning:
            # Audio in the message that interrupts is of the interrupted turn.
            audio: Events = ()
        else:
            audio = self._audio_in(fields)
        said = self._said_in(message, fields)
        first, last = ((), meaning) if _is_an_end(meaning) else (meaning, ())
        if events := (*first, *said, *audio, *last):
            return events
        return () if self._is_known(message, fields) else (Ignored("unknown_type"),)

    def _control(self, message: bytes, fields: Any) -> Events:
        described = self._described
        interrupt = (Control.INTERRUPT, Control.INSPECT_AUDIO) if described.turn_id else (Control.INTERRUPT,)
        controls: tuple[tuple[Match | None, Events], ...] = (
            (described.interrupt, interrupt),
            (described.ended, (Control.ENDED,)),
            (described.hang_up, (Control.HANG_UP,)),
            (described.turn, (Turn(),)),
            (described.speech_ended, (Control.SPEECH_ENDED,)),
        )
        for match, events in controls:
            if match is not None and match.fits(message, fields):
                self._is_complete = self._is_complete or Control.SPEECH_ENDED in events
                return events
        if described.ready is None or not described.ready.fits(message, fields):
            return ()
        texts = () if self._is_ready else self._texts(described.on_ready)
        self._is_ready = True
        return (*map(Reply, texts), Control.READY)

    def _report(self, message: bytes, fields: Any) -> Events:
        described = self._described
        kind = described.kind_of(message, fields)
        if described.error is not None and described.error.fits(message, fields):
            # An error of unknown kind before the agent is ready means that it refuses its settings.
            is_refusal = described.ready is not None and not self._is_ready
            unknown = FailureKind.REFUSED if is_refusal else FailureKind.LOST
            return (Failed(self._detail("error", fields), kind or unknown),)
        if described.trouble is not None and described.trouble.fits(message, fields):
            return (Troubled(self._detail("error", fields), kind or FailureKind.SERVER),)
        if described.warning is not None and described.warning.fits(message, fields):
            return (Warned(self._detail("warning", fields)),)
        return ()

    def _detail(self, what: str, fields: Any) -> str:
        """Say what the agent reports. Its text may hold words of the call: only the table says that it is logged."""
        path = self._described.error_text
        text = path.value(fields) if path is not None else None
        return f"{what} message" if text is None else f"{what}: {worded(str(text))}"

    def _request(self, message: bytes, fields: Any) -> Events:
        described = self._described
        transfer = described.transfer
        if transfer is not None and transfer.match.fits(message, fields):
            to_number = str(transfer.to.value(fields, reads_json=transfer.json_in_text))
            refused, accepted = (
                (self._answer(text, fields),) if text else ()
                for text in (transfer.refused, transfer.accepted)
            )
            return (Transfer(to_number, refused, accepted),)
        for exchange in described.answers:
            if exchange.match.fits(message, fields):
                return (Reply(self._answer(exchange.answer, fields)),)
        return ()

    def _said_in(self, message: bytes, fields: Any) -> Events:
        said: list[Event] = []
        for transcript in self._described.transcript:
            if not transcript.partial and transcript.match.fits(message, fields):
                words = "".join(text for text in transcript.path.values(fields) if isinstance(text, str))
                if words.strip():
                    said.append(Said(transcript.speaker, words.strip()))
        return tuple(said)

    def _is_known(self, message: bytes, fields: Any) -> bool:
        """Whether the table knows a message that means nothing to the call."""
        known = [*self._described.ignored, *(transcript.match for transcript in self._described.transcript)]
        return any(match.fits(message, fields) for match in known)

    # Audio that is not found natively

    def _audio_in(self, fields: Any) -> Events:
        place = self._described.from_agent
        if place is None or not shape_fits(place.equal, fields):
            return ()
        texts = [text for text in place.path.values(fields) if isinstance(text, str)]
        if not all(
            wanted.fits(found)
            for path, wanted in place.absent_or_equal.items()
            if (found := path.value(fields)) is not None
        ):
            return (Ignored("unknown_audio"),)
        audio = tuple(Audio(text.encode(), self.from_agent_format) for text in texts)
        return self._with_ids(audio, fields) if audio and self._described.ids else audio

    def _with_ids(self, audio: Events, fields: Any) -> Events:
        """Discard audio of an interrupted turn. Of a new item or turn, the rest is found natively."""
        item, turn = (self._id(key, fields) for key in ("item", "turn_id"))
        if turn is not None and turn == self._interrupted:
            return (Ignored("void_audio"),)
        if (item, turn) == (self._item, self._turn):
            return audio
        begins: Events = ()
        if item != self._item:
            begins = (Turn(_name_of(item)) if item is not None else Turn(),)
            self._is_complete = False
        self._item, self._turn = item, turn
        self._find_natively(item, turn)
        # Both together make the leg take the new finder.
        return (*begins, *audio, Control.INSPECT_AUDIO, Control.RELAY_AUDIO)

    def _id(self, key: str, fields: Any) -> Id:
        path = self._described.ids.get(key)
        found = path.value(fields) if path is not None else None
        return found if isinstance(found, str | int) and not isinstance(found, bool) else None

    def _find_natively(self, item: Id, turn: Id) -> None:
        ids = {"item": item, "turn_id": turn}
        finder = self._described.finder
        try:
            for key, path in self._described.ids.items():
                value = ids[key]
                finder = (
                    finder.with_value(path.text, value) if finder is not None and value is not None else None
                )
        except ValueError:
            # It has characters that the finder does not look for.
            finder = None
        self.audio = finder


def _name_of(item: str | int) -> str:
    """The name of an item's turn: as JSON, which keeps numbers and texts apart."""
    return orjson.dumps(item).decode()


def _is_an_end(meaning: Events) -> bool:
    """Whether audio in the same message comes before what the message means."""
    return any(
        event in (Control.ENDED, Control.HANG_UP, Control.SPEECH_ENDED)
        or isinstance(event, Transfer | Failed)
        for event in meaning
    )
