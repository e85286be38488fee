"""The page at `/`: its files, its login and its data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path

import structlog

from bridge.http.messages import Request, Response, status_response
from bridge.server.page.calls import CallData, Source
from bridge.server.page.login import Login

log = structlog.get_logger()

STATIC = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HTML = "text/html; charset=utf-8"
OK = Response(200, b"ok\n")
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    # A stricter policy would hide the origin of the page's own forms.
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "microphone=(self)"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)

Handler = Callable[[Request], Awaitable[Response]]


class Page:
    """
    Answers the requests for the page.

    Args:
        prefix: The path of ``PUBLIC_URL``, without a slash at its end.
        calls: Knows the calls that the page shows.

    Attributes:
        gets: The handlers of GET by their paths below ``PUBLIC_URL``.
        posts: Those of POST.
    """

    def __init__(self, login: Login, prefix: str, calls: Source) -> None:
        self._login = login
        self._prefix = prefix
        self._index = self._read("index.html").replace("{{telephone}}", self._read("telephone.html"))
        self._form = self._read("login.html")
        self.gets: dict[str, Handler] = {"/": self._root, **CallData(login, calls, HEADERS).gets}
        self.posts: dict[str, Handler] = {"/page/login": self._log_in}
        for path in sorted(STATIC.iterdir()):
            if path.suffix in TYPES:
                self.gets[f"/page/{path.name}"] = _file(path)

    def _read(self, name: str) -> str:
        return (STATIC / name).read_text(encoding="utf-8").replace("{{prefix}}", escape(self._prefix))

    async def _root(self, request: Request) -> Response:
        if request.method != "GET":
            # A balancer's check.
            return OK
        if self._login.has_password and not self._login.is_in(request):
            return self._login_form(200, "")
        return Response(200, self._index.encode(), HTML, HEADERS)

    def _login_form(self, status: int, message: str, *headers: tuple[str, str]) -> Response:
        text = self._form.replace("{{message}}", message)
        return Response(status, text.encode(), HTML, (*HEADERS, *headers))

    async def _log_in(self, request: Request) -> Response:
        if not self._login.has_password or self._login.is_foreign(request, needs_origin=True):
            return status_response(403)
        if wait_s := self._login.wait_s():
            message = f"Too many wrong passwords. Try again in {wait_s} s."
            return self._login_form(429, message, ("Retry-After", str(wait_s)))
        if not self._login.is_right(request):
            log.warning("wrong password for the page", peer=request.peer)
            return self._login_form(401, "The password is wrong.")
        path = f"{self._prefix}/"
        return Response(303, headers=(("Location", path), self._login.cookie(request, path), *HEADERS))


def _file(path: Path) -> Handler:
    response = Response(200, path.read_bytes(), TYPES[path.suffix], HEADERS)

    async def answer(request: Request) -> Response:
        return response

    return answer
