"""
The dialogue with OpenAI's Realtime API, and with services that speak its protocol, in mu-law both ways.

Source: the types of openai 3.57.0, and the vendor's API reference for Realtime. A turn is an item of a response. If the
caller interrupts, ``conversation.item.truncate`` tells the model how much of each item the caller heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from _codec import Envelope, SpanFinder
from bridge.agents.agent import (
    Audio,
    Control,
    Event,
    Failed,
    Ignored,
    Reply,
    Transfer,
    Troubled,
    Turn,
    Warned,
)
from bridge.agents.json_dialogue import ADVISED_WAIT_S, JsonDialogue, name_at, parse, worded
from bridge.agents.realtime_errors import (
    fatal_kind,
    is_warning,
    report_of,
    reset_s,
    transient_kind,
    wait_s,
)
from bridge.agents.realtime_session import (
    function_result,
    message_item,
    said_item,
    turn_detection,
    wrong_format,
)
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.tool_calls import ToolCalls
from bridge.agents.turns import HeardTurn
from bridge.agents.words import ENDS_SOON, I_PRESSED

# Behind what the model said until the caller cut in.
CUT = "…"
# The ``event_id`` of requests to speak, which an error about one of them repeats.
RESPOND_ID = "respond"
# Asks the model to speak.
RESPOND = orjson.dumps({"type": "response.create", "event_id": RESPOND_ID})
# Items of which something may be unheard.
MOST_ITEMS = 64
# Turns of the caller that are taken although their beginning was not reported, before that is a warning.
TURNS_UNANNOUNCED = 2
UNANNOUNCED = (
    "it took turns of the caller without speech_started, so that nobody can interrupt it: try server_vad"
)
# A session that has lasted this long without a sign that the service hears the caller is a warning.
HEARD_WITHIN_S = 20.0
UNHEARD = "it reported no speech of the caller in {:.0f} s: unless the caller was silent, try server_vad"
# The code of the close at a session's limit.
GOING_AWAY = 1001


@dataclass(slots=True)
class _Item:
    """An item of audio: the place of the audio in it, and whether all of the audio has come."""

    content_index: int
    is_complete: bool = False


class RealtimeDialogue(JsonDialogue):
    """
    The items of one session. Audio of an interrupted response is ignored, including audio that was on its way.

    Args:
        session: The session object, as `bridge.agents.realtime_session.session_object` makes it.
        memory: What was said before; None at the beginning of a call.
        greets: Whether the model speaks first.
        takes_keys: Whether the model learns which keys the caller presses.
    """

    to_agent = Envelope(b'{"type":"input_audio_buffer.append","audio":"', b'"}')
    audio = SpanFinder("delta", {"type": "response.output_audio.delta"})
    waits_for_ready = True
    tracks_heard = True
    gathers_keys = True

    def __init__(
        self,
        session: Mapping[str, Any],
        memory: Memory | None = None,
        *,
        greets: bool,
        takes_keys: bool = False,
        session_limit_s: float | None = None,
    ) -> None:
        self.session_limit_s = session_limit_s
        self.is_speaking = False
        self._session = session
        self._memory = memory
        self._speaks_first = memory.is_awaited if memory is not None else greets
        self._takes_keys = takes_keys
        # Whether the service stops speaking by itself when the caller speaks; else the bridge does not clear either.
        self._is_interruptible = turn_detection(session).get("interrupt_response") is not False
        self._is_ready = False
        # The response that is being made; "" if there is none.
        self._response_id = ""
        # The last one that was being made at an interrupt: what still comes of it is discarded.
        self._void_response_id = ""
        # Items of audio since the last interrupt, the oldest first.
        self._items: dict[str, _Item] = {}
        # Set by results and keys that came while a response was being made, which the API answers only after it.
        self._owes_response = False
        self._tool_calls = ToolCalls(function_result)
        # Whether the response before this one failed, and when the rate limits reset that it exhausted.
        self._has_failed = False
        self._reset_s = 0.0
        # Whether the service reports that the caller begins to speak, and the turns until it first did.
        self._reports_speech = False
        self._turns_unannounced = 0

    def opening(self) -> Iterable[bytes]:
        said = self._memory.said if self._memory is not None else ()
        return (
            orjson.dumps({"type": "session.update", "session": self._session}),
            *map(said_item, said),
        )

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "response.output_audio.delta", "delta": str(delta)}:
                return self._audio_of(fields, delta)
            case {"type": "response.created", "response": {"id": str(response_id)}}:
                # A response that the service has abandoned owes nothing: this one knows its results.
                self._owes_response &= not self._response_id
                self._response_id = response_id
                return ()
            case {"type": "response.content_part.added", "part": {"type": "audio" | "output_audio"}}:
                return self._begin_item(fields)
            case {"type": "response.output_audio.done", "item_id": str(item_id)}:
                if item_id in self._items:
                    self._items[item_id].is_complete = True
                return ()
            # The event with the arguments comes even for a cancelled call; here that is incomplete.
            case {"type": "response.output_item.done", "item": {"type": "function_call"} as item}:
                return self._call_function(item) if item.get("status") in (None, "completed") else ()
            case {"type": "response.done", "response": dict(response)}:
                return self._end_response(response)
            case {"type": "error", "error": dict(error)}:
                return (self._error(error),)
            case {"type": "rate_limits.updated", "rate_limits": list(limits)}:
                self._reset_s = reset_s(limits)
                return ()
            case {"type": "session.updated"}:
                return self._confirm(fields.get("session"))
            case {"type": str()}:
                return self._read_speech(fields)
        return (Ignored("unknown_type"),)

    def on_interrupt(self, heard: Sequence[HeardTurn]) -> Iterable[bytes]:
        items, self._items = self._items, {}
        return [
            _truncate(turn, item)
            for turn in heard
            if (item := items.get(turn.name)) is not None and not (turn.is_all and item.is_complete)
        ]

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        if not self._takes_keys:
            return ()
        pressed = message_item("user", I_PRESSED.format(digit))
        if not self._response_id:
            return (pressed, RESPOND)
        self._owes_response = True
        return (pressed,)

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        return (message_item("system", ENDS_SOON.format(left_s)),)

    def on_over(self, lasted_s: float) -> Iterable[Warned]:
        is_unheard = not self._reports_speech and self._turns_unannounced < TURNS_UNANNOUNCED
        return (Warned(UNHEARD.format(lasted_s)),) if is_unheard and lasted_s >= HEARD_WITHIN_S else ()

    def on_close(self, code: int | None, reason: str = "") -> FailureKind:
        return FailureKind.SESSION_LIMIT if code == GOING_AWAY else FailureKind.LOST

    def _confirm(self, session: Any) -> Iterable[Event]:
        # A service that keeps its own format says so here, and sends noise after it.
        if (wrong := wrong_format(session)) is not None:
            return (Failed(wrong, FailureKind.REFUSED),)
        if self._is_ready:
            return ()
        self.session_id = name_at(session, "id")
        self._is_ready = True
        return (Control.READY, Reply(RESPOND)) if self._speaks_first else (Control.READY,)

    # The caller's speech

    def _read_speech(self, fields: Mapping[str, Any]) -> Iterable[Event]:
        match fields:
            case {"type": "input_audio_buffer.speech_started"}:
                return self._interrupt()
            case {"type": "input_audio_buffer.timeout_triggered"}:
                # The silence is committed like a turn.
                self._turns_unannounced -= 1
            case {"type": "input_audio_buffer.committed"}:
                # The caller has spoken. The words follow if input transcription is on.
                self._turns_unannounced += not self._reports_speech
                is_many = not self._reports_speech and self._turns_unannounced == TURNS_UNANNOUNCED
                return (Said(Speaker.CALLER, ""), *([Warned(UNANNOUNCED)] if is_many else []))
            case {
                "type": "conversation.item.input_audio_transcription.completed",
                "transcript": str(transcript),
            } if fields.get("status") != "in_progress":  # xAI completes a transcript in pieces.
                return (Said(Speaker.CALLER, transcript.strip()),)
            case {"type": "response.output_audio_transcript.done", "transcript": str(transcript)}:
                text = transcript.strip()
                if text and self._is_void(fields):
                    text += CUT
                return (Said(Speaker.AGENT, text),) if text else ()
        return ()

    def _interrupt(self) -> Iterable[Event]:
        self._reports_speech = True
        if not self._is_interruptible:
            return ()
        self.is_speaking = False
        self._void_response_id = self._response_id
        return (Control.INTERRUPT, Control.INSPECT_AUDIO) if self._response_id else (Control.INTERRUPT,)

    # The model's

    def _begin_item(self, fields: Mapping[str, Any]) -> Iterable[Event]:
        match fields:
            case {
                "response_id": str(response_id),
                "item_id": str(item_id),
                "content_index": int(content_index),
            }:
                pass
            case _:
                return (Ignored("missing_field"),)
        if self._is_void(fields):
            return ()
        self._response_id = response_id
        self._items[item_id] = _Item(content_index)
        if len(self._items) > MOST_ITEMS:
            del self._items[next(iter(self._items))]
        self.is_speaking = True
        return (Turn(item_id), Control.RELAY_AUDIO)

    def _is_void(self, fields: Mapping[str, Any]) -> bool:
        """Whether something belongs to the response that the caller has interrupted."""
        return self._void_response_id != "" and fields.get("response_id") == self._void_response_id

    def _audio_of(self, fields: Mapping[str, Any], delta: str) -> Iterable[Event]:
        if not self._is_ready:
            return (Ignored("audio_before_its_format"),)
        if self._is_void(fields):
            return (Ignored("void_audio"),)
        return (Audio(delta.encode()), Control.RELAY_AUDIO)

    def _call_function(self, item: Mapping[str, Any]) -> Iterable[Event]:
        arguments = parse(item.get("arguments") or "{}")
        events = list(self._tool_calls.decide(item.get("call_id"), item.get("name"), arguments))
        # After a hang-up no more is to be said, and a call that is reported again has been answered.
        is_awaited = any(isinstance(event, Transfer | Reply) for event in events)
        self._owes_response |= is_awaited and Control.HANG_UP not in events
        return events

    def _end_response(self, response: Mapping[str, Any]) -> Iterable[Event]:
        """
        The response is over; it is time for the one that results and keys wait for.

        After a transfer that was accepted, or a hang-up, its request is never sent: the end of the last words, which
        comes first, closes the socket.
        """
        self._response_id = ""
        self.is_speaking = False
        owed, self._owes_response = self._owes_response, False
        status, details = response.get("status"), response.get("status_details")
        details = details if isinstance(details, dict) else {}
        if status == "failed":
            error = details.get("error")
            return (Control.SPEECH_ENDED, *self._fail_response(error if isinstance(error, dict) else {}))
        self._has_failed = False
        events: list[Event] = [Control.SPEECH_ENDED]
        if status == "incomplete":
            events.append(Warned(worded(f"response incomplete: {details.get('reason')}")))
        # While the caller speaks, the answer to that turn covers it.
        if owed and details.get("reason") != "turn_detected":
            events.append(Reply(RESPOND))
        return events

    # Errors

    def _error(self, error: Mapping[str, Any]) -> Event:
        detail, transient = report_of(error), transient_kind(error)
        kind = fatal_kind(error)
        if kind is None and not self._is_ready:
            kind = transient or FailureKind.REFUSED
        if kind is not None:
            return Failed(detail, kind)
        if transient is None and is_warning(error, RESPOND_ID):
            return Warned(detail)
        return Troubled(detail, transient or FailureKind.SERVER)

    def _fail_response(self, error: Mapping[str, Any]) -> Iterable[Event]:
        """Ask once more for a response that failed; a second failure in a row ends the session."""
        detail = report_of(error)
        kind = fatal_kind(error)
        if kind is not None:
            return (Failed(detail, kind),)
        kind = transient_kind(error) or FailureKind.SERVER
        after_s = wait_s(error, self._reset_s)
        if self._has_failed or after_s > ADVISED_WAIT_S:
            return (Failed(detail, kind),)
        self._has_failed = True
        return (Troubled(detail, kind), Reply(RESPOND, after_s))


def _truncate(turn: HeardTurn, item: _Item) -> bytes:
    return orjson.dumps(
        {
            "type": "conversation.item.truncate",
            "item_id": turn.name,
            "content_index": item.content_index,
            "audio_end_ms": turn.heard_ms,
        }
    )
