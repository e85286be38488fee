"""Messages of the OpenAI Realtime API, without their event ids."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping
from typing import Any

PCMU = {"type": "audio/pcmu"}


def default_session(session_id: str, model: str) -> dict[str, Any]:
    """Return a new session; its audio is PCM at 24 kHz."""
    audio_format = {"type": "audio/pcm", "rate": 24000}
    return {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "output_modalities": ["audio"],
        "audio": {
            "input": {"format": audio_format, "turn_detection": {"type": "server_vad"}},
            "output": {"format": audio_format, "voice": "alloy", "speed": 1.0},
        },
    }


def merge(session: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return the updated session; objects are merged, other values replaced."""
    merged = dict(copy.deepcopy(session))
    for name, value in update.items():
        old = merged.get(name)
        # A format is replaced as a whole: the new one must not keep the old rate.
        if isinstance(old, dict) and isinstance(value, dict) and name != "format":
            value = merge(old, value)
        merged[name] = value
    return merged


def error(
    message: str, code: str, event_id: str | None = None, *, kind: str = "invalid_request_error"
) -> dict[str, Any]:
    """Return an error of a type; ``event_id`` is the id of the client's event, if it has one."""
    inside = {"type": kind, "code": code, "message": message, "param": None}
    return {"type": "error", "error": {**inside, "event_id": event_id}}


def with_format(session: Mapping[str, Any], audio_format: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session whose audio is in another format both ways."""
    side = {"format": dict(audio_format)}
    return merge(session, {"audio": {"input": side, "output": side}})


class Item:
    """
    One output item of one response, and the messages around it; ``transcript`` is what its audio says.

    Attributes:
        sent_bytes: Mu-law sent as this item's audio, stale audio included.
    """

    def __init__(self, response_id: str, item_id: str, transcript: str = "") -> None:
        self.response_id = response_id
        self.transcript = transcript
        self.item_id = item_id
        self.sent_bytes = 0

    @property
    def sent_ms(self) -> float:
        """The length of the audio sent."""
        return self.sent_bytes / 8

    def begin(self) -> list[dict[str, Any]]:
        """Return the messages before the audio, within the response."""
        return [
            self._output_item("response.output_item.added", self._message("in_progress")),
            self._content("response.content_part.added", part={"type": "audio", "transcript": ""}),
        ]

    def delta(self, wire: bytes) -> dict[str, Any]:
        """Return one message of audio and count its bytes."""
        self.sent_bytes += len(wire)
        return self._content("response.output_audio.delta", delta=base64.b64encode(wire).decode())

    def end(self, is_cut: bool) -> list[dict[str, Any]]:
        """Return the messages after the audio; ``is_cut``: the caller interrupted it."""
        message = self._message("incomplete" if is_cut else "completed")
        done = self._response("response.done", "cancelled" if is_cut else "completed", message)
        if is_cut:
            done["response"]["status_details"] = {"type": "cancelled", "reason": "turn_detected"}
        return [
            self._content("response.output_audio.done"),
            self._content("response.output_audio_transcript.done", transcript=self.transcript),
            self._content("response.content_part.done", part={"type": "audio", "transcript": ""}),
            self._output_item("response.output_item.done", message),
            done,
        ]

    def begin_response(self) -> list[dict[str, Any]]:
        """Return the messages that begin the response."""
        return [self._response("response.created", "in_progress")]

    def end_response(self) -> list[dict[str, Any]]:
        """Return the messages that end a response without audio."""
        return [self._response("response.done", "completed")]

    def fail(self, **problem: Any) -> list[dict[str, Any]]:
        """Return the messages of a response that fails."""
        done = self._response("response.done", "failed")
        done["response"]["status_details"] = {"type": "failed", "error": problem}
        return [*self.begin_response(), done]

    def function_call(self, item_id: str, name: str, call_id: str, arguments: str) -> list[dict[str, Any]]:
        """Return the messages of one function call in this response."""

        def item(status: str, text: str) -> dict[str, Any]:
            call = {"type": "function_call", "call_id": call_id, "name": name, "arguments": text}
            return {"id": item_id, "object": "realtime.item", "status": status, **call}

        done = {"output_index": 0, "call_id": call_id, "name": name, "arguments": arguments}
        where = {"response_id": self.response_id, "item_id": item_id}
        return [
            self._output_item("response.output_item.added", item("in_progress", "")),
            {"type": "response.function_call_arguments.done", **where, **done},
            self._output_item("response.output_item.done", item("completed", arguments)),
        ]

    def _message(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [{"type": "output_audio", "transcript": ""}]
        item = {"type": "message", "role": "assistant", "status": status, "content": content}
        return {"id": self.item_id, "object": "realtime.item", **item}

    def _response(self, event: str, status: str, *output: dict[str, Any]) -> dict[str, Any]:
        response = {"id": self.response_id, "object": "realtime.response", "status": status}
        return {"type": event, "response": {**response, "output": list(output)}}

    def _output_item(self, event: str, item: dict[str, Any]) -> dict[str, Any]:
        return {"type": event, "response_id": self.response_id, "output_index": 0, "item": item}

    def _content(self, event: str, **more: Any) -> dict[str, Any]:
        where = {"response_id": self.response_id, "item_id": self.item_id}
        return {"type": event, **where, "output_index": 0, "content_index": 0, **more}
