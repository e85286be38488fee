"""Twilio's HTTP requests of a call: signed forms to the bridge."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import aiohttp
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped,unused-ignore]
from yarl import URL

from bridge.standins.twilio.overrides import Overrides
from bridge.standins.twilio.twiml import TwimlAnswer, read_twiml

FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"


def voice_form(*, account_sid: str, call_sid: str, caller: str, called: str) -> dict[str, str]:
    """
    Return the form of an inbound call, empty values included.

    Source: a captured Twilio voice webhook.
    """
    return {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "CallToken": "%7B%22parentCallInfoToken%22%3A%22" + secrets.token_urlsafe(48) + "%22%7D",
        "Called": called,
        "CalledCity": "",
        "CalledCountry": "US",
        "CalledState": "CA",
        "CalledZip": "",
        "Caller": caller,
        "CallerCity": "SAN FRANCISCO",
        "CallerCountry": "US",
        "CallerState": "CA",
        "CallerZip": "94103",
        "Direction": "inbound",
        "From": caller,
        "FromCity": "SAN FRANCISCO",
        "FromCountry": "US",
        "FromState": "CA",
        "FromZip": "94103",
        "StirVerstat": "TN-Validation-Passed-A",
        "To": called,
        "ToCity": "",
        "ToCountry": "US",
        "ToState": "CA",
        "ToZip": "",
    }


def sign(auth_token: str, url: str, form: Mapping[str, str | Sequence[str]] | None = None) -> str:
    """Return the ``X-Twilio-Signature`` of a form post or, without a form, of an upgrade."""
    signature: str = RequestValidator(auth_token).compute_signature(url, dict(form or {}))
    return signature


class Endpoint:
    """
    The address of a bridge, real and public.

    Args:
        url: Base URL to connect to, e.g. ``http://127.0.0.1:3000``.
        public_url: Base URL that Twilio knows and signs; default: ``url``.
    """

    def __init__(self, url: str, public_url: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.public_url = (public_url or url).rstrip("/")

    def dialled(self, public: str) -> str:
        """Return the URL to connect to, as http or https, for a public URL of the bridge."""
        for socket_scheme, scheme in (("wss://", "https://"), ("ws://", "http://")):
            if public.startswith(socket_scheme):
                public = scheme + public.removeprefix(socket_scheme)
        base = self.public_url
        if public == base or public.startswith((base + "/", base + "?")):
            return self.url + public.removeprefix(base)
        return public

    @property
    def host(self) -> str:
        """Return the ``Host`` header of Twilio, which a load balancer passes on."""
        return self.public_url.partition("://")[2].partition("/")[0]


async def post_form(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    public: str,
    form: Mapping[str, str],
    *,
    auth_token: str | None = None,
    signature: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> TwimlAnswer:
    """
    Post a form as Twilio does, and read the answer.

    Args:
        public: The URL as Twilio knows and signs it; connection overrides in its fragment are neither signed nor
            sent.
        auth_token: Signs the form; None sends no signature.
        signature: Sent in place of the correct one.
        timeout_s: For all tries together, in place of what the overrides say.
    """
    public, _, fragment = public.partition("#")
    overrides = Overrides.of(fragment)
    sent = {
        "Content-Type": FORM_TYPE,
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
        "Host": endpoint.host,
    }
    if signature is None and auth_token is not None:
        signature = sign(auth_token, public, form)
    if signature is not None:
        sent["X-Twilio-Signature"] = signature
    sent.update(headers or {})
    async with asyncio.timeout(timeout_s or overrides.total_s):
        for tries_left in range(overrides.retries, -1, -1):
            try:
                async with session.post(
                    # As it was signed: by default the client writes the escapes in its own way.
                    URL(endpoint.dialled(public), encoded=True),
                    data=urlencode(form).encode(),
                    headers=sent,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None, sock_connect=overrides.connect_s, sock_read=overrides.read_s
                    ),
                ) as response:
                    if tries_left and overrides.asks_again_after(f"{response.status // 100}xx"):
                        continue
                    body = await response.text()
                    answer = read_twiml(response.status, response.headers.get("Content-Type", ""), body)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                if not tries_left or not overrides.asks_again_after("ct"):
                    raise
            else:
                answer.problems += [overrides.problem] if overrides.problem else []
                return answer
    raise AssertionError("the last try returns or raises")


class PhoneCall:
    """
    The HTTP requests of a call; ``Caller`` describes the arguments.

    Attributes:
        answer: The bridge's last TwiML for the call.
    """

    def __init__(
        self,
        url: str,
        *,
        public_url: str | None,
        account_sid: str | None,
        call_sid: str | None,
        auth_token: str | None,
        caller: str,
        called: str,
    ) -> None:
        self.endpoint = Endpoint(url, public_url)
        self.account_sid = account_sid or "AC" + secrets.token_hex(16)
        self.call_sid = call_sid or "CA" + secrets.token_hex(16)
        self.stream_sid = "MZ" + secrets.token_hex(16)
        self.caller = caller
        self.called = called
        self.answer: TwimlAnswer | None = None
        self._auth_token = auth_token
        self._session: aiohttp.ClientSession | None = None

    async def post_voice(
        self,
        path: str = "/voice",
        *,
        form: Mapping[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        signature: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> TwimlAnswer:
        """
        Post the webhook of an inbound call; ``open_stream`` uses the answer.

        Args:
            form: Replaces the usual form; ``extra`` replaces single fields of it.
            signature, headers: Sent in place of the correct ones.
        """
        public = self.endpoint.public_url + path
        self.answer = await self.post(public, self._form(form, extra), signature=signature, headers=headers)
        return self.answer

    async def post_status(self, status: str = "completed", path: str = "/voice/status") -> TwimlAnswer:
        """Post the call's status callback."""
        form = self._form(None, {"CallStatus": status, "CallDuration": "1"})
        return await self.post(self.endpoint.public_url + path, form)

    async def follow_redirect(self, **extra: str) -> TwimlAnswer:
        """Post Twilio's form to the ``<Redirect>`` that runs after the stream."""
        assert self.answer is not None and self.answer.redirect_url, "there is no <Redirect> to follow"
        form = self._form(None, {"CallStatus": "in-progress", **extra})
        self.answer = await self.post(self.answer.redirect_url, form)
        return self.answer

    async def post_stream_status(self, event: str, error: str | None = None) -> TwimlAnswer:
        """Post the Stream's ``statusCallback``: ``stream-started``, ``stream-stopped``, ``stream-error``."""
        assert self.answer is not None and self.answer.status_callback, "there is no statusCallback"
        form = {
            "AccountSid": self.account_sid,
            "CallSid": self.call_sid,
            "StreamSid": self.stream_sid,
            "StreamName": self.stream_sid,
            "StreamEvent": event,
            "Timestamp": "2026-01-01T00:00:00.000000Z",
        }
        return await self.post(self.answer.status_callback, form | ({"StreamError": error} if error else {}))

    async def post(
        self,
        public: str,
        form: Mapping[str, str],
        *,
        signature: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> TwimlAnswer:
        """Post any signed form to a URL as Twilio knows it."""
        assert self._session is not None, "use the caller as an async context manager"
        return await post_form(
            self._session,
            self.endpoint,
            public,
            form,
            auth_token=self._auth_token,
            signature=signature,
            headers=headers,
        )

    def _form(self, form: Mapping[str, str] | None, extra: Mapping[str, str] | None) -> dict[str, str]:
        if form is None:
            form = voice_form(
                account_sid=self.account_sid, call_sid=self.call_sid, caller=self.caller, called=self.called
            )
        return {**form, **(extra or {})}
