"""TwiML answers of the bridge, all with status 200: on an HTTP error Twilio plays its own error message."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from twilio.twiml.voice_response import Connect, VoiceResponse


def stream(
    url: str,
    parameters: Mapping[str, str],
    status_callback: str,
    resume_url: str,
    announce: str = "",
    language: str = "",
) -> str:
    """
    Connect the call to the media socket at ``url``.

    The trailing Redirect runs when that socket is closed for whatever reason, so that the caller is not simply
    cut off.

    Args:
        announce: Is said to the caller before that; nothing if it is empty.
        language: Of ``announce``; empty for Twilio's default.
    """
    connect = Connect()
    media = connect.stream(url=url, status_callback=status_callback)
    for name, value in parameters.items():
        media.parameter(name=name, value=value)
    response = VoiceResponse()
    if announce:
        response.say(announce, language=language or None)
    response.append(connect)
    response.redirect(resume_url, method="POST")
    return str(response)


def dial_sip(uri: str, action: str, timeout_s: int, caller_id: str | None = None) -> str:
    """
    Connect the call to a SIP address; Twilio asks ``action`` when that is over, or nobody answered.

    The caller hears ringing until the address answers.

    Args:
        caller_id: The number that the address is shown; None for the caller's own.
    """
    response = VoiceResponse()
    dial = response.dial(
        answer_on_bridge=True, timeout=timeout_s, action=action, method="POST", caller_id=caller_id
    )
    dial.sip(uri)
    return str(response)


def redirect(url: str) -> str:
    """Let another service answer the call from now on; on an error of that service, Twilio ends the call."""
    response = VoiceResponse()
    response.redirect(url, method="POST")
    return str(response)


def followed_by(text: str, url: str) -> str:
    """TwiML of another service, after whose last verb Twilio asks ``url``."""
    # Entities need a document type, which is refused before.
    root = ElementTree.fromstring(text)  # noqa: S314
    ElementTree.SubElement(root, "Redirect", method="POST").text = url
    return ElementTree.tostring(root, encoding="unicode")


def dial(number: str, caller_id: str | None = None) -> str:
    """Connect the call to a phone number, which is shown ``caller_id``, and end it after that."""
    response = VoiceResponse()
    response.dial(number, caller_id=caller_id)
    response.hangup()
    return str(response)


def reject(reason: str) -> str:
    """The caller hears the busy tone (``busy``), or that nobody has the number (``rejected``); nobody is charged."""
    response = VoiceResponse()
    response.reject(reason=reason)
    return str(response)


def say(text: str, language: str = "") -> str:
    """Say a text to the caller, by default in Twilio's default language, and end the call."""
    response = VoiceResponse()
    response.say(text, language=language or None)
    response.hangup()
    return str(response)


def hangup() -> str:
    """The call is over."""
    response = VoiceResponse()
    response.hangup()
    return str(response)


def fallback(rule: str, caller_id: str | None = None, language: str | None = None) -> str:
    """The TwiML where no agent is available: the rule of ``BRIDGE_FALLBACK``, then the end of the call."""
    kind, _, value = rule.partition(":")
    response = VoiceResponse()
    if kind == "say":
        response.say(value, language=language)
    elif kind == "dial":
        response.dial(value, caller_id=caller_id)
    response.hangup()
    return str(response)
