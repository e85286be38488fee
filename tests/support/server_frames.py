"""Frames as a server sends them: unmasked."""

from __future__ import annotations


def from_server(payload: bytes, first: int = 0x81) -> bytes:
    n = len(payload)
    if n < 126:
        return bytes((first, n)) + payload
    if n < 65536:
        return bytes((first, 126)) + n.to_bytes(2) + payload
    return bytes((first, 127)) + n.to_bytes(8) + payload
