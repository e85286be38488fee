"""Base of the protocols: paths of the service, access rules, settings of a bridge."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from aiohttp import web

from bridge.standins.agent.formats import MULAW, check_format
from bridge.standins.agent.session import AgentSession

DEFAULT_AGENT_ID = "agent_standin"


class Refused(Exception):
    """The bridge is refused; ``status`` is the HTTP status of the answer."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


class Rest(NamedTuple):
    """The request before the socket, or in place of one; ``status`` is its usual HTTP status."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Account:
    """
    Access rules of the service and its audio formats.

    Attributes:
        key: The API key, or the vendor's other kind of credential.
        agent_id: The only agent; None accepts any.
        token_characters: Length of Retell's access tokens, in characters.
        from_caller_format, to_caller_format: Audio of ElevenLabs and of ``retell-web``, one of
            ``formats.FORMATS``. The two of ``retell-web`` are the same, and a registration may ask for another.
        required_variables: Dynamic variables without which ElevenLabs' agent takes no conversation.
        allowed_overrides: The parts of its configuration that ElevenLabs' agent lets a client override, as dotted
            paths: ``agent.first_message``.
    """

    key: str = "key_standin"
    agent_id: str | None = DEFAULT_AGENT_ID
    token_characters: int = 320
    from_caller_format: str = MULAW
    to_caller_format: str = MULAW
    required_variables: frozenset[str] = frozenset()
    allowed_overrides: frozenset[str] = frozenset({"agent.prompt.prompt", "agent.first_message"})


DEFAULT_ACCOUNT = Account()


class Protocol:
    """
    One subclass for each protocol, one object for each service.

    Attributes:
        name: As in ``BRIDGE_AGENT``.
        rest: None if a bridge opens the socket at once.
        socket_path: The route of the socket; None if the audio bypasses the bridge.
        formats: Supported encodings of audio.
    """

    name: ClassVar[str]
    rest: ClassVar[Rest | None] = None
    socket_path: ClassVar[str | None] = None
    formats: ClassVar[frozenset[str]] = frozenset({MULAW})

    def __init__(self, account: Account) -> None:
        for name in (account.from_caller_format, account.to_caller_format):
            check_format(name)
            if name not in self.formats:
                raise ValueError(
                    f"the audio format of {self.name} must be one of {', '.join(sorted(self.formats))}, got {name!r}"
                )
        self.account = account

    def register(self, request: web.Request, body: Any, ws_url: str) -> tuple[AgentSession, dict[str, Any]]:
        """Return a new call and the answer to its registration; raises `Refused`."""
        raise NotImplementedError

    def admit(self, request: web.Request, sessions: Mapping[str, AgentSession]) -> AgentSession:
        """Return the registered or new call of this socket; raises `Refused`."""
        raise NotImplementedError

    def environment(self, url: str, ws_url: str) -> dict[str, str]:
        """Return the settings that point a bridge to the service at these addresses."""
        raise NotImplementedError

    @property
    def agent_id(self) -> str:
        """The name of this protocol's agent in a bridge's settings."""
        return self.account.agent_id or DEFAULT_AGENT_ID

    @property
    def socket_prefix(self) -> str:
        """The path of the socket, without the part that names the call."""
        return (self.socket_path or "").partition("/{")[0]

    def check_header(self, request: web.Request, name: str, value: str) -> None:
        """Raise `Refused` unless the header has exactly this value."""
        if not hmac.compare_digest(request.headers.get(name, "").encode(), value.encode()):
            raise Refused(401, "the API key is missing or wrong")

    def check_agent(self, agent_id: object, status: int) -> None:
        """Raise `Refused` unless the agent exists."""
        if not isinstance(agent_id, str) or self.account.agent_id not in (None, agent_id):
            raise Refused(status, f"no agent {agent_id!r}")
