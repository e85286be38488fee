"""Makes an agent of a table: its session, its socket's address, and its dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from bridge.agents.agent import Agent, CallInfo, Endpoint, Resources, SessionError, no_session
from bridge.agents.described import Description, SessionRequest
from bridge.agents.described_dialogue import DescribedDialogue, of_session
from bridge.agents.session_request import ask
from bridge.agents.template import fill, fill_json, in_header, in_url, names_in, of_call, required_in

SESSION_TEXT = re.compile(r"[\x21-\x7e]{1,8192}")
# The scheme and the authority, which has no user, of an address that a service chooses.
SOCKET_URL = re.compile(r"(wss?)://[A-Za-z0-9.\-:\[\]]{1,300}(?:[/?][\x21-\x7e]*)?")
AUTHORITY = re.compile(r"wss?://[^/?#]*")
# One part of a host's name, which cannot name another host.
LABEL = re.compile(r"[A-Za-z0-9-]{1,63}")
NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def describe_socket(described: Description, resources: Resources) -> Agent:
    """Make an agent of a table."""
    request, process = described.session, resources.values

    async def open_session(call: CallInfo) -> dict[str, str]:
        if request is None:
            return {}
        values = call.placeholders
        body = fill_json(orjson.dumps(request.body).decode(), {**values, **process}.get)
        session = await ask(
            resources,
            "POST",
            _url(request.url, {**in_url(values), **process}),
            _headers(request.headers, {**in_header(values), **process}),
            fields={path.text: SESSION_TEXT for path in request.reply},
            json=orjson.loads(body),
        )
        _check_reply(described, request, session)
        return session

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        # The service's own values stand for whole parts of the URL.
        own = {**of_session(session), **process}
        return Endpoint(
            _url(described.url, {**in_url(call.placeholders), **own}),
            _headers(described.headers, {**in_header(call.placeholders), **own}),
        )

    return Agent(
        open_session=no_session if request is None else open_session,
        endpoint=endpoint,
        dialogue=lambda stream, next_number: DescribedDialogue(described, stream, process),
        names=of_call(names_in(described.texts)),
        required=of_call(required_in(described.texts)),
    )


def _check_reply(described: Description, request: SessionRequest, session: Mapping[str, str]) -> None:
    """Refuse a reply that would lead to another host, or to one without TLS where the request has TLS."""
    values = of_session(session)
    if described.is_url_of_reply:
        found = SOCKET_URL.fullmatch(fill(described.url, values))
        is_plain_allowed = request.url.startswith("http://")
        if found is None or not (found[1] == "wss" or is_plain_allowed):
            wanted = "a wss:// or ws:// address" if is_plain_allowed else "a wss:// address"
            raise SessionError(f"the reply's {_name(described.url)} is not {wanted}")
        return
    authority = AUTHORITY.match(described.url)
    for name in names_in([authority[0]] if authority else []):
        if name in values and not LABEL.fullmatch(values[name]):
            raise SessionError(f"the reply's {name.removeprefix('session.')} is not a part of a host's name")


def _name(url: str) -> str:
    (name,) = names_in([url])
    return name.removeprefix("session.")


def _url(template: str, values: Mapping[str, str]) -> str:
    url = fill(template, values)
    if not SESSION_TEXT.fullmatch(url):
        raise SessionError("a value for the URL has spaces or other characters that no URL has")
    return url


def _headers(templates: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    headers = {name: fill(text, values) for name, text in templates.items()}
    for name, text in headers.items():
        if NOT_IN_A_HEADER.search(text):
            raise SessionError(f"a value for the header {name} has line breaks or control characters")
    return headers
