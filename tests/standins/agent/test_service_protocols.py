"""The stand-in agent service in every protocol: what all have in common."""

import array
import asyncio
import base64
import math

import aiohttp
import pytest
from numbered_checker import NumberedChecker
from standins_client import CLIENTS, DEADLINE_S, calling, connected, soon

from bridge.cli import AGENT_PROTOCOLS, AUDIO_FORMATS
from bridge.standins.agent import behaviours
from bridge.standins.agent.behaviours import BEHAVIOURS, conversation, echo, numbered, silent
from bridge.standins.agent.faults import Faults, HttpAnswer
from bridge.standins.agent.formats import FORMATS, Decoder, Encoder
from bridge.standins.agent.protocols import PROTOCOLS
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.audio import SILENT_FRAME, decode_mulaw, frames, speech
from bridge.standins.numbered import make_numbered

PROTOCOLS_WITH_SOCKET = list(CLIENTS)
# Those that whole calls with `examples/agents` are the test of.
BY_FILE = ("assemblyai", "cartesia", "ultravox", "vapi")
TONE_HZ = 440
PCM = [name for name in FORMATS if name != "ulaw_8000"]

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS_WITH_SOCKET)


def tone(rate_hz: int, seconds: float = 0.5) -> array.array:
    count = int(rate_hz * seconds)
    return array.array(
        "h", (round(8000 * math.sin(2 * math.pi * TONE_HZ * n / rate_hz)) for n in range(count))
    )


