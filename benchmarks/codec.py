"""
Compares each function of the native core with the library that one would use instead.

    python -m benchmarks.codec
    python -m benchmarks.codec --json codec.jsonl

Each job is one step of the work on a frame of 20 ms. The compiled core, its plain-Python reference and the usual
libraries do it in turns, in many short samples of CPU time; the ratio is to the compiled core in the same turn. Each
candidate is checked first. Libraries that are not installed are named and left out; the extra `bench` installs them.

Not all candidates do the same. No other library checks base64 without decoding it. soxr is its streaming
`ResampleStream` at HQ, which is better than a telephone needs. audioop's `ratecv` interpolates linearly, and on the way
down aliases everything above 4 kHz. A deque has no time limit and is not one block of memory, as the ring is. The wire
has no counterpart: `benchmarks.load` measures it.

Last answer (2026-11-22, 2 shared cores, Python 3.11.7), in multiples of the core's time: to find the audio orjson 2.3
(0.43 us); to check base64 pybase64 9 and binascii 15; to wrap join 2.3 and orjson 4.7; audioop 1.1 to decode and 3.6 to
encode mu-law; to queue deque 0.64; the reference 4 to 620. Speed is therefore not the reason for decoding mu-law in the
core, nor for the ring. Resampling in single precision (2026-11-26, the same machine): soxr 3.1 to 5.3, ratecv 2.2 to
5.5, the reference 6000.
"""

from __future__ import annotations

import base64
import math
import platform
import struct
import sys
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from _codec import base64_text, frame_ring, g711, media_json, reference, reference_ring, resample
from benchmarks.json_lines import append_line
from benchmarks.progress import Progress
from benchmarks.timing import Candidate, Contest, Score, measure, table

OPTIONAL = ("pybase64", "soxr")
RATES = ((8000, 16000), (8000, 24000), (16000, 8000), (24000, 8000))
PTIME_MS = 20
# A second of audio waits in the queues.
WAITING_FRAMES = 50

STREAM = "MZ" + 32 * "a"
MEDIA_PREFIX = f'{{"event":"media","streamSid":"{STREAM}","media":{{"payload":"'.encode()
MEDIA_SUFFIX = b'"}}'


def tone(rate_hz: int, duration_ms: int) -> bytes:
    """Return 440 Hz as 16-bit little-endian samples."""
    count = rate_hz * duration_ms // 1000
    samples = (round(12000 * math.sin(2 * math.pi * 440 * n / rate_hz)) for n in range(count))
    return struct.pack(f"<{count}h", *samples)


def missing_libraries() -> list[str]:
    return [name for name in OPTIONAL if find_spec(name) is None]


def contests() -> list[Contest]:
    """Return all jobs, with those candidates that are installed."""
    pcm = tone(8000, PTIME_MS)
    ulaw = g711.pcm16_to_mulaw(pcm)
    payload = base64.b64encode(ulaw)
    return [
        find_contest(payload),
        base64_contest(payload),
        wrap_contest(payload),
        ulaw_contest("decode a frame of mu-law", "mulaw_to_pcm16", "ulaw2lin", ulaw),
        ulaw_contest("encode a frame of mu-law", "pcm16_to_mulaw", "lin2ulaw", pcm),
        *(resample_contest(from_hz, to_hz) for from_hz, to_hz in RATES),
        ring_contest(payload),
    ]


def find_contest(payload: bytes) -> Contest:
    message = (
        '{"event":"media","sequenceNumber":"1234","media":{"track":"inbound","chunk":"1233","timestamp":"24660",'
        f'"payload":"{payload.decode()}"}},"streamSid":"{STREAM}"}}'
    ).encode()
    shape = ("media.payload", {"event": "media", "streamSid": STREAM}, {"media.track": "inbound"})

    def ours(name: str, codec: ModuleType) -> Candidate:
        given = {"find": codec.SpanFinder(*shape).find, "message": message}
        return Candidate(name, "find(message)", given, read=lambda span: span and message[slice(*span)])

    given = {"loads": import_module("orjson").loads, "message": message}
    return Contest(
        f"find the audio in a media message of {len(message)} bytes",
        [
            ours("SpanFinder.find", media_json),
            ours("reference", reference),
            Candidate("orjson.loads", "loads(message)['media']['payload']", given, read=str.encode),
        ],
        payload,
    )


def base64_contest(payload: bytes) -> Contest:
    given = {"text": payload}
    candidates = [
        Candidate(name, "is_base64(text)", given | {"is_base64": codec.is_base64})
        for name, codec in (("is_base64", base64_text), ("reference", reference))
    ]
    candidates.append(
        Candidate(
            "binascii.a2b_base64, strict",
            "a2b_base64(text, strict_mode=True)",
            given | {"a2b_base64": import_module("binascii").a2b_base64},
            read=bool,
        )
    )
    if find_spec("pybase64"):
        candidates.append(
            Candidate(
                "pybase64.b64decode, validate",
                "b64decode(text, validate=True)",
                given | {"b64decode": import_module("pybase64").b64decode},
                read=bool,
            )
        )
    return Contest(f"tell whether {len(payload)} characters are base64", candidates, True)


