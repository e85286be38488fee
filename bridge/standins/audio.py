"""G.711 mu-law at 8 kHz: tables, WAV files, frames, a detector of speech."""

from __future__ import annotations

import array
import math
import sys
import wave
from collections.abc import Iterator
from functools import cache
from operator import mul
from pathlib import Path

SAMPLE_RATE_HZ = 8000
PTIME_MS = 20
FRAME_BYTES = SAMPLE_RATE_HZ * PTIME_MS // 1000
SILENCE = b"\xff"
SILENT_FRAME = SILENCE * FRAME_BYTES
SPEECH_DIR = Path(__file__).parent / "speech"
# The bundled recordings, in the order of a whole conversation.
SPOKEN = {
    "agent_greeting": "Good morning, this is the practice. How can I help you?",
    "caller_question": "Hello? Can I move my appointment to Thursday?",
    "agent_answer": (
        "Yes, on Thursday we have a free place at nine in the morning, another one at half past ten, "
        "and one at a quarter to twelve."
    ),
    "caller_interruption": "Sorry, one moment, in the afternoon please.",
    "agent_continues": "Of course. Then I will put you down for Thursday at three.",
    "agent_goodbye": "Thank you for calling. Goodbye.",
}

# Source: ITU-T G.711: the coder works on 14 bits, clipped so that adding the bias cannot overflow.
_BIAS = 33
_CLIP = 8158


class UnsupportedWavError(ValueError):
    """The file is not a supported WAV file; the text says why."""


def _decode_byte(code: int) -> int:
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 1) + _BIAS) << (code >> 4 & 7)) - _BIAS
    return (-magnitude if code & 0x80 else magnitude) << 2


def _encode_sample(sample: int) -> int:
    sample >>= 2
    magnitude = min(abs(sample), _CLIP) + _BIAS
    exponent = magnitude.bit_length() - 6
    return ~((sample < 0) << 7 | exponent << 4 | magnitude >> (exponent + 1) & 0x0F) & 0xFF


_DECODED = array.array("h", (_decode_byte(code) for code in range(256)))


@cache
def _encoded() -> bytes:
    """Return the code of every 16-bit sample, indexed by the sample as an unsigned number."""
    return bytes(_encode_sample(index - 65536 if index > 32767 else index) for index in range(65536))


def decode_mulaw(audio: bytes) -> array.array[int]:
    """Return the 16-bit samples of mu-law bytes."""
    return array.array("h", map(_DECODED.__getitem__, audio))


def encode_mulaw(samples: array.array[int]) -> bytes:
    """Return the mu-law bytes of 16-bit samples."""
    table = _encoded()
    return bytes(table[sample & 0xFFFF] for sample in samples)


def frames(audio: bytes, frame_bytes: int = FRAME_BYTES) -> Iterator[bytes]:
    """Cut audio into frames; silence fills the last one."""
    if frame_bytes < 1:
        raise ValueError(f"frame_bytes must be at least 1, got {frame_bytes}")
    for start in range(0, len(audio), frame_bytes):
        yield audio[start : start + frame_bytes].ljust(frame_bytes, SILENCE)


@cache
def speech(name: str) -> bytes:
    """Return a bundled recording, named as in ``SPOKEN``, as mu-law bytes."""
    return read_wav(SPEECH_DIR / f"{name}.wav")


