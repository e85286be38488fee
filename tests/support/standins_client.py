"""A bridge's side of every protocol that the stand-in agent service speaks, written from the vendors' documents."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession

FACTOR = float(os.environ.get("BRIDGE_TEST_TIMEOUT_FACTOR", "1"))
DEADLINE_S = 5.0 * FACTOR
STREAM_SID = "MZ" + 32 * "a"
MEDIA_FORMAT = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}


async def soon(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.002)


class Client:
    """
    One call, from the bridge's side.

    Attributes:
        frames: Every WebSocket message as it came, texts and bytes.
        audio: The agent's, as the bytes on the wire.
        interrupts, ended: What the agent said of them.
        closed: Set when the socket is; ``close_code`` is the service's.
    """

    # Whether only closing the socket ends a call.
    ends_by_closing = True
    # Whether the agent says that the caller cuts in.
    tells_interrupts = True

    def __init__(self, service: AgentService, http: aiohttp.ClientSession) -> None:
        self.service = service
        self.http = http
        self.frames: list[str | bytes] = []
        self.audio: list[bytes] = []
        self.interrupts = 0
        self.ended = False
        self.closed = asyncio.Event()
        self.socket: aiohttp.ClientWebSocketResponse

    # Overridden by protocols

    async def connect(self) -> None:
        """Register, if the protocol requires it, and open the socket."""
        raise NotImplementedError

    async def greet(self) -> None:
        """Send the messages required before audio may flow."""

    async def say(self, wire: bytes) -> None:
        """Send the caller's audio."""
        await self.socket.send_bytes(wire)

    async def take(self, message: dict[str, Any]) -> None:
        """Process a message from the agent."""
        raise NotImplementedError

    async def take_text(self, text: str) -> None:
        await self.take(json.loads(text))

    # Shared by all protocols

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.frames if isinstance(text, str) and text.startswith("{")]

    def of_type(self, *names: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message.get("type") in names]

    async def open_socket(self, path: str = "", **headers: str) -> None:
        """Open the service's socket; ``path`` is added to it."""
        self.socket = await self.http.ws_connect(self.service.ws_url + path, headers=headers)

    async def register(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.service.environment()['RETELL_API_KEY']}"}
        async with self.http.post(self.service.url + path, json=body, headers=headers) as response:
            assert response.status == 201, await response.text()
            return await response.json()

    async def read(self) -> None:
        async for frame in self.socket:
            self.frames.append(frame.data)
            if frame.type is aiohttp.WSMsgType.BINARY:
                self.audio.append(frame.data)
            else:
                await self.take_text(frame.data)
        self.ended |= self.ends_by_closing
        self.closed.set()

    def take_base64(self, text: str) -> None:
        self.audio.append(base64.b64decode(text))


class Retell(Client):
    ends_by_closing = False

    async def connect(self):
        body = {"agent_id": self.service.account.agent_id, "audio_websocket_protocol": "twilio"}
        body |= {"audio_encoding": "mulaw", "sample_rate": 8000, "metadata": {"callSid": "CA1", "from": "+1"}}
        made = await self.register("/v2/create-web-call", body)
        await self.open_socket("/" + made["call_id"], Authorization=f"Bearer {made['access_token']}")

    async def say(self, wire):
        audio = {"type": "audio", "audio_encoding": "mulaw", "sample_rate": 8000}
        await self.socket.send_json({**audio, "data": base64.b64encode(wire).decode()})

    async def take(self, message):
        if message["type"] == "audio":
            self.take_base64(message["data"])
        self.interrupts += message["type"] == "interrupt"
        self.ended |= message["type"] == "call_ended"


class RetellWeb(Client):
    async def connect(self):
        settings = self.service.environment()
        body = {"agent_id": self.service.account.agent_id, "audio_websocket_protocol": "web"}
        body["audio_encoding"] = settings.get("RETELL_WEB_ENCODING", "mulaw")
        body["sample_rate"] = int(settings.get("RETELL_WEB_SAMPLE_RATE", "8000"))
        made = await self.register("/register-call", body)
        await self.open_socket("/" + made["call_id"])

    async def take_text(self, text):
        assert text in ("clear", "pong")
        self.interrupts += text == "clear"


