"""
Retell's documented audio socket in its ``web`` form: binary samples, the literal texts ``clear``, ``ping``, ``pong``.

Retell announced its end for 2025-01-01; compatible servers and the stand-in speak it. The call's id is the
credential of its socket. Sources: docs.retellai.com/api-references/audio-websocket, retell-client-js-sdk 1.3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from bridge.agents.agent import (
    MULAW_8K,
    Agent,
    AgentModule,
    AudioFormat,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Event,
    Ignored,
    NextNumber,
    Resources,
    StreamInfo,
)
from bridge.agents.json_dialogue import parse
from bridge.agents.session_request import ask
from bridge.agents.succession import Said, Speaker
from bridge.agents.vendors.retell import CALL_ID, RetellSocketSettings


class RetellWebSettings(RetellSocketSettings):
    """Settings of this agent."""

    retell_web_encoding: Literal["mulaw", "s16le"] = Field(
        "mulaw", description="how audio is written; s16le is 16-bit PCM, which is transcoded"
    )
    retell_web_sample_rate: Literal["8000", "16000", "24000"] = Field(
        "8000", description="samples of s16le in a second"
    )


SPEAKERS = {"agent": Speaker.AGENT, "user": Speaker.CALLER}
# Whose turn it is while the last utterance of a transcript still grows.
TURNS = {Speaker.AGENT: "agent_turn", Speaker.CALLER: "user_turn"}


class WebDialogue(Dialogue):
    """Binary audio, three literal texts, and transcripts in JSON; other texts have no meaning to a call."""

    is_binary = True
    keepalive = b"ping"
    keepalive_s = 5.0

    def __init__(self, format: AudioFormat) -> None:
        self.to_agent_format = self.from_agent_format = format
        # The finished utterances of the last transcript.
        self._finished: list[Said] = []
        self._is_caller_speaking = False

    def read(self, message: bytes) -> Iterable[Event]:
        # A transcript may contain any text: the literal ones first.
        if message == b"clear":
            return (Control.INTERRUPT,)
        if message == b"pong":
            return ()
        match parse(message):
            case {"event_type": "update", "transcript": list(lines), **others}:
                return self._on_transcript(lines, others.get("turntaking"))
            case {"event_type": "metadata"}:
                return ()
        return (Ignored("unknown_type"),)

    def _on_transcript(self, lines: list[Any], turn: Any) -> Iterable[Event]:
        """Find what is new in a transcript, which is whole or has the last utterances only."""
        found: list[Said] = []
        for line in lines:
            match line:
                case {"role": "agent" | "user" as role, "content": str(text)} if text:
                    found.append(Said(SPEAKERS[role], text))
        is_growing = bool(found) and turn == TURNS[found[-1].speaker]
        growing = found.pop() if is_growing else None
        new = found[_overlap(self._finished, found) :]
        # One that only grows leaves what is known of the others.
        self._finished = found or self._finished
        began = growing is not None and growing.speaker is Speaker.CALLER
        if began and not self._is_caller_speaking:
            new.append(Said(Speaker.CALLER, ""))
        self._is_caller_speaking = began
        return new


def _overlap(before: list[Said], now: list[Said]) -> int:
    """With how many utterances at its end one transcript goes on in the next, where the last one may have grown."""
    for count in range(min(len(before), len(now)), 0, -1):
        pairs = zip(before[-count:], now, strict=False)
        if all(one.speaker is other.speaker and other.text.startswith(one.text) for one, other in pairs):
            return count
    return 0


def _describe(settings: RetellWebSettings, resources: Resources) -> Agent:
    encoding = settings.retell_web_encoding
    format = MULAW_8K if encoding == "mulaw" else AudioFormat("pcm16", int(settings.retell_web_sample_rate))

    async def open_session(call: CallInfo) -> dict[str, str]:
        return await register(settings, resources, call, "web", encoding, format.sample_rate_hz)

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        socket = socket_of(settings, session)
        return Endpoint(f"{socket.url}?enable_update=true", socket.headers)

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return WebDialogue(format)

    return Agent(
        open_session=open_session,
        endpoint=endpoint,
        dialogue=dialogue,
        session_key="call_id",
        names=settings.names,
        required=settings.required,
    )


AGENT = AgentModule(RetellWebSettings, _describe)


async def register(
    settings: RetellSocketSettings,
    resources: Resources,
    call: CallInfo,
    protocol: str,
    encoding: str,
    rate_hz: int,
) -> dict[str, str]:
    """Register a call with an audio socket, in one of the two forms that Retell documented."""
    return await ask(
        resources,
        "POST",
        f"{settings.retell_api_url}/register-call",
        settings.authorization,
        fields={"call_id": CALL_ID},
        json={
            "agent_id": settings.retell_agent_id,
            "audio_websocket_protocol": protocol,
            "audio_encoding": encoding,
            "sample_rate": rate_hz,
            "from_number": call.from_number,
            "to_number": call.to_number,
            **settings.values(resources, call),
        },
    )


def socket_of(settings: RetellSocketSettings, session: Mapping[str, str]) -> Endpoint:
    """Return the audio socket of a registered call."""
    return Endpoint(f"{settings.retell_ws_url}/{session['call_id']}", {})
