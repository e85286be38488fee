"""What a setting's text may be, in types that the process's settings and each agent's share."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field


def _base_url(schemes: tuple[str, ...]) -> Any:
    def check(text: str) -> str:
        if not text:  # The default of what is required only at times.
            return ""
        url = text.rstrip("/")
        try:
            parts = urlsplit(url)
            _ = parts.port
            # As a look-up does it: an empty label, or one of more than 63 characters, is no host.
            (parts.hostname or "").encode("idna")
        except ValueError:
            raise ValueError(f"is no URL: {text!r}") from None
        if parts.scheme not in schemes or not parts.hostname or re.search(r"[\s\x00-\x20]", url):
            raise ValueError(f"must begin with {' or '.join(s + '://' for s in schemes)} and name a host")
        if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
            raise ValueError("must have no user, query or fragment")
        return parts.scheme + url[len(parts.scheme) :]

    return AfterValidator(check)


def _switch(value: Any) -> Any:
    if value not in ("0", "1", True, False):
        raise ValueError("must be 0 or 1")
    return value in ("1", True)


HttpUrl = Annotated[str, _base_url(("http", "https"))]
WsUrl = Annotated[str, _base_url(("ws", "wss"))]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
# An E.164 number, as Twilio writes it.
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
