"""
Retell's documented audio socket in its ``web`` form: binary samples, the literal texts ``clear``, ``ping``, ``pong``.

Retell announced its end for 2025-01-01; compatible servers and the stand-in speak it. The call's id is the
credential of its socket. Sources: docs.retellai.com/api-references/audio-websocket, retell-client-js-sdk 1.3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

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
from bridge.agents.session_request import ask
from bridge.agents.vendors.retell import CALL_ID, RetellSocketSettings


class RetellWebSettings(RetellSocketSettings):
    """Settings of this agent."""

    retell_web_encoding: Literal["mulaw", "s16le"] = Field(
        "mulaw", description="how audio is written; s16le is 16-bit PCM, which is transcoded"
    )
    retell_web_sample_rate: Literal["8000", "16000", "24000"] = Field(
        "8000", description="samples of s16le in a second"
    )


class WebDialogue(Dialogue):
    """Binary audio, and three literal texts; other texts have no meaning to a call."""

    is_binary = True
    keepalive = b"ping"
    keepalive_s = 5.0

    def __init__(self, format: AudioFormat) -> None:
        self.to_agent_format = self.from_agent_format = format

    def read(self, message: bytes) -> Iterable[Event]:
        if message == b"clear":
            return (Control.INTERRUPT,)
        return () if message == b"pong" else (Ignored("unknown_type"),)


def _describe(settings: RetellWebSettings, resources: Resources) -> Agent:
    encoding = settings.retell_web_encoding
    format = MULAW_8K if encoding == "mulaw" else AudioFormat("pcm16", int(settings.retell_web_sample_rate))

    async def open_session(call: CallInfo) -> dict[str, str]:
        return await register(settings, resources, call, "web", encoding, format.sample_rate_hz)

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return WebDialogue(format)

    return Agent(
        open_session=open_session,
        endpoint=lambda session: socket_of(settings, session),
        dialogue=dialogue,
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
            "metadata": {"callSid": call.call_sid},
        },
    )


def socket_of(settings: RetellSocketSettings, session: Mapping[str, str]) -> Endpoint:
    """Return the audio socket of a registered call."""
    return Endpoint(f"{settings.retell_ws_url}/{session['call_id']}", {})
