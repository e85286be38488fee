"""
Retell's audio-socket protocol.

Retell withdrew this socket for its own service on 2025-01-01; compatible servers and the stand-in speak it.
"""

from __future__ import annotations

import asyncio
import email.utils
import hmac
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp_retry import RetryClient, RetryOptionsBase

from _codec import Envelope, SpanFinder
from bridge.agents import (
    Agent,
    AgentMessage,
    AgentSocket,
    Audio,
    CallRequest,
    Control,
    Endpoint,
    Ignored,
    SessionError,
)

CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
# Header-safe text: the token becomes an Authorization header.
ACCESS_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
REPLY_MAX_BYTES = 65536
WEBHOOK_AGE_MS = 300_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RetellService:
    """Where the service is and how long it may take, in seconds; ``session_s`` is for all attempts together."""

    api_url: str
    api_key: str
    agent_id: str
    ws_url: str
    session_s: float


class _Backoff(RetryOptionsBase):
    """
    At most two retries, on connection errors, 429 and a gateway's 5xx.

    Never after a read time-out: the session may exist by then. The wait doubles with jitter, or is what
    Retry-After asks for, unless that is beyond all the time there is.
    """

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        super().__init__(
            attempts=3,
            statuses={429, 502, 503, 504},
            exceptions={
                aiohttp.ClientConnectorError,
                aiohttp.ServerDisconnectedError,
                aiohttp.ClientOSError,
            },
            retry_all_server_errors=False,
            methods={"POST"},
        )

    def get_timeout(self, attempt: int, response: aiohttp.ClientResponse | None = None) -> float:
        if response is not None:
            asked_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
            if asked_s is not None and asked_s > self._session_s:
                raise SessionError(f"asked to come back in {asked_s:g} s")
            if asked_s is not None:
                return asked_s
        return 0.25 * 2.0**attempt * random.uniform(0.75, 1.25)


def retry_after_s(header: str, wall_clock_s: float) -> float | None:
    """Seconds that a Retry-After header asks to wait (RFC 9110 10.2.3: a number or a date), or None."""
    if re.fullmatch(r"[0-9]{1,18}", header):
        return float(header)
    try:
        when_s = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when_s - wall_clock_s)


def make_retell(service: RetellService, http: aiohttp.ClientSession) -> Agent:
    """Describe the agent; ``http`` is the process's shared session."""

    async def open_session(call: CallRequest) -> dict[str, str]:
        try:
            async with asyncio.timeout(service.session_s):
                return await _create_web_call(service, http, call)
        except TimeoutError:
            raise SessionError(f"no session within {service.session_s:g} s") from None

    def endpoint(session: Mapping[str, str]) -> Endpoint:
        return Endpoint(
            f"{service.ws_url}/{session['call_id']}", {"Authorization": f"Bearer {session['access_token']}"}
        )

    return Agent(
        name="retell",
        open_session=open_session,
        socket=AgentSocket(
            endpoint=endpoint,
            to_agent=Envelope(
                b'{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"',
                b'"}',
            ),
            audio=SpanFinder("data", {"type": "audio"}, {"audio_encoding": "mulaw", "sample_rate": 8000}),
            parse=parse,
        ),
    )


async def _create_web_call(
    service: RetellService, http: aiohttp.ClientSession, call: CallRequest
) -> dict[str, str]:
    client = RetryClient(
        client_session=http, retry_options=_Backoff(service.session_s), raise_for_status=False
    )
    try:
        async with client.post(
            f"{service.api_url}/v2/create-web-call",
            json={
                "agent_id": service.agent_id,
                "audio_websocket_protocol": "twilio",
                "audio_encoding": "mulaw",
                "sample_rate": 8000,
                "metadata": {"callSid": call.call_sid, "from": call.from_number},
            },
            headers={"Authorization": f"Bearer {service.api_key}"},
            allow_redirects=False,
        ) as response:
            body = await _read_bounded(response)
            if not 200 <= response.status < 300:
                raise SessionError(f"status {response.status}")
    except aiohttp.ClientError as error:
        raise SessionError(type(error).__name__) from None
    return _session_of(body)


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > REPLY_MAX_BYTES:
            raise SessionError(f"reply of more than {REPLY_MAX_BYTES} bytes")
    return bytes(body)


def _session_of(body: bytes) -> dict[str, str]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SessionError("reply is not JSON") from None
    session: dict[str, str] = {}
    for field, pattern in (("call_id", CALL_ID), ("access_token", ACCESS_TOKEN)):
        value: Any = reply.get(field) if isinstance(reply, dict) else None
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise SessionError(f"reply has no valid {field}")
        session[field] = value
    return session


def parse(message: bytes) -> AgentMessage:
    """Read one message of the agent's that is not a plain mu-law frame."""
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError:
        return Ignored("not_json")
    if not isinstance(fields, dict):
        return Ignored("not_object")
    match fields.get("type"):
        case "audio":
            return _parse_audio(fields)
        case "interrupt":
            return Control.INTERRUPT
        case "call_ended":
            return Control.ENDED
        case _:
            return Ignored("unknown_type")


def _parse_audio(fields: dict[str, Any]) -> AgentMessage:
    data = fields.get("data")
    encoding = fields.get("audio_encoding", "mulaw")
    rate_hz = fields.get("sample_rate", 8000)
    if not isinstance(data, str):
        return Ignored("missing_field")
    if not isinstance(encoding, str) or not isinstance(rate_hz, int) or isinstance(rate_hz, bool):
        return Ignored("unknown_audio")
    return Audio(data.encode(), encoding, rate_hz)


def is_webhook_of_retell(body: bytes, signature: str | None, api_key: str, wall_clock_ms: int) -> bool:
    """
    Check ``x-retell-signature``: ``v=<Unix ms>,d=<HMAC-SHA256 of body and v under the API key>``, 5 minutes old at
    most. A replay within that time is good here; who acts on it must drop it.
    """
    found = re.fullmatch(r"v=([0-9]{1,16}),d=([0-9a-f]{64})", signature or "")
    if not found or abs(wall_clock_ms - int(found[1])) > WEBHOOK_AGE_MS:
        return False
    computed = hmac.new(api_key.encode(), body + found[1].encode(), "sha256").hexdigest()
    return hmac.compare_digest(computed, found[2])
