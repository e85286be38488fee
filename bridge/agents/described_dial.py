"""
Agents described in a settings file that Twilio reaches by itself: a table with ``dial``.

The kinds are a SIP address, TwiML that the vendor writes, the vendor's webhook and the vendor's media stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import Field, field_validator, model_validator

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.described_problems import Contradiction, unknown_in
from bridge.agents.hand_over import HandOver, SipAddress, VendorStream, VendorTwiml, VendorWebhook
from bridge.agents.session_request import ask, fetch
from bridge.agents.setting_types import NOT_XML
from bridge.agents.table_request import APath, Request, SessionRequest, Table, Text, of_session
from bridge.agents.template import CALL_NAMES, fill, in_url, names_in, of_call, required_in
from bridge.agents.vendor_twiml import vendor_twiml

SESSION = "session."
# The vendor's TwiML among the values of the session; no field of a reply has a space.
TWIML = "vendor TwiML"
# Printable ASCII without space, angle brackets and question mark.
PLAIN = r"\x21-\x3b\x3d\x40-\x7e"
# Source: Twilio, <Sip>: under 255 characters.
SIP_URI = re.compile(rf"sips?:[{PLAIN}?]{{1,249}}")
HTTPS_URL = re.compile(rf"https://[{PLAIN}?]+")
# Source: Twilio, error 31920: the URL of a stream has no query.
STREAM_URL = re.compile(rf"wss?://[{PLAIN}]+")
# Source: Twilio, TwiML <Parameter>: name and value together are under 500 characters.
PARAMETER_CHARS = 499
KINDS = ("sip", "twiml_from", "redirect", "stream_url")
# Those that are texts.
URLS = ("sip", "redirect", "stream_url")


class TwimlRequest(Request):
    """A request whose reply is TwiML, or JSON with the TwiML at the path ``twiml``."""

    twiml: APath | None = None


class Dial(Table):
    """One way to the agent, and the parameters of a stream."""

    sip: str = ""
    twiml_from: TwimlRequest | None = None
    redirect: str = ""
    stream_url: str = ""
    parameters: dict[str, str] = {}

    @field_validator("sip")
    @classmethod
    def _is_sip(cls, text: str) -> str:
        return _beginning(
            text, ("sip:", "sips:"), "a SIP address, e.g. sip:agent@sip.example.com;transport=tls"
        )

    @field_validator("redirect")
    @classmethod
    def _is_https(cls, text: str) -> str:
        return _beginning(text, ("https://",), "a URL that begins with https://")

    @field_validator("stream_url")
    @classmethod
    def _is_stream(cls, text: str) -> str:
        if "?" in text:
            raise ValueError("Twilio takes no query in the URL of a stream; use parameters")
        return _beginning(text, ("wss://", "ws://"), "a URL that begins with wss://")

    @model_validator(mode="after")
    def _is_one(self) -> Dial:
        given = [kind for kind in KINDS if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of {', '.join(KINDS)}")
        if self.parameters and not self.stream_url:
            raise ValueError("parameters go with stream_url only")
        return self


class DialDescription(Table):
    """One agent without a socket: a table of the file that ``BRIDGE_AGENTS_FILE`` names."""

    dial: Dial
    session: SessionRequest | None = None
    max_calls: int | None = Field(default=None, ge=1, le=999_999)
    disabled: bool = Field(default=False, strict=True)

    @property
    def placed_texts(self) -> list[Text]:
        """The texts that may have placeholders, each with its key."""
        dial, known = self.dial, CALL_NAMES | {SESSION}
        texts = self.session.placed_texts("session", CALL_NAMES) if self.session is not None else []
        texts += [Text(f"dial.{kind}", getattr(dial, kind), known) for kind in URLS]
        texts += [Text(f"dial.parameters.{name}", text, known) for name, text in dial.parameters.items()]
        if dial.twiml_from is not None:
            texts += dial.twiml_from.placed_texts("dial.twiml_from", known)
        return texts

    @property
    def texts(self) -> list[str]:
        """The texts alone."""
        return [text.template for text in self.placed_texts]

    def contradictions(self) -> Iterable[Contradiction]:
        """What is wrong although each key is right."""
        return unknown_in(self.placed_texts, self.session.names if self.session is not None else frozenset())


def _beginning(text: str, beginnings: tuple[str, ...], what: str) -> str:
    # A whole value of the session is checked when it is there.
    if not text.startswith((*beginnings, "{")):
        raise ValueError(f"must be {what}")
    return text


def describe_dial(described: DialDescription, resources: Resources) -> Agent:
    """Make an agent of a table."""
    dial, request, process = described.dial, described.session, resources.values
    # Twilio takes wss only; ws is for stand-ins.
    is_plain = request is not None and request.url.startswith("http://")

    async def open_session(call: CallInfo) -> dict[str, str]:
        session: dict[str, str] = {}
        if request is not None:
            session = await ask(resources, "POST", *request.filled(call, process), fields=request.fields)
        if dial.twiml_from is not None:
            reply = await fetch(
                resources, "POST", *dial.twiml_from.filled(call, {**of_session(session), **process})
            )
            session[TWIML] = vendor_twiml(reply, dial.twiml_from.twiml)
        # What Twilio would refuse is found here, where the next agent can still be tried.
        hand_over(session, call)
        return session

    def hand_over(session: Mapping[str, str], call: CallInfo) -> HandOver:
        if dial.twiml_from is not None:
            return VendorTwiml(session[TWIML])
        in_urls = {**in_url(call.placeholders), **of_session(session), **process}
        if dial.sip:
            return SipAddress(_checked(SIP_URI, fill(dial.sip, in_urls), "SIP address"))
        if dial.redirect:
            return VendorWebhook(_checked(HTTPS_URL, fill(dial.redirect, in_urls), "https URL"))
        url = _checked(STREAM_URL, fill(dial.stream_url, in_urls), "stream URL")
        if url.startswith("ws://") and not is_plain:
            raise SessionError("stream URL does not begin with wss://")
        values = {**call.placeholders, **of_session(session), **process}
        return VendorStream(
            url, {name: _parameter(name, fill(text, values)) for name, text in dial.parameters.items()}
        )

    return Agent(
        open_session=open_session,
        hand_over=hand_over,
        names=of_call(names_in(described.texts)),
        required=of_call(required_in(described.texts)),
    )


def _checked(pattern: re.Pattern[str], text: str, what: str) -> str:
    # Without the text, which may have a secret.
    if not pattern.fullmatch(text):
        raise SessionError(f"{what} is none that Twilio takes")
    return text


def _parameter(name: str, value: str) -> str:
    value = NOT_XML.sub("", value)
    if len(name) + len(value) > PARAMETER_CHARS:
        raise SessionError(f"parameter {name} has more than {PARAMETER_CHARS} characters")
    return value
