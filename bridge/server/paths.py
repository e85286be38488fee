"""Leads each HTTP path to its handler; answers health checks and metrics itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import picows

from bridge.http.front import FrontLimits, GiveAway
from bridge.http.messages import Request, Response
from bridge.http.peers import is_from_this_machine
from bridge.metrics import Metrics, text_of
from bridge.server.bearer import unauthorized
from bridge.server.calls_api import CallsApi
from bridge.server.media_socket import MediaSockets
from bridge.server.page.page import Page
from bridge.server.probe import Probe
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.retell_webhook import RetellWebhook
from bridge.server.webhooks import Webhooks
from bridge.server.workers.worker import Siblings
from bridge.settings import Settings

NOT_FOUND = Response(404, b"404 Not Found\n")
# Media sockets beyond the limit of calls: of calls that end, and without a `start` so far.
ENDING_CALLS = 64
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def front_limits(settings: Settings) -> FrontLimits:
    """What peers may make the HTTP front hold."""
    return FrontLimits(
        connections=settings.bridge_http_connections + settings.bridge_max_calls,
        upgraded=settings.bridge_max_calls + ENDING_CALLS,
        ws_max_frame_bytes=settings.bridge_caller_message_max_bytes,
    )


class Paths:
    """Leads requests to their handlers: the `App` of the HTTP front."""

    def __init__(
        self,
        settings: Settings,
        webhooks: Webhooks,
        retell: RetellWebhook,
        registry: Registry,
        media_sockets: MediaSockets,
        probe: Probe,
        refusals: Refusals,
        metrics: Metrics,
        siblings: Siblings | None,
        calls: CallsApi | None = None,
        page: Page | None = None,
    ) -> None:
        self._calls = calls
        self._siblings = siblings
        # A connection with TLS cannot move to another worker.
        self._can_give = not settings.bridge_tls_cert
        self._media_sockets = media_sockets
        self._probe = probe
        self._registry = registry
        self._refusals = refusals
        self._metrics = metrics
        self._metrics_token = settings.bridge_metrics_token.get_secret_value()
        self._prefix = settings.path_prefix
        self._posts: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/voice": webhooks.voice,
            "/voice/resume": webhooks.resume,
            "/voice/dialled": webhooks.dialled,
            "/voice/status": webhooks.voice_status,
            "/voice/check": probe.voice,
            "/stream/status": webhooks.stream_status,
            "/retell/webhook": retell.handle,
        }
        self._gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            # HAProxy's default health check asks for this one.
            "/": _alive,
            "/healthz": _alive,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
        }
        if page is not None:
            self._posts |= page.posts
            self._gets |= page.gets

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        path = self.path(request)
        # The webhooks put the prefix back for the signature.
        request = replace(request, path=path)
        if path.startswith("/page/calls/") and "/page/calls" in self._gets:
            path = "/page/calls"
        if post := self._posts.get(path):
            response = await post(request) if request.method == "POST" else _not_allowed("POST")
        elif get := self._gets.get(path):
            is_get = request.method in ("GET", "HEAD", "OPTIONS")
            response = await get(request) if is_get else _not_allowed("GET, HEAD, OPTIONS")
        elif self._calls is not None and (path == "/calls" or path.startswith("/calls/")):
            response, path = await self._calls.handle(request), "/calls"
        else:
            self._refusals.misdirected(request, path, 404)
            # Anybody may make up paths: one label for all.
            response, path = NOT_FOUND, "other"
        if response.status == 405:
            self._refusals.misdirected(request, path, 405)
        elif response.status == 403 and path == "/retell/webhook":
            self._refusals.retell(request)
        self._metrics.requests.labels(path, str(response.status)).inc()
        return response

    def upgrade(self, request: Request) -> picows.WSListener | Response | GiveAway:
        """Accept a media socket, refuse it, or give it to the worker that holds its call."""
        path = self.path(request)
        if path == "/media/check":
            return self._probe.upgrade(path, request)
        if self._siblings is not None and self._can_give:
            media_id = path.rpartition("/")[2]
            if self._siblings.owner_of(media_id) is not None:
                return partial(self._siblings.give, media_id)
        return self._media_sockets.upgrade(path, request)

    def on_not_http(self, kind: str, peer: str) -> None:
        """Something else than a request came."""
        self._refusals.not_http(kind, peer)

    def path(self, request: Request) -> str:
        """The path below ``PUBLIC_URL``, whose prefix a proxy may have stripped or not."""
        if self._prefix and request.path.startswith(f"{self._prefix}/"):
            return request.path.removeprefix(self._prefix)
        return request.path

    async def _readyz(self, request: Request) -> Response:
        # A full process stays ready: the sockets of admitted calls must still be routed here.
        is_ready = not self._registry.is_draining
        if not is_ready and self._siblings is not None:
            is_ready = await self._siblings.is_any_ready()
        return Response(200, b"ready\n") if is_ready else Response(503, b"draining\n")

    async def _metrics_page(self, request: Request) -> Response:
        if self._metrics_token:
            if (refusal := unauthorized(request, self._metrics_token)) is not None:
                return refusal
        elif not is_from_this_machine(request):
            return self._refusals.metrics(request)
        families = await self._siblings.all_families() if self._siblings is not None else None
        return Response(200, self._metrics.text() if families is None else text_of(families), METRICS_TYPE)


async def _alive(request: Request) -> Response:
    return Response(200, b"ok\n")


def _not_allowed(allowed: str) -> Response:
    return Response(405, b"405 Method Not Allowed\n", headers=(("Allow", allowed),))
