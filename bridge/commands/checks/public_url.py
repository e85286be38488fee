"""
PUBLIC_URL from outside, as far as this machine sees it: a signed request and a signed upgrade go through it.

The bridge behind it proves that it has the same auth token. What Twilio alone would meet, such as a firewall that
lets only this machine in, is not seen.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import ssl
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from bridge.commands.checks.reach import reach
from bridge.commands.finding import Finding, ok, problem, warning
from bridge.seal import CHECK_NONCE_HEADER, proofs
from bridge.setting_checks import is_loopback
from bridge.settings import Settings
from bridge.tls_files import SOON_DAYS
from bridge.twilio.signature import sign

DEADLINE_S = 10.0
REPLY_MAX_BYTES = 4096
SUBJECT = "PUBLIC_URL"
NGROK_ERROR = re.compile(r"ERR_NGROK_[0-9]{1,6}")
NO_BRIDGE = "look whether the bridge runs, and where the proxy sends this path"


async def check_public_url(
    settings: Settings, http: aiohttp.ClientSession, tls: ssl.SSLContext
) -> list[Finding]:
    """Reach the address, then ask for the proof by a request and by an upgrade."""
    reached = await reach(settings.public_url, tls)
    if reached.fault:
        return [problem(SUBJECT, reached.fault, reached.todo)]
    found = []
    if reached.days_left is not None and reached.days_left < SOON_DAYS:
        text = f"its certificate ends in {reached.days_left:.0f} days"
        found.append(warning(SUBJECT, text, "see that it is renewed"))
    address = ipaddress.ip_address(reached.address.partition("%")[0])
    if not (address.is_global or is_loopback(urlsplit(settings.public_url).hostname or "")):
        text = f"its name leads to {address} here, which Twilio cannot reach"
        found.append(warning(SUBJECT, text, "see that the public DNS has another address"))
    asking = _Asking(settings, http)
    fault = await asking.post() or await asking.upgrade()
    if fault is not None:
        return [*found, fault]
    text = "a signed request and a signed upgrade reach a bridge with the same auth token"
    return [*found, ok(SUBJECT, text)]


class _Answer(NamedTuple):
    """What came back: headers of a redirect and of ngrok's own errors, and whether the proof is right."""

    status: int
    location: str
    ngrok_error: str
    is_proved: bool


class _Asking:
    """Asks one bridge for its proofs."""

    def __init__(self, settings: Settings, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._tokens = settings.auth_tokens
        self._http = http

    async def post(self) -> Finding | None:
        """What is wrong with a request; None if the proof is right."""
        url = f"{self._settings.public_url}/voice/check"
        try:
            answer = await self._post(self._settings.public_url)
            if answer.is_proved:
                return None
            return await self._explain_refusal() if answer.status == 403 else _judge(url, answer)
        except TimeoutError:
            return problem(SUBJECT, f"{url} does not answer within {DEADLINE_S:g} s", NO_BRIDGE)
        except aiohttp.ClientError as error:
            return problem(SUBJECT, f"{url} gives no answer: {type(error).__name__}", NO_BRIDGE)

    async def _post(self, base: str) -> _Answer:
        """Send the request, signed for the same path below ``base``."""
        nonce = secrets.token_hex(16)
        form = {"Nonce": nonce}
        path = "/voice/check"
        async with (
            asyncio.timeout(DEADLINE_S),
            self._http.post(
                self._settings.public_url + path,
                data=form,
                headers={"X-Twilio-Signature": sign(self._tokens[0], base + path, form)},
                allow_redirects=False,
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > REPLY_MAX_BYTES:
                    break
            is_proved = self._is_proof("voice", nonce, body.decode("ascii", "replace"))
            headers = response.headers
            location, of_tunnel = headers.get("Location", ""), headers.get("ngrok-error-code", "")
            return _Answer(response.status, location, of_tunnel, is_proved)

    async def _explain_refusal(self) -> Finding:
        for base in _other_bases(self._settings.public_url):
            if (await self._post(base)).is_proved:
                text = f"the bridge behind {self._settings.public_url} has PUBLIC_URL={base}"
                return problem(SUBJECT, text, "set both to the address that Twilio uses")
        text = (
            f"{self._settings.public_url}/voice/check refuses the signature: the bridge there has another auth token "
            "or another PUBLIC_URL, or something before it refuses"
        )
        return problem(
            SUBJECT, text, "look for request refused in its log, which has the URL that it checked"
        )

    async def upgrade(self) -> Finding | None:
        """What is wrong with an upgrade; None if the proof is right."""
        settings, nonce = self._settings, secrets.token_hex(16)
        url = f"{settings.stream_base}/media/check"
        headers = {"X-Twilio-Signature": sign(self._tokens[0], url, {}), CHECK_NONCE_HEADER: nonce}
        todo = "have the proxy pass on Upgrade and Connection, and /media/ to the same bridges"
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._http.ws_connect(
                    url,
                    headers=headers,
                    max_msg_size=REPLY_MAX_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                ) as socket,
            ):
                message = await socket.receive()
        except TimeoutError:
            return problem(
                SUBJECT, f"{url} opens and stays silent: WebSocket frames do not come through", todo
            )
        except aiohttp.WSServerHandshakeError as error:
            return problem(SUBJECT, f"{url} refuses the media socket with status {error.status}", todo)
        except aiohttp.ClientError as error:
            return problem(SUBJECT, f"{url} opens no media socket: {type(error).__name__}", todo)
        if message.type is aiohttp.WSMsgType.TEXT and self._is_proof("media", nonce, message.data):
            return None
        text = f"{url} opens a socket, but not at a bridge with this auth token"
        return problem(SUBJECT, text, "have the proxy send /media/ to the same bridges as /voice")

    def _is_proof(self, purpose: str, nonce: str, text: str) -> bool:
        return not set(text.split("\n")).isdisjoint(proofs(self._tokens, purpose, nonce))


def _judge(url: str, answer: _Answer) -> Finding:
    """What an answer means that no bridge with this auth token gave."""
    status = answer.status
    if NGROK_ERROR.fullmatch(answer.ngrok_error):
        text = f"{url} is answered by ngrok itself: {answer.ngrok_error}"
        return problem(
            SUBJECT, text, "look whether the tunnel and the bridge run, and for the code at ngrok.com"
        )
    if 300 <= status < 400:
        text = f"{url} redirects to {_shown(answer.location)}, and Twilio's signature is for one address"
        return problem(SUBJECT, text, "set PUBLIC_URL to the last address, or end the redirect in the proxy")
    if status == 200:
        text = f"{url} is answered, but not by a bridge with this auth token"
        return problem(SUBJECT, text, "look where the proxy or the tunnel leads, and at both auth tokens")
    if status >= 500:
        text = f"{url} answers {status}: the proxy or the tunnel has no bridge behind it"
        return problem(SUBJECT, text, NO_BRIDGE)
    text = f"{url} answers {status}: the path does not come to a bridge as it was sent"
    return problem(SUBJECT, text, "have the proxy pass on paths and methods unchanged")


def _other_bases(public_url: str) -> Iterable[str]:
    """Addresses that the bridge's own PUBLIC_URL may have by a usual mistake."""
    parts = urlsplit(public_url)
    for scheme in ("https", "http"):
        for netloc in dict.fromkeys((parts.netloc, parts.hostname or "")):
            for path in dict.fromkeys((parts.path, "")):
                base = parts._replace(scheme=scheme, netloc=netloc, path=path).geturl()
                if base != public_url:
                    yield base


def _shown(url: str) -> str:
    return url.partition("?")[0][:200] if url.isprintable() else "another address"
