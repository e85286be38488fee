"""Deadlines and bounds of a call: those that nobody has to choose, and those of one call together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Constants of the process in one place, so that tests can shorten them."""

    token_s: int = 60
    """Seconds from the webhook's answer to the media socket; Twilio opens it within seconds."""

    start_s: float = 10.0
    """Seconds from the upgrade to ``start``; Twilio sends both at once."""

    close_s: float = 2.0
    """Seconds from a close frame sent to the socket's end; then the socket is aborted."""

    caller_ping_s: float = 30.0
    """Seconds between pings to Twilio, which keep proxies from closing an idle socket."""

    agent_ping_s: float = 10.0
    """Seconds of silence after which the agent is pinged; below the time after which it counts as dead."""

    playout_margin_s: float = 5.0
    """Seconds that last words may take beyond their length: the network, and what Twilio buffers."""

    grace_s: float = 5.0
    """Seconds for which the agent's side of a call is kept after its media socket is lost: Twilio asks for the next
    TwiML at once and opens the new socket within a second or two."""

    successor_s: float = 3.0
    """Seconds for session and socket of an agent that takes a call over: the caller hears nothing meanwhile."""

    answer_s: float = 2.0
    """Seconds of those for a session that the answer webhook may take; the rest is for the agents."""

    twilio_api_s: float = 10.0
    """Seconds for a request to Twilio's REST API; the media socket stays open until then."""

    trouble_s: float = 5.0
    """Seconds without audio after which an agent that has reported an error is lost: a caller waits no longer."""

    notice_s: float = 60.0
    """Seconds before the end of a call or a session by its limit, when the agent learns of it: enough to come to an
    end."""

    send_buffer_bytes: int = 32768
    """Bytes in the kernel's send buffer of a socket: small, so that a peer which does not read is noticed."""

    write_high_bytes: int = 4096
    """Unsent bytes in the process, and in the kernel, from which on audio to a peer is held in the ring: what has left
    it is beyond recall of an interrupt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentLimits:
    """
    Deadlines of one agent of a call, in seconds.

    ``connect_s``: DNS, TCP, TLS, upgrade and `Control.READY` together. The others are as in `Limits`.
    """

    connect_s: float
    trouble_s: float
    notice_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CallLimits:
    """How long a call waits for what, in seconds."""

    start_s: float
    duration_s: float
    caller_silent_s: float
    playout_max_s: float
    playout_margin_s: float
    grace_s: float
    twilio_api_s: float
