"""The formats of an agent's audio that the native core transcodes."""

from __future__ import annotations

from _codec import PCM_RATES_HZ
from bridge.agents.agent import AudioFormat


def can_transcode(format: AudioFormat) -> bool:
    """Whether this encoding and rate are supported."""
    return format.encoding == "pcm16" and format.sample_rate_hz in PCM_RATES_HZ
