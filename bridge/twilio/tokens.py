"""
What travels through Twilio and back: the media token and the state of a resume, encrypted and authenticated.

Fernet under a key derived from the account's auth token, so that webhook and media socket may reach different
processes. One key per listed auth token, so that both are good while one is rotated; a random one where there
is no auth token.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LABEL = b"voice-bridge token"
# Twilio takes under 500 characters for a Parameter's name and value together.
PIECE_CHARS = 480
PIECE_NAME = re.compile(r"token([1-9][0-9]{0,2})?")


T = TypeVar("T")


class BadToken(Exception):
    """Wrong, expired or of another purpose; which of these is not told."""


@dataclass(frozen=True, slots=True)
class MediaToken:
    """
    What the media socket needs to know: bound to one CallSid and one socket path.

    ``session`` is that of the first of ``agents``, who are tried in turn.
    """

    call_sid: str
    media_id: str
    agents: list[str]
    session: dict[str, str]
    from_number: str
    to_number: str


@dataclass(frozen=True, slots=True)
class ResumeState:
    """
    What `/voice/resume` and `/voice/dialled` are told about: which call, how often it was re-attached, since when
    (Unix time), and who is to be tried next.
    """

    call_sid: str
    attempt: int
    first_at: int
    agents: list[str]


class Tokens:
    """
    Seals and opens tokens.

    Args:
        auth_tokens: The account's auth tokens; the first one seals, each one opens.
        media_s: How long a media token is good, in seconds.
    """

    def __init__(self, auth_tokens: Sequence[str], media_s: int) -> None:
        keys = [_derive(token) for token in auth_tokens] or [Fernet.generate_key()]
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        self._media_s = media_s

    def seal_media(self, token: MediaToken) -> dict[str, str]:
        """The token as stream parameters ``token``, ``token1``, ... each within Twilio's limit."""
        text = self._seal("media", asdict(token))
        pieces = [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
        return {f"token{n or ''}": piece for n, piece in enumerate(pieces)}

    def open_media(self, parameters: Mapping[str, str]) -> MediaToken:
        """
        Put the pieces together and open them; other parameters are not looked at.

        Raises:
            BadToken: Missing pieces, not ours, expired.
        """
        pieces = {name: text for name, text in parameters.items() if PIECE_NAME.fullmatch(name)}
        text = ""
        for n in range(len(pieces)):
            text += pieces.get(f"token{n or ''}", "")
        fields = self._open("media", text, self._media_s)
        return self._as(MediaToken, fields)

    def seal_resume(self, state: ResumeState) -> str:
        """The state as text that needs no escaping in a URL."""
        return self._seal("resume", asdict(state))

    def open_resume(self, text: str) -> ResumeState:
        """
        Open a resume's state; how old it may be is the caller's to judge.

        Raises:
            BadToken: Not ours.
        """
        return self._as(ResumeState, self._open("resume", text, None))

    @staticmethod
    def _as(kind: type[T], fields: dict[str, Any]) -> T:
        try:
            return kind(**fields)
        except TypeError:
            # Sealed by another version, while one is being rolled out.
            raise BadToken from None

    def _seal(self, purpose: str, fields: dict[str, object]) -> str:
        return self._fernet.encrypt(orjson.dumps([purpose, fields])).decode()

    def _open(self, purpose: str, text: str, ttl_s: int | None) -> dict[str, Any]:
        try:
            sealed = text.encode("ascii")
            # The same bytes have many spellings in base64, and Fernet takes them all; ours is one.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(sealed)) != sealed:
                raise BadToken
            found, fields = orjson.loads(self._fernet.decrypt(sealed, ttl=ttl_s))
        except (InvalidToken, UnicodeEncodeError, binascii.Error):
            raise BadToken from None
        if found != purpose:
            raise BadToken
        return dict(fields)


def _derive(auth_token: str) -> bytes:
    key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=LABEL).derive(auth_token.encode())
    return base64.urlsafe_b64encode(key)
