"""Twilio's REST API, to end, transfer or record a call, which the media socket cannot do."""

from __future__ import annotations

import re
from collections.abc import Mapping

import aiohttp
import structlog

from bridge.twilio import twiml
from bridge.twilio.rest_request import RestAccount, ask

log = structlog.get_logger()

REPLY_MAX_BYTES = 65536
RECORDING_SID = re.compile(r"RE[0-9a-f]{32}")


class TwilioApi:
    """
    Changes calls that are up; where there is no account, as in development, nothing is asked.

    Args:
        deadline_s: For one change, however many logins it takes.
    """

    def __init__(self, http: aiohttp.ClientSession, account: RestAccount, deadline_s: float) -> None:
        self._http = http
        self._account = account
        self._deadline_s = deadline_s

    async def hang_up(self, call_sid: str) -> None:
        """End a call; what goes wrong is logged, and the call then ends with its media socket."""
        await self._change(call_sid, {"Status": "completed"})

    async def transfer(self, call_sid: str, to_number: str, caller_id: str | None = None) -> None:
        """Connect a call to a phone number; what goes wrong is logged, and ``/voice/resume`` then does it."""
        await self._change(call_sid, {"Twiml": twiml.dial(to_number, caller_id)})

    async def record(self, call_sid: str) -> str:
        """
        Let Twilio record a call from now on, each side on a channel of its own; what goes wrong is logged.

        Returns:
            The SID of the recording; empty if there is none.
        """
        # Source: Twilio, Recordings resource.
        form = {"RecordingChannels": "dual"}
        path = f"/Calls/{call_sid}/Recordings.json"
        answer = await ask(self._http, self._account, "POST", path, self._deadline_s, REPLY_MAX_BYTES, form)
        sid = answer.fields.get("sid") if answer.is_done else None
        if isinstance(sid, str) and RECORDING_SID.fullmatch(sid):
            return sid
        log.warning("Twilio does not record the call", call_sid=call_sid, problem=str(answer))
        return ""

    async def _change(self, call_sid: str, form: Mapping[str, str]) -> None:
        path = f"/Calls/{call_sid}.json"
        answer = await ask(self._http, self._account, "POST", path, self._deadline_s, REPLY_MAX_BYTES, form)
        # A finished call needs no change.
        if not (answer.is_done or answer.is_gone):
            log.warning(
                "Twilio did not change the call", call_sid=call_sid, asked=[*form], problem=str(answer)
            )
