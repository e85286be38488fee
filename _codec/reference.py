"""The codec in plain Python: the specification of the compiled modules and the oracle of their tests."""

import copy
import re
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from _codec.kaiser import HALF_LENGTH, TAPS_PER_PHASE, phases, ratio, single

Buffer = bytes | bytearray | memoryview

MAX_PATHS = 8
MAX_DEPTH = 8
MAX_DIGITS = 18
MAX_TEXT_BYTES = 4096

BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
TOKEN = re.compile(
    rb"""[ \t\r\n]*(?:
        (?P<string>"[ !\x23-\x5b\x5d-\x7e]*")
        # With escapes but for halves of surrogate pairs, and UTF-8 (RFC 3629, section 4): read over, never compared.
        | (?P<text>"(?:[ !\x23-\x5b\x5d-\x7e]
            | \\(?:["\\/bfnrt] | u(?:[0-9A-CEFa-cef][0-9A-Fa-f]{3} | [Dd][0-7][0-9A-Fa-f]{2}))
            | [\xc2-\xdf][\x80-\xbf]
            | (?:\xe0[\xa0-\xbf] | [\xe1-\xec\xee\xef][\x80-\xbf] | \xed[\x80-\x9f])[\x80-\xbf]
            | (?:\xf0[\x90-\xbf] | [\xf1-\xf3][\x80-\xbf] | \xf4[\x80-\x8f])[\x80-\xbf]{2}
        )*")
        | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)
        | (?P<literal>true|false|null)
        | (?P<mark>[][{}:,])
    )""",
    re.VERBOSE,
)
SPACE = b" \t\r\n"


def samples_of(pcm: Buffer) -> list[int]:
    """Return 16-bit little-endian samples as integers."""
    data = memoryview(pcm).tobytes()
    if len(data) % 2:
        raise ValueError(f"pcm must hold whole 16-bit samples, got {len(data)} bytes")
    return [int.from_bytes(data[i : i + 2], "little", signed=True) for i in range(0, len(data), 2)]


def pcm_of(samples: list[int]) -> bytes:
    return b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def mulaw_to_pcm16(ulaw: Buffer) -> bytes:
    """Decode mu-law bytes to 16-bit little-endian samples. Source: ITU-T G.711, table 2a."""

    def decode(code: int) -> int:
        inverted = code ^ 0xFF
        magnitude = ((((inverted & 0x0F) << 3) + 132) << (inverted >> 4 & 7)) - 132
        return -magnitude if inverted & 0x80 else magnitude

    return pcm_of([decode(code) for code in memoryview(ulaw).tobytes()])


def pcm16_to_mulaw(pcm: Buffer) -> bytes:
    """
    Encode 16-bit little-endian samples to mu-law. Source: ITU-T G.711, table 2a; bias 33.

    Raises:
        ValueError: If the length is odd.
    """

    def encode(sample: int) -> int:
        value = sample >> 2
        inverted = 0x7F if value < 0 else 0xFF
        # 8158 is the largest value whose biased form is still in the last segment.
        value = min(abs(value), 8158) + 33
        segment = value.bit_length() - 6
        return (segment << 4 | value >> (segment + 1) & 0x0F) ^ inverted

    return bytes(encode(sample) for sample in samples_of(pcm))


