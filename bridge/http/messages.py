"""
HTTP/1.1 messages as bytes: a request read within limits, a response written.

No I/O and no clock. The parser underneath has no limits of its own and reads on into the next request, so it
is given one line at a time, and a body by its length: what is left in the buffer after a request is exactly
what the peer sent after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType

import httptools

from bridge.http.not_http import BEGINNING_BYTES, protocol_of

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_TEXT = "text/plain; charset=utf-8"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_WEBSOCKET_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64.
_FRAMING = frozenset({"connection", "content-length", "content-type", "date", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """
    What a peer may make the front hold, and for how long.

    ``request_s`` is for a whole request, from its first byte; for a connection's first, from its beginning.
    """

    head_bytes: int = 16 * 1024
    target_bytes: int = 8 * 1024
    headers: int = 100
    body_bytes: int = 64 * 1024
    request_s: float = 5.0
    handler_s: float = 14.0  # Twilio gives a webhook 15 s.
    half_close_s: float = (
        1.0  # A peer that has sent its FIN gets its answer within this, or is taken for gone.
    )
    write_s: float = 10.0  # A peer that does not read what it asked for is cut off after this.
    linger_s: float = 2.0  # Reading on after an early refusal: a reset would destroy the answer on its way.
    linger_bytes: int = 1024 * 1024
    keep_alive_s: float = 75.0
    connections: int = 4096  # HTTP connections; the oldest without a request gives way to one more.
    upgraded: int = 4096  # Upgraded sockets, whose places no HTTP connection takes.
    receive_buffer_bytes: int = 64 * 1024  # SO_RCVBUF: bounds what a flood puts into one WebSocket's buffer.
    ws_max_frame_bytes: int = 64 * 1024
    ws_read_buffer_bytes: int = 4096


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request, whole.

    ``path`` and ``query`` are as sent, still percent-encoded, so they hold no control characters. ``headers``
    maps lower-case names to all their values in order. ``peer`` is the address of the socket's other end.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    peer: str

    def header(self, name: str) -> str | None:
        """Return the value of a header that was sent exactly once; None for a missing or a repeated one."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None


@dataclass(frozen=True, slots=True)
class Response:
    """
    An answer; length, date and connection headers are the front's.

    Raises:
        ValueError: If a status or header cannot be sent, so that no input ever splits a response.
    """

    status: int
    body: bytes = b""
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise ValueError(f"status must be 200 to 599, got {self.status}")
        if self.body and self.status in (204, 304):
            raise ValueError(f"a response of status {self.status} has no body, got {len(self.body)} bytes")
        if not _VALUE.fullmatch(self.content_type):
            raise ValueError("content_type must hold no control characters")
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError(f"header {name!r} must be a token and its value hold no control characters")
            if name.lower() in _FRAMING:
                raise ValueError(f"header {name!r} is set by the front")


NO_CONTENT = Response(204)
BAD_REQUEST = Response(400, b"400 Bad Request\n")
FORBIDDEN = Response(403, b"403 Forbidden\n")


class RequestError(Exception):
    """
    The bytes are no request that is served: answer ``response`` and close.

    Attributes:
        problem: As `App.on_not_http` has it; empty for none of these.
    """

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...] = (), problem: str = "") -> None:
        super().__init__(status)
        self.response = status_response(status, headers)
        self.problem = problem


