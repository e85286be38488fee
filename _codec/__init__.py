"""The native core: G.711, resampling, a bounded queue of audio, media messages, and the wires that carry them."""

__all__ = [
    "MARK_NAME",
    "PCM_RATES_HZ",
    "Envelope",
    "FrameRing",
    "FromMulaw",
    "Handshake",
    "HeldBudget",
    "Resampler",
    "SpanFinder",
    "ToMulaw",
    "Wire",
    "decoded_bytes",
    "is_base64",
    "mulaw_to_pcm16",
    "pcm16_to_mulaw",
]

try:
    from _codec.base64_text import decoded_bytes, is_base64
    from _codec.frame_ring import FrameRing
    from _codec.g711 import mulaw_to_pcm16, pcm16_to_mulaw
    from _codec.handshake import Handshake
    from _codec.held_budget import HeldBudget
    from _codec.media_json import Envelope, SpanFinder
    from _codec.resample import Resampler
    from _codec.transcode import PCM_RATES_HZ, FromMulaw, ToMulaw
    from _codec.wire import MARK_NAME, Wire
except ImportError as error:
    raise ImportError(
        f"the compiled codec cannot be loaded ({error}): build it with "
        "'python setup.py build_ext --inplace' or 'pip install .'"
    ) from error
