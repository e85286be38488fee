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
from bridge.agents.openai_realtime import RealtimeDialogue
from bridge.agents.realtime_session import session_object
from bridge.agents.setting_types import Switch, WsUrl

# OpenAI ends a session of this age.
SESSION_LIMIT_S = 3600.0


class OpenAiSettings(AgentSettings):
    """Settings of this agent."""

    openai_api_key: SecretStr = Field(description="from OpenAI's dashboard")
    openai_realtime_url: WsUrl = Field(
        "wss://api.openai.com/v1/realtime", description="the address of the Realtime API"
    )
    openai_realtime_model: str = Field("gpt-realtime", description="the model that answers")
    openai_realtime_voice: str = Field("", description="the model's voice; OpenAI's default without one")
    openai_realtime_instructions: str = Field("", description="what the model is asked to do in the call")
    openai_realtime_greets: Switch = Field(False, description="1: the model speaks first")
    openai_realtime_tools: Switch = Field(
        False, description="1: the model may end the call, and transfer it within BRIDGE_TRANSFER_TO"
    )


def _describe(settings: OpenAiSettings, resources: Resources) -> Agent:
    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            f"{settings.openai_realtime_url}?model={quote(settings.openai_realtime_model, safe='')}",
            {"Authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        session = session_object(
            {},
            instructions=settings.openai_realtime_instructions,
            voice=settings.openai_realtime_voice,
            tools=settings.openai_realtime_tools,
            may_transfer=resources.may_transfer,
        )
        return RealtimeDialogue(
            session,
            stream.memory,
            greets=settings.openai_realtime_greets,
            session_limit_s=SESSION_LIMIT_S,
        )

    return Agent(open_session=no_session, endpoint=endpoint, dialogue=dialogue)


AGENT = AgentModule(OpenAiSettings, _describe)
