"""TwiML as Twilio reads it: its effect for the caller, and its errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.etree import ElementTree

# Source: Twilio, error 11750: a larger TwiML document is refused.
MAX_TWIML_BYTES = 64 * 1024
# Source: Twilio, TwiML <Parameter>: name and value together must be under 500 characters.
MAX_PARAMETER_CHARACTERS = 500


@dataclass(kw_only=True)
class TwimlAnswer:
    """One answer of a webhook, read as Twilio reads it."""

    status: int
    content_type: str
    body: str
    verbs: list[str] = field(default_factory=list)
    stream_url: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    status_callback: str | None = None
    redirect_url: str | None = None
    reject_reason: str | None = None
    say: str | None = None
    dial: str | None = None
    problems: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Describe the effect for the caller."""
        if self.status != 200:
            return f"Twilio's own error message (the webhook answered {self.status})"
        if self.problems:
            return f"Twilio's own error message ({self.problems[0]})"
        parts = []
        for verb in self.verbs:
            if verb == "Connect":
                parts.append(f"a stream to {self.stream_url}")
            elif verb == "Say":
                parts.append(f"a voice saying {self.say!r}")
            elif verb == "Dial":
                parts.append(f"a call passed on to {self.dial}")
            elif verb == "Reject":
                parts.append("the busy tone" if self.reject_reason == "busy" else "a rejected call")
            elif verb == "Hangup":
                parts.append("the end of the call")
            elif verb == "Redirect":
                parts.append("a further webhook")
            else:
                parts.append(f"<{verb}>")
        return ", then ".join(parts) or "the end of the call"


def read_twiml(status: int, content_type: str, body: str) -> TwimlAnswer:
    """Read an answer; ``problems`` has the errors that Twilio would report, with their numbers."""
    answer = TwimlAnswer(status=status, content_type=content_type, body=body)
    problems = answer.problems
    if not 200 <= status < 300:
        problems.append(f"11200: HTTP status {status}")
        return answer
    if content_type.partition(";")[0].strip().lower() not in ("text/xml", "application/xml"):
        problems.append(f"12300: content type {content_type!r} is not XML")
        return answer
    if len(body.encode()) > MAX_TWIML_BYTES:
        problems.append("11750: over 64 kB")
        return answer
    try:
        if "<!DOCTYPE" in body:
            raise ElementTree.ParseError("a document type is not TwiML")
        # Entities need a document type, which is refused above.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        problems.append(f"12100: {error}")
        return answer
    if root.tag != "Response":
        problems.append(f"12200: the root is <{root.tag}>, not <Response>")
        return answer
    for verb in root:
        answer.verbs.append(verb.tag)
        _read_verb(verb, answer)
    return answer


def _read_verb(verb: ElementTree.Element, answer: TwimlAnswer) -> None:
    text = (verb.text or "").strip()
    if verb.tag == "Connect":
        stream = verb.find("Stream")
        if stream is None:
            answer.problems.append("12200: <Connect> without <Stream>")
        else:
            _read_stream(stream, answer)
    elif verb.tag == "Redirect":
        answer.redirect_url = text
    elif verb.tag == "Reject":
        answer.reject_reason = verb.get("reason", "rejected")
    elif verb.tag == "Say":
        answer.say = text
    elif verb.tag == "Dial":
        answer.dial = text or " ".join((child.text or "").strip() for child in verb)
    elif verb.tag not in ("Hangup", "Pause", "Play"):
        answer.problems.append(f"12200: <{verb.tag}> is not a verb that this caller knows")


def _read_stream(stream: ElementTree.Element, answer: TwimlAnswer) -> None:
    url = stream.get("url", "")
    answer.stream_url = url
    answer.status_callback = stream.get("statusCallback")
    if not url.startswith(("wss://", "ws://")):
        answer.problems.append(f"31922: the scheme of {url!r} is not wss")
    if "?" in url:
        answer.problems.append(f"31920: {url!r} has a query string")
    if stream.get("track", "inbound_track") != "inbound_track":
        answer.problems.append("31941: only inbound_track can be used in <Connect>")
    for parameter in stream.iter("Parameter"):
        name, value = parameter.get("name", ""), parameter.get("value", "")
        if len(name) + len(value) >= MAX_PARAMETER_CHARACTERS:
            answer.problems.append(f"12200: <Parameter {name}> is not under 500 characters")
        if name in answer.parameters:
            answer.problems.append(f"12200: <Parameter {name}> comes twice")
        answer.parameters[name] = value
