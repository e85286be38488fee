"""Retell's Twilio socket: the agent is the server of a Twilio media stream."""

from __future__ import annotations

import base64
import string
from typing import Any

from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ

_MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": SAMPLE_RATE_HZ, "channels": 1}
_START_TEXTS = ("accountSid", "callSid", "streamSid")


class RetellTwilioSession(AgentSession):
    """
    A call in Twilio's Media Streams messages, from the server's side.

    Attributes:
        messages: All messages received, ``media`` included.
        start: The content of ``start``; ``stream_sid`` is from there.
        dtmf: Keys, in order.
        marks: Names of the echoed marks, in order.
        stopped: Whether ``stop`` was received.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, Any]) -> None:
        super().__init__(call_id, request)
        self.start: dict[str, Any] = {}
        self.stream_sid = ""
        self.dtmf: list[str] = []
        self.marks: list[str] = []
        self.stopped = False
        self._marks_sent: list[str] = []
        self._sequence_number = 0

    async def send_mark(self, name: str) -> None:
        """Send a mark behind the audio sent so far."""
        self._marks_sent.append(name)
        await self._send("mark", {"name": name})

    async def _begin(self) -> bool:
        await self.ready.wait()
        return True

    async def _write_audio(self, wire: bytes, fields: dict[str, Any]) -> None:
        await self._send("media", {**fields, "payload": base64.b64encode(wire).decode()})

    async def _write_interrupt(self) -> None:
        await self._send("clear")

    async def _send(self, event: str, body: dict[str, Any] | None = None) -> None:
        inside = {} if body is None else {event: body}
        await self.send_json({"event": event, "streamSid": self.stream_sid, **inside})

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        event = message["event"]
        if event == "connected":
            if self.ready.is_set():
                raise ValueError("connected after start")
            return
        if event not in ("start", "media", "dtmf", "mark", "stop"):
            raise ValueError(f"Twilio has no event {event!r}")
        if self.stopped:
            raise ValueError(f"{event} after stop")
        self._check_number(message["sequenceNumber"])
        body = message[event]
        if event == "start":
            self._on_start(message, body)
            return
        if not self.ready.is_set():
            raise ValueError(f"{event} before start")
        if message["streamSid"] != self.stream_sid:
            raise ValueError(f"the stream is {message['streamSid']!r}, not {self.stream_sid!r}")
        if event == "media":
            if (
                body["track"] != "inbound"
                or not body["chunk"].isdecimal()
                or not body["timestamp"].isdecimal()
            ):
                raise ValueError("media without the track inbound, a chunk and a timestamp")
            self._receive_base64(body["payload"])
        elif event == "dtmf":
            if body["digit"] not in tuple(string.digits + "*#ABCD"):
                raise ValueError(f"{body['digit']!r} is no key")
            self.dtmf.append(body["digit"])
        elif event == "mark":
            # Removed at its echo: no mark is echoed twice.
            self._marks_sent.remove(body["name"])
            self.marks.append(body["name"])
        else:
            self.stopped = True

    def _on_start(self, message: dict[str, Any], start: dict[str, Any]) -> None:
        if self.ready.is_set():
            raise ValueError("start came twice")
        for name in _START_TEXTS:
            if not isinstance(start[name], str) or not start[name]:
                raise ValueError(f"{name} is {start[name]!r}")
        if message["streamSid"] != start["streamSid"]:
            raise ValueError("start has two stream ids")
        if start["tracks"] != ["inbound"] or start["mediaFormat"] != _MEDIA_FORMAT:
            raise ValueError(f"tracks are {start['tracks']}, mediaFormat is {start['mediaFormat']}")
        # The bridge's own secret is in such parameters and must not reach the agent.
        if secret := [name for name in start.get("customParameters", {}) if name.startswith("token")]:
            raise ValueError(f"start has the parameters {secret}")
        self.start, self.stream_sid = start, start["streamSid"]
        self.ready.set()

    def _check_number(self, text: object) -> None:
        if not isinstance(text, str) or not text.isdecimal():
            raise ValueError(f"the sequence number is {text!r}, not digits")
        if int(text) <= self._sequence_number:
            raise ValueError(f"the sequence number {text} follows {self._sequence_number}")
        self._sequence_number = int(text)
