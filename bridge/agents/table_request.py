"""The requests in the tables of agents, and the URL, the headers and the body that one has for a call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.places import Path, read_path
from bridge.agents.template import fill, fill_json, in_header, in_url

SESSION_TEXT = re.compile(r"[\x21-\x7e]{1,8192}")
NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
APath = Annotated[Path, PlainValidator(read_path)]


def starts_with(*beginnings: str) -> AfterValidator:
    """Check that a text has one of these beginnings."""

    def check(text: str) -> str:
        if not text.startswith(beginnings):
            raise ValueError(f"must begin with {' or '.join(beginnings)}")
        return text

    return AfterValidator(check)


def _is_json(body: dict[str, Any]) -> dict[str, Any]:
    try:
        orjson.dumps(body)
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return body


class Text(NamedTuple):
    """
    A text with placeholders: its key, its content, and the names that it may use beside those of every text.

    Among the names, ``session.`` stands for all that the table's ``session`` replies.
    """

    key: str
    template: str
    known: frozenset[str]


class Table(BaseModel):
    """Base of the tables: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Request(Table):
    """A request to the agent's service."""

    url: Annotated[str, starts_with("https://", "http://")] = Field(description="the address of the request")
    headers: dict[str, str] = {}
    body: Annotated[dict[str, Any], AfterValidator(_is_json)] = {}

    def placed_texts(self, key: str, known: frozenset[str]) -> list[Text]:
        """
        The texts that may have placeholders.

        Args:
            key: That of the request in its table.
        """
        texts = [Text(f"{key}.url", self.url, known)]
        texts += [Text(f"{key}.headers.{name}", text, known) for name, text in self.headers.items()]
        return [*texts, Text(f"{key}.body", orjson.dumps(self.body).decode(), known)]

    def filled(self, call: CallInfo, own: Mapping[str, str]) -> tuple[str, dict[str, str], dict[str, Any]]:
        """
        The URL, the headers and the body for a call.

        Args:
            own: Values of the process and of the service, which stand in a URL as they are.

        Raises:
            SessionError: A value has characters that no URL or header has.
        """
        values = call.placeholders
        body = fill_json(orjson.dumps(self.body).decode(), {**values, **own}.get)
        return (
            filled_url(self.url, {**in_url(values), **own}),
            filled_headers(self.headers, {**in_header(values), **own}),
            orjson.loads(body),
        )


class SessionRequest(Request):
    """A request before the agent gets the call. Its ``reply`` names values for the texts of the table."""

    reply: list[APath] = Field(min_length=1, description="the paths of the values that the reply has")

    @property
    def names(self) -> frozenset[str]:
        """The placeholders that the reply fills."""
        return frozenset(f"session.{path.text}" for path in self.reply)

    @property
    def fields(self) -> dict[str, re.Pattern[str]]:
        """The paths of the reply's values, with the pattern of each."""
        return {path.text: SESSION_TEXT for path in self.reply}


def of_session(session: Mapping[str, str]) -> dict[str, str]:
    """The values of a session by the names of their placeholders."""
    return {f"session.{key}": value for key, value in session.items()}


def filled_url(template: str, values: Mapping[str, str]) -> str:
    """Fill a URL; a `SessionError` says that a value has characters that no URL has."""
    url = fill(template, values)
    if not SESSION_TEXT.fullmatch(url):
        raise SessionError("a value for the URL has spaces or other characters that no URL has")
    return url


def filled_headers(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Fill headers; a `SessionError` says that a value has characters that no header has."""
    headers = {name: fill(text, values) for name, text in templates.items()}
    for name, text in headers.items():
        if NOT_IN_A_HEADER.search(text):
            raise SessionError(f"a value for the header {name} has line breaks or control characters")
    return headers