class Resampler:
    """
    Converts a stream of 16-bit little-endian samples between 8000 Hz and 16000, 24000 or 48000 Hz.

    State is kept between calls, so the output does not depend on the division of the stream into calls.

    Raises:
        ValueError: If the pair of rates is not supported.

    Source of the filter: the window design of J. F. Kaiser, 1974, in ``_codec.kaiser``.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._factor, self._up = ratio(from_hz, to_hz)
        self._phases = phases(self._factor, self._up)
        # The last sample is the newest.
        held = TAPS_PER_PHASE * (1 if self._up else self._factor)
        self._history: deque[int] = deque([0] * held, maxlen=held)
        self._samples_to_skip = 0

    @property
    def delay_samples(self) -> int:
        """Group delay, in samples of the output: 2 ms."""
        return HALF_LENGTH * (self._factor if self._up else 1)

    def process(self, pcm: Buffer) -> bytes:
        """
        Return the next samples of the output.

        Raises:
            ValueError: If the length is odd.
        """
        out = []
        for sample in samples_of(pcm):
            self._history.append(sample)
            newest_first = list(reversed(self._history))
            if self._up:
                out += [self._weighed([(taps, newest_first)]) for taps in self._phases]
            elif self._samples_to_skip:
                self._samples_to_skip -= 1
            else:
                streams = [newest_first[p :: self._factor] for p in range(self._factor)]
                out.append(self._weighed(list(zip(self._phases, streams, strict=True))))
                self._samples_to_skip = self._factor - 1
        return pcm_of(out)

    @staticmethod
    def _weighed(parts: list[tuple[tuple[float, ...], list[int]]]) -> int:
        """Add the products strictly in order and in single precision, round half to even and saturate."""
        total = 0.0
        for taps, samples in parts:
            for tap, sample in zip(taps, samples, strict=True):
                total = single(total + single(tap * sample))
        return max(-32768, min(32767, round(total)))


def decoded_bytes(payload: bytes) -> int:
    """Return the decoded length of valid base64 text; at least 0 for any other text."""
    padding = 2 if payload.endswith(b"==") else 1 if payload.endswith(b"=") else 0
    return max(0, len(payload) * 3 // 4 - padding)


def is_base64(text: bytes) -> bool:
    """
    Return whether a text is base64 with the standard alphabet, whole groups of four and no excess padding.

    Source: RFC 4648, section 4; bits left over before the padding are ignored.
    """
    return BASE64.fullmatch(text) is not None


class Token(NamedTuple):
    kind: str
    text: bytes
    start: int


class Refused(Exception):
    """The message does not have the finder's shape."""


