"""TwiML in the reply of a vendor's service, checked before Twilio gets it: a fault there would end the call."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import orjson

from bridge.agents.agent import SessionError
from bridge.agents.places import Path

# Twilio takes 64 KB, and vendors need one or two; it is kept for a day, for the same webhook that comes again.
TWIML_MAX_BYTES = 16_384
# The verbs of Twilio nest to half of this, with SSML.
NESTED_MAX = 16


def vendor_twiml(reply: bytes, path: Path | None) -> str:
    """
    Return the TwiML of a reply.

    Args:
        path: Of the TwiML in a reply of JSON; None for a reply that is TwiML, or a JSON string.

    Raises:
        SessionError: There is none, or none that Twilio takes.
    """
    text = reply.decode("utf-8-sig", errors="replace").strip()
    if path is not None or text.startswith('"'):
        text = _text_in(text, path)
    if len(text.encode(errors="replace")) > TWIML_MAX_BYTES:
        raise SessionError(f"TwiML of more than {TWIML_MAX_BYTES} bytes")
    # It may define entities that grow when they are read.
    if "<!DOCTYPE" in text:
        raise SessionError("TwiML with a document type")
    try:
        # Entities need a document type, which is refused above.
        parser = ElementTree.XMLParser(target=_Levels())  # noqa: S314
        parser.feed(text)
        parser.close()
    except ElementTree.ParseError as error:
        raise SessionError(f"reply is not TwiML: {error}") from None
    return text


def _text_in(text: str, path: Path | None) -> str:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise SessionError("reply is not JSON") from None
    if path is not None:
        found = path.value(found)
    if not isinstance(found, str):
        raise SessionError(f"reply has no TwiML at {path.text if path is not None else 'its root'}")
    return found.strip()


class _Levels:
    """Checks the elements of TwiML as a parser finds them: a tree that is nested too deep cannot be written again."""

    def __init__(self) -> None:
        # The elements that are open.
        self._depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._depth and tag != "Response":
            raise SessionError("the root of the reply's XML is not <Response>")
        self._depth += 1
        if self._depth > NESTED_MAX:
            raise SessionError(f"TwiML of more than {NESTED_MAX} levels")

    def end(self, tag: str) -> None:
        self._depth -= 1

    def close(self) -> None:
        """The parser calls this at the end."""
