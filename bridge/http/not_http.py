"""What wrong set-ups send in place of a request; scanners send it too."""

from __future__ import annotations

import ssl

# Beginnings of other protocols. The PROXY protocol has one form in text and one in binary.
BEGINNINGS = {
    b"\x16\x03": "tls",
    b"PROXY ": "proxy_protocol",
    b"\r\n\r\n\x00\r\nQUIT\n": "proxy_protocol",
    b"PRI * HTTP/2": "http2",
}
BEGINNING_BYTES = max(map(len, BEGINNINGS))
# Parts of OpenSSL's reasons for failed handshakes. The alerts are of clients that do not trust a certificate.
HANDSHAKES = {
    "HTTP_REQUEST": "no_tls",
    "ALERT_UNKNOWN_CA": "certificate",
    "ALERT_BAD_CERTIFICATE": "certificate",
    "ALERT_CERTIFICATE_EXPIRED": "certificate",
    "ALERT_CERTIFICATE_UNKNOWN": "certificate",
}


def protocol_of(beginning: bytes) -> str:
    """The protocol that begins with these bytes; empty if it is none that is known."""
    return next((name for start, name in BEGINNINGS.items() if beginning.startswith(start)), "")


def handshake_problem(error: OSError) -> str:
    """What a failed handshake says of the set-up; empty if nothing."""
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    return next((name for part, name in HANDSHAKES.items() if part in reason), "")
