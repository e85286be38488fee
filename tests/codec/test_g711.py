"""G.711, on both implementations, against the standard library's audioop."""

import array
import audioop
import os
import subprocess
import sys
from types import ModuleType

import pytest

from _codec import g711, reference

ALL_CODES = bytes(range(256))
ALL_SAMPLES = array.array("h", range(-32768, 32768)).tobytes()


@pytest.fixture(params=[reference, g711], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


class TestG711:
    def test_every_code_decodes_as_audioop_does(self, codec):
        assert codec.mulaw_to_pcm16(ALL_CODES) == audioop.ulaw2lin(ALL_CODES, 2)

    def test_every_sample_encodes_as_audioop_does(self, codec):
        assert codec.pcm16_to_mulaw(ALL_SAMPLES) == audioop.lin2ulaw(ALL_SAMPLES, 2)

    def test_codes_survive_a_round_trip_save_negative_zero(self, codec):
        survived = codec.pcm16_to_mulaw(codec.mulaw_to_pcm16(ALL_CODES))
        assert [code for code in range(256) if survived[code] != code] == [0x7F]

    @pytest.mark.parametrize("wrapped", [bytes, bytearray, memoryview])
    def test_any_bytes_like_is_read(self, codec, wrapped):
        assert codec.mulaw_to_pcm16(wrapped(b"\x00\xff")) == audioop.ulaw2lin(b"\x00\xff", 2)
        assert codec.pcm16_to_mulaw(wrapped(b"\x00\x80")) == audioop.lin2ulaw(b"\x00\x80", 2)

    def test_nothing_gives_nothing(self, codec):
        assert codec.mulaw_to_pcm16(b"") == b""
        assert codec.pcm16_to_mulaw(b"") == b""

    def test_half_a_sample_is_refused_with_its_length(self, codec):
        with pytest.raises(ValueError, match="got 3 bytes"):
            codec.pcm16_to_mulaw(b"abc")

    @pytest.mark.parametrize("wrong", ["text", None, 7])
    def test_other_types_are_refused(self, codec, wrong):
        with pytest.raises(TypeError):
            codec.mulaw_to_pcm16(wrong)
        with pytest.raises(TypeError):
            codec.pcm16_to_mulaw(wrong)

    def test_a_refused_buffer_is_let_go(self, codec):
        held = bytearray(3)
        with pytest.raises(ValueError, match="got 3 bytes"):
            codec.pcm16_to_mulaw(held)
        held.append(0)  # BufferError if it were still exported


def test_missing_compiled_modules_are_reported_with_the_remedy():
    script = "import sys; sys.modules['_codec.g711'] = None; import _codec"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert result.returncode == 1
    assert "the compiled codec cannot be loaded" in result.stderr
    assert "python setup.py build_ext --inplace" in result.stderr
