"""Base64 in the native core, against the standard library's."""

import base64
import random

import pytest

from _codec.base64_text import decode, encode


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
