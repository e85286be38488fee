"""The TwiML that hands a call over to an agent without a media socket, and what its end means."""

from __future__ import annotations

from bridge.agents.hand_over import HandOver, SipAddress, VendorStream, VendorTwiml
from bridge.twilio import twiml

# Twilio does not say why a vendor's stream has ended. One that ended sooner was not answered: nobody has a
# conversation in this time.
ANSWERED_S = 10
# What Twilio says of a call to a SIP address that was answered.
ANSWERED = ("completed", "answered")


def twiml_of(how: HandOver, action: str, status_callback: str, ring_s: int, caller_id: str | None) -> str:
    """
    Write the TwiML of a hand-over.

    Args:
        action: The URL that Twilio asks after it, where Twilio can.
        status_callback: The URL that hears of the errors of a stream.
        ring_s: How long a SIP address may ring.
        caller_id: The number that a SIP address is shown; None for the caller's.
    """
    match how:
        case SipAddress(uri):
            return twiml.dial_sip(uri, action, ring_s, caller_id)
        case VendorTwiml(text):
            return twiml.followed_by(text, action)
        case VendorStream(url, parameters):
            return twiml.stream(url, parameters, status_callback, action)
    return twiml.redirect(how.url)


def was_answered(dial_status: str, since_s: float) -> bool:
    """
    Judge whether the agent has talked with the caller.

    Args:
        dial_status: Twilio's ``DialCallStatus``; empty after anything but a SIP address.
        since_s: The seconds since the hand-over.
    """
    return dial_status in ANSWERED or (not dial_status and since_s >= ANSWERED_S)
