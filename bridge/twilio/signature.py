"""
Verification of ``X-Twilio-Signature`` over the configured public URL, never over the Host header.

Only HMAC-SHA1 with an auth token is accepted, because an attacker could set a header that names another algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from multidict import MultiDict
from twilio.request_validator import RequestValidator


class Signatures:
    """
    Checks signatures.

    Args:
        auth_tokens: The account's; each one is good.
        public_url: The base that Twilio uses.
        stream_base: The same with ws or wss.
    """

    def __init__(self, auth_tokens: Sequence[str], public_url: str, stream_base: str) -> None:
        self._validators = [RequestValidator(token) for token in auth_tokens]
        self._public_url = public_url
        self._stream_base = stream_base

    def is_webhook(self, path: str, query: str, form: MultiDict[str], signature: str | None) -> bool:
        """
        Check an HTTP request with a form body.

        Args:
            path: As below the public URL.
            query: Without the question mark, percent-encoding untouched.
            form: All fields, with empty and repeated values.
            signature: The header, None where it is missing or repeated.
        """
        # Such a URL stands for a JSON body, whose hash RequestValidator would not check against a form.
        if "bodySHA256" in query:
            return False
        url = self._public_url + path + (f"?{query}" if query else "")
        return self._matches([url], form, signature)

    def is_upgrade(self, path: str, signature: str | None) -> bool:
        """Check a WebSocket upgrade: signed over the URL of the TwiML, with or without the scheme's own port."""
        urls = [self._stream_base + path]
        base = urlsplit(self._stream_base)
        own_port = 443 if base.scheme == "wss" else 80
        if base.port is None:
            urls.append(base._replace(netloc=f"{base.netloc}:{own_port}").geturl() + path)
        elif base.port == own_port:
            urls.append(base._replace(netloc=base.netloc.rpartition(":")[0]).geturl() + path)
        return self._matches(urls, MultiDict(), signature)

    def _matches(self, urls: list[str], form: MultiDict[str], signature: str | None) -> bool:
        if not signature:
            return False
        return any(validator.validate(url, form, signature) for validator in self._validators for url in urls)
