"""Leads each HTTP path to its handler; answers health checks and metrics itself."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import replace

from bridge.http.messages import FORBIDDEN, Request, Response
from bridge.metrics import Metrics
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.retell_webhook import RetellWebhook
from bridge.server.webhooks import Webhooks
from bridge.settings import Settings

NOT_FOUND = Response(404, b"404 Not Found\n")
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Headers of a proxy on this host, which passes on requests of others.
FORWARDED = ("forwarded", "via", "x-real-ip", "cf-connecting-ip")


class Paths:
    """Leads requests to their handlers."""

    def __init__(
        self,
        settings: Settings,
        webhooks: Webhooks,
        retell: RetellWebhook,
        registry: Registry,
        refusals: Refusals,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._refusals = refusals
        self._metrics = metrics
        self._metrics_token = settings.bridge_metrics_token.get_secret_value()
        prefix = "/".join(settings.public_url.split("/")[3:])
        self._prefix = f"/{prefix}" if prefix else ""
        self._posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/voice": webhooks.voice,
            "/voice/resume": webhooks.resume,
            "/voice/dialled": webhooks.dialled,
            "/voice/status": webhooks.voice_status,
            "/stream/status": webhooks.stream_status,
            "/retell/webhook": retell.handle,
        }
        self._gets: dict[str, Callable[[Request], Response]] = {
            # HAProxy's default health check asks for this one.
            "/": _alive,
            "/healthz": _alive,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        path = self.path(request)
        # The webhooks put the prefix back for the signature.
        request = replace(request, path=path)
        if post := self._posts.get(path):
            response = await post(request) if request.method == "POST" else _not_allowed("POST")
        elif get := self._gets.get(path):
            is_get = request.method in ("GET", "HEAD", "OPTIONS")
            response = get(request) if is_get else _not_allowed("GET, HEAD, OPTIONS")
        else:
            self._refusals.misdirected(request, path, 404)
            return NOT_FOUND
        if response.status == 405:
            self._refusals.misdirected(request, path, 405)
        self._metrics.requests.labels(path, str(response.status)).inc()
        return response

    def path(self, request: Request) -> str:
        """The path below ``PUBLIC_URL``, whose prefix a proxy may have stripped or not."""
        if self._prefix and request.path.startswith(f"{self._prefix}/"):
            return request.path.removeprefix(self._prefix)
        return request.path

    def _readyz(self, request: Request) -> Response:
        # A full process stays ready: the sockets of admitted calls must still be routed here.
        return Response(503, b"draining\n") if self._registry.is_draining else Response(200, b"ready\n")

    def _metrics_page(self, request: Request) -> Response:
        if self._metrics_token:
            given = (request.header("authorization") or "").encode()
            if not hmac.compare_digest(given, f"Bearer {self._metrics_token}".encode()):
                return Response(401, b"401 Unauthorized\n", headers=(("WWW-Authenticate", "Bearer"),))
        elif not _is_loopback(request.peer) or any(
            name in FORWARDED or name.startswith("x-forwarded-") for name in request.headers
        ):
            return FORBIDDEN
        self._metrics.calls_live.set(self._registry.live)
        self._metrics.calls_admitted.set(self._registry.admitted)
        return Response(200, self._metrics.text(), METRICS_TYPE)


def _alive(request: Request) -> Response:
    return Response(200, b"ok\n")


def _not_allowed(allowed: str) -> Response:
    return Response(405, b"405 Method Not Allowed\n", headers=(("Allow", allowed),))


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False
