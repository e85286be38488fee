"""Checks the bearer token of a request."""

from __future__ import annotations

import hmac

from bridge.http.messages import Request, Response

UNAUTHORIZED = Response(401, b"401 Unauthorized\n", headers=(("WWW-Authenticate", "Bearer"),))


def unauthorized(request: Request, token: str) -> Response | None:
    """The refusal of a request without this token; None for one that has it."""
    given = (request.header("authorization") or "").encode()
    return None if hmac.compare_digest(given, f"Bearer {token}".encode()) else UNAUTHORIZED