def read_wav(path: str | Path) -> bytes:
    """
    Read a WAV file as mu-law bytes, 8 kHz mono.

    Args:
        path: 16-bit PCM of any sample rate, one or two channels; two are mixed, other rates are resampled.

    Raises:
        UnsupportedWavError: The file has another format.
        OSError: The file cannot be read.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate_hz = file.getsampwidth(), file.getnchannels(), file.getframerate()
            if width != 2:
                raise UnsupportedWavError(
                    f"{path}: samples of {8 * width} bits; only 16-bit PCM is read here"
                )
            if channels not in (1, 2):
                raise UnsupportedWavError(f"{path}: {channels} channels; only mono and stereo are read here")
            if rate_hz < 1000:
                raise UnsupportedWavError(
                    f"{path}: a sample rate of {rate_hz} Hz; at least 1000 Hz are needed"
                )
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise UnsupportedWavError(
            f"{path}: no WAV file of 16-bit PCM ({error or 'it is too short'})"
        ) from error
    samples = array.array("h", raw[: len(raw) // (2 * channels) * 2 * channels])
    if sys.byteorder == "big":
        samples.byteswap()
    if channels == 2:
        samples = array.array("h", ((a + b) >> 1 for a, b in zip(samples[::2], samples[1::2], strict=True)))
    return encode_mulaw(resample(samples, rate_hz))


def write_wav(path: str | Path, audio: bytes) -> None:
    """Write mu-law bytes as a WAV file of 16-bit PCM, 8 kHz mono, which every player supports."""
    samples = decode_mulaw(audio)
    if sys.byteorder == "big":
        samples.byteswap()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())


def resample(samples: array.array[int], rate_hz: int) -> array.array[int]:
    """
    Return the samples at 8 kHz.

    A windowed sinc (Hann, 16 zero crossings each side) also removes frequencies above 4 kHz.
    Pure Python: a second of 48 kHz takes about a tenth of a second.
    """
    if rate_hz == SAMPLE_RATE_HZ or not samples:
        return samples
    divisor = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    up, down = SAMPLE_RATE_HZ // divisor, rate_hz // divisor
    cutoff = min(1.0, up / down)
    half = math.ceil(16 / cutoff)
    kernels = [_kernel(phase / up, half, cutoff) for phase in range(up)]
    padded = [0] * half + list(samples) + [0] * (half + 1)
    out = array.array("h")
    for index in range(len(samples) * up // down):
        start, phase = divmod(index * down, up)
        value = sum(map(mul, padded[start : start + 2 * half + 1], kernels[phase]))
        out.append(max(-32768, min(32767, round(value))))
    return out


def _kernel(offset: float, half: int, cutoff: float) -> list[float]:
    """Return the filter's taps for an output sample at ``offset`` after an input sample."""
    taps = []
    for index in range(-half, half + 1):
        at = index - offset
        window = 0.5 + 0.5 * math.cos(math.pi * at / (half + 1))
        angle = math.pi * at * cutoff
        taps.append(window * cutoff * (math.sin(angle) / angle if angle else 1.0))
    total = sum(taps)
    return [tap / total for tap in taps]


class SpeechDetector:
    """Detects speech by energy, frame by frame."""

    # Root mean square of 16-bit samples: speech on a phone line is above 1000, line noise below 200.
    LOUD = 500
    # Three loud frames in a row, so that a click does not count as speech.
    ONSET_MS = 60

    def __init__(self) -> None:
        self.is_speaking = False
        self.quiet_ms = 0.0
        self._loud_ms = 0.0

    def push(self, audio: bytes) -> bool:
        """Process the next audio; returns whether speech begins. ``quiet_ms`` is the quiet since the last sound."""
        ms = 1000 * len(audio) / SAMPLE_RATE_HZ
        if is_loud(audio, self.LOUD):
            self.quiet_ms = 0.0
            self._loud_ms += ms
            if not self.is_speaking and self._loud_ms >= self.ONSET_MS:
                self.is_speaking = True
                return True
        else:
            self.quiet_ms += ms
            self._loud_ms = 0.0
        return False

    def has_finished(self, quiet_ms: float) -> bool:
        """Return whether this much quiet follows speech; true once for each speech."""
        if self.is_speaking and self.quiet_ms >= quiet_ms:
            self.is_speaking = False
            return True
        return False


def is_loud(audio: bytes, threshold: int = SpeechDetector.LOUD) -> bool:
    """Return whether the root mean square of the audio reaches the threshold."""
    samples = decode_mulaw(audio)
    energy: int = sum(map(mul, samples, samples))
    return energy >= threshold * threshold * max(1, len(samples))
