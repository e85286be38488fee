"""The URLs that a phone number at Twilio has for this bridge."""

from __future__ import annotations

from bridge.settings import Settings


def voice_url(settings: Settings) -> str:
    """The webhook of a call, with how Twilio asks again."""
    return f"{settings.public_url}/voice{settings.bridge_connection_overrides}"


def status_url(settings: Settings) -> str:
    """The status callback of a call."""
    return f"{settings.public_url}/voice/status"


def is_ours(url: str, settings: Settings) -> bool:
    """Whether a URL leads to this bridge, whatever its scheme and the case of its host."""
    mine, other = (text.partition("://")[2].partition("#")[0].lower() for text in (settings.public_url, url))
    return other == mine or other.startswith((f"{mine}/", f"{mine}?"))
