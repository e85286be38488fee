"""The formats of an agent's audio that the native core transcodes."""

from __future__ import annotations

from _codec import PCM_RATES_HZ, FromMulaw, ToMulaw
from bridge.agents.agent import AudioFormat

ALAW_8K = AudioFormat("alaw", 8000)


def can_transcode(format: AudioFormat) -> bool:
    """Whether this encoding and rate are supported."""
    return format == ALAW_8K or (format.encoding == "pcm16" and format.sample_rate_hz in PCM_RATES_HZ)


def to_mulaw(format: AudioFormat) -> ToMulaw:
    """Make the converter of an agent's audio in this format."""
    return ToMulaw(format.sample_rate_hz, is_alaw=format.encoding == "alaw")


def from_mulaw(format: AudioFormat) -> FromMulaw:
    """Make the converter of audio to an agent."""
    return FromMulaw(format.sample_rate_hz, is_alaw=format.encoding == "alaw")


def is_of(converter: ToMulaw, format: AudioFormat) -> bool:
    """Whether this converter is for audio in this format."""
    return converter.rate_hz == format.sample_rate_hz and converter.is_alaw == (format.encoding == "alaw")
