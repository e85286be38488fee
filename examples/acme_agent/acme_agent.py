"""An agent with a JSON protocol: mu-law as base64 both ways, an interrupt, the end of the call."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, SecretStr

from bridge import (
    Agent,
    AgentModule,
    AgentSettings,
    Audio,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Envelope,
    Event,
    Ignored,
    JsonDialogue,
    NextNumber,
    Resources,
    SpanFinder,
    StreamInfo,
    WsUrl,
    no_session,
)


class AcmeSettings(AgentSettings):
    """The variables ACME_KEY, which is required, and ACME_URL."""

    acme_key: SecretStr = Field(description="from Acme's console")
    acme_url: WsUrl = "wss://voice.acme.example/agent"


class AcmeDialogue(JsonDialogue):
    """What goes over the agent's socket during one call."""

    # One audio frame to the agent: the text before and after its base64.
    to_agent = Envelope(b'{"kind":"audio","body":{"b64":"', b'"}}')
    # The place of the base64 text in a frame from the agent. These frames do not come to `read_fields`.
    audio = SpanFinder("body.b64", {"kind": "audio"})

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"kind": "audio", "body": {"b64": str(text)}}:
                return (Audio(text.encode()),)
            case {"kind": "stop_talking"}:
                return (Control.INTERRUPT,)
            case {"kind": "bye"}:
                return (Control.ENDED,)
        return (Ignored("unknown_type"),)


def describe(settings: AcmeSettings, resources: Resources) -> Agent:
    """Describe the agent: there is no session to ask for, so the socket opens at once."""

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            settings.acme_url, {"Authorization": f"Bearer {settings.acme_key.get_secret_value()}"}
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return AcmeDialogue()

    return Agent(open_session=no_session, endpoint=endpoint, dialogue=dialogue)


AGENT = AgentModule(AcmeSettings, describe)
