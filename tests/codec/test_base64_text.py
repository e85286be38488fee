"""Base64 in the native core, against the standard library's."""

import base64
import random
from types import ModuleType

import pytest
from codec_cases import is_canonical_base64
from hypothesis import given, settings
from hypothesis import strategies as st

from _codec import base64_text, reference
from _codec.base64_text import decode, encode


@pytest.fixture(params=[reference, base64_text], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def test_every_length_and_every_value():
    dice = random.Random(7)
    for n in (*range(70), 160, 161, 20_000):
        data = dice.randbytes(n)
        assert encode(data) == base64.b64encode(data)
        assert decode(base64.b64encode(data)) == data
    assert decode(encode(bytes(range(256)))) == bytes(range(256))


def test_bits_beyond_the_padding_are_not_looked_at():
    assert decode(b"QUJDRH==") == base64.b64decode(b"QUJDRH==") == b"ABCD"


@pytest.mark.parametrize("text", [b"Q", b"QUI", b"QU I", b"Q===", b"====", b"QUJD\n", b"QU=D"])
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(ValueError, match="not base64"):
        decode(text)


class TestBase64:
    # Any bytes are base64 for us exactly when they are for binascii.
    @settings(max_examples=400, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=80).map(base64.b64encode),
            st.binary(max_size=12),
            st.text(alphabet="AZaz09+/==-_ \n", max_size=12).map(str.encode),
        )
    )
    def test_same_answer_as_binascii(self, codec, text):
        assert codec.is_base64(text) == is_canonical_base64(text)

    @pytest.mark.parametrize("length", [4, 8, 12, 16, 20, 36, 216])
    def test_every_byte_at_every_place(self, codec, length):
        text = base64.b64encode(bytes(length // 4 * 3))
        # The native check takes sixteen bytes at a time, the last of them again.
        for place in {*range(min(length, 36)), length // 2, *range(max(0, length - 20), length)}:
            for byte in range(256):
                changed = text[:place] + bytes([byte]) + text[place + 1 :]
                assert codec.is_base64(changed) == is_canonical_base64(changed), changed

    @pytest.mark.parametrize("text", [b"", b"AAAA", b"AA==", b"AAA=", b"+/+/", b"AB=="])
    def test_base64_is_known(self, codec, text):
        assert codec.is_base64(text)

    @pytest.mark.parametrize(
        "text",
        [b"A", b"AA", b"AAA", b"=", b"==", b"====", b"A===", b"AAAA=", b"AAAA====", b"AA=A", b"AA==AA==",
         b"AAA=\n", b" AAA", b"AA-_", b"AAA\0", b"AAA\x80"],
    )  # fmt: skip
    def test_all_else_is_refused(self, codec, text):
        assert not codec.is_base64(text)


@given(st.binary(max_size=500))
def test_decoded_length_is_known_without_decoding(codec, audio):
    assert codec.decoded_bytes(base64.b64encode(audio)) == len(audio)


@pytest.mark.parametrize("text", [b"", b"=", b"==", b"===", b"A", b"A=", b"AA", b"AAA", b"AAAA=", b"AAAAA"])
def test_length_of_what_is_not_base64_is_the_same_in_both(text):
    assert base64_text.decoded_bytes(text) == reference.decoded_bytes(text) >= 0
