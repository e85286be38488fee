"""One request to an agent service's REST API that opens a session: bounded, retried only where that is safe."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Literal

import aiohttp
import orjson
from aiohttp_retry import RetryClient, RetryOptionsBase

from bridge.agents.agent import Resources, SessionError
from bridge.agents.json_dialogue import ADVISED_WAIT_S
from bridge.agents.places import path_of
from bridge.agents.succession import STATUS_KINDS, FailureKind

REPLY_MAX_BYTES = 65536
# A service that closes an idle connection, and one that took the request, look the same: each request has its own.
OWN_CONNECTION = {"Connection": "close"}

# Called with the reason where a service refuses a request that is made again. A variable of the context, because the
# request passes through the modules of vendors.
on_refusal: ContextVar[Callable[[str], None]] = ContextVar("on_refusal", default=lambda reason: None)


class _Backoff(RetryOptionsBase):
    """
    At most two retries: where there is no connection, and on 429 and a gateway's 5xx.

    A connection that is lost and a read time-out are never retried: the session may exist by then. The wait doubles,
    with jitter. Retry-After overrides it, unless a caller would wait for too long.
    """

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        super().__init__(
            attempts=3,
            statuses={429, 502, 503, 504},
            exceptions={aiohttp.ClientConnectorError},
            retry_all_server_errors=False,
            methods={"GET", "POST"},
        )

    def get_timeout(self, attempt: int, response: aiohttp.ClientResponse | None = None) -> float:
        if response is not None:
            on_refusal.get()(f"status {response.status}")
            asked_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
            if asked_s is not None and asked_s > min(self._session_s, ADVISED_WAIT_S):
                raise SessionError(f"service asks to retry in {asked_s:g} s")
            if asked_s is not None:
                return asked_s
        else:
            on_refusal.get()("no connection")
        return 0.25 * 2.0**attempt * random.uniform(0.75, 1.25)


def retry_after_s(header: str, wall_clock_s: float) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 10.2.3: a number or a date), or None."""
    if re.fullmatch(r"[0-9]{1,18}", header):
        return float(header)
    try:
        when_s = email.utils.parsedate_to_datetime(header).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when_s - wall_clock_s)


async def ask(
    resources: Resources,
    method: Literal["GET", "POST"],
    url: str,
    headers: Mapping[str, str],
    json: Mapping[str, Any] | None = None,
    *,
    fields: Mapping[str, re.Pattern[str]],
) -> dict[str, str]:
    """
    Ask for a session with one request.

    Args:
        fields: Paths of the wanted texts of the reply, with a pattern that each must match in full.

    Raises:
        SessionError: The status is not 2xx, the reply has no such fields, or the time for a session is over.
    """
    return _session_of(await fetch(resources, method, url, headers, json), fields)


async def fetch(
    resources: Resources,
    method: Literal["GET", "POST"],
    url: str,
    headers: Mapping[str, str],
    json: Mapping[str, Any] | None = None,
) -> bytes:
    """
    Ask with one request, and return the whole reply.

    Raises:
        SessionError: The status is not 2xx, the reply is too long, or the time for a session is over.
    """
    try:
        async with asyncio.timeout(resources.session_s):
            return await _request(resources, method, url, headers, json)
    except TimeoutError:
        raise SessionError(f"no session within {resources.session_s:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        refusal = error.certificate_error
        assert isinstance(refusal, ssl.SSLCertVerificationError)
        raise SessionError(f"certificate refused: {refusal.verify_message}") from None
    except aiohttp.ClientError as error:
        raise SessionError(type(error).__name__) from None


async def _request(
    resources: Resources, method: str, url: str, headers: Mapping[str, str], json: Mapping[str, Any] | None
) -> bytes:
    client = RetryClient(
        client_session=resources.http, retry_options=_Backoff(resources.session_s), raise_for_status=False
    )
    async with client.request(
        method, url, json=json, headers={**headers, **OWN_CONNECTION}, allow_redirects=False
    ) as response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > REPLY_MAX_BYTES:
                raise SessionError(f"reply of more than {REPLY_MAX_BYTES} bytes")
        if not 200 <= response.status < 300:
            kind = STATUS_KINDS.get(response.status, FailureKind.LOST)
            raise SessionError(f"status {response.status}", kind)
        return bytes(body)


def _session_of(body: bytes, fields: Mapping[str, re.Pattern[str]]) -> dict[str, str]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SessionError("reply is not JSON") from None
    session: dict[str, str] = {}
    for field, pattern in fields.items():
        value = path_of(field).value(reply)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise SessionError(f"reply has no valid {field}")
        session[field] = value
    return session
