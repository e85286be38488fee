"""
Purpose-bound encryption of mappings, for what travels through other hands and comes back.

Fernet under keys derived from secrets, so that each process with the same secrets opens what another one sealed.
One key per secret: while a secret is rotated, the old and the new one both open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets as random
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

LABEL = b"voice-bridge token"
PROOF_LABEL = b"voice-bridge proof"
# The header in which an upgrade carries the nonce of a proof, in lower case.
CHECK_NONCE_HEADER = "x-bridge-nonce"
NAMES_LABEL = b"voice-bridge names"


class BadSeal(Exception):
    """The text is changed, expired, or sealed for another purpose or with another secret."""


class Seal:
    """
    Seals and opens mappings.

    Args:
        secrets: The first one seals, each one opens. Without any, a random key is used: only this object opens
            what it sealed.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        keys = [_derive(secret) for secret in secrets] or [Fernet.generate_key()]
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        # Of the oldest secret, which all processes have until a rotation is over.
        self._names_key = _hkdf(secrets[-1], NAMES_LABEL) if secrets else random.token_bytes(32)

    def seal(self, purpose: str, fields: Mapping[str, object]) -> str:
        """The mapping as text that needs no escaping in a URL; the values are what JSON can hold."""
        return self._fernet.encrypt(orjson.dumps([purpose, dict(fields)])).decode()

    def open(self, purpose: str, text: str, ttl_s: int | None) -> dict[str, Any]:
        """
        The mapping that was sealed for this purpose at most ``ttl_s`` ago (None: at any time).

        Raises:
            BadSeal: The text cannot be trusted.
        """
        try:
            sealed = text.encode("ascii")
            # Fernet accepts many spellings of the same bytes in base64; only the one that `seal` writes counts.
            if base64.urlsafe_b64encode(base64.urlsafe_b64decode(sealed)) != sealed:
                raise BadSeal
            found, fields = orjson.loads(self._fernet.decrypt(sealed, ttl=ttl_s))
        except (InvalidToken, UnicodeEncodeError, binascii.Error):
            raise BadSeal from None
        if found != purpose:
            raise BadSeal
        return dict(fields)

    def name(self, purpose: str, text: str) -> str:
        """A name of a text that does not tell the text to anyone without the secret."""
        return hmac.digest(self._names_key, f"{purpose}\n{text}".encode(), "sha256").hex()[:32]


def proofs(secrets: Sequence[str], purpose: str, nonce: str) -> list[str]:
    """What proves to another holder of one of the secrets that this process holds it, one text for each secret."""
    text = f"{purpose} {nonce}".encode()
    return [hmac.new(_hkdf(secret, PROOF_LABEL), text, "sha256").hexdigest() for secret in secrets]


def _derive(secret: str) -> bytes:
    return base64.urlsafe_b64encode(_hkdf(secret, LABEL))


def _hkdf(secret: str, label: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=label).derive(secret.encode())
