"""
Says in the log why a request was refused and what to change, so that a wrong setting does not look like an attack.

The peer learns nothing. Strangers can cause refusals without end: each kind has one line a second, with the number of
those that it stands for; what scanners try every day has one a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import structlog
from multidict import MultiDict

from bridge.http.messages import FORBIDDEN, Request, Response
from bridge.metrics import Metrics
from bridge.server import refusal_hints as hints
from bridge.server.form_fields import ACCOUNT_SID, CALL_SID, fields_of
from bridge.twilio.media import Start
from bridge.twilio.signature import Signatures

log = structlog.get_logger()

LINE_EVERY_S = 1.0
SCANNERS_LINE_EVERY_S = 60.0
SIGNATURE = "x-twilio-signature"
HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[1-9][0-9]{0,3}|:[1-5][0-9]{4}|:6[0-4][0-9]{3})?")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,64}){1,4}")
# Headers in which proxies give the path before they changed it.
FORMER_PATHS = ("x-forwarded-uri", "x-original-uri", "x-original-url", "x-envoy-original-path")
# Of what a stranger sends.
SHOWN_CHARS = 200


class Refusals:
    """
    Counts refused requests and logs them.

    Args:
        is_checked: Whether signatures are checked.
        clock: Seconds, monotonic.
        account_sid: The account that calls must be of; empty for any.
    """

    def __init__(
        self,
        signatures: Signatures,
        metrics: Metrics,
        is_checked: bool,
        clock: Callable[[], float],
        account_sid: str = "",
    ) -> None:
        self._signatures = signatures
        self._metrics = metrics
        self._is_checked = is_checked
        self._clock = clock
        self._account_sid = account_sid
        # By kind: when its next line may be written, and the refusals since the last one.
        self._next_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def webhook(self, request: Request, reason: str, form: MultiDict[str] | None = None) -> Response:
        """Refuse a webhook; ``reason`` is a metric label, ``form`` what its signature was checked with."""
        self._metrics.refused(reason)
        if (others := self._turn(reason)) is not None:
            url = self._signatures.webhook_url(request.path, request.query)
            hint = self._webhook_hint(request, reason, url, form or MultiDict())
            facts = {**self._facts(request, url), **self._facts_of_call(form)}
            log.warning("request refused", reason=reason, others=others, **facts, hint=hint)
        return FORBIDDEN

    def upgrade(self, request: Request, path: str) -> Response:
        """Refuse a media socket whose signature is not Twilio's."""
        self._metrics.refused("upgrade_signature")
        if (others := self._turn("upgrade_signature")) is not None:
            url = self._signatures.upgrade_url(path)
            hint = self._signature_hint(request, url, MultiDict()) or hints.OTHER_KEY_OF_UPGRADE
            facts = self._facts(request, url)
            log.warning("upgrade refused", reason="signature", others=others, **facts, hint=hint)
        return FORBIDDEN

    def astray(self, request: Request, path: str) -> Response:
        """Refuse an upgrade whose address is no media socket's; strangers leave no line."""
        if SIGNATURE in request.headers or "/media/" in path:
            self._say(
                "upgrade_path", "upgrade refused", reason="path", request=request, hint=hints.OF_UPGRADE
            )
        return FORBIDDEN

    def misdirected(self, request: Request, path: str, status: int) -> None:
        """Log a request that looks like one of Twilio's and has a wrong path or method, or is no upgrade."""
        is_media = path.startswith("/media/")
        if SIGNATURE not in request.headers and not is_media:
            return
        if is_media:
            kind, hint = "no_upgrade", hints.NO_UPGRADE
        elif status == 405 and request.method != "POST":
            kind, hint = "method", hints.GET
        elif status in (400, 415):
            kind, hint = "not_a_form", hints.NOT_A_FORM
        else:
            kind, hint = "path", self._path_hint(request, path)
        event, method = "request of Twilio's cannot be answered", request.method[:SHOWN_CHARS]
        self._say(kind, event, request=request, reason=kind, status=status, method=method, hint=hint)

    def metrics(self, request: Request) -> Response:
        """Refuse a request for the metrics from another machine."""
        self._say("metrics", "metrics refused", request=request, hint=hints.OF_METRICS)
        return FORBIDDEN

    def retell(self, request: Request) -> None:
        """Log a webhook whose signature is not Retell's."""
        if "x-retell-signature" in request.headers:
            self._say("retell", "Retell's webhook refused", request=request, hint=hints.OF_RETELL)

    def start(self, start: Start, reason: str) -> None:
        """Log that the ``start`` of a media socket is refused; ``reason`` is a metric label."""
        if (hint := hints.OF_START.get(reason)) and (others := self._turn(f"start_{reason}")) is not None:
            ids = {"call_sid": (start.call_sid, CALL_SID), "account_sid": (start.account_sid, ACCOUNT_SID)}
            facts = {name: text for name, (text, shape) in ids.items() if shape.fullmatch(text)}
            log.warning("media socket refused", reason=reason, others=others, **facts, hint=hint)

    def not_http(self, kind: str, peer: str) -> None:
        """Log that something else than a request came; ``kind`` is one of `hints.NOT_HTTP`."""
        if (others := self._turn(kind, SCANNERS_LINE_EVERY_S)) is not None:
            hint = hints.NOT_HTTP[kind]
            log.warning("connection cannot be served", reason=kind, peer=peer, others=others, hint=hint)

    def _say(self, kind: str, event: str, *, request: Request, hint: str, **facts: object) -> None:
        if (others := self._turn(kind)) is not None:
            log.warning(event, others=others, **facts, **self._facts(request, None), hint=hint)

    def _turn(self, kind: str, every_s: float | None = None) -> int | None:
        """Whether a line may be written now, and for how many more refusals it stands."""
        now = self._clock()
        if now < self._next_at.get(kind, now):
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._next_at[kind] = now + (every_s or LINE_EVERY_S)
        return self._unsaid.pop(kind, 0)

    def _facts(self, request: Request, url: str | None) -> dict[str, object]:
        facts: dict[str, object] = {
            "path": request.path[:SHOWN_CHARS],
            "peer": request.peer,
            "host": (request.header("host") or "")[:SHOWN_CHARS],
            "forwarded_host": (request.header("x-forwarded-host") or "")[:SHOWN_CHARS],
            "forwarded_proto": (request.header("x-forwarded-proto") or "")[:SHOWN_CHARS],
            "has_signature": SIGNATURE in request.headers,
        }
        if url is not None and self._is_checked:
            # Without the query, which holds the state of a call.
            facts["checked_url"] = url.partition("?")[0]
        return facts

    def _facts_of_call(self, form: MultiDict[str] | None) -> dict[str, str]:
        if form is None:
            return {}
        call_sid, other = form.get("CallSid", ""), self._other_account(form)
        facts = {"call_sid": call_sid} if CALL_SID.fullmatch(call_sid) else {}
        return {**facts, "account_sid": other} if other else facts

    def _other_account(self, form: MultiDict[str]) -> str:
        """The account that a form names, if it is not the bridge's."""
        account_sid = form.get("AccountSid", "")
        is_other = (
            self._account_sid and account_sid != self._account_sid and ACCOUNT_SID.fullmatch(account_sid)
        )
        return account_sid if is_other else ""

    def _webhook_hint(self, request: Request, reason: str, url: str, form: MultiDict[str]) -> str:
        if reason == "call_sid":
            return hints.NO_CALL
        is_other = bool(self._other_account(form))
        if reason == "account_sid":
            return hints.OTHER_ACCOUNT if is_other else hints.NOT_A_FORM
        if hint := self._signature_hint(request, url, form):
            return hint
        if not form:
            return hints.NO_FORM
        return hints.OTHER_ACCOUNT if is_other else hints.OTHER_KEY

    def _signature_hint(self, request: Request, url: str, form: MultiDict[str]) -> str | None:
        """What the signature says; None if it is there and no address explains it."""
        if len(request.headers.get(SIGNATURE, ())) > 1:
            return hints.MANY_SIGNATURES
        if not request.header(SIGNATURE):
            return hints.NO_SIGNATURE
        hosts = [request.header(name) or "" for name in ("host", "x-forwarded-host", "x-original-host")]
        found = self._signatures.find_base(
            url,
            form,
            request.header(SIGNATURE),
            [host for host in hosts if HOST.fullmatch(host)],
            [prefix for prefix in _prefixes(request) if PREFIX.fullmatch(prefix)],
        )
        if found is None:
            return None
        return hints.other_address(found, self._signatures.webhook_url("", ""), request.path)

    def _path_hint(self, request: Request, path: str) -> str:
        public_url = self._signatures.webhook_url("", "")
        webhook = next((webhook for webhook in hints.WEBHOOKS if path.endswith(webhook)), "")
        prefix = path.removesuffix(webhook)
        if webhook and PREFIX.fullmatch(prefix):
            if self._is_signed(request, path):
                return hints.prefix_missing(public_url, prefix)
            if self._is_signed(request, webhook):
                return hints.prefix_added(prefix)
        plain = "/".join(["", *filter(None, path.lower().split("/"))])
        if plain in hints.IN_CONSOLE:
            return hints.written_otherwise(public_url, plain)
        return hints.no_such_path(public_url)

    def _is_signed(self, request: Request, path: str) -> bool:
        try:
            form = fields_of(request.body)
        except ValueError:
            return False
        return self._signatures.is_webhook(path, request.query, form, request.header(SIGNATURE))


def _prefixes(request: Request) -> Iterable[str]:
    """What a proxy may have taken away from the front of the path, by its own word."""
    yield request.header("x-forwarded-prefix") or ""
    for name in FORMER_PATHS:
        former = (request.header(name) or "").partition("?")[0]
        if former.endswith(request.path):
            yield former.removesuffix(request.path)
