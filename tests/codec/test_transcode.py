"""Transcoding between mu-law and samples: equality with the reference for any cut, half samples, restarts."""

import audioop
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _codec import PCM_RATES_HZ, FromMulaw, ToMulaw, reference, resample

# Lengths of pieces: short ones, those about a frame, and more than two of the blocks in which the core works.
LENGTHS = st.one_of(st.integers(0, 5), st.integers(155, 165), st.integers(0, 2200))
LOUD = st.sampled_from([b"\xff\x7f" * 400, b"\x00\x80" * 400])
SEEDS = st.integers(0, 2**32 - 1)


def noise(n: int, seed: int = 7) -> bytes:
    return random.Random(seed).randbytes(n)


def plainly_to_mulaw(rate_hz: int, pcm: bytes) -> bytes:
    resampled = pcm if rate_hz == 8000 else reference.Resampler(rate_hz, 8000).process(pcm)
    return reference.pcm16_to_mulaw(resampled)


def plainly_from_mulaw(rate_hz: int, mulaw: bytes) -> bytes:
    pcm = reference.mulaw_to_pcm16(mulaw)
    return pcm if rate_hz == 8000 else reference.Resampler(8000, rate_hz).process(pcm)


@pytest.mark.parametrize("rate_hz", PCM_RATES_HZ)
class TestStream:
    @given(st.lists(st.one_of(st.none(), LOUD, LENGTHS), max_size=6), SEEDS)
    @settings(max_examples=60, deadline=None)
    def test_pieces_and_restarts_give_what_the_reference_gives_at_once(self, rate_hz, steps, seed):
        to_mulaw = ToMulaw(rate_hz)
        dice = random.Random(seed)
        pcm, mulaw = bytearray(), bytearray()
        for step in steps:
            if step is None:
                to_mulaw.restart()
                del pcm[len(pcm) & ~1 :]
            else:
                piece = step if isinstance(step, bytes) else dice.randbytes(step)
                mulaw += to_mulaw(piece)
                pcm += piece
        del pcm[len(pcm) & ~1 :]
        assert mulaw == plainly_to_mulaw(rate_hz, pcm)

    @given(
        st.lists(st.one_of(st.integers(0, 5), st.integers(155, 165), st.integers(0, 500)), max_size=6), SEEDS
    )
    @settings(max_examples=60, deadline=None)
    def test_pieces_of_mulaw_give_what_the_reference_gives_at_once(self, rate_hz, lengths, seed):
        from_mulaw = FromMulaw(rate_hz)
        dice = random.Random(seed)
        pieces = [dice.randbytes(length) for length in lengths]
        pcm = b"".join(from_mulaw(piece) for piece in pieces)
        assert pcm == plainly_from_mulaw(rate_hz, b"".join(pieces))

    def test_single_bytes_give_the_same(self, rate_hz):
        audio = noise(2500)
        to_mulaw, from_mulaw = ToMulaw(rate_hz), FromMulaw(rate_hz)
        assert b"".join(to_mulaw(bytes([byte])) for byte in audio) == ToMulaw(rate_hz)(audio)
        assert b"".join(from_mulaw(bytes([byte])) for byte in audio) == FromMulaw(rate_hz)(audio)

    def test_half_a_sample_waits_for_its_other_half(self, rate_hz):
        audio = noise(960)
        to_mulaw = ToMulaw(rate_hz)
        assert to_mulaw(audio[:1]) == b""
        assert to_mulaw(b"") == b""
        assert to_mulaw(audio[1:501]) + to_mulaw(audio[501:]) == ToMulaw(rate_hz)(audio)

    def test_restart_discards_half_a_sample_and_keeps_the_filter(self, rate_hz):
        audio = noise(960)
        to_mulaw = ToMulaw(rate_hz)
        first = to_mulaw(audio[:481])
        to_mulaw.restart()
        assert first + to_mulaw(audio[480:]) == ToMulaw(rate_hz)(audio)

    def test_second_of_audio_stays_a_second(self, rate_hz):
        assert len(ToMulaw(rate_hz)(bytes(2 * rate_hz))) == 8000
        assert len(FromMulaw(rate_hz)(bytes(8000))) == 2 * rate_hz

    def test_rate_is_known(self, rate_hz):
        assert ToMulaw(rate_hz).rate_hz == FromMulaw(rate_hz).rate_hz == rate_hz


def test_at_8000_hz_samples_are_only_encoded_and_decoded():
    audio = noise(2000)
    assert ToMulaw(8000)(audio) == audioop.lin2ulaw(audio, 2)
    assert FromMulaw(8000)(audio) == audioop.ulaw2lin(audio, 2)


def test_alaw_is_what_audioop_makes_of_it():
    codes = bytes(range(256))
    assert ToMulaw(8000, is_alaw=True)(codes) == audioop.lin2ulaw(audioop.alaw2lin(codes, 2), 2)
    assert FromMulaw(8000, is_alaw=True)(codes) == audioop.lin2alaw(audioop.ulaw2lin(codes, 2), 2)


@given(st.binary(max_size=700), st.integers(0, 700))
@settings(max_examples=60, deadline=None)
def test_alaw_may_be_cut_anywhere(audio, cut):
    for kind in (ToMulaw, FromMulaw):
        one = kind(8000, is_alaw=True)
        assert one(audio[:cut]) + one(audio[cut:]) == kind(8000, is_alaw=True)(audio)
        assert (one.rate_hz, one.is_alaw, kind(8000).is_alaw) == (8000, True, False)


@pytest.mark.parametrize("rate_hz", [16000, 24000, 48000])
def test_alaw_of_another_rate_is_refused(rate_hz):
    for kind in (ToMulaw, FromMulaw):
        with pytest.raises(ValueError, match=f"A-law has 8000 Hz, got {rate_hz}"):
            kind(rate_hz, is_alaw=True)


@pytest.mark.parametrize("rate_hz", [0, -8000, 7999, 11025, 44100, 96000])
def test_other_rates_are_refused(rate_hz):
    with pytest.raises(ValueError, match=rf"got {rate_hz} to 8000"):
        ToMulaw(rate_hz)
    with pytest.raises(ValueError, match=rf"got 8000 to {rate_hz}"):
        FromMulaw(rate_hz)


@pytest.mark.parametrize("wrong", ["text", None, 7, bytearray(2)])
def test_other_types_are_refused(wrong):
    with pytest.raises(TypeError):
        ToMulaw(16000)(wrong)
    with pytest.raises(TypeError):
        FromMulaw(16000)(wrong)


def test_direction_of_a_call_takes_six_kilobytes():
    largest = max(ToMulaw.__basicsize__, FromMulaw.__basicsize__)
    assert largest + resample.Resampler.__basicsize__ <= 6 * 1024
