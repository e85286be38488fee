"""The deliberate misbehaviour of the stand-in agent service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class HttpAnswer:
    """
    An answer in place of the usual one.

    Attributes:
        status: HTTP status; 101 lets an upgrade go on.
        body: Bytes; without them, a 2xx of the REST API has the usual body.
        headers: Header fields by name.
        delay_s: Seconds before the answer.
    """

    status: int = 201
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Faults:
    """
    Everything that the service does wrong on purpose; by default nothing.

    Attributes:
        rest_answers: Answers to the first registrations, one each.
        upgrade_answers: Answers to the first upgrades of the socket, one each.
        open_delay_s: Seconds before the upgrade of a socket completes.
        ready_delay_s: Seconds before the service reports that audio may flow, in protocols with such a report.
        fail_ready: Whether the service reports an error instead.
        inject: One of ``inject.KINDS``, applied to the audio that the agent sends; None sends it unchanged.
    """

    rest_answers: Sequence[HttpAnswer] = ()
    upgrade_answers: Sequence[HttpAnswer] = ()
    open_delay_s: float = 0.0
    ready_delay_s: float = 0.0
    fail_ready: bool = False
    inject: str | None = None


NO_FAULTS = Faults()
