"""How an agent without a media socket gets a call: Twilio leads the call to it, and audio passes the bridge by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SipAddress:
    """The agent answers at a SIP address. What follows is asked when its call is over, or nobody answered."""

    uri: str


@dataclass(frozen=True, slots=True)
class VendorTwiml:
    """The agent's service has written TwiML for the call. What follows is asked where that comes to its end."""

    text: str


@dataclass(frozen=True, slots=True)
class VendorStream:
    """The agent takes Twilio's media stream itself. What follows is asked when its socket is closed."""

    url: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VendorWebhook:
    """The agent's service answers Twilio's webhooks from now on. Nothing more is asked: the chain ends here."""

    url: str


HandOver = SipAddress | VendorTwiml | VendorStream | VendorWebhook
