"""A recording whose samples are known at any time, and how well a piece of audio is one of it."""

from __future__ import annotations

import wave

import numpy as np

from bridge.standins.audio import decode_mulaw

RATE_HZ = 8000
# The recording repeats itself without a seam: tones of whole periods in its length, with phases at random.
PERIOD_S = 4
SEED = np.random.default_rng(14)
TONES = SEED.choice(np.arange(300 * PERIOD_S, 3000 * PERIOD_S), 60, replace=False)
AMPLITUDES = 0.03 * np.exp(2j * np.pi * SEED.uniform(size=TONES.size))


def recording(rate_hz, later_s=0.0):
    """The samples of one period of the recording, from -1 to 1, from a moment of it on."""
    count = PERIOD_S * rate_hz
    spectrum = np.zeros(count // 2 + 1, complex)
    spectrum[TONES] = AMPLITUDES * np.exp(2j * np.pi * TONES * later_s / PERIOD_S) * count / 2
    return np.fft.irfft(spectrum, count)


def quality_db(samples, rate_hz):
    """The ratio of the recording to what differs from it; the piece may lie anywhere in it, also between samples."""
    count = len(samples)
    spectrum = np.fft.rfft(recording(rate_hz))
    later_s = np.argmax(np.fft.irfft(spectrum * np.fft.rfft(samples, PERIOD_S * rate_hz).conj())) / rate_hz
    for _ in range(4):
        found = recording(rate_hz, later_s)[:count]
        slope = (recording(rate_hz, later_s + 1e-6)[:count] - found) * 1e6
        later_s += np.dot(samples - found, slope) / np.dot(slope, slope)
    found = recording(rate_hz, later_s)[:count]
    return 10 * np.log10(np.square(found).sum() / np.square(samples - found).sum())


def decoded(audio):
    return np.asarray(decode_mulaw(audio)) / 32768


def write_wav(path, rate_hz=48000):
    """Write one period."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((recording(rate_hz) * 32767).round().astype("<i2").tobytes())
