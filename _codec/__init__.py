"""The native core: transcoding of audio, a bounded queue of it, media messages, and the wires that carry them."""

__all__ = [
    "MARK_NAME",
    "PCM_RATES_HZ",
    "CallAudio",
    "Envelope",
    "FrameRing",
    "FromMulaw",
    "Handshake",
    "HeldBudget",
    "Loudness",
    "Playout",
    "Recorder",
    "SocketSet",
    "SpanFinder",
    "ToMulaw",
    "Wire",
    "decoded_bytes",
    "is_base64",
]

try:
    from _codec.audio_writer import MARK_NAME
    from _codec.base64_text import decoded_bytes, is_base64
    from _codec.call_audio import CallAudio
    from _codec.frame_ring import FrameRing
    from _codec.handshake import Handshake
    from _codec.held_budget import HeldBudget
    from _codec.loudness import Loudness
    from _codec.media_json import Envelope, SpanFinder
    from _codec.playout import Playout
    from _codec.recorder import Recorder
    from _codec.socket_set import SocketSet
    from _codec.transcode import PCM_RATES_HZ, FromMulaw, ToMulaw
    from _codec.wire import Wire
except ImportError as error:
    raise ImportError(
        f"the compiled codec cannot be loaded ({error}): build it with "
        "'python setup.py build_ext --inplace' or 'pip install .'"
    ) from error
