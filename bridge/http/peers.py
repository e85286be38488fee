"""Where a request comes from."""

from __future__ import annotations

import ipaddress

from bridge.http.messages import Request

# Headers of a proxy on this host, which passes on requests of others.
FORWARDED = ("forwarded", "via", "x-real-ip", "cf-connecting-ip")


def is_from_this_machine(request: Request) -> bool:
    """Whether a process of this machine made the request, and no proxy passed it on."""
    return is_loopback(request.peer) and not any(
        name in FORWARDED or name.startswith("x-forwarded-") for name in request.headers
    )


def is_loopback(address: str) -> bool:
    """Whether an address is of this machine; a name never is."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
