"""
Deepgram's Voice Agent over its WebSocket: settings first, then binary mu-law both ways.

Source: the types of deepgram-sdk 7.17.0 and the vendor's Voice Agent API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, SecretStr

from bridge.agents.agent import (
    Agent,
    AgentModule,
    AgentSettings,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Event,
    Failed,
    Ignored,
    NextNumber,
    Reply,
    Resources,
    StreamInfo,
    no_session,
)
from bridge.agents.json_dialogue import JsonDialogue, on_tool_call, parse
from bridge.agents.setting_types import WsUrl
from bridge.agents.succession import FailureKind, Memory, Said, Speaker

# Answered of one message; the rest are ignored.
FUNCTIONS_AT_ONCE = 16
SPEAKERS = {"user": Speaker.CALLER, "assistant": Speaker.AGENT}
ROLES = {speaker: role for role, speaker in SPEAKERS.items()}
# Said in the caller's place to an agent that takes over in the middle of an utterance.
GO_ON = "Please go on."
MULAW = {"encoding": "mulaw", "sample_rate": 8000}


def _is_agent_file(path: str) -> str:
    try:
        agent = orjson.loads(Path(path).read_bytes())
    except OSError as error:
        # Without the path, which may be a secret in the wrong variable.
        raise ValueError(f"must be a JSON file: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ValueError(f"must be a JSON file: {error}") from None
    if not isinstance(agent, dict):
        raise ValueError("must hold a JSON object, the value of Settings.agent")
    return path


class DeepgramSettings(AgentSettings):
    """Settings of this agent."""

    deepgram_api_key: SecretStr = Field(description="from Deepgram's console")
    deepgram_agent_url: WsUrl = Field(
        "wss://agent.deepgram.com/v1/agent/converse", description="the address of the Voice Agent API"
    )
    deepgram_agent_file: Annotated[str, AfterValidator(_is_agent_file)] = Field(
        description="a JSON file with the agent: the object under agent in Deepgram's Settings message"
    )


class DeepgramDialogue(JsonDialogue):
    """Sends the agent's settings after the welcome, and audio once they are applied."""

    is_binary = True
    waits_for_ready = True
    # Deepgram closes a socket after 10 s without a message.
    keepalive = b'{"type":"KeepAlive"}'
    keepalive_s = 5.0

    def __init__(self, agent: Mapping[str, Any], memory: Memory | None = None) -> None:
        self._agent = agent
        # The utterance that the agent answers first; "" if it listens or greets.
        self._to_answer = ""
        if memory is not None:
            self._go_on(agent, memory)
        self.is_speaking = False
        self._is_welcomed = False
        self._is_ready = False

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "Welcome"} if not self._is_welcomed:
                self._is_welcomed = True
                return (Reply(self._settings()),)
            case {"type": "SettingsApplied"} if not self._is_ready:
                self._is_ready = True
                if not self._to_answer:
                    return (Control.READY,)
                inject = {"type": "InjectUserMessage", "content": self._to_answer}
                return (Control.READY, Reply(orjson.dumps(inject)))
            case {"type": "ConversationText", "role": "user" | "assistant" as role, "content": str(content)}:
                self.is_speaking = role == "assistant"
                return (Said(SPEAKERS[role], content.strip()),)
            case {"type": "AgentAudioDone"}:
                self.is_speaking = False
                return ()
            case {"type": "UserStartedSpeaking"}:
                self.is_speaking = False
                return (Control.INTERRUPT,)
            case {"type": "FunctionCallRequest", "functions": list(functions)}:
                return [
                    event for function in functions[:FUNCTIONS_AT_ONCE] for event in _call_function(function)
                ]
            case {"type": "Error"}:
                # Deepgram's documents: every error ends the session.
                kind = FailureKind.SERVER if self._is_ready else FailureKind.REFUSED
                return (Failed(f"error {fields.get('code')}"[:80], kind),)
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def _go_on(self, agent: Mapping[str, Any], memory: Memory) -> None:
        """Put what was said into the settings, in place of the greeting."""
        said = list(memory.said)
        if memory.is_awaited:
            is_callers = bool(said) and said[-1].speaker is Speaker.CALLER
            self._to_answer = said.pop().text if is_callers else GO_ON
        history = [{"type": "History", "role": ROLES[each.speaker], "content": each.text} for each in said]
        self._agent = {name: value for name, value in agent.items() if name != "greeting"}
        if history:
            context = agent.get("context")
            before = context.get("messages", ()) if isinstance(context, dict) else ()
            self._agent["context"] = {"messages": [*before, *history]}

    def _settings(self) -> bytes:
        return orjson.dumps(
            {
                "type": "Settings",
                "audio": {"input": MULAW, "output": {**MULAW, "container": "none"}},
                "agent": self._agent,
            }
        )


def _call_function(function: Any) -> Iterable[Event]:
    match function:
        case {"client_side": False}:
            return (Ignored("function_of_the_service"),)
        case {"name": name}:
            # A function without parameters may come with empty text here.
            arguments = parse(function.get("arguments") or "{}")
            if not isinstance(arguments, dict):
                arguments = {}
            return on_tool_call(name, arguments, lambda content: _answer(function, content))
    return (Ignored("unknown_function"),)


def _answer(function: Any, content: str) -> tuple[bytes, ...]:
    match function:
        case {"name": str(name), "id": str(call_id)}:
            answer = {"type": "FunctionCallResponse", "id": call_id, "name": name, "content": content}
            return (orjson.dumps(answer),)
    return ()


def _describe(settings: DeepgramSettings, resources: Resources) -> Agent:
    agent = orjson.loads(Path(settings.deepgram_agent_file).read_bytes())

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            settings.deepgram_agent_url,
            {"Authorization": f"Token {settings.deepgram_api_key.get_secret_value()}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        return DeepgramDialogue(agent, stream.memory)

    return Agent(open_session=no_session, endpoint=endpoint, dialogue=dialogue)


AGENT = AgentModule(DeepgramSettings, _describe)
