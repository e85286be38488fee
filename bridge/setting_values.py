"""What the values of the process's own settings may be, beside the types that agents use too."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

# Characters that XML, and so TwiML, cannot contain.
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def _fallback(text: str) -> str:
    kind, _, value = text.partition(":")
    if not (
        text == "hangup"
        or (kind == "say" and value.strip() and not NOT_XML.search(value))
        or (kind == "dial" and re.fullmatch(r"\+[1-9][0-9]{6,14}", value))
    ):
        raise ValueError("must be say:TEXT, dial:+E164NUMBER or hangup")
    return text


def _account_sid(text: str) -> str:
    if not re.fullmatch(r"(AC[0-9a-f]{32})?", text):
        raise ValueError("must be AC and 32 hex digits, from Twilio's console")
    return text


def only(supported: str) -> AfterValidator:
    """Accept one value, where others are to come."""

    def check(text: str) -> str:
        if text != supported:
            raise ValueError(f"only {supported} is supported")
        return text

    return AfterValidator(check)


def _names(text: str) -> str:
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in text.split(",")):
        raise ValueError(
            "must be the name of an agent, or several with commas between, which are tried in turn"
        )
    return text


def _numbers(text: str) -> str:
    if not all(re.fullmatch(r"\+[0-9]{1,15}", number) for number in text.split(",") if text):
        raise ValueError("must be beginnings of E.164 numbers with commas between, e.g. +4930,+14155550100")
    return text


def _store_url(text: str) -> str:
    if text not in ("", "memory") and not re.fullmatch(r"sqlite:[^\x00]+", text):
        raise ValueError("must be sqlite:PATH or memory")
    return text


def _directory(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


AccountSid = Annotated[str, AfterValidator(_account_sid)]
AgentNames = Annotated[str, AfterValidator(_names)]
Fallback = Annotated[str, AfterValidator(_fallback)]
NumberPrefixes = Annotated[str, AfterValidator(_numbers)]
StateDirectory = Annotated[str, AfterValidator(_directory)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
