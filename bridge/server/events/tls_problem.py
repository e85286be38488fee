"""Why a request to a webhook of the user's failed below HTTP."""

from __future__ import annotations

import aiohttp


def tls_problem(error: aiohttp.ClientSSLError) -> str:
    """What is wrong with the receiver's TLS, without its address, which may hold a secret."""
    refusal = getattr(error, "certificate_error", None)
    return f"certificate refused: {refusal.verify_message}" if refusal is not None else type(error).__name__
