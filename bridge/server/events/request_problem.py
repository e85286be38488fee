"""Why a request to a webhook of the user's failed below HTTP."""

from __future__ import annotations

import aiohttp


def tls_problem(error: aiohttp.ClientSSLError) -> str:
    """What is wrong with the receiver's TLS, without its address, which may hold a secret."""
    refusal = getattr(error, "certificate_error", None)
    return f"certificate refused: {refusal.verify_message}" if refusal is not None else type(error).__name__


def connection_problem(error: aiohttp.ClientError | OSError) -> str:
    """Why there was no connection, or what became of it, without the address."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "the name of its host cannot be found"
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return "its host refuses the connection"
        case aiohttp.ServerDisconnectedError():
            return "it closed the connection without an answer"
    return type(error).__name__