def signal_to_noise_db(samples, rate_hz: int) -> float:
    """Of a tone: what is left once the best sine of its frequency is taken out is noise."""
    samples = samples[rate_hz // 50 :]
    angles = [2 * math.pi * TONE_HZ * n / rate_hz for n in range(len(samples))]
    sines, cosines = [math.sin(a) for a in angles], [math.cos(a) for a in angles]
    s = 2 * sum(map(float.__mul__, sines, map(float, samples))) / len(samples)
    c = 2 * sum(map(float.__mul__, cosines, map(float, samples))) / len(samples)
    noise = sum((x - s * a - c * b) ** 2 for x, a, b in zip(samples, sines, cosines, strict=True))
    return 10 * math.log10(sum(x * x for x in samples) / noise)


def test_command_line_offers_every_protocol_format_and_behaviour():
    assert set(AGENT_PROTOCOLS) == PROTOCOLS.keys() == {*CLIENTS, *BY_FILE, "retell-sip"}
    assert set(AUDIO_FORMATS) == FORMATS.keys()
    assert BEHAVIOURS.keys() == {"conversation", "echo", "silent", "numbered"}


@each_protocol
async def test_echo_is_what_was_said(protocol):
    said = [make_numbered(n) for n in range(20)] + [b"\x01", bytes(range(256)) * 4]
    async with connected(protocol, behaviour=echo) as (client, session):
        for audio in said:
            await client.say(audio)
        await soon(lambda: len(client.audio) == len(said))
        assert client.audio == said
        assert [item.audio for item in session.received] == session.received_raw == said
        assert [item.audio for item in session.sent] == session.sent_raw == said


@each_protocol
async def test_numbered_frames_arrive_but_for_those_that_were_dropped_on_purpose(protocol):
    behaviour = numbered(count=120, paced=False)
    async with connected(protocol, behaviour=behaviour, faults=Faults(inject="drop")) as (client, _):
        await soon(lambda: len(client.audio) == 118)
        checker = NumberedChecker()
        for audio in client.audio:
            checker.check(audio)
        assert checker.faults(120) == {"lost": 2}


@each_protocol
async def test_silent_agent_interrupts_and_ends_on_command(protocol):
    async with connected(protocol, behaviour=silent) as (client, session):
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_interrupt()
        await soon(lambda: client.interrupts == client.tells_interrupts)
        assert not client.ended and not client.audio
        await session.send_call_ended()
        await soon(lambda: client.ended)
        assert len(session.interrupts_at) == 1 and session.ended_at is not None
        if client.ends_by_closing:
            assert client.socket.close_code == 1000
            await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
            assert session.close_code == 1000
        else:
            assert not client.closed.is_set()


@each_protocol
async def test_close_code_of_the_bridge_is_noted(protocol):
    async with connected(protocol, behaviour=silent) as (client, session):
        await client.socket.close(code=4001, message=b"why")
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
        assert (session.close_code, session.close_reason) == (4001, "why")


@each_protocol
async def test_conversation_is_interrupted_and_ends_with_a_goodbye(protocol, monkeypatch):
    monkeypatch.setattr(behaviours, "speech", lambda name: speech(name)[:4000])
    events = []
    async with connected(protocol, greets=False, behaviour=conversation) as (client, session):
        session.on_event = events.append
        # What the agent sent is compared with all that came.
        session.stale_frames = 0
        await client.greet()
        await soon(lambda: client.audio)
        question = [*frames(speech("caller_interruption")), *[SILENT_FRAME] * 30]
        for frame in question:
            await client.say(frame)
        await soon(lambda: "agent_answer" in events and len(client.audio) > 10)
        for frame in question:
            await client.say(frame)
        await soon(lambda: client.ended and events[-1] == "call_ended")
        assert events == [
            "agent_greeting",
            "interrupt",
            "agent_answer",
            "interrupt",
            "agent_continues",
            "agent_goodbye",
            "call_ended",
        ]
        assert b"".join(client.audio) == b"".join(item.audio for item in session.sent)
        assert client.interrupts == (2 if client.tells_interrupts else 0)


@each_protocol
async def test_answers_to_the_upgrade_come_first_and_it_may_take_its_time(protocol):
    faults = Faults(upgrade_answers=[HttpAnswer(status=503)], open_delay_s=0.05)
    async with AgentService(protocol=protocol, behaviour=silent, faults=faults) as service:
        seen = []
        service.on_session = seen.append
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            async with calling(service):
                pass
        assert seen == []
        began = asyncio.get_running_loop().time()
        async with calling(service) as (_, session):
            assert session.opened_at - began > 0.04
            assert seen == [session]
            assert session.call_id in service.sessions
        assert service.violations == []


@each_protocol
async def test_binary_frame_or_text_that_is_not_of_the_protocol_is_a_violation(protocol):
    async with connected(protocol, behaviour=silent, violates=True) as (client, session):
        await client.socket.send_str("{")
        await soon(lambda: len(session.violations) == 1)
        await client.socket.send_str("[]")
        await soon(lambda: len(session.violations) == 2)
        await client.socket.send_str('{"type":"x","event":"x","kind":"x"}')
        await soon(lambda: len(session.violations) == 3)
        if protocol not in ("retell-web", "deepgram", "binary"):
            await client.socket.send_bytes(b"a")
            await soon(lambda: len(session.violations) == 4)
        assert session.received == []


@each_protocol
async def test_wrong_path_is_refused_and_a_violation(protocol):
    async with AgentService(protocol=protocol) as service, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await http.ws_connect(service.url + "/nothing")
        assert service.violations == ["GET /nothing: there is no such thing here"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_settings_point_to_the_service(protocol):
    async with AgentService(protocol=protocol) as service:
        settings = service.environment()
        assert settings.pop("BRIDGE_AGENT", protocol) == protocol
        key, agent_id = service.account.key, service.account.agent_id
        address = f"127.0.0.1:{service.port}"
        retell = {"RETELL_API_KEY": key, "RETELL_AGENT_ID": agent_id, "RETELL_API_URL": f"http://{address}"}
        retell_socket = {"RETELL_WS_URL": f"ws://{address}/audio-websocket"}
        expected = {
            "retell": retell | retell_socket,
            "retell-web": retell | retell_socket,
            "retell-twilio": retell | retell_socket,
            "retell-sip": retell,
            "openai": {
                "OPENAI_API_KEY": key,
                "OPENAI_REALTIME_URL": f"ws://{address}/v1/realtime",
                "OPENAI_REALTIME_MODEL": "gpt-realtime-2.1",
            },
            "xai": {},
            "azure-openai": {},
            "inworld": {},
            "openai-live": {
                "OPENAI_API_KEY": key,
                "OPENAI_LIVE_URL": f"ws://{address}/v1/live/sessions",
            },
            "elevenlabs": {
                "ELEVENLABS_API_KEY": key,
                "ELEVENLABS_AGENT_ID": agent_id,
                "ELEVENLABS_WS_URL": f"ws://{address}/v1/convai/conversation",
                "ELEVENLABS_API_URL": f"http://{address}",
            },
            "deepgram": {
                "DEEPGRAM_API_KEY": key,
                "DEEPGRAM_AGENT_URL": f"ws://{address}/v1/agent/converse",
            },
            "assemblyai": {"ASSEMBLYAI_API_KEY": key},
            "cartesia": {"CARTESIA_API_KEY": key, "CARTESIA_AGENT_ID": agent_id},
            "ultravox": {"ULTRAVOX_API_KEY": key, "ULTRAVOX_AGENT_ID": agent_id},
            "vapi": {"VAPI_API_KEY": key, "VAPI_ASSISTANT_ID": agent_id},
            "binary": {},
            "json": {},
        }
        assert settings == expected[protocol]
        if protocol in ("binary", "json"):
            assert service.ws_url == f"ws://{address}/agent"


def test_web_encoding_is_among_the_settings_unless_it_is_mulaw():
    account = Account(from_caller_format="pcm_16000", to_caller_format="pcm_16000")
    settings = AgentService(protocol="retell-web", account=account).environment()
    assert (settings["RETELL_WEB_ENCODING"], settings["RETELL_WEB_SAMPLE_RATE"]) == ("s16le", "16000")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"protocol": "sip"}, "protocol must be one of"),
        ({"account": Account(to_caller_format="opus")}, "must be one of ulaw_8000, pcm_8000"),
        (
            {"protocol": "openai", "account": Account(from_caller_format="pcm_16000")},
            "of openai must be one of ulaw_8000, got",
        ),
        ({"protocol": "retell-web", "account": Account(from_caller_format="pcm_8000")}, "both ways"),
    ],
)
def test_service_that_cannot_be_is_refused_at_once(options, problem):
    with pytest.raises(ValueError, match=problem):
        AgentService(**options)


