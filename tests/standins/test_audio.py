import array
import itertools
import math
import wave

import pytest

from bridge.standins import audio
from bridge.standins.audio import UnsupportedWavError, decode_mulaw, encode_mulaw, frames, read_wav, write_wav


def tone(rate_hz: int, hz: float, seconds: float = 0.5, amplitude: int = 10_000) -> array.array:
    count = int(rate_hz * seconds)
    return array.array(
        "h", (round(amplitude * math.sin(2 * math.pi * hz * n / rate_hz)) for n in range(count))
    )


def write_pcm(path, samples: array.array, rate_hz: int, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())


def rms(samples) -> float:
    return math.sqrt(sum(s * s for s in samples) / len(samples))


def test_tables_are_those_of_the_standard_library():
    audioop = pytest.importorskip("audioop")
    codes = bytes(range(256))
    assert decode_mulaw(codes).tobytes() == audioop.ulaw2lin(codes, 2)
    every = array.array("h", range(-32768, 32768))
    assert encode_mulaw(every) == audioop.lin2ulaw(every.tobytes(), 2)


def test_every_code_survives_decoding_and_encoding_except_minus_zero():
    codes = bytes(range(256))
    assert encode_mulaw(decode_mulaw(codes)) == codes.replace(b"\x7f", b"\xff")


def test_wav_round_trip_keeps_every_byte(tmp_path):
    codes = bytes(set(range(256)) - {0x7F}) * 3
    write_wav(tmp_path / "a.wav", codes)
    assert read_wav(tmp_path / "a.wav") == codes


@pytest.mark.parametrize("rate_hz", [11025, 16000, 22050, 44100, 48000])
def test_tone_of_other_rate_keeps_pitch_and_level(tmp_path, rate_hz):
    write_pcm(tmp_path / "a.wav", tone(rate_hz, 1000), rate_hz)
    samples = decode_mulaw(read_wav(tmp_path / "a.wav"))
    assert len(samples) == pytest.approx(4000, abs=1)
    middle = samples[1000:3000]
    assert rms(middle) == pytest.approx(10_000 / math.sqrt(2), rel=0.03)
    crossings = sum(a < 0 <= b for a, b in itertools.pairwise(middle))
    assert crossings == pytest.approx(250, abs=1)


def test_tone_that_8_khz_cannot_carry_is_removed(tmp_path):
    write_pcm(tmp_path / "a.wav", tone(48000, 7000), 48000)
    assert rms(decode_mulaw(read_wav(tmp_path / "a.wav"))[500:-500]) < 100


def test_stereo_is_mixed(tmp_path):
    both = array.array("h", [value for _ in range(800) for value in (8000, 4000)])
    write_pcm(tmp_path / "a.wav", both, 8000, channels=2)
    samples = decode_mulaw(read_wav(tmp_path / "a.wav"))
    assert len(samples) == 800
    assert samples[0] == pytest.approx(6000, rel=0.03)


def test_unsupported_files_are_reported_in_words(tmp_path):
    write_pcm(tmp_path / "8bit.wav", array.array("b", [1] * 100), 8000, width=1)
    with pytest.raises(UnsupportedWavError, match="8 bits"):
        read_wav(tmp_path / "8bit.wav")
    (tmp_path / "not.wav").write_bytes(b"hello")
    with pytest.raises(UnsupportedWavError, match="no WAV file"):
        read_wav(tmp_path / "not.wav")
    write_pcm(tmp_path / "3.wav", array.array("h", [1] * 99), 8000, channels=3)
    with pytest.raises(UnsupportedWavError, match="3 channels"):
        read_wav(tmp_path / "3.wav")


def test_last_frame_is_filled_with_silence():
    assert list(frames(b"a" * 161)) == [b"a" * 160, b"a" + b"\xff" * 159]
    assert list(frames(b"")) == []
    with pytest.raises(ValueError, match="frame_bytes"):
        list(frames(b"a", 0))


def test_bundled_recordings_are_small_and_speak():
    assert sum(path.stat().st_size for path in audio.SPEECH_DIR.glob("*.wav")) < 400_000
    for name in ("caller_question", "caller_interruption", "agent_greeting"):
        assert 1.0 < len(audio.speech(name)) / 8000 < 5.0
    assert len(audio.speech("agent_answer")) > 6 * 8000


def test_detector_sees_one_onset_and_one_end():
    detector = audio.SpeechDetector()
    recording = audio.speech("caller_question") + audio.SILENCE * 8000
    onsets, ends = 0, 0
    for frame in frames(recording):
        onsets += detector.push(frame)
        ends += detector.has_finished(500)
    assert (onsets, ends) == (1, 1)


def test_click_is_no_speech():
    detector = audio.SpeechDetector()
    loud = encode_mulaw(tone(8000, 400, 0.02))
    assert not any(detector.push(frame) for frame in [loud, audio.SILENT_FRAME, loud, audio.SILENT_FRAME])
