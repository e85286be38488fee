"""
Says in the log why a request was refused, so that a wrong setting does not look like an attack.

The peer learns nothing. Strangers can cause refusals without end: each kind has one line a second, with the number of
those that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import structlog
from multidict import MultiDict

from bridge.http.messages import FORBIDDEN, Request, Response
from bridge.metrics import Metrics
from bridge.twilio.signature import Signatures

log = structlog.get_logger()

LINE_EVERY_S = 1.0
CALL_SID = re.compile(r"CA[0-9a-f]{32}")
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[1-9][0-9]{0,3}|:[1-5][0-9]{4}|:6[0-4][0-9]{3})?")
# Of what a stranger sends.
SHOWN_CHARS = 200


class Refusals:
    """
    Counts refused requests and logs them.

    Args:
        is_checked: Whether signatures are checked.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, signatures: Signatures, metrics: Metrics, is_checked: bool, clock: Callable[[], float]
    ) -> None:
        self._signatures = signatures
        self._metrics = metrics
        self._is_checked = is_checked
        self._clock = clock
        # By kind: when its next line may be written, and the refusals since the last one.
        self._next_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def webhook(self, request: Request, reason: str, form: MultiDict[str] | None = None) -> Response:
        """Refuse a webhook; ``reason`` is a metric label, ``form`` what its signature was checked with."""
        self._metrics.refused(reason)
        if (others := self._turn(reason)) is not None:
            url = self._signatures.webhook_url(request.path, request.query)
            found = (
                self._signed_url(request, url, form) if form is not None and reason == "signature" else None
            )
            log.warning(
                "request refused",
                reason=reason,
                others=others,
                **self._facts(request, url, form),
                **_hint(found),
            )
        return FORBIDDEN

    def upgrade(self, request: Request, path: str) -> Response:
        """Refuse a media socket whose signature is not Twilio's."""
        self._metrics.refused("upgrade_signature")
        if (others := self._turn("upgrade_signature")) is not None:
            url = self._signatures.upgrade_url(path)
            found = self._signed_url(request, url, MultiDict())
            log.warning(
                "upgrade refused",
                reason="signature",
                others=others,
                **self._facts(request, url, None),
                **_hint(found),
            )
        return FORBIDDEN

    def misdirected(self, request: Request, path: str, status: int) -> None:
        """Log a request that looks like one of Twilio's and has a wrong path or method, or is no upgrade."""
        if "x-twilio-signature" not in request.headers and not path.startswith("/media/"):
            return
        if path.startswith("/media/"):
            kind, hint = "no_upgrade", "the proxy must pass on the headers Upgrade and Connection"
        elif status == 405:
            kind, hint = "method", "set the webhook in Twilio's console to HTTP POST"
        elif status == 415:
            kind, hint = (
                "not_a_form",
                "what stands before PUBLIC_URL must pass on the form that Twilio posts as it is",
            )
        else:
            kind, hint = (
                "path",
                "the number's webhook is PUBLIC_URL/voice, its status callback PUBLIC_URL/voice/status",
            )
        if (others := self._turn(kind)) is not None:
            log.warning(
                "request of Twilio's cannot be answered",
                reason=kind,
                status=status,
                method=request.method[:SHOWN_CHARS],
                others=others,
                hint=hint,
                **self._facts(request, None, None),
            )

    def _turn(self, kind: str) -> int | None:
        """Whether a line may be written now, and for how many more refusals it stands."""
        now = self._clock()
        if now < self._next_at.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._next_at[kind] = now + LINE_EVERY_S
        return self._unsaid.pop(kind, 0)

    def _facts(self, request: Request, url: str | None, form: MultiDict[str] | None) -> dict[str, object]:
        facts: dict[str, object] = {
            "path": request.path[:SHOWN_CHARS],
            "peer": request.peer,
            "host": (request.header("host") or "")[:SHOWN_CHARS],
            "forwarded_host": (request.header("x-forwarded-host") or "")[:SHOWN_CHARS],
            "forwarded_proto": (request.header("x-forwarded-proto") or "")[:SHOWN_CHARS],
            "has_signature": "x-twilio-signature" in request.headers,
        }
        if url is not None and self._is_checked:
            # Without the query, which holds the state of a call.
            facts["checked_url"] = url.partition("?")[0]
        call_sid = form.get("CallSid", "") if form is not None else ""
        if CALL_SID.fullmatch(call_sid):
            facts["call_sid"] = call_sid
        return facts

    def _signed_url(self, request: Request, url: str, form: MultiDict[str]) -> str | None:
        """The base URL for which the signature would be right, if it is one that a wrong setting explains."""
        hosts = [request.header(name) or "" for name in ("host", "x-forwarded-host", "x-original-host")]
        return self._signatures.find_base(
            url, form, request.header("x-twilio-signature"), [host for host in hosts if HOST.fullmatch(host)]
        )


def _hint(found: str | None) -> dict[str, str]:
    if found is None:
        return {}
    return {
        "hint": f"Twilio signed for another address: set PUBLIC_URL={found}, or correct the webhook in its console"
    }
