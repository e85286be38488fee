"""Recordings of whole calls: what the caller says left, and what he hears right."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from call_schema import problems
from channels import APART_BYTES, differences, said_by
from full_disk import file_of_at_most
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, Live, beside, random_call_sid, soon, until
from wav_reader import Stereo, read_stereo

from bridge.call.state import State
from bridge.server.telephone_calls import SID_BEGINNING
from bridge.standins import demo
from bridge.standins.agent.protocols.protocol import Account as AgentAccount
from bridge.standins.audio import speech
from bridge.standins.numbered import make_numbered
from bridge.standins.process import BridgeProcess
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.rest import Account, TwilioRest

LONG = {"grace_s": 60.0}
# How far a recording and the phone may be apart where both share a core with other tests: 100 ms.
LOADED_BYTES = 800
TOKEN = "canary-api-token-20d1"


def numbered(first: int, count: int, seed: int = 1) -> list[bytes]:
    return [make_numbered(n, seed=seed) for n in range(first, first + count)]


async def over(live: Live) -> None:
    """Wait until no call is left, and its recording is on the disk."""
    value = live.server.metrics.registry.get_sample_value
    await until(lambda: live.is_idle and value("bridge_recordings_open") == 0)


async def recorded(live: Live, directory: Path) -> Stereo:
    """The one recording of a server without calls."""
    await over(live)
    return only(directory)


def only(directory: Path) -> Stereo:
    (path,) = directory.iterdir()
    return read_stereo(path)


def is_bridged(live: Live) -> bool:
    return any(call.state is State.BRIDGED for call in live.open_calls)


async def heard(caller: Caller, audio_bytes: int) -> None:
    """Wait until the caller has heard this much since the stream opened, silence left out."""

    def is_heard() -> bool:
        caller.playout.advance(asyncio.get_running_loop().time())
        return len(caller.playout.heard) - caller.playout.heard.count(0xFF) >= audio_bytes

    await until(is_heard)


def heard_all(caller: Caller) -> bool:
    # The loop's clock counts whole milliseconds, the bridge's does not: audio may seem to have come that much early.
    caller.playout.advance(asyncio.get_running_loop().time() - 0.001)
    return caller.playout.buffered_bytes == 0


async def test_recording_has_what_the_caller_says_and_hears(live_server, tmp_path):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path)
    async with live.bridged() as (caller, session):
        caller.open_line()
        await caller.say(b"".join(numbered(0, 20, seed=1)))
        # Seconds of audio at once, which an interrupt cuts.
        await session.send_frames(numbered(0, 150, seed=2), paced=False)
        await heard(caller, 4000)
        await session.send_interrupt()
        await until(lambda: caller.playout.cleared)
        await caller.say(b"".join(numbered(20, 20, seed=1)))
        await session.send_frames(numbered(150, 20, seed=2), paced=False)
        await until(lambda: len(caller.received_audio) == 170 and heard_all(caller))
        await caller.hang_up()
    left, right = await recorded(live, tmp_path)
    assert len(left) == len(right)
    assert differences(left, said_by(caller), LOADED_BYTES) == []
    assert differences(right, caller.heard(), LOADED_BYTES, cleared=True) == []


async def test_echo_is_right_what_the_caller_said_left(live_server, tmp_path):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path, BRIDGE_AGENT="echo")
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_frames(numbered(0, 50), paced=False)
        await until(lambda: len(caller.received) == 50)
        await until(lambda: heard_all(caller))
        await caller.hang_up()
    left, right = await recorded(live, tmp_path)
    said = b"".join(numbered(0, 50))
    assert said in left
    assert said in right


@pytest.mark.parametrize("rate_hz", [16000, 24000])
async def test_agent_of_samples_is_recorded_as_the_caller_hears_it(live_server, tmp_path, rate_hz):
    pcm = f"pcm_{rate_hz}"
    account = AgentAccount(key=API_KEY, from_caller_format=pcm, to_caller_format=pcm)
    options = {"protocol": "elevenlabs", "account": account}
    live = await live_server(agent=options, BRIDGE_RECORD_DIR=tmp_path)
    async with live.bridged() as (caller, session):
        answer = [speech("agent_answer")[n : n + 160] for n in range(0, 8000, 160)]
        await session.send_frames(answer, paced=False)
        await caller.send_frames(numbered(0, 10), paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) >= 7900)
        await until(lambda: heard_all(caller))
        await caller.hang_up()
    left, right = await recorded(live, tmp_path)
    assert b"".join(numbered(0, 10)) in left
    assert b"".join(caller.received_audio) in right


async def test_call_whose_agent_is_replaced_has_one_recording(live_server, tmp_path):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path)
    async with live.bridged() as (caller, first):
        caller.open_line()
        await first.send_frames(numbered(0, 10), paced=False)
        await until(lambda: len(caller.received) == 10)
        await first.close(1011, "fault of mine")
        await until(lambda: len(live.agent.sessions) == 2)
        [second] = [one for one in live.agent.sessions.values() if one is not first]
        await soon(second.opened.wait())
        await second.send_frames(numbered(10, 10), paced=False)
        await until(lambda: len(caller.received) == 20)
        await until(lambda: heard_all(caller))
        await caller.hang_up()
    left, right = await recorded(live, tmp_path)
    assert differences(left, said_by(caller), LOADED_BYTES) == []
    assert b"".join(numbered(0, 10)) in right
    assert b"".join(numbered(10, 10)) in right


async def test_call_that_goes_on_with_a_new_media_socket_has_one_recording(live_server, tmp_path):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path, limits=LONG)
    async with live.bridged() as (caller, session):
        await caller.send_frames(numbered(0, 10, seed=1), paced=False)
        await session.send_frames(numbered(0, 400, seed=2), paced=False)
        await until(lambda: len(caller.received) == 400)
        await heard(caller, 1600)
        caller.abort()
        await soon(caller.closed.wait())
        await until(lambda: not live.caller_legs)
        await soon(caller.go_on())
        await caller.send_frames(numbered(10, 10, seed=1), paced=False)
        await session.send_frames(numbered(400, 10, seed=2), paced=False)
        await until(lambda: len(caller.received) == 410)
        await heard(caller, 1500)
        await caller.hang_up()
    left, right = await recorded(live, tmp_path)
    assert b"".join(numbered(0, 10, seed=1)) in left
    assert b"".join(numbered(10, 10, seed=1)) in left
    # What went with the lost socket was not heard.
    assert b"".join(numbered(0, 8, seed=2)) in right
    assert make_numbered(399, seed=2) not in right
    assert b"".join(numbered(400, 9, seed=2)) in right
    assert live.documents[0]["recording"]["file"] == next(tmp_path.iterdir()).name


async def test_call_that_goes_on_at_another_process_has_a_recording_of_each(live_server, tmp_path):
    (tmp_path / "recordings").mkdir()
    shared = {"BRIDGE_RECORD_DIR": tmp_path / "recordings"}
    url = f"sqlite:{tmp_path}/store.sqlite3"
    live = await live_server(BRIDGE_STORE=url, **shared)
    async with beside(live, url, **shared) as other:
        async with live.bridged() as (caller, _):
            caller.abort()
            await soon(caller.closed.wait())
            await until(lambda: not live.open_calls)
            caller.endpoint.url = other.url
            await soon(caller.go_on())
            await until(lambda: is_bridged(other))
            await caller.hang_up()
        await over(live)
        await over(other)
    names = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    assert [name[34:37] for name in names] == ["-0-", "-1-"]
    assert {name[:34] for name in names} == {caller.call_sid}


BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def recording_of(live: Live, call_sid: str) -> dict[str, str | None]:
    """What the API says of the recording of a call with one record."""
    status, text = await live.get(f"/calls/{call_sid}", **BEARER)
    assert status == 200
    [record] = json.loads(text)["records"]
    assert problems(record) == []
    return record["recording"]


async def test_record_names_the_recording_which_goes_with_it(live_server, tmp_path):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path, BRIDGE_API_TOKEN=TOKEN)
    async with live.bridged() as (caller, _):
        name = (await recording_of(live, caller.call_sid))["file"]
        assert name.startswith(caller.call_sid)
        await caller.hang_up()
    await over(live)
    await live.server._agreement.documents.settled()
    assert await recording_of(live, caller.call_sid) == {"file": name, "ended": None, "twilio_sid": None}
    assert (tmp_path / name).exists()
    async with (
        aiohttp.ClientSession(headers=BEARER) as http,
        http.delete(f"{live.url}/calls/{caller.call_sid}") as answer,
    ):
        assert answer.status == 204
    assert list(tmp_path.iterdir()) == []


async def test_record_names_the_opus_file_which_goes_with_it(live_server, tmp_path):
    options = {"BRIDGE_RECORD_DIR": tmp_path, "BRIDGE_RECORD_FORMAT": "opus", "BRIDGE_API_TOKEN": TOKEN}
    live = await live_server(**options)
    async with live.bridged() as (caller, _):
        await caller.send_frames(numbered(0, 10), paced=False)
        await caller.hang_up()
    await over(live)
    value = live.server.metrics.registry.get_sample_value
    await until(lambda: value("bridge_recordings_encoded_total", {"reason": "encoded"}) == 1)
    await live.server._agreement.documents.settled()
    [file] = tmp_path.iterdir()
    assert file.suffix == ".opus"
    assert await recording_of(live, caller.call_sid) == {"file": file.name, "ended": None, "twilio_sid": None}
    async with (
        aiohttp.ClientSession(headers=BEARER) as http,
        http.delete(f"{live.url}/calls/{caller.call_sid}") as answer,
    ):
        assert answer.status == 204
    assert list(tmp_path.iterdir()) == []


async def test_full_disk_ends_no_call(live_server, tmp_path, logs):
    live = await live_server(BRIDGE_RECORD_DIR=tmp_path, BRIDGE_STORE="memory")
    async with live.bridged() as (caller, session):
        with file_of_at_most(1000):
            caller.open_line()
            await until(lambda: [line for line in logs.lines if "recording is not whole" in line])
        await session.send_audio(make_numbered(0))
        await until(lambda: caller.received)
        await caller.hang_up()
    await over(live)
    assert [line for line in logs.lines if "recording is not whole" in line][1:] == []
    (found,) = live.documents
    assert found["recording"]["ended"] == "disk_full"
    assert found["end"]["why"] == "caller_stopped"


ROUTES = """
[[route]]
to = "+14155550100"
agents = ["echo"]
record = false

