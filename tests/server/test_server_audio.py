"""Audio through the whole server: whatever comes in whole goes out, once, in order, the same bytes."""

import asyncio
import audioop
import base64
import math
import struct

import pytest
from live import DEADLINE_S, FACTOR, PLAIN_AND_TLS, until
from numbered_checker import read_numbered

from bridge.standins.agent.behaviours import numbered, silent
from bridge.standins.agent.faults import Faults
from bridge.standins.numbered import make_numbered

pytestmark = PLAIN_AND_TLS

SIZES = (160, 320, 133)


async def numbered_by_caller(session):
    """Speak numbered frames of the size, and of the stream, that the caller's number ends in."""
    size = int(session.request["metadata"]["from"][-4:])
    await session.send_frames((make_numbered(n, size, seed=size) for n in range(60)), paced=False)
    await session.closed.wait()


@pytest.mark.parametrize("delay_s", [0.3, 1.5, 4.5])
async def test_no_frame_is_lost_though_the_agent_opens_late(live_server, delay_s):
    live = await live_server(agent={"behaviour": numbered_by_caller, "faults": Faults(open_delay_s=delay_s)})

    async def call(size):
        async with live.answered(caller=f"+1415555{size:04d}") as caller:
            await caller.open_stream()
            began = asyncio.get_running_loop().time()
            ready = asyncio.Event()

            def spoken():
                # A line never waits for the agent; some frames follow when it has spoken.
                for n in range(10_000):
                    yield make_numbered(n, size, seed=1000 + size)
                    if ready.is_set():
                        return

            caller.on_message = lambda item: len(caller.received_audio) == 60 and ready.set()
            await caller.send_frames(spoken())
            assert asyncio.get_running_loop().time() - began > delay_s
            session = await live.session_of(caller)
            await until(lambda: len(session.received) == len(caller.sent))
            assert [item.audio for item in session.received] == [item.audio for item in caller.sent]
            assert caller.received_audio == [make_numbered(n, size, seed=size) for n in range(60)]
            assert caller.warnings == []

    async with asyncio.timeout((delay_s + 10) * FACTOR):
        await asyncio.gather(*map(call, SIZES))
    assert await live.dropped("to_agent") == 0
    assert await live.dropped("to_caller") == 0


@pytest.mark.parametrize("size", [1, 2, 159, 161, 3200, 48_000])
async def test_payload_of_any_size_passes_both_ways(live_server, size):
    live = await live_server()
    audio = bytes(n * 7 % 256 for n in range(size))
    async with live.bridged() as (caller, session):
        await caller.send_media(audio)
        await caller.send_media(b"end")
        await until(lambda: len(session.received) == 2)
        assert [item.audio for item in session.received] == [audio, b"end"]
        await session.send_audio(audio)
        await session.send_audio(b"end")
        await until(lambda: len(caller.received) == 2)
        assert caller.received_audio == [audio, b"end"]
        assert caller.warnings == []


DROPPED = {
    "not_json": [b"{", b"", b"\xef\xbb\xbf{}", b'{"event":NaN}', b"[" * 60_000],
    "not_object": [b"[]", b"1", b'"media"', b"null"],
    "unknown_event": [b'{"event":"mediA"}', b'{"event":null}', b"{}", b'{"event":{"event":"media"}}'],
    "missing_field": [
        b'{"event":"media","streamSid":"SID"}',
        b'{"event":"media","streamSid":"SID","media":{}}',
        b'{"event":"media","streamSid":"SID","media":{"payload":null}}',
        b'{"event":"media","streamSid":"SID","media":{"track":"inbound","payload":7}}',
        b'{"event":"mark","streamSid":"SID","mark":{"name":1}}',
        b'{"event":"dtmf","streamSid":"SID","dtmf":"1"}',
    ],
    "not_base64": [
        b'{"event":"media","streamSid":"SID","media":{"track":"inbound","payload":"%s"}}' % text
        for text in (b"a", b"YQ=", b"Y Q==", b"YQ==\\n", b"_-_-", b"=AAA", b"YQ==YQ==", b"AAA\\u00e9")
    ],
    "other_stream": [
        b'{"event":"media","streamSid":"MZother","media":{"track":"inbound","payload":"YQ=="}}',
        b'{"event":"media","media":{"track":"inbound","payload":"YQ=="}}',
        b'{"event":"stop","streamSid":"MZother"}',
    ],
    "other_track": [
        b'{"event":"media","streamSid":"SID","media":{"track":"outbound","payload":"YQ=="}}',
        b'{"event":"media","streamSid":"SID","media":{"track":1,"payload":"YQ=="}}',
    ],
    "second_start": [
        b'{"event":"start","streamSid":"SID","start":'
        b'{"streamSid":"SID","callSid":"CA1","accountSid":"AC1","customParameters":{}}}'
    ],
}


