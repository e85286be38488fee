"""
What travels through Twilio and back: the media token and the state of a resume, sealed.

Both carry what another process needs to go on with the call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from bridge.seal import BadSeal, Seal

# Twilio takes under 500 characters for a Parameter's name and value together.
PIECE_CHARS = 480
PIECE_NAME = re.compile(r"token([1-9][0-9]{0,2})?")

T = TypeVar("T", "MediaToken", "ResumeState")


class BadToken(Exception):
    """The token is wrong, expired or made for another purpose; which of these is not said."""


@dataclass(frozen=True, slots=True)
class MediaToken:
    """
    What the media socket needs to know: bound to one CallSid and one socket path.

    ``session`` holds the fields of the call's session with its agents, whole; ``attempt`` is how often the call was
    admitted again. ``is_successor``: the call has lost its former media socket, and goes on with the agent that is
    kept for it, or with a new session of the chain. ``webhook_at``: the Unix time of Twilio's first request, 0 for a
    later stream; ``answered_at``: of the answer with this token.
    """

    call_sid: str
    media_id: str
    session: Mapping[str, Any]
    from_number: str
    to_number: str
    attempt: int = 0
    is_successor: bool = False
    webhook_at: float = 0.0
    answered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ResumeState:
    """
    What a request for `/voice/resume` or `/voice/dialled` is about: the call, how often it was admitted again, since
    when (Unix time), and the agents that are left to try.

    ``chain``, ``values`` and ``route`` are those of the session, for a new stream of the call. ``reattached_at``: the
    Unix times of the new streams that the call got lately.
    """

    call_sid: str
    attempt: int
    first_at: int
    agents: list[str]
    chain: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    reattached_at: list[int] = field(default_factory=list)
    route: str = ""


class Tokens:
    """
    Seals and opens tokens.

    Args:
        auth_tokens: The account's auth tokens; the first one seals, each one opens.
        media_s: How long a media token is good, in seconds.
    """

    def __init__(self, auth_tokens: Sequence[str], media_s: int) -> None:
        self._seal = Seal(auth_tokens)
        self._media_s = media_s

    def seal_media(self, token: MediaToken) -> dict[str, str]:
        """The token as stream parameters ``token``, ``token1``, ... each within Twilio's limit."""
        text = self._seal.seal("media", asdict(token))
        pieces = [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
        return {f"token{n or ''}": piece for n, piece in enumerate(pieces)}

    def open_media(self, parameters: Mapping[str, str]) -> MediaToken:
        """
        Put the pieces together and open them; other parameters are ignored.

        Raises:
            BadToken: Pieces are missing, or the token is not one of this account or has expired.
        """
        pieces = {name: text for name, text in parameters.items() if PIECE_NAME.fullmatch(name)}
        text = ""
        for n in range(len(pieces)):
            text += pieces.get(f"token{n or ''}", "")
        return self._open(MediaToken, "media", text, self._media_s)

    def seal_resume(self, state: ResumeState) -> str:
        """The state as text that needs no escaping in a URL."""
        return self._seal.seal("resume", asdict(state))

    def open_resume(self, text: str) -> ResumeState:
        """
        Open the state of a resume; its age is for the caller to judge.

        Raises:
            BadToken: The state is not one of this account.
        """
        return self._open(ResumeState, "resume", text, None)

    def _open(self, kind: type[T], purpose: str, text: str, ttl_s: int | None) -> T:
        try:
            found = self._seal.open(purpose, text, ttl_s)
            # During a deploy another version may have added fields, or lack those that have a default.
            return kind(**{field.name: found[field.name] for field in fields(kind) if field.name in found})
        except (BadSeal, TypeError):
            # TypeError: a field without a default is missing.
            raise BadToken from None
