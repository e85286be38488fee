"""Makes an agent of a table: its session, its socket's address, and its dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.agents.agent import Agent, CallInfo, Endpoint, Resources, SessionError, no_session
from bridge.agents.described import Description
from bridge.agents.described_dialogue import DescribedDialogue
from bridge.agents.session_request import ask
from bridge.agents.table_request import SessionRequest, filled_headers, filled_url, of_session
from bridge.agents.template import fill, in_header, in_url, names_in, of_call, required_in

# The scheme and the authority, which has no user, of an address that a service chooses.
SOCKET_URL = re.compile(r"(wss?)://[A-Za-z0-9.\-:\[\]]{1,300}(?:[/?][\x21-\x7e]*)?")
AUTHORITY = re.compile(r"wss?://[^/?#]*")
# One part of a host's name, which cannot name another host.
LABEL = re.compile(r"[A-Za-z0-9-]{1,63}")


def describe_socket(described: Description, resources: Resources) -> Agent:
    """Make an agent of a table."""
    request, process = described.session, resources.values

    async def open_session(call: CallInfo) -> dict[str, str]:
        if request is None:
            return {}
        session = await ask(resources, "POST", *request.filled(call, process), fields=request.fields)
        _check_reply(described, request, session)
        return session

    def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
        # The service's own values stand for whole parts of the URL.
        own = {**of_session(session), **process}
        return Endpoint(
            filled_url(described.url, {**in_url(call.placeholders), **own}),
            filled_headers(described.headers, {**in_header(call.placeholders), **own}),
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