@pytest.mark.parametrize("reason", DROPPED)
async def test_bad_message_of_the_caller_is_dropped_and_counted_and_the_call_goes_on(live_server, reason):
    live = await live_server()
    async with live.bridged() as (caller, session):
        for count, message in enumerate(DROPPED[reason], 1):
            await caller.send_raw(message.replace(b"SID", caller.stream_sid.encode()).decode())
            audio = message[:100] or b"-"
            await caller.send_media(audio)
            await until(lambda: len(session.received) == count)  # noqa: B023
            assert session.received[-1].audio == audio
            assert await live.ignored("caller", reason) == count


BAD_OF_AGENT = {
    "not_json": ["{", "", '{"type":NaN}', "[" * 60_000],
    "not_object": ["[]", "1", '"audio"', "null"],
    "unknown_type": ["{}", '{"type":null}', '{"type":"clear"}', '{"type":["audio"]}'],
    "missing_field": ['{"type":"audio"}', '{"type":"audio","data":null}', '{"type":"audio","data":1}'],
    "not_base64": [
        f'{{"type":"audio","data":"{text}"}}'
        for text in ("a", "YQ=", "Y Q==", "YQ==\\n", "_-_-", "YQ==YQ==", "\\u00e9")
    ],
    "unknown_audio": [
        '{"type":"audio","audio_encoding":"opus","data":"YQ=="}',
        '{"type":"audio","audio_encoding":1,"data":"YQ=="}',
        '{"type":"audio","audio_encoding":"s16le","sample_rate":44100,"data":"YWE="}',
        '{"type":"audio","sample_rate":"8000","data":"YQ=="}',
        '{"type":"audio","audio_encoding":"mulaw","sample_rate":16000,"data":"YQ=="}',
    ],
}


@pytest.mark.parametrize("reason", BAD_OF_AGENT)
async def test_bad_message_of_the_agent_is_dropped_and_counted_and_the_call_goes_on(live_server, reason):
    live = await live_server()
    async with live.bridged() as (caller, session):
        for count, message in enumerate(BAD_OF_AGENT[reason], 1):
            await session.send_raw(message)
            audio = message.encode()[:100] or b"-"
            await session.send_audio(audio)
            await until(lambda: len(caller.received) == count)  # noqa: B023
            assert caller.received_audio[-1] == audio
            assert await live.ignored("agent", reason) == count
        assert caller.warnings == []