[[route]]
to = "+14155550101"
agents = ["echo"]
announce = "Dieser Anruf wird aufgezeichnet."
language = "de-DE"
"""


async def test_route_may_be_left_out_or_announced(live_server, tmp_path):
    (tmp_path / "routes.toml").write_text(ROUTES)
    (tmp_path / "recordings").mkdir()
    async with TwilioRest(Account(sid=ACCOUNT_SID, auth_tokens=[AUTH_TOKEN])) as twilio:
        live = await live_server(
            BRIDGE_ROUTES_FILE=tmp_path / "routes.toml",
            BRIDGE_RECORD_DIR=tmp_path / "recordings",
            BRIDGE_RECORD_TWILIO="1",
            TWILIO_API_URL=twilio.url,
        )
        for called in ("+14155550100", "+14155550101"):
            async with live.caller(called=called, call_sid=twilio.add_call()) as caller:
                answer = await caller.post_voice()
                assert (answer.say or "") == ("Dieser Anruf wird aufgezeichnet." if called[-1] == "1" else "")
                await caller.open_stream()
                await until(lambda: live.live_calls)
                await until(lambda: called[-1] == "0" or live_recording_sid(live))  # noqa: B023
                await caller.hang_up()
            await over(live)
        first, second = live.documents
        assert first["recording"] is None
        ((sid, made),) = twilio.recordings.items()
        assert made["call_sid"] == second["call_sid"]
        assert second["recording"]["twilio_sid"] == sid
        assert [path.name for path in (tmp_path / "recordings").iterdir()] == [second["recording"]["file"]]
        assert twilio.violations == []


def live_recording_sid(live: Live) -> str:
    (sides,) = live.server._live.book.values()
    return sides.record.recording_sid


async def test_twilio_is_asked_once_for_a_call_that_goes_on(live_server, tmp_path, logs):
    async with TwilioRest(Account(sid=ACCOUNT_SID, auth_tokens=[AUTH_TOKEN])) as twilio:
        live = await live_server(BRIDGE_RECORD_TWILIO="1", TWILIO_API_URL=twilio.url)
        async with live.bridged(call_sid=twilio.add_call()) as (caller, _):
            await until(lambda: live_recording_sid(live))
            caller.abort()
            await soon(caller.closed.wait())
            await until(lambda: not live.open_calls)
            await soon(caller.go_on())
            await until(lambda: is_bridged(live))
            await caller.hang_up()
        await until(lambda: live.is_idle)
        assert [document["attempt"] for document in live.documents] == [0, 1]
        assert len(twilio.recordings) == 1
        # Twilio does not know the calls of the page, and is not asked.
        of_page = SID_BEGINNING + 16 * "1"
        async with live.bridged(call_sid=of_page) as (caller, _):
            await caller.hang_up()
        await until(lambda: live.is_idle)
        assert not [asked for asked in twilio.asked if of_page in asked.path]
        # One that Twilio does not know goes on without.
        async with live.bridged(call_sid=random_call_sid()) as (caller, _):
            await until(lambda: [line for line in logs.lines if "Twilio does not record the call" in line])
            await caller.hang_up()
        await until(lambda: live.is_idle)
        assert live.documents[-1]["recording"] is None


def test_recording_of_the_demos_call_is_what_its_caller_said_and_heard(tmp_path, monkeypatch):
    (tmp_path / "recordings").mkdir()
    callers: list[Caller] = []

    def start(folder: Path, settings: dict[str, str]) -> BridgeProcess:
        return BridgeProcess(folder, {**settings, "BRIDGE_RECORD_DIR": str(tmp_path / "recordings")})

    def dial(*arguments: Any, **options: Any) -> Caller:
        callers.append(Caller(*arguments, **options))
        return callers[0]

    monkeypatch.setattr(demo, "BridgeProcess", start)
    monkeypatch.setattr(demo, "Caller", dial)
    assert demo.run(tmp_path / "out") == 0
    left, right = only(tmp_path / "recordings")
    # On a busy machine audio is on its way for longer.
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    late_bytes = [8 * round(result[way]["delay_max_ms"]) for way in ("caller_to_agent", "agent_to_caller")]
    (caller,) = callers
    assert differences(left, said_by(caller), APART_BYTES + late_bytes[0]) == []
    assert differences(right, caller.heard(), APART_BYTES + late_bytes[1], cleared=True) == []
