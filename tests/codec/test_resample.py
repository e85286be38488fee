"""Resampling, on both implementations: frequency response, cutting, equality."""

import random
from types import ModuleType

import numpy as np
import pytest

from _codec import kaiser, reference, resample

UP = [(8000, 16000), (8000, 24000), (8000, 48000)]
DOWN = [(to_hz, from_hz) for from_hz, to_hz in UP]
PAIRS = UP + DOWN
AMPLITUDE = 20000
# 100 ms: every multiple of 10 Hz is a bin of its FFT.
WINDOW_S = 0.1
SIXTY_DB_DOWN = 0.001
SEED = 20240517


@pytest.fixture(params=[reference, resample], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def sine(hz: float, rate_hz: int, duration_s: float) -> bytes:
    n = np.arange(round(rate_hz * duration_s))
    return np.round(AMPLITUDE * np.sin(2 * np.pi * hz * n / rate_hz)).astype("<i2").tobytes()


def noise(samples: int, seed: int = SEED) -> bytes:
    return random.Random(seed).randbytes(2 * samples)


def spectrum(codec: ModuleType, hz: float, from_hz: int, to_hz: int) -> np.ndarray:
    """Return the amplitudes of the settled output, over that of the input; index k is 10 * k Hz."""
    output = np.frombuffer(codec.Resampler(from_hz, to_hz).process(sine(hz, from_hz, 0.12)), "<i2")
    window = output[-round(to_hz * WINDOW_S) :]
    return np.abs(np.fft.rfft(window)) / (len(window) / 2) / AMPLITUDE


def exactly_resampled(pcm: bytes, from_hz: int, to_hz: int) -> np.ndarray:
    """The same filter in double precision, without phases."""
    factor, up = kaiser.ratio(from_hz, to_hz)
    filter_taps = np.array(kaiser.phases(factor, up)).T.ravel()
    samples = np.frombuffer(pcm, "<i2").astype(float)
    if up:
        samples = np.kron(samples, [1.0] + [0.0] * (factor - 1))
    filtered = np.convolve(samples, filter_taps)[: len(samples)][:: 1 if up else factor]
    return np.clip(np.rint(filtered), -32768, 32767).astype(int)


def in_pieces(resampler, pcm: bytes, rng: random.Random) -> bytes:
    out = []
    at = 0
    while at < len(pcm):
        size = 2 * rng.choice([0, 1, 2, 3, 5, 159, 160, 161, 320, 700])
        out.append(resampler.process(pcm[at : at + size]))
        at += size
    return b"".join(out)


class TestResampler:
    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    def test_pass_band_is_flat_within_half_a_decibel(self, codec, from_hz, to_hz):
        for hz in (50, 300, 1000, 2000, 3000, 3200, 3300, 3400):
            gain_db = 20 * np.log10(spectrum(codec, hz, from_hz, to_hz)[hz // 10])
            assert abs(gain_db) < 0.5, hz

    @pytest.mark.parametrize(("from_hz", "to_hz"), UP)
    def test_images_are_60_db_down(self, codec, from_hz, to_hz):
        for hz in (300, 1000, 2000, 3000, 3400):
            beyond = spectrum(codec, hz, from_hz, to_hz)[460:]
            assert np.sqrt((beyond**2).sum()) < SIXTY_DB_DOWN, hz

    @pytest.mark.parametrize(("from_hz", "to_hz"), DOWN)
    def test_what_would_alias_is_60_db_down(self, codec, from_hz, to_hz):
        for hz in (4600, 5000, 6000, 7000, 7900, 11000):
            if hz < from_hz / 2:
                folded = spectrum(codec, hz, from_hz, to_hz)
                assert np.sqrt((folded**2).sum()) < SIXTY_DB_DOWN, hz

    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    def test_cutting_the_stream_changes_nothing(self, codec, from_hz, to_hz):
        pcm = noise(2000)
        whole = codec.Resampler(from_hz, to_hz).process(pcm)
        print(f"seed {SEED}")
        rng = random.Random(SEED)
        for _ in range(3):
            assert in_pieces(codec.Resampler(from_hz, to_hz), pcm, rng) == whole

    @pytest.mark.parametrize(("from_hz", "to_hz"), DOWN)
    def test_single_samples_keep_the_phase(self, codec, from_hz, to_hz):
        pcm = noise(100)
        resampler = codec.Resampler(from_hz, to_hz)
        singly = b"".join(resampler.process(pcm[i : i + 2]) for i in range(0, len(pcm), 2))
        assert singly == codec.Resampler(from_hz, to_hz).process(pcm)
        assert len(singly) // 2 == -(-100 * to_hz // from_hz)

    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    def test_frames_of_20_ms_do_not_click(self, codec, from_hz, to_hz):
        pcm = sine(440, from_hz, 0.2)
        frame_bytes = from_hz // 50 * 2
        resampler = codec.Resampler(from_hz, to_hz)
        framed = b"".join(
            resampler.process(pcm[i : i + frame_bytes]) for i in range(0, len(pcm), frame_bytes)
        )
        assert framed == codec.Resampler(from_hz, to_hz).process(pcm)
        settled = np.frombuffer(framed, "<i2")[-round(to_hz * 0.18) :].astype(float)
        angle = 2 * np.pi * 440 * np.arange(len(settled)) / to_hz
        basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        fitted = basis @ np.linalg.lstsq(basis, settled, rcond=None)[0]
        # Rounding alone may leave a little over one step on each side.
        assert np.abs(settled - fitted).max() < 4

    @pytest.mark.parametrize(("from_hz", "to_hz"), UP)
    def test_up_and_down_again_keeps_speech_band(self, codec, from_hz, to_hz):
        rng = np.random.default_rng(SEED)
        n = np.arange(1600)
        tones = [np.sin(2 * np.pi * (hz * n / from_hz + rng.random())) for hz in range(300, 3400, 130)]
        speech = np.round(900 * sum(tones)).astype("<i2")
        up, down = codec.Resampler(from_hz, to_hz), codec.Resampler(to_hz, from_hz)
        returned = np.frombuffer(down.process(up.process(speech.tobytes())), "<i2").astype(float)
        delay = up.delay_samples * from_hz // to_hz + down.delay_samples
        error = returned[delay + 32 :] - speech[32:-delay]
        assert 10 * np.log10((speech.astype(float) ** 2).mean() / (error**2).mean()) > 60

    @pytest.mark.parametrize(("from_hz", "to_hz"), UP)
    def test_going_up_keeps_the_samples_of_the_input(self, codec, from_hz, to_hz):
        pcm = np.frombuffer(noise(200), "<i2")
        resampler = codec.Resampler(from_hz, to_hz)
        output = np.frombuffer(resampler.process(pcm.tobytes()), "<i2")
        shared = output[resampler.delay_samples :: to_hz // from_hz]
        assert (shared == pcm[: len(shared)]).all()

    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    @pytest.mark.parametrize("level", [-32768, 32767])
    def test_full_scale_saturates_instead_of_wrapping(self, codec, from_hz, to_hz, level):
        square = np.full(4000, level, "<i2")
        square[:2000] = -1 - level
        output = np.frombuffer(codec.Resampler(from_hz, to_hz).process(square.tobytes()), "<i2")
        # A step overshoots the rail; wrapped, it would come out at the other one.
        assert np.sign(output[-200:]).tolist() == [np.sign(level)] * 200
        assert level in output
        jumps = np.abs(np.diff(output.astype(int)))
        settled = np.r_[jumps[200 : 1900 * to_hz // from_hz], jumps[2400 * to_hz // from_hz :]]
        assert settled.max() < 1000

    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    def test_constant_stays_constant(self, codec, from_hz, to_hz):
        output = np.frombuffer(
            codec.Resampler(from_hz, to_hz).process(np.full(4000, 1000, "<i2").tobytes()), "<i2"
        )
        assert np.abs(output[200:].astype(int) - 1000).max() <= 1

    @pytest.mark.parametrize(
        ("from_hz", "to_hz"), [(8000, 8000), (8000, 44100), (44100, 8000), (16000, 24000), (0, 0)]
    )
    def test_other_rates_are_refused_with_the_supported_ones(self, codec, from_hz, to_hz):
        with pytest.raises(
            ValueError, match=rf"8000 and one of 16000, 24000, 48000 .*got {from_hz} to {to_hz}"
        ):
            codec.Resampler(from_hz, to_hz)

    @pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
    def test_single_precision_is_at_most_one_step_from_exact_sums(self, codec, from_hz, to_hz):
        pcm = noise(3000) + b"\xff\x7f" * 100
        got = np.frombuffer(codec.Resampler(from_hz, to_hz).process(pcm), "<i2").astype(int)
        apart = np.abs(got - exactly_resampled(pcm, from_hz, to_hz))
        assert apart.max() <= 1
        assert np.count_nonzero(apart) < len(apart) / 100

    def test_half_a_sample_is_refused_and_leaves_no_trace(self, codec):
        resampler = codec.Resampler(8000, 16000)
        with pytest.raises(ValueError, match="got 5 bytes"):
            resampler.process(bytes(5))
        assert resampler.process(noise(50)) == codec.Resampler(8000, 16000).process(noise(50))

    def test_delay_is_two_milliseconds_of_output(self, codec):
        delays = [codec.Resampler(*pair).delay_samples for pair in PAIRS]
        assert delays == [32, 48, 96, 16, 16, 16]

    @pytest.mark.parametrize("wrapped", [bytes, bytearray, memoryview])
    def test_any_bytes_like_is_read(self, codec, wrapped):
        assert len(codec.Resampler(8000, 24000).process(wrapped(bytes(320)))) == 960


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("up", [True, False])
def test_no_sum_is_too_large_to_be_rounded(factor, up):
    phases = np.abs(kaiser.phases(factor, up))
    assert 32768 * (phases.sum(axis=1).max() if up else phases.sum()) < 2**22


@pytest.mark.parametrize(("from_hz", "to_hz"), PAIRS)
def test_both_implementations_give_the_same_bytes(from_hz, to_hz):
    print(f"seed {SEED}")
    rng = random.Random(SEED)
    compiled, plain = resample.Resampler(from_hz, to_hz), reference.Resampler(from_hz, to_hz)
    for _ in range(60):
        pcm = rng.choice([rng.randbytes, lambda n: b"\xff\x7f" * (n // 2)])(2 * rng.randrange(400))
        assert compiled.process(pcm) == plain.process(pcm)
