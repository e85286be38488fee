"""The span finder with random messages, and at the end of readable memory."""

import base64
import ctypes
import json
import mmap
import random
from types import ModuleType

import pytest
from codec_cases import assert_orjson_agrees, is_canonical_base64, small
from hypothesis import example, given, settings
from hypothesis import strategies as st

from _codec import base64_text, media_json, reference

SEED = 20240517


@pytest.fixture(params=[reference, media_json], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


# Random messages in which the used keys occur at all levels, in any order, sometimes twice, sometimes odd.
SPACES = st.sampled_from(["", "", "", "", " ", "\n", "\t\r "])
SCALARS = st.sampled_from(
    ['"m"', '"m"', '"r"', '"AAAA"', '"AA=="', '""', '"x y"', "1", "1", "0", "-2.5", "1e3", "true", "null", '"\\u006d"',
     '"é"', '"\\n\\u00e9"', '"\\ud83d"', '"😀\\\\"', "01", "1234567890123456789", '"AA=A"']
)  # fmt: skip
KEYS = st.sampled_from(["e", "a", "p", "q", "v", "x", "\\u0065", "é"])


@st.composite
def joined(draw, opening, items, closing):
    inside = draw(SPACES) + ",".join(draw(SPACES) + item + draw(SPACES) for item in items)
    return opening + inside + closing


@st.composite
def members(draw, values, keys=KEYS):
    items = draw(st.lists(st.tuples(keys, values), max_size=4))
    return draw(joined("{", [f'"{key}":{draw(SPACES)}{value}' for key, value in items], "}"))


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        members(inner), st.lists(inner, max_size=3).flatmap(lambda i: joined("[", i, "]"))
    ),
    max_leaves=6,
)


@st.composite
def near_messages(draw):
    """The small shape with other members between, in any order, and in half the cases a few bytes changed."""
    extra = st.lists(st.tuples(st.sampled_from(["x", "y", "", "p", "q"]), VALUES), max_size=2)
    below = [("p", '"AAAA"'), *draw(extra), *draw(st.sampled_from([[], [("q", '"r"')]]))]
    inner = [f'"{k}"{draw(SPACES)}:{v}' for k, v in draw(st.permutations(below))]
    top = [("e", '"m"'), ("a", draw(joined("{", inner, "}"))), *draw(extra)]
    outer = [f'"{k}":{draw(SPACES)}{v}' for k, v in draw(st.permutations(top))]
    message = bytearray((draw(SPACES) + draw(joined("{", outer, "}")) + draw(SPACES)).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(message) - 1))
        message[place : place + draw(st.integers(0, 2))] = draw(
            st.sampled_from(
                [
                    b"",
                    b'"',
                    b",",
                    b"{",
                    b"}",
                    b"]",
                    b":",
                    b"\\",
                    b" ",
                    b"0",
                    b"\x00",
                    b"\xff",
                    b"\xc3",
                    b"\xa9",
                    b"\\u",
                ]
            )
        )
    return bytes(message)


MESSAGES = st.one_of(
    near_messages(), near_messages(), members(VALUES).map(str.encode), st.binary(max_size=30)
)


class TestRandomMessages:
    # Any bytes are refused, or read exactly as orjson reads them; both implementations say the same.
    @settings(max_examples=1500, deadline=None)
    @given(MESSAGES)
    @example(b"")
    def test_both_agree_with_each_other_and_with_orjson(self, message):
        span = small(media_json).find(message)
        assert span == small(reference).find(message)
        if span is not None:
            assert_orjson_agrees(message, span)

    # The native finder reads sixteen bytes of a string at a time.
    def test_both_agree_on_every_byte_in_long_strings(self):
        long = b"0123456789abcdefghijklmnopqrstuvwxyz"
        message = b'{"%b":"%b","e":"m","a":{"p":"AAAA"},"x":"%b"}' % (long, long, long)
        finders = small(media_json), small(reference)
        for place in range(len(message)):
            for byte in range(256):
                changed = message[:place] + bytes([byte]) + message[place + 1 :]
                spans = [finder.find(changed) for finder in finders]
                assert spans[0] == spans[1], changed

    # Plain JSON of the right shape is never refused, whoever wrote it.
    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(max_size=40),
        st.dictionaries(st.sampled_from("xyzpq"), st.one_of(st.integers(-99, 99), st.booleans(), st.none())),
        st.sampled_from([None, 0, 2]),
        st.randoms(use_true_random=False),
    )
    def test_the_right_shape_is_always_found(self, codec, audio, extra, indent, rng):
        text = base64.b64encode(audio).decode()
        members = [("e", "m"), ("v", 1), ("a", {"p": text, "q": "r", "z": extra}), *extra.items()]
        rng.shuffle(members)
        message = json.dumps(dict(members), indent=indent).encode()
        start, end = small(codec).find(message)
        assert message[start:end].decode() == text


class TestMemoryBounds:
    """Inputs that end where readable memory ends: one byte read too many kills the test run."""

    @pytest.fixture
    def at_the_edge(self):
        libc = ctypes.CDLL(None, use_errno=True)
        page = mmap.PAGESIZE
        area = mmap.mmap(-1, 2 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        assert libc.mprotect(ctypes.c_void_p(address + page), page, 0) == 0

        def place(data: bytes) -> int:
            ctypes.memmove(address + page - len(data), data, len(data))
            return address + page - len(data)

        yield place
        assert libc.mprotect(ctypes.c_void_p(address + page), page, mmap.PROT_READ | mmap.PROT_WRITE) == 0

    @staticmethod
    def c_function(capsule, prototype, slot: int | None = None):
        name = ctypes.pythonapi.PyCapsule_GetName
        name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        address = pointer(capsule, name(capsule))
        if slot is not None:
            address = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))[slot]
        return prototype(address)

    def test_base64_check_stays_inside(self, at_the_edge):
        prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t)
        check = self.c_function(base64_text.__pyx_capi__["is_base64_c"], prototype)
        rng = random.Random(SEED)
        for length in range(300):
            text = bytes(rng.choice(b"AZaz09+/") for _ in range(length))
            for ending in (b"", b"=", b"=="):
                whole = text[: max(0, length - len(ending))] + ending
                assert bool(check(at_the_edge(whole), len(whole))) == is_canonical_base64(whole)

    def test_finder_stays_inside(self, at_the_edge):
        out = ctypes.POINTER(ctypes.c_ssize_t)
        prototype = ctypes.PYFUNCTYPE(
            ctypes.c_int, ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, out, out
        )
        # find_c is declared first in media_json.pxd.
        find = self.c_function(media_json.SpanFinder.__pyx_vtable__, prototype, slot=0)
        finder = small(media_json)
        start, end = ctypes.c_ssize_t(), ctypes.c_ssize_t()
        message = b' {"e":"m","x":[true,false,null,-1.5,{}],"v":1,"a":{"q":"r","p":"AAA="}} '
        endings = [
            b"",
            b"t",
            b"tru",
            b"nul",
            b"fals",
            b"-",
            b"1.",
            b'"',
            b'"a',
            b"{",
            b"[",
            b"\\",
            b'{"p":"A',
        ]
        for length in range(len(message) + 1):
            for ending in endings:
                data = message[:length] + ending
                found = find(finder, at_the_edge(data), len(data), start, end)
                span = (start.value, end.value) if found else None
                assert span == finder.find(data)
