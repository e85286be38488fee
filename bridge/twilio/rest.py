"""Twilio's REST API, to end or transfer a call, which the media socket cannot do."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping, Sequence

import aiohttp
import orjson
import structlog

from bridge.twilio import twiml

log = structlog.get_logger()

# Twilio's code for a call that is over or was never there.
NOT_FOUND = 20404
REPLY_MAX_BYTES = 65536


class TwilioApi:
    """
    Changes calls that are up; where there is no account, as in development, nothing is asked.

    Args:
        auth_tokens: The account's; each is tried, for one may be on its way out.
        deadline_s: For one change, however many tokens it takes.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        api_url: str,
        account_sid: str,
        auth_tokens: Sequence[str],
        deadline_s: float,
    ) -> None:
        self._http = http
        self._base = f"{api_url}/2010-04-01/Accounts/{account_sid}/Calls"
        self._logins = [_basic(account_sid, token) for token in auth_tokens] if account_sid else []
        self._deadline_s = deadline_s

    async def hang_up(self, call_sid: str) -> None:
        """End a call; what goes wrong is logged, and the call then ends with its media socket."""
        await self._change(call_sid, {"Status": "completed"})

    async def transfer(self, call_sid: str, to_number: str, caller_id: str | None = None) -> None:
        """Connect a call to a phone number; what goes wrong is logged, and ``/voice/resume`` then does it."""
        await self._change(call_sid, {"Twiml": twiml.dial(to_number, caller_id)})

    async def _change(self, call_sid: str, form: Mapping[str, str]) -> None:
        problem = "no account is set"
        try:
            async with asyncio.timeout(self._deadline_s):
                for login in self._logins:
                    status, problem = await self._post(call_sid, form, login)
                    if status != 401:
                        break
        except TimeoutError:
            problem = f"no answer within {self._deadline_s:g} s"
        except aiohttp.ClientError as error:
            problem = type(error).__name__
        if problem:
            log.warning("Twilio did not change the call", call_sid=call_sid, asked=[*form], problem=problem)

    async def _post(self, call_sid: str, form: Mapping[str, str], login: str) -> tuple[int, str]:
        async with self._http.post(
            f"{self._base}/{call_sid}.json",
            data=form,
            headers={"Authorization": login},
            allow_redirects=False,
            # The session's own is for agents.
            timeout=aiohttp.ClientTimeout(total=None),
        ) as response:
            if 200 <= response.status < 300:
                return response.status, ""
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > REPLY_MAX_BYTES:
                    break
        try:
            code = orjson.loads(body)["code"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            code = None
        return response.status, "" if code == NOT_FOUND else f"status {response.status}, code {code}"


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