async def test_binary_messages_are_ignored_and_counted(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await caller.send_raw(b"\x00\xff" * 100)
        await caller.send_media(b"caller")
        await session.send_raw(b"\x00\xff" * 100)
        await session.send_audio(b"agent")
        await until(lambda: session.received and caller.received)
        assert await live.ignored("caller", "binary") == 1
        assert await live.ignored("agent", "binary") == 1


@pytest.mark.parametrize("gap", ["", " "], ids=["found", "parsed"])
async def test_empty_audio_goes_nowhere_and_is_counted(live_server, gap):
    live = await live_server()
    sent_ms = "\\u006d" if gap else "m"
    async with live.bridged() as (caller, session):
        sid = caller.stream_sid
        await caller.send_raw(f'{{"event":"{sent_ms}edia","streamSid":"{sid}","media":{{"payload":""}}}}')
        await caller.send_media(b"caller")
        await session.send_raw('{"type":"audio","data":""' + (',"x":"\\u006d"' if gap else "") + "}")
        await session.send_audio(b"agent")
        await until(lambda: session.received and caller.received)
        assert [item.audio for item in session.received] == [b"caller"]
        assert caller.received_audio == [b"agent"]
        assert await live.ignored("caller", "empty_audio") == 1
        assert await live.ignored("agent", "empty_audio") == 1


async def test_odd_but_sound_messages_are_relayed(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        sid = caller.stream_sid
        texts = [
            f'{{ "media" : {{ "payload" : "YQ==" , "track":"inbound" }} , "streamSid":"{sid}","event":"media" }}',
            f'{{"event":"m\\u0065dia","streamSid":"{sid}","media":{{"track":"inbound","payload":"Yg\\u003d="}}}}',
            f'{{"event":"media","streamSid":"{sid}","media":{{"payload":"Yw=="}}}}',
            f'{{"event":"media","streamSid":"{sid}","media":{{"track":"inbound","payload":"//8\\/"}}}}',
            f'{{"event":"media","streamSid":"{sid}","media":{{"payload":"eA==","payload":"ZA=="}},"x":[{{}}]}}',
        ]
        for text in texts:
            await caller.send_raw(text)
        await until(lambda: len(session.received) == len(texts))
        assert [item.audio for item in session.received] == [b"a", b"b", b"c", b"\xff\xff?", b"d"]
        await session.send_raw('{"data":"YQ==","x":{"data":"eA=="},"type":"audio"}')
        await session.send_raw('{"type":"\\u0061udio","data":"\\u0059g=="}')
        await session.send_audio(b"c", audio_encoding="mulaw", sample_rate=8000)
        await until(lambda: len(caller.received) == 3)
        assert caller.received_audio == [b"a", b"b", b"c"]


async def test_calls_do_not_mix(live_server):
    live = await live_server(agent={"behaviour": numbered(count=50, paced=False)})

    async def call(seed):
        async with live.answered(caller=f"+1415555{seed:04d}") as caller:
            await caller.open_stream()
            await caller.send_frames((make_numbered(n, seed=seed) for n in range(50)), paced=False)
            session = await live.session_of(caller)
            await until(lambda: len(session.received) == 50 and len(caller.received) == 50)
            assert [read_numbered(item.audio) for item in session.received] == [(seed, n) for n in range(50)]

    await asyncio.gather(*map(call, range(100, 120)))


@pytest.mark.parametrize(("encoding", "rate_hz"), [("s16le", 8000), ("s16le", 16_000), ("pcm16", 24_000)])
async def test_pcm_of_the_agent_is_heard_as_the_same_tone(live_server, logs, encoding, rate_hz):
    live = await live_server(agent={"behaviour": silent})
    tone_hz, amplitude = 440.0, 8000.0
    samples = [round(amplitude * math.sin(2 * math.pi * tone_hz * n / rate_hz)) for n in range(rate_hz)]
    pcm = struct.pack(f"<{rate_hz}h", *samples)
    async with live.bridged() as (caller, session):
        # An odd number of bytes each: a sample is split between two messages.
        pieces = [pcm[i : i + 641] for i in range(0, len(pcm), 641)]
        for piece in pieces:
            await session.send_audio(piece, audio_encoding=encoding, sample_rate=rate_hz)
        await until(lambda: len(caller.received) == len(pieces))
        heard = b"".join(caller.received_audio)
    assert abs(len(heard) - 8000) < 100
    # The filter's beginning is not yet the tone; whole periods of it, or the fit below leaks.
    linear = struct.unpack("<6000h", audioop.ulaw2lin(heard, 2)[2000 : 2000 + 2 * 6000])
    angles = [2 * math.pi * tone_hz * n / 8000 for n in range(6000)]
    cosine = sum(x * math.cos(a) for x, a in zip(linear, angles, strict=True)) / 3000
    sine = sum(x * math.sin(a) for x, a in zip(linear, angles, strict=True)) / 3000
    noise = sum(
        (x - cosine * math.cos(a) - sine * math.sin(a)) ** 2 for x, a in zip(linear, angles, strict=True)
    )
    signal = sum(x * x for x in linear)
    assert math.hypot(cosine, sine) == pytest.approx(amplitude, rel=0.02)
    # mu-law itself leaves about 37 dB.
    assert 10 * math.log10(signal / noise) > 34
    assert len([line for line in logs.lines if "not mu-law 8000 Hz" in line]) == 1


async def test_a_second_of_audio_in_one_message_passes(live_server):
    live = await live_server()
    audio = bytes(8000)
    async with live.bridged() as (caller, session):
        for n in range(20):
            await session.send_audio(bytes([n]) + audio)
        await until(lambda: len(caller.received) == 20, 2 * DEADLINE_S)
        assert caller.received_audio == [bytes([n]) + audio for n in range(20)]
        assert base64.b64decode(caller.received[0].message.payload) == bytes([0]) + audio
