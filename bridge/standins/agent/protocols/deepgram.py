"""Deepgram's Voice Agent: settings and events in JSON, mu-law as binary frames."""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from aiohttp import web

from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.turns import TurnSession
from bridge.standins.agent.session import AgentSession, Told
from bridge.standins.audio import SAMPLE_RATE_HZ

_SPEAKERS = {"assistant": "agent", "user": "caller"}
_INPUT = {"encoding": "mulaw", "sample_rate": SAMPLE_RATE_HZ}
_OUTPUT = {"encoding": "mulaw", "sample_rate": SAMPLE_RATE_HZ, "container": "none"}
_SETTINGS = {"type", "tags", "experimental", "flags", "mip_opt_out", "audio", "agent"}
# Accepted without effect: the behaviour of the stand-in decides its words.
_NOTED = {
    "ForceEndTurn",
    "InjectAgentMessage",
    "UpdateListen",
    "UpdateSpeak",
    "UpdateThink",
}


class FunctionResponse(NamedTuple):
    """The result of a function call."""

    call_id: str
    name: str
    content: str


class DeepgramSession(TurnSession):
    """
    A conversation with Deepgram's agent.

    Attributes:
        settings: The bridge's ``Settings``, empty before they arrive.
        keepalives: Times of the ``KeepAlive`` messages.
        function_outputs: Results of function calls.
        prompts: What was added to the prompt, in order.
    """

    is_ready_at_once = False

    def __init__(self, call_id: str, request: dict[str, str]) -> None:
        super().__init__(call_id, request)
        self.settings: dict[str, Any] = {}
        self.keepalives: list[float] = []
        self.function_outputs: list[FunctionResponse] = []
        self.prompts: list[str] = []
        self._answered = asyncio.Event()
        self._pending_calls: dict[str, str] = {}
        self._configured = asyncio.Event()

    async def send_function_call(
        self, name: str, arguments: dict[str, Any], *, client_side: bool = True
    ) -> str:
        """Request a function call, or announce one that the bridge has no part in; returns its id."""
        call_id = "func_" + secrets.token_hex(6)
        if client_side:
            self._pending_calls[call_id] = name
        function = {"id": call_id, "name": name, "arguments": json.dumps(arguments)}
        functions = [{**function, "client_side": client_side}]
        await self.send_json({"type": "FunctionCallRequest", "functions": functions})
        return call_id

    async def send_goodbye(self, name: str, arguments: dict[str, Any], audio: Iterable[bytes]) -> None:
        """Request a function call that ends the conversation; its response lets the agent say goodbye."""
        self._answered.clear()
        await self.send_function_call(name, arguments)
        await self._answered.wait()
        await self.send_frames(audio, paced=False)
        await self.end_turn()

    async def send_warning(self, code: str, description: str) -> None:
        """Report something that leaves the session open."""
        await self.send_json({"type": "Warning", "code": code, "description": description})

    async def send_error(self, code: str, description: str) -> None:
        """Report an error and close in the ordinary way, as after every error."""
        await self.send_json(_error(description, code))
        await self.close()

    async def reach_limit(self) -> None:
        """End the session at its age of two hours, after the warning that comes five minutes before."""
        await self.send_warning(
            "MAXIMUM_SESSION_LENGTH_APPROACHING", "The session will close automatically in 5 minutes."
        )
        await self.send_error("MAXIMUM_SESSION_LENGTH_REACHED", "The session has reached its maximum length.")

    async def send_heard(self, text: str) -> None:
        """Report what the caller said."""
        await self.send_json({"type": "ConversationText", "role": "user", "content": text})

    async def _begin(self) -> bool:
        await self.send_json({"type": "Welcome", "request_id": self.call_id})
        await self._configured.wait()
        return await self._make_ready(
            {"type": "SettingsApplied"}, _error("the settings could not be applied", "INVALID_SETTINGS")
        )

    async def _write_turn(self) -> None:
        content = self.transcript or "..."
        await self.send_json({"type": "ConversationText", "role": "assistant", "content": content})
        latency = {"total_latency": 0.5, "tts_latency": 0.1, "ttt_latency": 0.4}
        await self.send_json({"type": "AgentStartedSpeaking", **latency})

    async def _write_turn_end(self, is_cut: bool) -> None:
        await self.send_json({"type": "AgentAudioDone"})

    async def _write_audio_of_turn(self, wire: bytes, fields: dict[str, Any]) -> None:
        assert not fields, "binary audio has no fields"
        await self.send_raw(wire)

    async def _write_interrupt(self) -> None:
        await self.send_json({"type": "UserStartedSpeaking"})
        await self.end_turn(is_cut=True)

    async def _on_binary(self, data: bytes) -> None:
        self._check_ready("SettingsApplied")
        self._receive(data)

    async def _on_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        try:
            await self._take_message(message["type"], message)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            await self.send_json(_error(f"{problem!r}", "UNPARSABLE_CLIENT_MESSAGE"))
            raise

    async def _take_message(self, event: object, message: dict[str, Any]) -> None:
        if event == "Settings":
            self._on_settings(message)
        elif not self._configured.is_set():
            raise ValueError(f"{event} before Settings")
        elif event == "InjectUserMessage":
            if not isinstance(message["content"], str):
                raise ValueError(f"the caller's message is {message['content']!r}")
            self.told.append(Told("caller", message["content"]))
            self.asked_to_speak += 1
        elif event == "KeepAlive":
            self.keepalives.append(self._now())
        elif event == "FunctionCallResponse":
            response = FunctionResponse(message["id"], message["name"], message["content"])
            if self._pending_calls.pop(response.call_id, None) != response.name:
                raise ValueError(f"no function call of {response.name!r} waits for {response.call_id!r}")
            if not isinstance(response.content, str):
                raise ValueError("the content of a function call's response is not a text")
            self.function_outputs.append(response)
            self._answered.set()
        elif event == "UpdatePrompt":
            if not isinstance(message["prompt"], str):
                raise ValueError(f"the prompt is {message['prompt']!r}")
            self.prompts.append(message["prompt"])
            await self.send_json({"type": "PromptUpdated"})
        elif event not in _NOTED:
            raise ValueError(f"unknown message {event!r}")

    def _on_settings(self, settings: dict[str, Any]) -> None:
        if self._configured.is_set():
            raise ValueError("Settings came twice")
        for side, expected in (("input", _INPUT), ("output", _OUTPUT)):
            if (audio := settings["audio"][side]) != expected:
                raise ValueError(f"audio.{side} is {audio}, not {expected}")
        if unknown := settings.keys() - _SETTINGS:
            raise ValueError(f"the settings have {sorted(unknown)}")
        if not isinstance(settings["agent"], dict | str):
            raise ValueError(f"the agent is {settings['agent']!r}")
        if isinstance(settings["agent"], str):
            # Agents are stored under such ids.
            uuid.UUID(settings["agent"])
        self.settings = settings
        if isinstance(settings["agent"], dict):
            self._on_agent(settings["agent"])
        self._configured.set()

    def _on_agent(self, agent: dict[str, Any]) -> None:
        for said in agent.get("context", {}).get("messages", ()):
            if said["type"] != "History" or not isinstance(said["content"], str):
                raise ValueError(f"the history has {said}")
            self.told.append(Told(_SPEAKERS[said["role"]], said["content"]))
        self.asked_to_speak += bool(agent.get("greeting"))


def _error(description: str, code: str) -> dict[str, Any]:
    return {"type": "Error", "description": description, "code": code}


class Deepgram(Protocol):
    """``GET /v1/agent/converse``"""

    name = "deepgram"
    socket_path = "/v1/agent/converse"

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Admit a request with the key."""
        self.check_header(request, "Authorization", f"Token {self.account.key}")
        return DeepgramSession("req_" + secrets.token_hex(10), dict(request.query))

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the key and the socket."""
        return {
            "BRIDGE_AGENT": self.name,
            "DEEPGRAM_API_KEY": self.account.key,
            "DEEPGRAM_AGENT_URL": ws_url,
        }
