"""
The native core: G.711, resampling, a bounded queue of audio, media messages, and the wires they travel on.

``BRIDGE_CODEC=python`` in the environment chooses the slow reference in place of the compiled modules.
Nothing chooses it silently: where the compiled modules are missing, the import fails.
"""

import os
from typing import TYPE_CHECKING

__all__ = [
    "IMPLEMENTATION",
    "Envelope",
    "FrameRing",
    "Handshake",
    "Resampler",
    "SpanFinder",
    "Wire",
    "is_base64",
    "mulaw_to_pcm16",
    "pcm16_to_mulaw",
]

IMPLEMENTATION: str = os.environ.get("BRIDGE_CODEC") or "cython"

if TYPE_CHECKING or IMPLEMENTATION == "cython":
    try:
        from _codec.frame_ring import FrameRing
        from _codec.g711 import mulaw_to_pcm16, pcm16_to_mulaw
        from _codec.handshake import Handshake
        from _codec.media_json import Envelope, SpanFinder, is_base64
        from _codec.resample import Resampler
        from _codec.wire import Wire
    except ImportError as error:
        raise ImportError(
            f"the compiled codec cannot be loaded ({error}): build it with "
            "'python setup.py build_ext --inplace' or 'pip install .', "
            "or set BRIDGE_CODEC=python for the slow reference"
        ) from error
elif IMPLEMENTATION == "python":
    from _codec.reference import (
        Envelope,
        FrameRing,
        Resampler,
        SpanFinder,
        is_base64,
        mulaw_to_pcm16,
        pcm16_to_mulaw,
    )
    from _codec.reference_wire import Handshake, Wire
else:
    raise ImportError(f"BRIDGE_CODEC must be 'cython' or 'python', got {IMPLEMENTATION!r}")