def status_response(status: int, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Answer with nothing but the status' own words."""
    return Response(status, f"{status} {_reason(status)}\n".encode(), headers=headers)


def encode_response(response: Response, *, is_head: bool = False, keep_alive: str | None = None) -> bytes:
    """
    Write ``response`` as bytes.

    Args:
        is_head: The request was HEAD: the length is that of the body, which is left out.
        keep_alive: Version of the request ("1.0", "1.1") if the connection stays open, None if it closes.
    """
    connection = {None: ["close"], "1.0": ["keep-alive"], "1.1": []}[keep_alive]
    lines = [f"HTTP/1.1 {response.status} {_reason(response.status)}", f"Date: {formatdate(usegmt=True)}"]
    if response.status not in (204, 304):
        lines.append(f"Content-Length: {len(response.body)}")
    if response.body:
        lines.append(f"Content-Type: {response.content_type}")
    for name, value in response.headers:
        lines.append(f"{name}: {value}")
        if name.lower() == "upgrade":
            connection.append("Upgrade")  # RFC 9110, 7.8: whoever sends Upgrade says so here too.
    if connection:
        lines.append(f"Connection: {', '.join(connection)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if is_head else head + response.body


def encode_request(request: Request) -> bytes:
    """Write the head of ``request``, as another `RequestReader` reads it the same way."""
    target = request.path + (f"?{request.query}" if request.query else "")
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, values in request.headers.items() for value in values]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Parsed:
    """The parser's results so far; apart from the reader, so that there is no reference cycle."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, tuple[str, ...]] = {}
        self.header_count = 0
        self.is_head_complete = False
        self.is_complete = False
        self.body = bytearray()

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_head_complete:
            return  # A trailer: it must not pass for a header.
        self.header_count += 1
        key = name.decode("ascii").lower()
        self.headers[key] = (*self.headers.get(key, ()), value.strip(b" \t").decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.is_head_complete = True

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_complete = True


class RequestReader:
    """
    Reads one request and not a byte more.

    Its public attributes are known once the head is read. ``websocket_key`` is set for a well-formed
    WebSocket upgrade (RFC 6455, 4.2.1) only.
    """

    def __init__(self, limits: FrontLimits, peer: str) -> None:
        self.has_begun = False
        self.method = ""
        self.version = ""
        self.is_persistent = False
        self.expects_continue = False
        self.websocket_key: str | None = None
        self._limits = limits
        self._peer = peer
        # The first bytes, as far as they came at once.
        self._beginning = b""
        self._parsed = _Parsed()
        self._parser = httptools.HttpRequestParser(self._parsed)
        self._path = ""
        self._query = ""
        self._lines = 0
        self._framing_bytes = 0
        self._content_length = 0
        self._is_chunked = False
        self._chunk_line = b""
        self._chunk_bytes = 0  # Still to come of this chunk, its CRLF included.
        self._is_trailing = False

    @property
    def request(self) -> Request:
        headers = MappingProxyType(self._parsed.headers)
        return Request(self.method, self._path, self._query, headers, bytes(self._parsed.body), self._peer)

    def feed(self, data: bytearray) -> bool:
        """
        Take this request's bytes away from the front of ``data``; True when the request is whole.

        Raises:
            RequestError: If it is malformed, or larger than the limits; nothing after it can be read.
        """
        self._beginning = self._beginning or bytes(data[:BEGINNING_BYTES])
        self.has_begun = self.has_begun or bool(data)
        parsed = self._parsed
        while data and not parsed.is_head_complete:
            self._feed_head(data)
        if not parsed.is_head_complete:
            return False
        if self._is_chunked:
            while data and not parsed.is_complete:
                self._feed_chunk(data)
            return parsed.is_complete
        missing = self._content_length - len(parsed.body)
        parsed.body += data[:missing]
        del data[:missing]
        return len(parsed.body) == self._content_length

    def _feed_parser(self, data: bytearray, count: int) -> bytes:
        part = bytes(data[:count])
        del data[:count]
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            pass  # Raised where the head ends, which is where this part ends.
        except httptools.HttpParserError:
            raise RequestError(400, problem=protocol_of(self._beginning)) from None
        return part

    def _feed_head(self, data: bytearray) -> None:
        limits, parsed = self._limits, self._parsed
        part = self._feed_parser(data, data.find(b"\n") + 1 or len(data))
        self._framing_bytes += len(part)
        self._lines += part.endswith(b"\n")
        if len(parsed.target) > limits.target_bytes:
            raise RequestError(414)
        # The lines are the request line, the headers, an empty one, and empty ones before it all.
        if (
            self._framing_bytes > limits.head_bytes
            or parsed.header_count > limits.headers
            or self._lines > limits.headers + 4
        ):
            raise RequestError(431)
        if parsed.is_head_complete:
            self._check_head()
            self._framing_bytes = 0

    def _feed_chunk(self, data: bytearray) -> None:
        if self._chunk_bytes:
            self._chunk_bytes -= len(self._feed_parser(data, min(self._chunk_bytes, len(data))))
            return
        part = self._feed_parser(data, data.find(b"\n") + 1 or len(data))
        self._framing_bytes += len(part)
        if self._framing_bytes > self._limits.head_bytes:
            raise RequestError(413)
        self._chunk_line += part
        if not part.endswith(b"\n"):
            return
        size_line, self._chunk_line = self._chunk_line, b""
        if self._is_trailing:
            return
        size = int(size_line.partition(b";")[0], 16)  # The parser has checked that it is one.
        if len(self._parsed.body) + size > self._limits.body_bytes:
            raise RequestError(413)
        self._chunk_bytes = size + len(b"\r\n") if size else 0
        self._is_trailing = size == 0

    def _check_head(self) -> None:
        headers = self._parsed.headers
        self.version = self._parser.get_http_version()
        if self.version not in ("1.0", "1.1"):
            raise RequestError(505)
        self.method = self._parser.get_method().decode("ascii")
        if self.method not in _METHODS:
            raise RequestError(405, (("Allow", "GET, HEAD, POST"),))
        self._path, self._query = _split_target(self._parsed.target.decode("ascii"))
        hosts = len(headers.get("host", ()))
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):
            raise RequestError(400)
        has_body = self._check_body_headers()
        connection = _tokens(headers, "connection")
        self.is_persistent = (
            "close" not in connection if self.version == "1.1" else "keep-alive" in connection
        )
        if "websocket" in _tokens(headers, "upgrade"):
            self.websocket_key = self._check_upgrade(connection, has_body)
        elif self._parser.should_upgrade() and (has_body or self.method != "GET"):
            # Clients that offer h2c with a POST: the parser takes what follows for the other protocol.
            raise RequestError(400)

    def _check_body_headers(self) -> bool:
        headers = self._parsed.headers
        encodings = headers.get("transfer-encoding", ())
        lengths = headers.get("content-length", ())
        if encodings and (lengths or self.version == "1.0" or [e.lower() for e in encodings] != ["chunked"]):
            raise RequestError(400)
        if lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                raise RequestError(400)
            self._content_length = int(lengths[0])
            if self._content_length > self._limits.body_bytes:
                raise RequestError(413)
        self._is_chunked = bool(encodings)
        has_body = self._is_chunked or self._content_length > 0
        expectations = _tokens(headers, "expect")
        if expectations and self.version == "1.1":
            if expectations != ["100-continue"]:
                raise RequestError(417)
            self.expects_continue = has_body
        return has_body

    def _check_upgrade(self, connection: list[str], has_body: bool) -> str:
        headers = self._parsed.headers
        if self.method != "GET" or has_body:
            raise RequestError(400)
        if self.version != "1.1":
            raise RequestError(400, problem="upgrade_by_http_1_0")
        if "upgrade" not in connection:
            raise RequestError(400, problem="upgrade_without_connection")
        if headers.get("sec-websocket-version") != ("13",):
            wanted = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
            raise RequestError(426, wanted, "upgrade_without_key")
        keys = headers.get("sec-websocket-key", ())
        if len(keys) != 1 or not _WEBSOCKET_KEY.fullmatch(keys[0]):
            raise RequestError(400, problem="upgrade_without_key")
        return keys[0]


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _tokens(headers: Mapping[str, tuple[str, ...]], name: str) -> list[str]:
    return [
        token for part in ",".join(headers.get(name, ())).split(",") if (token := part.strip(" \t").lower())
    ]


def _split_target(target: str) -> tuple[str, str]:
    """Return path and query of a target: origin form (/a?b), absolute form (http://h/a?b) or asterisk."""
    if "#" in target:
        raise RequestError(400)
    if not target.startswith(("/", "*")):
        scheme, _, rest = target.partition("://")
        authority = re.split(r"[/?]", rest, maxsplit=1)[0]
        if scheme.lower() not in ("http", "https") or not authority:
            raise RequestError(400)
        target = rest[len(authority) :]
        target = target if target.startswith("/") else "/" + target
    path, _, query = target.partition("?")
    return path, query
