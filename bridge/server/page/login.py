"""Who may use the page: its password and cookie, and no page of another site."""

from __future__ import annotations

import hmac
import math
from collections.abc import Callable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

from bridge.http.messages import FORBIDDEN, Request, Response, status_response
from bridge.http.peers import is_from_this_machine, is_loopback
from bridge.seal import BadSeal, Seal

COOKIE = "bridge_page"
COOKIE_S = 12 * 3600
PURPOSE = "page"
DEFAULT_PORTS = {"http": 80, "https": 443}
# Wrong passwords of all peers together: so many at once, and then one in each time.
TRIES = 10
TRY_EVERY_S = 30.0

UNAUTHORIZED = status_response(401)


class Tries:
    """
    Limits how often something is tried, over all peers: an attacker has many addresses.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # When all tries are there again.
        self._full_at = clock()

    def wait_s(self) -> float:
        """How long until the next try is allowed; 0 if it is allowed now."""
        return max(0.0, self._full_at - self._clock() - (TRIES - 1) * TRY_EVERY_S)

    def on_wrong(self) -> None:
        """Count a wrong try."""
        self._full_at = max(self._full_at, self._clock()) + TRY_EVERY_S


class Login:
    """
    Judges the requests for the page.

    Args:
        password: Empty: no cookie is needed, and only this machine may ask.
        secrets: The account's auth tokens. All processes that have the same ones take each other's cookies.
        public_url: The page's address, beside those of this machine.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, password: str, secrets: Sequence[str], public_url: str, clock: Callable[[], float]
    ) -> None:
        self._password = password
        # A changed password makes all cookies worthless.
        self._seal = Seal([f"{secret}\n{password}" for secret in secrets or [""]])
        self._tries = Tries(clock)
        public = urlsplit(public_url)
        self._public_origin = f"{public.scheme}://{public.netloc}".lower()
        self._public_hosts = {public.netloc.lower()}
        if public.port in (None, DEFAULT_PORTS.get(public.scheme)):
            name = public.netloc.lower().removesuffix(f":{public.port}")
            self._public_hosts |= {name, f"{name}:{DEFAULT_PORTS.get(public.scheme)}"}
        self._is_https = public.scheme == "https"

    @property
    def has_password(self) -> bool:
        """Whether the page needs a password."""
        return bool(self._password)

    def is_in(self, request: Request) -> bool:
        """Whether the request has a cookie of a login, or needs none."""
        if not self._password:
            return is_from_this_machine(request)
        try:
            cookies = SimpleCookie("; ".join(request.headers.get("cookie", ())))
            self._seal.open(PURPOSE, cookies[COOKIE].value, COOKIE_S)
        except (BadSeal, CookieError, KeyError):
            return False
        return True

    def is_foreign(self, request: Request, *, needs_origin: bool) -> bool:
        """
        Whether a page of another site may have made the request, or a name that was made to lead here.

        Args:
            needs_origin: Browsers name the origin of each form and WebSocket, but not of all requests for data.
        """
        host = (request.header("host") or "").lower()
        is_public = bool(self._password) and host in self._public_hosts
        if not (is_public or _is_local_name(host)):
            return True
        if request.header("sec-fetch-site") not in (None, "same-origin", "none"):
            return True
        if "origin" not in request.headers:
            return needs_origin
        origin = (request.header("origin") or "").lower()
        mine = {f"http://{host}", f"https://{host}"} | ({self._public_origin} if self._password else set())
        return origin not in mine

    def refusal(self, request: Request, *, needs_origin: bool = False) -> Response | None:
        """The answer to a request that must not get any data; None for one that may."""
        if self.is_foreign(request, needs_origin=needs_origin):
            return FORBIDDEN
        if self.is_in(request):
            return None
        return UNAUTHORIZED if self._password else FORBIDDEN

    def wait_s(self) -> int:
        """How long no password is looked at, in whole seconds; 0 if the next one is."""
        return math.ceil(self._tries.wait_s())

    def is_right(self, request: Request) -> bool:
        """Whether the form of a request has the password; ask `wait_s` first."""
        try:
            fields = parse_qsl(request.body.decode("ascii"), max_num_fields=5)
        except ValueError:
            fields = []
        given = [value for name, value in fields if name == "password"]
        is_right = len(given) == 1 and hmac.compare_digest(given[0].encode(), self._password.encode())
        if not is_right:
            self._tries.on_wrong()
        return is_right

    def cookie(self, request: Request, path: str) -> tuple[str, str]:
        """The header that gives a browser its cookie, which is good below ``path``."""
        # Browsers take a `Secure` cookie of this machine only over https, some of them.
        is_local = _is_local_name((request.header("host") or "").lower())
        secure = "; Secure" if self._is_https and not is_local else ""
        value = self._seal.seal(PURPOSE, {})
        attributes = f"Path={path}; Max-Age={COOKIE_S}; HttpOnly; SameSite=Strict{secure}"
        return "Set-Cookie", f"{COOKIE}={value}; {attributes}"


def _is_local_name(host: str) -> bool:
    """Whether a Host is this machine by its address or `localhost`, which nobody can lead elsewhere."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)
