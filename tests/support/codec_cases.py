"""Shared by the tests of media messages: one small shape, and its reading by a full parser."""

import binascii
from types import ModuleType

import orjson

# A small shape for tables and random tests: e must be "m", v may be absent or 1, the text is at a.p.
SMALL_EQUAL: dict[str, str | int] = {"e": "m"}
SMALL_OPTIONAL: dict[str, str | int] = {"v": 1, "a.q": "r"}


def small(codec: ModuleType):
    return codec.SpanFinder("a.p", SMALL_EQUAL, SMALL_OPTIONAL)


def is_canonical_base64(text: bytes) -> bool:
    """Ask binascii; some of its versions take a full group followed by padding, which is not base64."""
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return False
    return len(text) == (len(decoded) + 2) // 3 * 4


def assert_orjson_agrees(message: bytes, span: tuple[int, int]) -> None:
    """A span is only given where a full parser reads the small shape."""
    read = orjson.loads(message)
    text = message[span[0] : span[1]]
    assert isinstance(read, dict)
    assert read["e"] == "m"
    assert "v" not in read or (read["v"] == 1 and type(read["v"]) is int)
    assert "q" not in read["a"] or read["a"]["q"] == "r"
    assert read["a"]["p"].encode() == text
    assert is_canonical_base64(text)