class SpanFinder:
    """Finds the base64 text of a JSON message of a known shape; described at `_codec.media_json.SpanFinder`."""

    def __init__(
        self,
        payload: str,
        equal: Mapping[str, str | int],
        absent_or_equal: Mapping[str, str | int] | None = None,
    ) -> None:
        wanted = [*equal.items(), *(absent_or_equal or {}).items()]
        if 1 + len(wanted) > MAX_PATHS:
            raise ValueError(f"at most {MAX_PATHS} paths can be used, got {1 + len(wanted)}")
        self._payload = self._path(payload)
        # The required JSON text of each path.
        self._values: dict[tuple[bytes, ...], bytes] = {}
        for text, value in wanted:
            path = self._path(text)
            if path == self._payload or path in self._values:
                raise ValueError(f"path {text!r} is used twice")
            self._values[path] = self._token(text, value)
        leaves = {self._payload, *self._values}
        self._parents = {path[:1] for path in leaves if len(path) == 2}
        if self._parents & leaves:
            raise ValueError("a path to an object cannot be used beside a path to a key in it")
        self._required = {self._payload, *(self._path(text) for text in equal)}

    def with_value(self, path: str, value: str | int) -> "SpanFinder":
        """Return a finder that differs only in the value required at a path."""
        other = copy.copy(self)
        wanted = self._token(path, value)
        where = tuple(self._plain(key, "key") for key in path.split("."))
        if where not in self._values:
            raise ValueError(f"no value is wanted at {path!r}")
        other._values = {**self._values, where: wanted}
        return other

    def find(self, message: bytes) -> tuple[int, int] | None:
        """
        Return where the base64 text of a message starts and ends.

        Returns:
            None if the message is not of this shape or not plain JSON, and must be read by a full parser.
            Not plain: a backslash or a character outside printable ASCII in a key or in a value that is looked at, half
            of a surrogate pair, a used key that occurs twice in its object, more than 8 levels, a number with an
            exponent or more than 18 digits.
        """
        try:
            tokens = self._tokens(message)
            tokens.reverse()
            found: dict[tuple[bytes, ...], Token] = {}
            if tokens[-1].text != b"{":
                return None
            self._read_value(tokens, found, (), 0)
        except Refused:
            return None
        if tokens[-1].kind != "end" or not self._required <= found.keys():
            return None
        token = found[self._payload]
        return token.start + 1, token.start + len(token.text) - 1

    @staticmethod
    def _path(text: str) -> tuple[bytes, ...]:
        if not isinstance(text, str):
            raise TypeError(f"path must be str, got {type(text).__name__}")
        keys = text.split(".")
        if len(keys) > 2 or not all(keys):
            raise ValueError(f"path must be one key or two joined by a dot, got {text!r}")
        return tuple(SpanFinder._plain(key, "key") for key in keys)

    @staticmethod
    def _plain(text: str, what: str) -> bytes:
        if not (text.isascii() and text.isprintable()) or '"' in text or "\\" in text:
            raise ValueError(f"{what} must be printable ASCII without quotes or backslashes, got {text!r}")
        if len(text) > MAX_TEXT_BYTES:
            raise ValueError(f"{what} must have at most {MAX_TEXT_BYTES} characters, got {len(text)}")
        return text.encode("ascii")

    @staticmethod
    def _token(path: str, value: str | int) -> bytes:
        """Return the JSON text of a required value."""
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise TypeError(f"value of {path} must be str or int, got {type(value).__name__}")
        if isinstance(value, str):
            return b'"%b"' % SpanFinder._plain(value, f"value of {path}")
        if abs(value) >= 10**MAX_DIGITS:
            raise ValueError(f"value of {path} must have at most {MAX_DIGITS} digits, got {value}")
        return b"%d" % value

    @staticmethod
    def _tokens(message: bytes) -> list[Token]:
        tokens = []
        end = len(message.rstrip(SPACE))
        position = 0
        while position < end:
            match = TOKEN.match(message, position, end)
            if match is None or match.lastgroup is None:
                raise Refused
            token = Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            if token.kind == "number" and len(re.findall(rb"[0-9]", token.text)) > MAX_DIGITS:
                raise Refused
            tokens.append(token)
            position = match.end()
        return [*tokens, Token("end", b"", end)]

    def _read_value(
        self,
        tokens: list[Token],
        found: dict[tuple[bytes, ...], Token],
        path: tuple[bytes, ...] | None,
        depth: int,
    ) -> None:
        """Take one value off the end of ``tokens``; ``path`` is None if no path of the shape leads to it."""
        token = tokens.pop()
        if path:
            self._check(path, token, found)
        if token.text == b"{":
            self._read_members(tokens, found, path, depth + 1)
        elif token.text == b"[":
            self._read_items(tokens, found, depth + 1)
        elif token.kind in ("end", "mark"):
            raise Refused

    def _check(self, path: tuple[bytes, ...], token: Token, found: dict[tuple[bytes, ...], Token]) -> None:
        if path != self._payload and path not in self._values and path not in self._parents:
            return
        if path in found:
            raise Refused
        found[path] = token
        if path == self._payload:
            if token.kind != "string" or not is_base64(token.text[1:-1]):
                raise Refused
        elif token.text != self._values.get(path, b"{"):
            raise Refused

    def _read_members(
        self,
        tokens: list[Token],
        found: dict[tuple[bytes, ...], Token],
        path: tuple[bytes, ...] | None,
        depth: int,
    ) -> None:
        if depth > MAX_DEPTH:
            raise Refused
        if tokens[-1].text == b"}":
            tokens.pop()
            return
        while True:
            key = tokens.pop()
            if key.kind != "string" or tokens.pop().text != b":":
                raise Refused
            below = (*path, key.text[1:-1]) if path is not None and len(path) < 2 else None
            self._read_value(tokens, found, below, depth)
            mark = tokens.pop().text
            if mark == b"}":
                return
            if mark != b",":
                raise Refused

    def _read_items(self, tokens: list[Token], found: dict[tuple[bytes, ...], Token], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise Refused
        if tokens[-1].text == b"]":
            tokens.pop()
            return
        while True:
            self._read_value(tokens, found, None, depth)
            mark = tokens.pop().text
            if mark == b"]":
                return
            if mark != b",":
                raise Refused


class Envelope:
    """The constant text before and after the payload of a message."""

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix = prefix
        self._suffix = suffix

    def wrap_payload(self, payload: bytes) -> bytes:
        """Return the payload between prefix and suffix."""
        return self._prefix + payload + self._suffix
