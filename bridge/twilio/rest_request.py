"""One request to Twilio's REST API: bounded in time and size, with each login in turn."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import orjson

# Twilio's code for what is not there, and for a call that is over.
NOT_FOUND = 20404


@dataclass(frozen=True, slots=True)
class RestAccount:
    """
    An account and who asks for it.

    Attributes:
        logins: Users and passwords; each is tried, for one may be on its way out. Without any, nothing is asked.
    """

    api_url: str
    sid: str
    logins: Sequence[tuple[str, str]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """
    What Twilio answered.

    Attributes:
        status: Of HTTP; 0 where no answer came.
        code: Twilio's code of an error.
        fields: The resource; empty if it is too long or not a JSON object.
        date: The header of this name.
        problem: Why no answer came.
    """

    status: int = 0
    code: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    problem: str = ""

    @property
    def is_done(self) -> bool:
        """Whether Twilio did what was asked."""
        return 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the resource is not there, or is a call that is over."""
        return self.status == 404 and self.code == NOT_FOUND

    def __str__(self) -> str:
        return self.problem or f"status {self.status}, code {self.code}"


async def ask(
    http: aiohttp.ClientSession,
    account: RestAccount,
    method: Literal["GET", "POST"],
    path: str,
    deadline_s: float,
    max_bytes: int,
    form: Mapping[str, str] | None = None,
) -> RestAnswer:
    """
    Send a request; a refused login is followed by the next one.

    Args:
        path: Behind the account's own: ``/Calls/CA….json``.
        deadline_s: For all logins together.
        max_bytes: Of the answer; the resource of a longer one is left out.
    """
    answer = RestAnswer(problem="no account is set")
    url = f"{account.api_url}/2010-04-01/Accounts/{account.sid}{path}"
    try:
        async with asyncio.timeout(deadline_s):
            for login in account.logins:
                answer = await _ask(http, method, url, form, login, max_bytes)
                if answer.status != 401:
                    break
    except TimeoutError:
        return RestAnswer(problem=f"no answer within {deadline_s:g} s")
    except aiohttp.ClientError as error:
        return RestAnswer(problem=type(error).__name__)
    return answer


async def _ask(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    form: Mapping[str, str] | None,
    login: tuple[str, str],
    max_bytes: int,
) -> RestAnswer:
    async with http.request(
        method,
        url,
        data=form,
        headers={"Authorization": "Basic " + b64encode(":".join(login).encode()).decode()},
        allow_redirects=False,
        # The session's own is for agents.
        timeout=aiohttp.ClientTimeout(total=None),
    ) as response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                break
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    fields = fields if isinstance(fields, dict) else {}
    code = fields.get("code")
    date = response.headers.get("Date", "")
    return RestAnswer(response.status, code if isinstance(code, int) else None, fields, date)
