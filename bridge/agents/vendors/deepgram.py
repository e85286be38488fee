"""
Deepgram's Voice Agent over its WebSocket: settings first, then binary mu-law both ways.

Source: the types of deepgram-sdk 7.17.0, the vendor's Voice Agent API reference, and its page of errors and warnings.
Nothing confirms the formats: settings with others than those that are asked for are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    Transfer,
    Warned,
    no_session,
)
from bridge.agents.json_dialogue import JsonDialogue, name_at, parse, worded
from bridge.agents.json_settings import JsonFile, filled, unfilled
from bridge.agents.setting_types import Switch, WsUrl
from bridge.agents.succession import FailureKind, Memory, Said, Speaker
from bridge.agents.template import names_in, of_call, required_in
from bridge.agents.tool_calls import ToolCalls
from bridge.agents.words import ENDS_SOON, GOES_ON, I_PRESSED

# Answered of one message; the rest are ignored.
FUNCTIONS_AT_ONCE = 16
SPEAKERS = {"user": Speaker.CALLER, "assistant": Speaker.AGENT}
ROLES = {speaker: role for role, speaker in SPEAKERS.items()}
# Said in the caller's place to an agent that takes over in the middle of an utterance.
GO_ON = "Please go on."
MULAW = {"encoding": "mulaw", "sample_rate": 8000}

# Every Error ends the session, says the vendor; these are its codes. A Warning never does.
ERRORS = {
    "INTERNAL_SERVER_ERROR": FailureKind.SERVER,
    "CLIENT_MESSAGE_TIMEOUT": FailureKind.LOST,
    "UNPARSABLE_CLIENT_MESSAGE": FailureKind.REFUSED,
    "NON_SETTINGS_MESSAGE_BEFORE_SETTINGS": FailureKind.REFUSED,
    "SETTINGS_ALREADY_APPLIED": FailureKind.REFUSED,
    "INVALID_SETTINGS": FailureKind.REFUSED,
    "FAILED_TO_START_LISTENING": FailureKind.SERVER,
    "ASR_CONNECTION_CLOSED": FailureKind.SERVER,
    "ASR_DRIVER_TIMEOUT": FailureKind.SERVER,
    "USER_AUDIO_FORMAT": FailureKind.REFUSED,
    "FAILED_TO_SPEAK": FailureKind.SERVER,
    "FAILED_TO_THINK": FailureKind.SERVER,
    "SERVER_GOING_AWAY": FailureKind.SERVER,
    "NON_EXISTENT_FUNCTION_CALLED": FailureKind.SERVER,
    "AGENT_ID_NOT_SUPPORTED": FailureKind.REFUSED,
    "INVALID_AGENT_ID": FailureKind.REFUSED,
    "MAXIMUM_SESSION_LENGTH_REACHED": FailureKind.SESSION_LIMIT,
}


def _is_agent(template: str) -> str:
    match unfilled(template):
        case {"type": "Settings", "agent": str() | dict()}:
            return template
        case {"type": _}:
            raise ValueError("must hold a Settings message with an agent, a JSON object or an id")
        case dict() | str():
            return template
    raise ValueError("must hold the value of Settings.agent, an object or an id, or a whole Settings message")


class DeepgramSettings(AgentSettings):
    """Settings of this agent."""

    deepgram_api_key: SecretStr = Field(description="from Deepgram's console")
    deepgram_agent_url: WsUrl = Field(
        "wss://agent.deepgram.com/v1/agent/converse", description="the address of the Voice Agent API"
    )
    deepgram_agent_file: Annotated[JsonFile, AfterValidator(_is_agent)] = Field(
        description="a JSON file with the agent: the object under agent in Deepgram's Settings message, the id of a "
        "reusable agent in quotes, or a whole Settings message, whose audio is replaced. Texts may have placeholders"
    )
    deepgram_keys: Switch = Field(
        False, description="1: keys that the caller presses are said to the agent in the caller's place"
    )


class DeepgramDialogue(JsonDialogue):
    """
    Sends the agent's settings after the welcome, and audio once they are applied.

    Args:
        agent: The value of ``Settings.agent``, or a whole Settings message.
        memory: What was said before, if the agent takes the call over.
        takes_keys: Whether the caller's keys reach it, in the caller's place.
    """

    is_binary = True
    waits_for_ready = True
    # Deepgram closes a socket after 10 s without a message.
    keepalive = b'{"type":"KeepAlive"}'
    keepalive_s = 5.0
    session_limit_s = 7200.0

    def __init__(
        self, agent: Mapping[str, Any] | str, memory: Memory | None = None, *, takes_keys: bool = False
    ) -> None:
        # The Settings message, still without its audio.
        self._message: dict[str, Any] = {"agent": agent}
        if not isinstance(agent, str) and agent.get("type") == "Settings":
            self._message = dict(agent)
        # Sent once the settings are applied.
        self._first: list[bytes] = []
        if memory is not None:
            self._go_on(memory)
        self.gathers_keys = takes_keys
        self.is_speaking = False
        self._tool_calls = ToolCalls(_answer)
        self._is_welcomed = False
        self._is_ready = False
        # Whether the next end of speech belongs to words from before a request to hang up or transfer.
        self._ends_earlier_words = False

    def read_fields(self, fields: Any) -> Iterable[Event]:
        match fields:
            case {"type": "Welcome"} if not self._is_welcomed:
                self._is_welcomed = True
                self.session_id = name_at(fields, "request_id")
                return (Reply(self._settings()),)
            case {"type": "SettingsApplied"} if not self._is_ready:
                self._is_ready = True
                return (Control.READY, *map(Reply, self._first))
            case {"type": "ConversationText", "role": "user" | "assistant" as role, "content": str(content)}:
                self.is_speaking = role == "assistant"
                return (Said(SPEAKERS[role], content.strip()),)
            case {"type": "AgentAudioDone"}:
                return self._end_speech()
            case {"type": "UserStartedSpeaking"}:
                self.is_speaking = self._ends_earlier_words = False
                return (Control.INTERRUPT,)
            case {"type": "FunctionCallRequest", "functions": list(functions)}:
                return [
                    event
                    for function in functions[:FUNCTIONS_AT_ONCE]
                    for event in self._call_function(function)
                ]
            case {"type": "Error"}:
                return (self._error(fields),)
            case {"type": "Warning"}:
                return (Warned(_named(fields)),)
            case {"type": "InjectionRefused"}:
                return (Warned(worded(f"InjectionRefused: {fields.get('message')}")),)
            case {"type": str()}:
                return ()
        return (Ignored("unknown_type"),)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        return (_inject(I_PRESSED.format(digit)),) if self.gathers_keys else ()

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        # It is added to the prompt, says the vendor.
        return (_update_prompt(ENDS_SOON.format(left_s)),)

    def _error(self, error: Mapping[str, Any]) -> Event:
        unknown = FailureKind.SERVER if self._is_ready else FailureKind.REFUSED
        code = error.get("code")
        return Failed(_named(error), ERRORS.get(code, unknown) if isinstance(code, str) else unknown)

    def _end_speech(self) -> Iterable[Event]:
        self.is_speaking = False
        if self._ends_earlier_words:
            self._ends_earlier_words = False
            return ()
        return (Control.SPEECH_ENDED,)

    def _go_on(self, memory: Memory) -> None:
        """Tell the agent what was said, in place of a greeting that the file has."""
        said = list(memory.said)
        if memory.is_awaited:
            is_callers = bool(said) and said[-1].speaker is Speaker.CALLER
            self._first = [_inject(said.pop().text if is_callers else GO_ON)]
        agent = self._message["agent"]
        if isinstance(agent, str):
            # Greeting and context of a reusable agent are kept by Deepgram.
            if said:
                earlier = Memory(tuple(said), memory.is_awaited)
                self._first.insert(0, _update_prompt(GOES_ON + earlier.as_text()))
            return
        history = [{"type": "History", "role": ROLES[each.speaker], "content": each.text} for each in said]
        agent = {name: value for name, value in agent.items() if name != "greeting"}
        if history:
            context = agent.get("context")
            before = context.get("messages", ()) if isinstance(context, dict) else ()
            agent["context"] = {"messages": [*before, *history]}
        self._message["agent"] = agent

    def _settings(self) -> bytes:
        audio = {"input": MULAW, "output": {**MULAW, "container": "none"}}
        others = {name: value for name, value in self._message.items() if name not in ("type", "audio")}
        return orjson.dumps({"type": "Settings", "audio": audio, **others})

    def _call_function(self, function: Any) -> Iterable[Event]:
        match function:
            case {"client_side": False}:
                return (Ignored("function_of_the_service"),)
            case {"name": name}:
                # A function without parameters may come with empty text here.
                arguments = parse(function.get("arguments") or "{}")
                events = list(self._tool_calls.decide(function.get("id"), name, arguments))
                if any(event is Control.HANG_UP or isinstance(event, Transfer) for event in events):
                    self._ends_earlier_words = self.is_speaking is True
                return events
        return (Ignored("unknown_function"),)


def _named(report: Mapping[str, Any]) -> str:
    return worded(f"{report.get('type')} {report.get('code')}: {report.get('description')}")


def _inject(text: str) -> bytes:
    return orjson.dumps({"type": "InjectUserMessage", "content": text})


def _update_prompt(text: str) -> bytes:
    return orjson.dumps({"type": "UpdatePrompt", "prompt": text})


def _answer(call_id: str, name: str, result: str, is_error: bool) -> bytes:
    return orjson.dumps({"type": "FunctionCallResponse", "id": call_id, "name": name, "content": result})


def _describe(settings: DeepgramSettings, resources: Resources) -> Agent:
    template = settings.deepgram_agent_file

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        return Endpoint(
            settings.deepgram_agent_url,
            {"Authorization": f"Token {settings.deepgram_api_key.get_secret_value()}"},
        )

    def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
        agent = filled(template, resources, stream.call)
        return DeepgramDialogue(agent, stream.memory, takes_keys=settings.deepgram_keys)

    return Agent(
        open_session=no_session,
        endpoint=endpoint,
        dialogue=dialogue,
        names=of_call(names_in([template])),
        required=of_call(required_in([template])),
    )


AGENT = AgentModule(DeepgramSettings, _describe)
