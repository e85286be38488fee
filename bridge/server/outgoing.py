"""What requests and sockets to others share: the TLS settings of a client, and one HTTP session."""

from __future__ import annotations

import ssl

import aiohttp

from bridge.settings import Settings
from bridge.twilio.rest import TwilioApi
from bridge.twilio.rest_request import RestAccount


def client_tls() -> ssl.SSLContext:
    """Verify certificates and host names; made once, because making it takes 20 ms."""
    tls = ssl.create_default_context()
    # As aiohttp's own context: some servers refuse a client that names no protocol.
    tls.set_alpn_protocols(["http/1.1"])
    return tls


def http_session(tls: ssl.SSLContext, timeout_s: float) -> aiohttp.ClientSession:
    """Open the session for the agents' and Twilio's REST APIs; the caller closes it."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        # Shorter than any server's own time-out: no request goes into a connection that is being closed.
        connector=aiohttp.TCPConnector(limit=100, keepalive_timeout=10.0, ssl=tls),
        cookie_jar=aiohttp.DummyCookieJar(),
        # Compression is refused: the size limit applies to the bytes read, not to the decompressed bytes.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
    )


def twilio_api(settings: Settings, http: aiohttp.ClientSession, timeout_s: float) -> TwilioApi:
    """Make the client of Twilio's REST API, for the account in the settings."""
    return TwilioApi(
        http, RestAccount(settings.api_url, settings.twilio_account_sid, settings.api_logins), timeout_s
    )