READY_PROTOCOLS = {
    "openai": ("session.updated", "error"),
    "elevenlabs": ("conversation_initiation_metadata", "error"),
    "deepgram": ("SettingsApplied", "Error"),
}


@pytest.mark.parametrize("protocol", READY_PROTOCOLS)
async def test_agent_waits_until_audio_may_flow(protocol):
    behaviour = numbered(count=3, paced=False)
    async with connected(protocol, behaviour=behaviour, faults=Faults(ready_delay_s=0.1)) as (
        client,
        session,
    ):
        await soon(lambda: len(client.audio) == 3)
        assert asyncio.get_running_loop().time() - session.opened_at > 0.09
        ready = READY_PROTOCOLS[protocol][0]
        types = ["audio" if isinstance(m, bytes) else m for m in client.frames]
        is_ready = next(n for n, m in enumerate(types) if f'"{ready}"' in m)
        is_audio = next(n for n, m in enumerate(types) if m == "audio" or make_payload(0) in m)
        assert is_ready < is_audio


def make_payload(n: int) -> str:
    return base64.b64encode(make_numbered(n)).decode()


@pytest.mark.parametrize("protocol", READY_PROTOCOLS)
async def test_agent_that_cannot_be_made_ready_says_so_and_is_silent(protocol):
    options = {"behaviour": numbered(paced=False, count=3), "faults": Faults(fail_ready=True)}
    async with connected(protocol, **options) as (client, session):
        ready, error = READY_PROTOCOLS[protocol]
        await soon(lambda: client.of_type(error))
        if protocol == "elevenlabs":
            await asyncio.wait_for(client.closed.wait(), DEADLINE_S)
            assert client.socket.close_code == 1008
        assert not client.of_type(ready)
        assert not client.audio and not session.sent and not session.ready.is_set()


@pytest.mark.parametrize("audio_format", PCM)
@pytest.mark.parametrize("protocol", ["retell-web", "elevenlabs"])
async def test_pcm_both_ways_keeps_the_tone(protocol, audio_format):
    rate_hz = FORMATS[audio_format]
    account = Account(from_caller_format=audio_format, to_caller_format=audio_format)
    async with connected(protocol, behaviour=silent, account=account) as (client, session):
        raw = tone(rate_hz).tobytes()
        for start in range(0, len(raw), rate_hz // 50 * 2):
            await client.say(raw[start : start + rate_hz // 50 * 2])
        await soon(lambda: len(b"".join(session.received_raw)) == len(raw))
        assert b"".join(session.received_raw) == raw
        heard = b"".join(item.audio for item in session.received)
        assert abs(len(heard) - 4000) < 5
        assert signal_to_noise_db(decode_mulaw(heard), 8000) > 30
        await asyncio.wait_for(session.ready.wait(), DEADLINE_S)
        await session.send_frames(frames(heard), paced=False)
        await soon(lambda: client.audio == session.sent_raw)
        back = array.array("h", b"".join(client.audio))
        assert signal_to_noise_db(back, rate_hz) > 25
        assert b"".join(item.audio for item in session.sent)[: len(heard)] == heard


def test_pcm_at_8_khz_carries_every_code_but_minus_zero():
    codes = bytes(code for code in range(256) if code != 0x7F)
    assert Decoder("pcm_8000").decode(Encoder("pcm_8000").encode(codes)) == codes
    with pytest.raises(ValueError, match="whole number of 16-bit samples"):
        Decoder("pcm_16000").decode(b"abc")


def test_resampled_message_by_message_is_as_resampled_at_once():
    audio = b"".join(make_numbered(n) for n in range(10))
    pieces = [audio[n : n + 37] for n in range(0, len(audio), 37)]
    encoder, decoder = Encoder("pcm_24000"), Decoder("pcm_24000")
    wire = b"".join(encoder.encode(piece) for piece in pieces)
    assert wire == Encoder("pcm_24000").encode(audio)
    halves = [wire[n : n + 74] for n in range(0, len(wire), 74)]
    assert b"".join(map(decoder.decode, halves)) == Decoder("pcm_24000").decode(wire)


async def test_json_agent_takes_exactly_its_own_shape():
    async with connected("json", behaviour=silent, violates=True) as (client, session):
        body = {"b64": base64.b64encode(b"a").decode()}
        await client.socket.send_json({"kind": "audio", "body": body, "more": 1})
        await soon(lambda: len(session.violations) == 1)
        await client.socket.send_json({"kind": "audio", "body": body | {"more": 1}})
        await soon(lambda: len(session.violations) == 2)
        assert session.received == []
