"""A signature by hand: what was signed, what it would have to be, and which usual mistake explains it."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from multidict import MultiDict

from bridge.commands.finding import Finding, ok, problem
from bridge.settings import Settings
from bridge.twilio.signature import Signatures, sign

SUBJECT = "signature"
# The ends of URLs that a bridge serves.
PATHS = [re.compile(p) for p in (r"/(voice(/[a-z]+)?|stream/status|retell/webhook)$", r"/media/[^/]+$")]
NOTHING_FITS = (
    "compare TWILIO_AUTH_TOKEN with the console of the account that sent the request, and give the whole form, empty "
    "fields too"
)


def check_signature(settings: Settings, url: str, header: str, body: str) -> list[Finding]:
    """
    Compare the signature of a request with what a bridge with these settings makes of it.

    Args:
        url: As Twilio requested it; with ws or wss it is that of a media socket.
        header: The value of ``X-Twilio-Signature``.
        body: The form, as it was posted; empty for a media socket.

    Raises:
        ValueError: It is not a URL.
    """
    asked = urlsplit(url.partition("#")[0])
    # Reading the port checks it.
    if asked.scheme not in ("http", "https", "ws", "wss") or not asked.hostname or asked.port == 0:
        raise ValueError("must be the URL of a request or a media socket")
    request = _Request(settings, asked, header, MultiDict(parse_qsl(body, keep_blank_values=True)))
    found = request.shown()
    if request.is_right:
        return [*found, ok(SUBJECT, "is right")]
    return [*found, request.explained()]


class _Request:
    """
    A request with its signature.

    Args:
        asked: The URL that Twilio requested, without a fragment.
    """

    def __init__(self, settings: Settings, asked: SplitResult, header: str, form: MultiDict[str]) -> None:
        self._settings = settings
        self._asked = asked
        self._header = header
        self._form = form
        self._is_socket = asked.scheme in ("ws", "wss")
        # The path below the address at which Twilio knows the bridge, and that address.
        self._path = next((found[0] for p in PATHS if (found := p.search(asked.path))), asked.path)
        scheme = asked.scheme.replace("ws", "http")
        prefix = asked.path.removesuffix(self._path)
        self._base = asked._replace(scheme=scheme, path=prefix, query="").geturl()

    def shown(self) -> list[Finding]:
        """What a bridge checks, what it computes, and what came."""
        checked = self._url(self._signatures(self._settings.public_url))
        fields = "".join(name + value for name, value in sorted({*self._form.items()}))
        found = [ok("signed text", f"{checked}{fields}")]
        tokens = self._settings.auth_tokens
        for n, token in enumerate(tokens, 1):
            which = f" with auth token {n}" if len(tokens) > 1 else ""
            found.append(ok("computed", f"{sign(token, checked, self._form)}{which}"))
        return [*found, ok("given", self._header)]

    @property
    def is_right(self) -> bool:
        """Whether the bridge accepts the signature."""
        signatures = self._signatures(self._settings.public_url)
        if self._is_socket:
            return signatures.is_upgrade(self._path, self._header)
        return signatures.is_webhook(self._path, self._asked.query, self._form, self._header)

    def explained(self) -> Finding:
        """The mistake that makes both sides equal."""
        if (stripped := self._header.strip().strip("\"'")) != self._header:
            return problem(SUBJECT, "has spaces or quotes around it", f"try {stripped}")
        public_url = self._settings.public_url
        # The address as asked is tried too.
        own = self._signatures(self._base)
        base = own.find_base(self._url(own), self._form, self._header, [urlsplit(public_url).netloc])
        if base is None:
            return problem(SUBJECT, "is that of no address that was tried", NOTHING_FITS)
        text = f"Twilio signed for {base}, and this bridge checks for {public_url}"
        return problem(SUBJECT, text, f"set PUBLIC_URL={base}, or correct the webhook in Twilio's console")

    def _signatures(self, base: str) -> Signatures:
        tokens, overrides = self._settings.auth_tokens, self._settings.bridge_connection_overrides
        return Signatures(tokens, base, f"ws{base.removeprefix('http')}", overrides)

    def _url(self, signatures: Signatures) -> str:
        if self._is_socket:
            return signatures.upgrade_url(self._path)
        return signatures.webhook_url(self._path, self._asked.query)
