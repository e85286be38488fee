"""OpenAI's Realtime API over its WebSocket; `bridge.agents.openai_realtime` has the dialogue."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from pydantic import Field, SecretStr

from bridge.agents.agent import (
    Agent,
    AgentModule,
    AgentSettings,
    CallInfo,
    Dialogue,
    Endpoint,
    NextNumber,
    Resources,
    StreamInfo,
    no_session,
)
from bridge.agents.json_settings import JsonObjectFile, filled
from bridge.agents.openai_realtime import RealtimeDialogue
from bridge.agents.realtime_session import session_object
from bridge.agents.setting_types import Switch, TemplateText, WsUrl
from bridge.agents.template import fill, names_in, of_call, required_in

# OpenAI ends a session of this age.
SESSION_LIMIT_S = 3600.0


class OpenAiSettings(AgentSettings):
    """Settings of this agent."""

    openai_api_key: SecretStr = Field(description="from OpenAI's dashboard")
    openai_realtime_url: WsUrl = Field(
        "wss://api.openai.com/v1/realtime", description="the address of the Realtime API"
    )
    openai_realtime_model: str = Field("gpt-realtime-2.1", description="the model that answers")
    openai_realtime_voice: str = Field("", description="the model's voice; OpenAI's default without one")
    openai_realtime_instructions: TemplateText = Field(
        "",
        description="what the model is asked to do in the call; may have placeholders: `{from}`, "
        "`{file.PROMPT_FILE}`",
    )
    openai_realtime_session_file: JsonObjectFile = Field(
        "",
        description="a JSON file with further fields of OpenAI's session object: turn detection, noise "
        "reduction, transcription, speed, tools; the audio formats in it are replaced. Its texts may have placeholders",
    )
    openai_realtime_greets: Switch = Field(True, description="1: the model speaks first")
    openai_realtime_tools: Switch = Field(
        True, description="1: the model may end the call, and transfer it within BRIDGE_TRANSFER_TO"
    )
    openai_realtime_keys: Switch = Field(
        False, description="1: the model learns which keys the caller presses, as a text"
    )


def _describe(settings: OpenAiSettings, resources: Resources) -> Agent:
    given, instructions = settings.openai_realtime_session_file, settings.openai_realtime_instructions

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            f"{settings.openai_realtime_url}?model={quote(settings.openai_realtime_model, safe='')}",
            {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        session = session_object(
            filled(given, resources, stream.call),
            instructions=fill(instructions, {**resources.values, **stream.call.placeholders}),
            voice=settings.openai_realtime_voice,
            tools=settings.openai_realtime_tools,
            may_transfer=resources.may_transfer,
        )
        return RealtimeDialogue(
            session,
            stream.memory,
            greets=settings.openai_realtime_greets,
            takes_keys=settings.openai_realtime_keys,
            session_limit_s=SESSION_LIMIT_S,
        )

    return Agent(
        open_session=no_session,
        endpoint=endpoint,
        dialogue=dialogue,
        names=of_call(names_in([given, instructions])),
        required=of_call(required_in([given, instructions])),
    )


AGENT = AgentModule(OpenAiSettings, _describe)
