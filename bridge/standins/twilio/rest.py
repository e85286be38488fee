"""
Twilio's REST API: an account, its calls and their recordings, its phone numbers.

Source: Twilio's OpenAPI description ``twilio_api_v2010`` for paths, parameters and fields; the bodies of errors as its
SDKs' issue trackers quote them.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web

from bridge.standins.twilio.rest_fields import account_fields, call_fields, number_fields, recording_fields

VERSION = "/2010-04-01"
PAGE_SIZE, PAGE_SIZE_MAX = 50, 1000
METHODS = ("GET", "POST")
# What may change of a number, by the parameter; the others are passed over.
NUMBER_PARAMETERS = {
    "FriendlyName": "friendly_name",
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "VoiceFallbackUrl": "voice_fallback_url",
    "VoiceFallbackMethod": "voice_fallback_method",
    "VoiceApplicationSid": "voice_application_sid",
    "TrunkSid": "trunk_sid",
    "StatusCallback": "status_callback",
    "StatusCallbackMethod": "status_callback_method",
}
CALL_PARAMETERS = frozenset(
    {
        *("Url", "Method", "Status", "FallbackUrl", "FallbackMethod"),
        *("StatusCallback", "StatusCallbackMethod", "Twiml", "TimeLimit"),
    }
)
# Of a recording, with their values; None: any.
RECORDING_PARAMETERS = {
    "RecordingChannels": ("mono", "dual"),
    "RecordingTrack": ("inbound", "outbound", "both"),
    "Trim": ("trim-silence", "do-not-trim"),
    "RecordingStatusCallback": None,
    "RecordingStatusCallbackMethod": METHODS,
    "RecordingStatusCallbackEvent": None,
}
OVER = ("completed", "busy", "failed", "no-answer", "canceled")

Answer = web.Response | Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Account:
    """
    An account with its credentials.

    Attributes:
        keys: API keys, each with its secret. As a standard key each one may do all but fetch the account.
        status: ``active``, ``suspended`` or ``closed``.
        type: ``Full`` or ``Trial``.
    """

    sid: str = field(default_factory=lambda: "AC" + secrets.token_hex(16))
    auth_tokens: list[str] = field(default_factory=lambda: [secrets.token_hex(16)])
    keys: dict[str, str] = field(default_factory=dict)
    status: str = "active"
    type: str = "Full"


@dataclass(frozen=True)
class Asked:
    """One request: who asked, in the words of its Basic credentials, and what."""

    user: str
    password: str
    method: str
    path: str
    form: dict[str, str]
    headers: Mapping[str, str]


class TwilioRest:
    """
    Serves the API of one account; use as an async context manager.

    Args:
        port: 0 takes any free one.
        clock_ahead_s: By how much this service's clock is ahead of the machine's, in its header ``Date``.
    """

    def __init__(self, account: Account | None = None, *, port: int = 0, clock_ahead_s: float = 0.0) -> None:
        self.account = account or Account()
        # Resources by SID, each with the fields of its JSON.
        self.calls: dict[str, dict[str, Any]] = {}
        self.recordings: dict[str, dict[str, Any]] = {}
        self.numbers: dict[str, dict[str, Any]] = {}
        # The requests so far, refused ones too.
        self.asked: list[Asked] = []
        # Given once each, in place of the usual answers, after the credentials are checked.
        self.answers: list[Answer] = []
        # What no request may have: unknown parameters, values outside their enumeration.
        self.violations: list[str] = []
        self.url = ""
        self._port = port
        self._clock_ahead_s = clock_ahead_s
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._watch])
        base = f"{VERSION}/Accounts/{{account}}"
        app.router.add_get(f"{base}.json", self._fetch_account)
        app.router.add_get(f"{base}/Calls/{{sid}}.json", self._fetch_call)
        app.router.add_post(f"{base}/Calls/{{sid}}.json", self._update_call)
        app.router.add_post(f"{base}/Calls/{{sid}}/Recordings.json", self._record_call)
        app.router.add_get(f"{base}/IncomingPhoneNumbers.json", self._list_numbers)
        app.router.add_get(f"{base}/IncomingPhoneNumbers/{{sid}}.json", self._fetch_number)
        app.router.add_post(f"{base}/IncomingPhoneNumbers/{{sid}}.json", self._update_number)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def environment(self) -> dict[str, str]:
        """The settings of a bridge that uses this account."""
        return {
            "TWILIO_ACCOUNT_SID": self.account.sid,
            "TWILIO_AUTH_TOKEN": ",".join(self.account.auth_tokens),
            "TWILIO_API_URL": self.url,
        }

    def add_call(self, call_sid: str = "", status: str = "in-progress") -> str:
        """Add an inbound call; returns its SID."""
        sid = call_sid or "CA" + secrets.token_hex(16)
        self.calls[sid] = call_fields(self.account.sid, sid, status)
        return sid

    def add_number(self, number: str, **fields: Any) -> str:
        """Add a phone number with these fields in place of a new number's; returns its SID."""
        sid = "PN" + secrets.token_hex(16)
        self.numbers[sid] = number_fields(self.account.sid, sid, number) | fields
        return sid

    @web.middleware
    async def _watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        user, password = _credentials(request)
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(Asked(user, password, request.method, request.path, form, dict(request.headers)))
        if (refusal := self._refusal(request, user, password)) is not None:
            response: web.StreamResponse = refusal
        elif self.answers:
            answer = self.answers.pop(0)
            response = answer if isinstance(answer, web.Response) else await answer(request)
        else:
            try:
                response = await handler(request)
            except web.HTTPNotFound:
                response = not_found(request.path)
        if not response.prepared:
            response.headers["Date"] = formatdate(time() + self._clock_ahead_s, usegmt=True)
        return response

    def _refusal(self, request: web.Request, user: str, password: str) -> web.Response | None:
        account, path = self.account, request.path
        is_token = user == account.sid and password in account.auth_tokens
        is_key = bool(password) and account.keys.get(user) == password
        is_account = path == f"{VERSION}/Accounts/{account.sid}.json"
        is_own = is_account or path.startswith(f"{VERSION}/Accounts/{account.sid}/")
        if not is_own or not (is_token or (is_key and not is_account)):
            return error(401, 20003, "Authenticate")
        return None

    async def _fetch_account(self, request: web.Request) -> web.Response:
        account = self.account
        return web.json_response(account_fields(account.sid, account.status, account.type))

    async def _fetch_call(self, request: web.Request) -> web.Response:
        call = self.calls.get(request.match_info["sid"])
        return web.json_response(call) if call is not None else not_found(request.path)

    async def _update_call(self, request: web.Request) -> web.Response:
        call, form = self.calls.get(request.match_info["sid"]), self.asked[-1].form
        self._check("a call", form, CALL_PARAMETERS)
        if "Twiml" in form and "Url" in form:
            self.violations.append("a call: Twiml and Url exclude each other")
        if form.get("Status", "completed") not in ("completed", "canceled"):
            self.violations.append(f"a call: Status {form['Status']}")
        if call is None:
            return not_found(request.path)
        if "Status" in form:
            # To end a finished call is answered as if it had never been there.
            if call["status"] in OVER:
                return not_found(request.path)
            call["status"] = form["Status"]
        elif call["status"] != "in-progress":
            return error(400, 21220, "Call is not in-progress. Cannot redirect.")
        return web.json_response(call)

    async def _record_call(self, request: web.Request) -> web.Response:
        call_sid, form = request.match_info["sid"], self.asked[-1].form
        for name, text in form.items():
            allowed = RECORDING_PARAMETERS.get(name, ())
            if allowed is not None and text not in allowed:
                self.violations.append(f"a recording: {name} {text}")
        call = self.calls.get(call_sid)
        if call is None:
            return not_found(request.path)
        if call["status"] != "in-progress":
            return error(400, 21220, "Requested resource is not eligible for recording")
        sid = "RE" + secrets.token_hex(16)
        channels = 2 if form.get("RecordingChannels") == "dual" else 1
        self.recordings[sid] = recording_fields(self.account.sid, call_sid, sid, channels)
        return web.json_response(self.recordings[sid], status=201)

    async def _list_numbers(self, request: web.Request) -> web.Response:
        query = request.query
        pattern = ".*".join(
            re.escape(part).replace(r"\*", "[0-9]") for part in ("", query.get("PhoneNumber", ""), "")
        )
        found = [
            number
            for number in self.numbers.values()
            if re.fullmatch(pattern, number["phone_number"])
            and query.get("FriendlyName", number["friendly_name"]) == number["friendly_name"]
        ]
        size = min(int(query.get("PageSize", PAGE_SIZE)), PAGE_SIZE_MAX)
        page = int(query.get("Page", 0))
        if page and "PageToken" not in query:
            self.violations.append("numbers: a Page without its PageToken")

        def uri(n: int) -> str:
            token = {"PageToken": "PAnull"} if n else {}
            kept = {name: query[name] for name in ("PhoneNumber", "FriendlyName") if name in query}
            return f"{request.path}?{urlencode({**kept, 'PageSize': size, 'Page': n, **token})}"

        here = found[page * size : (page + 1) * size]
        return web.json_response(
            {
                "incoming_phone_numbers": here,
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": max(page * size + len(here) - 1, 0),
                "uri": uri(page),
                "first_page_uri": uri(0),
                "next_page_uri": uri(page + 1) if (page + 1) * size < len(found) else None,
                "previous_page_uri": uri(page - 1) if page else None,
            }
        )

    async def _fetch_number(self, request: web.Request) -> web.Response:
        number = self.numbers.get(request.match_info["sid"])
        return web.json_response(number) if number is not None else not_found(request.path)

    async def _update_number(self, request: web.Request) -> web.Response:
        number, form = self.numbers.get(request.match_info["sid"]), self.asked[-1].form
        self._check("a number", form, NUMBER_PARAMETERS)
        if number is None:
            return not_found(request.path)
        for parameter, text in form.items():
            if parameter in NUMBER_PARAMETERS:
                number[NUMBER_PARAMETERS[parameter]] = text
        return web.json_response(number)

    def _check(self, what: str, form: Mapping[str, str], known: frozenset[str] | Mapping[str, str]) -> None:
        self.violations += [f"{what}: unknown parameter {name}" for name in form if name not in known]
        for name, text in form.items():
            if name.endswith("Method") and text not in METHODS:
                self.violations.append(f"{what}: {name} {text}")


def error(status: int, code: int, message: str) -> web.Response:
    """Twilio's answer of an error."""
    fields = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return web.json_response(fields, status=status)


def not_found(path: str) -> web.Response:
    """Twilio's answer for a resource that is not there, or a call that is over."""
    return error(404, 20404, f"The requested resource {path} was not found")


def _credentials(request: web.Request) -> tuple[str, str]:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    try:
        decoded = base64.b64decode(text, validate=True).decode() if kind == "Basic" else ""
    except ValueError:
        decoded = ""
    user, _, password = decoded.partition(":")
    return user, password
