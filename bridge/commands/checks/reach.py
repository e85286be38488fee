"""Whether an address can be reached: its name, its port, its certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

DEADLINE_S = 5.0
CLOSE_S = 1.0
DAY_S = 24 * 3600
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Reached:
    """
    The result of a look at an address.

    Attributes:
        fault: Why it cannot be reached; empty if it can.
        todo: What to do about that.
        address: The IP address that answered.
        days_left: Of its certificate; None without TLS.
    """

    fault: str = ""
    todo: str = ""
    address: str = ""
    days_left: float | None = None


async def reach(url: str, tls: ssl.SSLContext) -> Reached:
    """Look up the host of a URL, connect, and check its certificate."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    context = tls if parts.scheme in ("https", "wss") else None
    try:
        async with asyncio.timeout(DEADLINE_S):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=host if context else None
            )
    except TimeoutError:
        return Reached(
            f"{host}:{port} does not answer within {DEADLINE_S:g} s", "look at firewall and network"
        )
    except (OSError, UnicodeError) as error:
        return _explained(error, host, port)
    certificate = writer.get_extra_info("peercert") if context else None
    address = str(writer.get_extra_info("peername")[0])
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    if not certificate:
        return Reached(address=address)
    left_s = ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()
    return Reached(address=address, days_left=left_s / DAY_S)


def _explained(error: Exception, host: str, port: int) -> Reached:
    where = f"{host}:{port}"
    match error:
        case ssl.SSLCertVerificationError():
            text = f"the certificate of {where} is refused: {error.verify_message}"
            return Reached(text, "renew or replace it; SSL_CERT_FILE names an authority of your own")
        case ssl.SSLError():
            return Reached(
                f"{where} speaks no TLS ({error.reason})", "look at the scheme, the port and its TLS"
            )
        case socket.gaierror() | UnicodeError():
            return Reached(f"the name {host} cannot be found", "look at the name and at DNS")
        case ConnectionRefusedError():
            return Reached(f"{where} refuses connections", "look whether the service or the tunnel runs")
    return Reached(f"{where} cannot be reached: {type(error).__name__}", "look at firewall and network")