class RetellTwilio(Client):
    def __init__(self, service, http):
        super().__init__(service, http)
        self.numbers = itertools.count(1)

    async def connect(self):
        body = {"agent_id": self.service.account.agent_id, "audio_websocket_protocol": "twilio"}
        made = await self.register("/register-call", {**body, "audio_encoding": "mulaw", "sample_rate": 8000})
        await self.open_socket("/" + made["call_id"])

    async def greet(self):
        await self.socket.send_json({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {"streamSid": STREAM_SID, "accountSid": "AC1", "callSid": "CA1", "tracks": ["inbound"]}
        await self.send("start", {**start, "mediaFormat": MEDIA_FORMAT, "customParameters": {"a": "b"}})

    async def send(self, event: str, body: dict[str, Any], **changed: Any) -> None:
        message = {"event": event, "sequenceNumber": str(next(self.numbers)), "streamSid": STREAM_SID}
        await self.socket.send_json({**message, event: body, **changed})

    async def say(self, wire):
        payload = base64.b64encode(wire).decode()
        await self.send("media", {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload})

    async def take(self, message):
        assert message["streamSid"] == STREAM_SID
        if message["event"] == "media":
            assert message["media"].keys() == {"payload"}
            self.take_base64(message["media"]["payload"])
        elif message["event"] == "mark":
            await self.send("mark", message["mark"])
        else:
            assert message == {"event": "clear", "streamSid": STREAM_SID}
            self.interrupts += 1


class OpenAI(Client):
    update: dict[str, Any] = {  # noqa: RUF012
        "type": "session.update",
        "session": {
            "type": "realtime",
            "instructions": "Be brief.",
            "audio": {
                "input": {"format": {"type": "audio/pcmu"}},
                "output": {"format": {"type": "audio/pcmu"}},
            },
        },
    }

    async def connect(self):
        settings = self.service.environment()
        await self.open_socket(
            f"?model={settings['OPENAI_REALTIME_MODEL']}",
            Authorization=f"Bearer {settings['OPENAI_API_KEY']}",
        )

    async def greet(self):
        await soon(lambda: self.of_type("session.created"))
        await self.socket.send_json(self.update)
        await soon(lambda: self.of_type("session.updated", "error"))

    async def say(self, wire):
        audio = base64.b64encode(wire).decode()
        await self.socket.send_json({"type": "input_audio_buffer.append", "audio": audio})

    async def take(self, message):
        if message["type"] == "response.output_audio.delta":
            self.take_base64(message["delta"])
        self.interrupts += message["type"] == "input_audio_buffer.speech_started"


class Xai(OpenAI):
    async def connect(self):
        await self.open_socket("?model=m", Authorization="Bearer key_standin")


class AzureOpenAI(OpenAI):
    async def connect(self):
        await self.open_socket("?model=m", **{"api-key": "key_standin"})


class Inworld(OpenAI):
    async def connect(self):
        await self.open_socket("?key=k&protocol=realtime", Authorization="Basic key_standin")


class OpenAiLive(Client):
    tells_interrupts = False
    start: dict[str, Any] = {  # noqa: RUF012
        "type": "session.start",
        "session": {
            "model": "gpt-live-1.1",
            "instructions": "Be brief.",
            "audio": {"format": {"type": "audio/pcmu", "rate": 8000}, "output": {"voice": "marin"}},
            "delegation": {"type": "responses", "responses": {"model": "gpt-6-luna"}},
        },
    }

    async def connect(self):
        key = self.service.environment()["OPENAI_API_KEY"]
        await self.open_socket(Authorization=f"Bearer {key}")

    async def greet(self):
        await self.socket.send_json(self.start)
        await soon(lambda: self.of_type("session.started", "error"))

    async def say(self, wire):
        audio = base64.b64encode(wire).decode()
        await self.socket.send_json({"type": "session.input_audio.append", "audio": audio})

    async def take(self, message):
        if message["type"] == "session.output_audio.delta":
            self.take_base64(message["delta"])


class ElevenLabs(Client):
    async def connect(self):
        settings = self.service.environment()
        key = {"xi-api-key": settings["ELEVENLABS_API_KEY"]}
        await self.open_socket(f"?agent_id={settings['ELEVENLABS_AGENT_ID']}", **key)

    async def greet(self):
        await self.socket.send_json({"type": "conversation_initiation_client_data"})
        await soon(lambda: self.of_type("conversation_initiation_metadata", "error"))

    async def say(self, wire):
        await self.socket.send_json({"user_audio_chunk": base64.b64encode(wire).decode()})

    async def take(self, message):
        if message["type"] == "audio":
            self.take_base64(message["audio_event"]["audio_base_64"])
        elif message["type"] == "ping":
            await self.socket.send_json({"type": "pong", "event_id": message["ping_event"]["event_id"]})
        self.interrupts += message["type"] == "interruption"


class Deepgram(Client):
    settings: dict[str, Any] = {  # noqa: RUF012
        "type": "Settings",
        "audio": {
            "input": {"encoding": "mulaw", "sample_rate": 8000},
            "output": {"encoding": "mulaw", "sample_rate": 8000, "container": "none"},
        },
        "agent": {"language": "en"},
    }

    async def connect(self):
        key = self.service.environment()["DEEPGRAM_API_KEY"]
        await self.open_socket(Authorization=f"Token {key}")

    async def greet(self):
        await soon(lambda: self.of_type("Welcome"))
        await self.socket.send_json(self.settings)
        await soon(lambda: self.of_type("SettingsApplied", "Error"))

    async def take(self, message):
        self.interrupts += message["type"] == "UserStartedSpeaking"


class Binary(Client):
    ends_by_closing = False

    async def connect(self):
        await self.open_socket()

    async def take(self, message):
        self.interrupts += message == {"type": "interrupt"}
        self.ended |= message == {"type": "end"}


class Json(Client):
    ends_by_closing = False

    async def connect(self):
        await self.open_socket()

    async def say(self, wire):
        body = {"b64": base64.b64encode(wire).decode()}
        await self.socket.send_json({"kind": "audio", "body": body})

    async def take(self, message):
        if message["kind"] == "audio":
            self.take_base64(message["body"]["b64"])
        self.interrupts += message == {"kind": "stop_talking"}
        self.ended |= message == {"kind": "bye"}


CLIENTS: dict[str, type[Client]] = {
    "retell": Retell,
    "retell-web": RetellWeb,
    "retell-twilio": RetellTwilio,
    "openai": OpenAI,
    "xai": Xai,
    "azure-openai": AzureOpenAI,
    "inworld": Inworld,
    "openai-live": OpenAiLive,
    "elevenlabs": ElevenLabs,
    "deepgram": Deepgram,
    "binary": Binary,
    "json": Json,
}


@contextlib.asynccontextmanager
async def connected(
    protocol: str, *, greets: bool = True, violates: bool = False, **options: Any
) -> AsyncIterator[tuple[Any, Any]]:
    """Yield both ends of a call to a new service, which must leave no violations."""
    async with AgentService(protocol=protocol, **options) as service, calling(service, greets=greets) as pair:
        yield pair
        assert service.violations == []
        assert violates or pair[1].violations == []


@contextlib.asynccontextmanager
async def calling(
    service: AgentService, *, greets: bool = True
) -> AsyncIterator[tuple[Client, AgentSession]]:
    """A call to a service."""
    async with aiohttp.ClientSession() as http:
        client = CLIENTS[service.protocol](service, http)
        await client.connect()
        session = await service.next_session()
        reader = asyncio.create_task(client.read())
        try:
            if greets:
                await client.greet()
            yield client, session
        finally:
            await client.socket.close()
            await asyncio.wait_for(reader, DEADLINE_S)
            await asyncio.wait_for(session.closed.wait(), DEADLINE_S)


async def one_violation(session, text: str) -> None:
    await soon(lambda: session.violations)
    assert len(session.violations) == 1 and text in session.violations[0], session.violations


async def refused(service, url: str, status: int, **headers: str) -> None:
    """The socket is refused, which counts as a violation."""
    before = len(service.violations)
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError, match=f"^{status}"):
            await http.ws_connect(url, headers=headers)
    assert len(service.violations) == before + 1
    assert not any(session.opened.is_set() for session in service.sessions.values())


async def post(service, path: str, body, key: str = "key_standin") -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(service.url + path, json=body, headers={"Authorization": f"Bearer {key}"}) as response,
    ):
        return response.status, json.loads(await response.read())
