"""The types of settings, shared by the process and the agents, and the words for a wrong value."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from bridge.agents.template import CALL_NAMES, unknown_names

# Characters that XML, and so TwiML, cannot contain.
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# A phone number as Twilio writes it.
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
# What people write between digits; NFKC leaves dashes as they are.
NUMBER_MARKS = re.compile(r"[\s()./\-\u2010-\u2015\u2212]")
# What a number must be, by pydantic's name of the error; a bound follows the relations.
NUMBERS = dict.fromkeys(("int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number")
NUMBERS |= dict.fromkeys(("float_parsing", "finite_number"), "must be a number")
RELATIONS = {
    "greater_than": "more than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
# Some 25 s of speech.
ANNOUNCEMENT_CHARS = 300
# Keys and tokens of the services are longer.
SHOWN_CHARACTERS = 24


def _base_url(schemes: tuple[str, ...]) -> Any:
    def check(text: str) -> str:
        if not text:  # The default of a URL that is not always required.
            return ""
        url = text.rstrip("/")
        try:
            parts = urlsplit(url)
            _ = parts.port
            # The name look-up fails for an empty label, and for one of more than 63 characters.
            (parts.hostname or "").encode("idna")
        except ValueError:
            raise ValueError(f"must be a URL, e.g. {schemes[-1]}://example.com") from None
        if parts.scheme not in schemes or not parts.hostname or re.search(r"[\s\x00-\x20]", url):
            raise ValueError(f"must begin with {' or '.join(s + '://' for s in schemes)} and name a host")
        if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
            raise ValueError("must have no user, query or fragment")
        return parts.scheme + url[len(parts.scheme) :]

    return AfterValidator(check)


def _host(text: str) -> str:
    try:
        text.encode("idna")  # The name look-up encodes it too, and its error is not an `OSError`.
    except UnicodeError:
        raise ValueError("must be an address or the name of a host") from None
    return text


def _switch(value: Any) -> Any:
    if value not in ("0", "1", True, False):
        raise ValueError("must be 0 or 1")
    return value in ("1", True)


def _template(text: str) -> str:
    if problems := unknown_names([text], CALL_NAMES):
        raise ValueError("; ".join(problems))
    return text


def as_e164(number: str) -> str:
    """
    A phone number as people and models write it, in Twilio's form.

    "+49 (0)30 1234-567" and "0049 30 1234567" become "+49301234567"; what is no number stays as it is.
    """
    text = unicodedata.normalize("NFKC", number).strip().removeprefix("tel:")
    digits = re.sub(r"^00", "+", NUMBER_MARKS.sub("", text.replace("(0)", "")))
    return digits if E164.fullmatch(digits) else number


def _fallback(text: str) -> str:
    kind, _, value = text.partition(":")
    if not (
        text == "hangup"
        or (kind == "say" and value.strip() and not NOT_XML.search(value))
        or (kind == "dial" and E164.fullmatch(value))
    ):
        raise ValueError("must be say:TEXT, dial:+E164NUMBER or hangup")
    return text


def _refusal(text: str) -> str:
    try:
        return text if text == "reject" else _fallback(text)
    except ValueError:
        raise ValueError("must be say:TEXT, dial:+E164NUMBER, hangup or reject") from None


def _announcement(text: str) -> str:
    if len(text) > ANNOUNCEMENT_CHARS or NOT_XML.search(text):
        raise ValueError(
            f"must be a text of at most {ANNOUNCEMENT_CHARS} characters without control characters: the media socket "
            "opens after it, and is waited for 60 s"
        )
    return text.strip()


def _caller_id(text: str) -> str:
    if text and not E164.fullmatch(text):
        raise ValueError("must be a number with + and the country's code, without spaces, e.g. +14155550100")
    return text


_TEMPLATE = AfterValidator(_template)
# A text with the placeholders of `bridge.agents.template`.
TemplateText = Annotated[str, _TEMPLATE]


def template_texts(settings: BaseModel) -> list[str]:
    """The values of the settings that are `TemplateText`."""
    return [
        getattr(settings, name)
        for name, field in type(settings).model_fields.items()
        if _TEMPLATE in field.metadata
    ]


Host = Annotated[str, AfterValidator(_host)]
HttpUrl = Annotated[str, _base_url(("http", "https"))]
WsUrl = Annotated[str, _base_url(("ws", "wss"))]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
CallerId = Annotated[str, AfterValidator(_caller_id)]
# What a caller hears before the first agent.
Announcement = Annotated[str, AfterValidator(_announcement)]
# What a caller gets where no agent is available.
Fallback = Annotated[str, AfterValidator(_fallback)]
# What a caller gets who may not call.
Refusal = Annotated[str, AfterValidator(_refusal)]


def quoted(text: str) -> str:
    """Quote a value for a message; a long one, which may be a secret in the wrong place, is only measured."""
    return repr(text) if len(text) <= SHOWN_CHARACTERS else f"a text of {len(text)} characters"


def missing(description: str | None) -> str:
    """What is said of a setting that is missing, by its description."""
    return f"is missing: {'get it ' if (description or '').startswith('from ') else ''}{description}"


def number_words(kind: str, context: Mapping[str, Any]) -> str | None:
    """What a number must be, by pydantic's name of the error and its context; None for errors of other values."""
    if kind in RELATIONS:
        return f"must be {RELATIONS[kind]} {next(iter(context.values())):.12g}"
    return NUMBERS.get(kind)


def problems_of(
    kind: type[BaseModel], error: ValidationError, given: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """
    Put the errors of settings into words.

    Only numbers, switches and enumerations are quoted: any other value may be a secret in the wrong variable.

    Args:
        kind: The model that refused the values.
        given: The values by field. A field that is neither here nor missing has a default that follows from
            another wrong value, and is left out.

    Returns:
        A field and a sentence for each problem.
    """
    problems: list[tuple[str, str]] = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0])
        info = kind.model_fields[field]
        if item["type"] == "missing":
            problems.append((field, f"{field.upper()}: {missing(info.description)}"))
        elif field in given:
            is_shown = info.annotation in (int, float, bool) or get_origin(info.annotation) is Literal
            value = f" (it is {quoted(str(given[field]))})" if is_shown else ""
            message = number_words(item["type"], item.get("ctx", {})) or item["msg"]
            message = message.removeprefix("Value error, ").replace("Input should be", "must be")
            problems.append((field, f"{field.upper()}: {message}{value}"))
    return problems
