"""The host of Twilio's REST API, which follows the region that processes the calls."""

from __future__ import annotations

DEFAULT_API = "https://api.twilio.com"
# The edge in each region. Source: Twilio's SDKs of November 2025 and its page on the REST API outside the US, by which
# a host with a region and no edge no longer works.
EDGES = {
    "au1": "sydney",
    "br1": "sao-paulo",
    "de1": "frankfurt",
    "ie1": "dublin",
    "jp1": "tokyo",
    "jp2": "osaka",
    "sg1": "singapore",
    "us1": "ashburn",
    "us2": "umatilla",
}


def api_url(region: str, edge: str) -> str:
    """The API's address for a region of `EDGES`, or for one whose edge is given; both empty: Twilio's default."""
    if not (region or edge):
        return DEFAULT_API
    region = region or "us1"
    return f"https://api.{edge or EDGES[region]}.{region}.twilio.com"
