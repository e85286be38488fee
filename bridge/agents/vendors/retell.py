"""
Retell's audio-socket protocol, and the parts that Retell's other protocols share.

Retell withdrew this socket for its own service on 2025-01-01; compatible servers and the stand-in speak it. No document
names a message or a close code for an error, here or in the two other forms of the socket: a close that is not an
ordinary one means that the agent is lost. The REST API refuses by status (`succession.STATUS_KINDS`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from _codec import Envelope, SpanFinder
from bridge.agents.agent import (
    Agent,
    AgentModule,
    AgentSettings,
    Audio,
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
from bridge.agents.json_dialogue import JsonDialogue
from bridge.agents.json_settings import JsonObject, filled, unfilled
from bridge.agents.session_request import ask
from bridge.agents.setting_types import HttpUrl, WsUrl
from bridge.agents.template import names_in, of_call, required_in

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Header-safe text: the token becomes an Authorization header.
ACCESS_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
WEBHOOK_AGE_MS = 300_000
# Names of 16-bit samples in Retell's messages.
PCM16_NAMES = ("s16le", "pcm16", "pcm")


def _are_texts(template: str) -> str:
    for name, value in unfilled(template).items():
        if not isinstance(value, str):
            raise ValueError(f"the dynamic variable {name} must be a text, in quotes")
    return template


class RetellAccountSettings(AgentSettings):
    """The account, the agent, and what it learns of a call: every Retell protocol needs them."""

    retell_api_key: SecretStr = Field(description="from Retell's dashboard")
    retell_agent_id: str = Field(description="the agent that answers, from Retell's dashboard")
    retell_api_url: HttpUrl = Field("https://api.retellai.com", description="the REST API")
    retell_dynamic_variables: Annotated[JsonObject, AfterValidator(_are_texts)] = Field(
        "",
        description="the agent's dynamic variables (retell_llm_dynamic_variables), a JSON object of texts with "
        'placeholders: {"caller": "{from}"}',
    )
    retell_metadata: JsonObject = Field(
        "", description="a JSON object with placeholders that Retell keeps with the call, beside the CallSid"
    )

    @property
    def authorization(self) -> dict[str, str]:
        """The REST API's header."""
        return {"Authorization": f"Bearer {self.retell_api_key.get_secret_value()}"}

    @property
    def names(self) -> frozenset[str]:
        """`Agent.names`."""
        return of_call(names_in([self.retell_dynamic_variables, self.retell_metadata]))

    @property
    def required(self) -> frozenset[str]:
        """`Agent.required`."""
        return of_call(required_in([self.retell_dynamic_variables, self.retell_metadata]))

    def values(self, resources: Resources, call: CallInfo) -> dict[str, Any]:
        """Return the fields of a registration that tell Retell of the call."""
        metadata = {**filled(self.retell_metadata, resources, call), "callSid": call.call_sid}
        variables = filled(self.retell_dynamic_variables, resources, call)
        return {"metadata": metadata, **({"retell_llm_dynamic_variables": variables} if variables else {})}


class RetellSocketSettings(RetellAccountSettings):
    """The address of the audio socket, for the protocols that have one."""

    retell_ws_url: WsUrl = Field(
        "wss://api.retellai.com/audio-websocket", description="the base URL of the audio socket"
    )


class RetellSettings(RetellSocketSettings):
    """Settings of this agent."""


class RetellDialogue(JsonDialogue):
    """JSON both ways. Audio may state its encoding; all but mu-law at 8000 Hz is transcoded."""

    to_agent = Envelope(b'{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"', b'"}')
    audio = SpanFinder("data", {"type": "audio"}, {"audio_encoding": "mulaw", "sample_rate": 8000})

    def read_fields(self, fields: Any) -> Iterable[Event]:
        if not isinstance(fields, dict):
            return (Ignored("not_object"),)
        match fields.get("type"):
            case "audio":
                return (_audio_of(fields),)
            case "interrupt":
                return (Control.INTERRUPT,)
            case "call_ended":
                return (Control.ENDED,)
        return (Ignored("unknown_type"),)


def _describe(settings: RetellSettings, resources: Resources) -> Agent:

    async def open_session(call: CallInfo) -> dict[str, str]:
        values = settings.values(resources, call)
        values["metadata"]["from"] = call.from_number
        return await ask(
            resources,
            "POST",
            f"{settings.retell_api_url}/v2/create-web-call",
            settings.authorization,
            fields={"call_id": CALL_ID, "access_token": ACCESS_TOKEN},
            json={
                "agent_id": settings.retell_agent_id,
                "audio_websocket_protocol": "twilio",
                "audio_encoding": "mulaw",
                "sample_rate": 8000,
                **values,
            },
        )

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            f"{settings.retell_ws_url}/{session['call_id']}",
            {"Authorization": f"Bearer {session['access_token']}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return RetellDialogue()

    return Agent(
        open_session=open_session,
        endpoint=endpoint,
        dialogue=dialogue,
        session_key="call_id",
        names=settings.names,
        required=settings.required,
    )


AGENT = AgentModule(RetellSettings, _describe)


def _audio_of(fields: dict[str, Any]) -> Event:
    data = fields.get("data")
    encoding = fields.get("audio_encoding", "mulaw")
    rate_hz = fields.get("sample_rate", 8000)
    if not isinstance(data, str):
        return Ignored("missing_field")
    if not isinstance(encoding, str) or not isinstance(rate_hz, int) or isinstance(rate_hz, bool):
        return Ignored("unknown_audio")
    if encoding in PCM16_NAMES:
        encoding = "pcm16"
    return Audio(data.encode(), AudioFormat(encoding, rate_hz))


def is_webhook_of_retell(body: bytes, signature: str | None, api_key: str, wall_clock_ms: int) -> bool:
    """
    Check ``x-retell-signature``: ``v=<Unix ms>,d=<HMAC-SHA256 of body and v under the API key>``, 5 minutes old at
    most. A replay within that time passes; the caller of this function must ignore it.
    """
    found = re.fullmatch(r"v=([0-9]{1,16}),d=([0-9a-f]{64})", signature or "")
    if not found or abs(wall_clock_ms - int(found[1])) > WEBHOOK_AGE_MS:
        return False
    computed = hmac.new(api_key.encode(), body + found[1].encode(), "sha256").hexdigest()
    return hmac.compare_digest(computed, found[2])
