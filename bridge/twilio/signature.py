"""
Verification of ``X-Twilio-Signature`` over the configured public URL, never over the Host header.

Only HMAC-SHA1 with an auth token is accepted, because an attacker could set a header that names another algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from multidict import MultiDict
from twilio.request_validator import RequestValidator


def sign(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """The signature of a request as Twilio makes it; ``form`` may be a `MultiDict`."""
    signature: str = RequestValidator(auth_token).compute_signature(url, form)
    return signature


class Signatures:
    """
    Checks signatures.

    Args:
        auth_tokens: The account's; each one is good.
        public_url: The base that Twilio uses.
        stream_base: The same with ws or wss.
        overrides: The fragment of webhook URLs, with its ``#``.
    """

    def __init__(
        self, auth_tokens: Sequence[str], public_url: str, stream_base: str, overrides: str = ""
    ) -> None:
        self._validators = [RequestValidator(token) for token in auth_tokens]
        self._public_url = public_url
        self._stream_base = stream_base
        # Twilio does not say whether it signs the fragment. Others find that it does not.
        self._fragments = {"", overrides}

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
        url = self.webhook_url(path, query)
        return self._matches([url + fragment for fragment in self._fragments], form, signature)

    def webhook_url(self, path: str, query: str) -> str:
        """The URL that Twilio signs for a webhook."""
        return self._public_url + path + (f"?{query}" if query else "")

    def upgrade_url(self, path: str) -> str:
        """The URL that Twilio signs for a media socket."""
        return self._stream_base + path

    def is_upgrade(self, path: str, signature: str | None) -> bool:
        """Check a WebSocket upgrade: signed over the URL of the TwiML, with or without the scheme's own port."""
        urls = [self.upgrade_url(path)]
        base = urlsplit(self._stream_base)
        own_port = 443 if base.scheme == "wss" else 80
        if base.port is None:
            urls.append(base._replace(netloc=f"{base.netloc}:{own_port}").geturl() + path)
        elif base.port == own_port:
            urls.append(base._replace(netloc=base.netloc.rpartition(":")[0]).geturl() + path)
        return self._matches(urls, MultiDict(), signature)

    def find_base(
        self,
        url: str,
        form: MultiDict[str],
        signature: str | None,
        hosts: Sequence[str],
        prefixes: Sequence[str] = (),
    ) -> str | None:
        """
        Look for the base URL that explains a signature which does not fit ``url``.

        Tried are the other scheme, a missing prefix, and other hosts and prefixes; Twilio's validator tries each with
        and without a port.

        Args:
            url: As `webhook_url` or `upgrade_url` returned it.
            hosts: From the request's headers, each with or without a port, which must be a number below 65 536.
            prefixes: Of the path, each with a slash in front and none at the end.

        Returns:
            What ``PUBLIC_URL`` would have to be, or None.
        """
        public, asked = urlsplit(self._public_url), urlsplit(url)
        schemes = ("ws", "wss") if asked.scheme.startswith("ws") else ("http", "https")
        below = asked._replace(scheme="", netloc="").geturl().removeprefix(public.path)
        for scheme in schemes:
            for host in (public.netloc, *hosts):
                for prefix in (public.path, "", *prefixes):
                    if self._matches([f"{scheme}://{host}{prefix}{below}"], form, signature):
                        return f"{scheme.replace('ws', 'http')}://{host}{prefix}"
        return None

    def _matches(self, urls: list[str], form: MultiDict[str], signature: str | None) -> bool:
        if not signature:
            return False
        return any(validator.validate(url, form, signature) for validator in self._validators for url in urls)