def wrap_contest(payload: bytes) -> Contest:
    given = {"payload": payload}
    candidates = [
        Candidate(
            name,
            "wrap_payload(payload)",
            given | {"wrap_payload": codec.Envelope(MEDIA_PREFIX, MEDIA_SUFFIX).wrap_payload},
        )
        for name, codec in (("Envelope.wrap_payload", media_json), ("reference", reference))
    ]
    return Contest(
        "wrap audio in a media message",
        [
            *candidates,
            Candidate(
                'b"".join',
                "join((prefix, payload, suffix))",
                given | {"join": b"".join, "prefix": MEDIA_PREFIX, "suffix": MEDIA_SUFFIX},
            ),
            Candidate(
                "orjson.dumps, payload already a str",
                "dumps({'event': 'media', 'streamSid': stream, 'media': {'payload': payload}})",
                {"dumps": import_module("orjson").dumps, "stream": STREAM, "payload": payload.decode()},
            ),
        ],
        MEDIA_PREFIX + payload + MEDIA_SUFFIX,
    )


def ulaw_contest(job: str, ours: str, theirs: str, frame: bytes) -> Contest:
    audioop: Any = import_module("audioop")
    convert = getattr(audioop, theirs)
    candidates = [
        Candidate(name, "convert(frame)", {"convert": getattr(codec, ours), "frame": frame})
        for name, codec in ((ours, g711), ("reference", reference))
    ]
    candidates.append(
        Candidate(f"audioop.{theirs}", "convert(frame, 2)", {"convert": convert, "frame": frame})
    )
    return Contest(job, candidates, convert(frame, 2))


def resample_contest(from_hz: int, to_hz: int) -> Contest:
    given: dict[str, Any] = {"pcm": tone(from_hz, PTIME_MS), "from_hz": from_hz, "to_hz": to_hz}
    candidates = [
        Candidate(name, "process(pcm)", given | {"process": codec.Resampler(from_hz, to_hz).process})
        for name, codec in (("Resampler", resample), ("reference", reference))
    ]
    if find_spec("soxr"):
        numpy = import_module("numpy")
        stream = import_module("soxr").ResampleStream(from_hz, to_hz, 1, dtype="int16", quality="HQ")
        candidates.append(
            Candidate(
                "soxr.ResampleStream, HQ, to and from bytes",
                "resample_chunk(frombuffer(pcm, int16)).tobytes()",
                given
                | {
                    "resample_chunk": stream.resample_chunk,
                    "frombuffer": numpy.frombuffer,
                    "int16": numpy.dtype("<i2"),
                },
            )
        )
    candidates.append(
        Candidate(
            "audioop.ratecv",
            "(made := ratecv(pcm, 2, 1, from_hz, to_hz, made[1]))[0]",
            given | {"ratecv": import_module("audioop").ratecv},
            setup="made = (b'', None)",
        )
    )
    return Contest(f"resample 20 ms from {from_hz} to {to_hz} Hz", candidates)


def ring_contest(payload: bytes) -> Contest:
    fill = f"for _ in range({WAITING_FRAMES}): put(payload)"
    candidates = []
    for name, codec in (("FrameRing", frame_ring), ("reference", reference_ring)):
        ring = codec.FrameRing(2 * WAITING_FRAMES * PTIME_MS)
        # push returns the number of dropped frames, which is 0.
        given = {"put": ring.push, "get": ring.pop, "payload": payload}
        candidates.append(Candidate(name, "put(payload) or get()", given, fill))
    queue: Any = import_module("collections").deque()
    given = {"put": queue.append, "get": queue.popleft, "payload": payload}
    candidates.append(Candidate("collections.deque", "put(payload) or get()", given, fill))
    return Contest("put one frame into a queue and take one out", candidates, payload)


def to_json(scores: list[Score], rounds: int) -> dict[str, Any]:
    """Return the run as one object."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "rounds": rounds,
        "missing": missing_libraries(),
        "scores": [asdict(item) for item in scores],
    }


@click.command(
    help="Compare the speed of the native core with its reference and with libraries for the same jobs."
)
@click.option(
    "--rounds", default=25, show_default=True, type=click.IntRange(2), help="Turns of each candidate."
)
@click.option(
    "--sample-ms", default=10.0, show_default=True, type=click.FloatRange(0.01), help="How long each turn is."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Append one JSON line here."
)
def main(rounds: int, sample_ms: float, json_file: Path | None) -> None:
    scores: list[Score] = []
    progress = Progress()
    jobs = contests()
    try:
        for done, contest in enumerate(jobs):
            progress.show("codec", done, len(jobs), contest.job)
            scores += measure(contest, rounds, sample_ms / 1000)
    except ValueError as error:
        click.echo(f"FAILED: {error}")
        sys.exit(1)
    finally:
        progress.finish()
    click.echo(table(scores))
    if missing_libraries():
        click.echo(f"left out, not installed: python -m pip install {' '.join(missing_libraries())}")
    append_line(json_file, to_json(scores, rounds))


if __name__ == "__main__":
    main()
