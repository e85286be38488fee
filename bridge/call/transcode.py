"""Transcodes an agent's audio to mu-law at 8000 Hz, and back."""

from __future__ import annotations

from _codec import Resampler, mulaw_to_pcm16, pcm16_to_mulaw
from bridge.agents.agent import AudioFormat

RATES_HZ = (8000, 16000, 24000)


def can_transcode(format: AudioFormat) -> bool:
    """Whether this encoding and rate are supported."""
    return format.encoding == "pcm16" and format.sample_rate_hz in RATES_HZ


class ToMulaw:
    """
    Transcodes an agent's 16-bit PCM to mu-law at 8000 Hz, frame by frame; the filter keeps its state between frames.

    Frames may have any number of bytes: half a sample waits for its other half.
    """

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self._resampler = Resampler(format.sample_rate_hz, 8000) if format.sample_rate_hz != 8000 else None
        self._half_sample = b""

    def restart(self) -> None:
        """Begin new audio: discards half a sample of the old."""
        self._half_sample = b""

    def __call__(self, audio: bytes) -> bytes:
        pcm = self._half_sample + audio
        whole_bytes = len(pcm) & ~1
        self._half_sample = pcm[whole_bytes:]
        pcm = pcm[:whole_bytes]
        return pcm16_to_mulaw(self._resampler.process(pcm) if self._resampler else pcm)


class FromMulaw:
    """Transcodes mu-law at 8000 Hz to 16-bit PCM for an agent, frame by frame."""

    def __init__(self, format: AudioFormat) -> None:
        self._resampler = Resampler(8000, format.sample_rate_hz) if format.sample_rate_hz != 8000 else None

    def __call__(self, mulaw: bytes) -> bytes:
        pcm = mulaw_to_pcm16(mulaw)
        return self._resampler.process(pcm) if self._resampler else pcm
