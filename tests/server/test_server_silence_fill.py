"""Callers whose audio pauses, and agents that need audio without gaps, on real sockets."""

from __future__ import annotations

from gaps import own_gaps, silent_frames, steps, words
from live import PLAIN_AND_TLS, until

from bridge.agents.vendors.deepgram import DeepgramDialogue
from bridge.agents.vendors.retell_web import WebDialogue
from bridge.call.silence_fill import MOST_AHEAD_BYTES, MOST_SPEED
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.audio import SILENT_FRAME
from bridge.standins.numbered import make_numbered

pytestmark = PLAIN_AND_TLS

LIVE = {"agent": {"protocol": "openai-live"}}
# No gap at the agent is longer; it is what the fill waits for and a frame.
GAP_S = 0.12
PAUSE_FRAMES = 100


async def test_pause_of_two_seconds_leaves_no_gap_and_late_audio_is_all_there(live_server):
    live = await live_server(**LIVE)
    async with live.bridged() as (caller, session), steps() as times:
        await caller.send_frames(make_numbered(n) for n in range(25))
        await until(lambda: silent_frames(session) >= PAUSE_FRAMES - 5)
        # All that the pause held back comes at once.
        began = len(session.received)
        late = range(25, 25 + PAUSE_FRAMES)
        await caller.send_frames((make_numbered(n) for n in late), paced=False)
        await until(lambda: len(words(session)) == (25 + PAUSE_FRAMES) * 160)
        assert words(session) == b"".join(make_numbered(n) for n in range(25 + PAUSE_FRAMES))
        assert max(own_gaps(session, times)) <= GAP_S
        # A process that stands still makes audio later, never faster.
        audio = [item for item in session.received[began:] if item.audio != SILENT_FRAME]
        least_s = (PAUSE_FRAMES * 160 - 2 * MOST_AHEAD_BYTES) / 8000 / MOST_SPEED
        assert audio[-1].at - audio[0].at >= least_s
        assert await live.dropped("to_agent") == 0


async def test_late_audio_beyond_the_bound_is_dropped_and_counted_the_oldest_first(live_server):
    live = await live_server(**LIVE, BRIDGE_HOLD_FROM_CALLER_MS=1000, BRIDGE_AGENT_CONNECT_S=1)
    async with live.bridged() as (caller, session):
        await until(lambda: silent_frames(session))
        await caller.send_frames((make_numbered(n) for n in range(500)), paced=False)
        last = make_numbered(499)
        await until(lambda: any(item.audio == last for item in session.received))
        dropped = await live.dropped("to_agent")
        assert dropped == 500 - len(words(session)) / 160 > 300
        assert words(session).endswith(b"".join(make_numbered(n) for n in range(460, 500)))


async def test_binary_agent_gets_silence_in_its_own_form(live_server, tmp_path, monkeypatch):
    monkeypatch.setattr(DeepgramDialogue, "silence_fill_ms", 100)
    (tmp_path / "agent.json").write_text("{}")
    live = await live_server(agent={"protocol": "deepgram"}, DEEPGRAM_AGENT_FILE=tmp_path / "agent.json")
    async with live.bridged() as (caller, session):
        await caller.send_media(make_numbered(0))
        await until(lambda: silent_frames(session) > 5)
        assert words(session) == make_numbered(0)


async def test_agent_of_pcm_gets_silence_in_its_own_form(live_server, monkeypatch):
    monkeypatch.setattr(WebDialogue, "silence_fill_ms", 100)
    account = Account(key="canary-api-key-77d0", from_caller_format="pcm_16000", to_caller_format="pcm_16000")
    live = await live_server(agent={"protocol": "retell-web", "account": account})
    async with live.bridged() as (_, session):
        await until(lambda: len(session.received_raw) > 5)
        assert set(b"".join(session.received_raw)) == {0}
        assert {len(wire) for wire in session.received_raw[2:]} == {640}


async def test_other_agents_get_none(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await caller.send_media(make_numbered(0))
        await until(lambda: session.received)
        [leg] = live.agent_legs
        assert leg._silence_fill is None
