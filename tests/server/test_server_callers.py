"""Who may call, on real sockets: over two processes with one store, at a reload, and while the store is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from live import Live, beside, serving, until
from redis_server import RedisServer, redis_server, started

from bridge.standins.twilio.caller import Caller

__all__ = ["redis_server"]

STREAM = ["Connect", "Redirect"]
SENTENCE = "Not now"
REFUSED = (["Say", "Hangup"], SENTENCE)
REFUSAL = {"BRIDGE_REFUSAL": f"say:{SENTENCE}"}
ABUSER = "+15550001111"


async def verbs_of(live: Live, caller: str = ABUSER) -> tuple[list[str], str | None]:
    """What one call more gets, and the sentence in it; the call ends at once, by its status callback."""
    async with live.caller(caller=caller) as call:
        answer = await call.post_voice()
        await end(call)
        return answer.verbs, ElementTree.fromstring(answer.body).findtext("Say")


async def end(call: Caller) -> None:
    form = {**call._form(None, {}), "CallStatus": "completed"}
    await call.post(f"{call.endpoint.public_url}/voice/status", form)


@pytest.fixture(params=["sqlite", "redis"])
async def url(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/store.sqlite3"
    await started(redis_server)
    return redis_server.url


@contextlib.asynccontextmanager
async def two(url: str, **settings: object) -> AsyncIterator[tuple[Live, Live]]:
    given = {"BRIDGE_AGENT": "echo", **REFUSAL, **settings}
    async with serving(BRIDGE_STORE=url, **given) as live, beside(live, url, **given) as other:
        yield live, other


async def refused(live: Live, reason: str) -> float:
    return (await live.metrics())[f'bridge_calls_refused_total{{reason="{reason}"}}']


async def test_caller_who_calls_all_the_time_is_refused_after_the_bound_and_everybody_else_is_served(url):
    async with two(url, BRIDGE_CALLER_PER_HOUR=4) as pair:
        found = []
        for n in range(30):
            found.append(await verbs_of(pair[n % 2]))
            assert (await verbs_of(pair[n % 2], f"+1555000{2000 + n}"))[0] == STREAM
        assert found == [*4 * [(STREAM, None)], *26 * [REFUSED]]
        assert sum([await refused(live, "caller_per_hour") for live in pair]) == 26


async def test_bound_of_calls_at_once_holds_over_two_processes_and_frees_with_the_end_of_a_call(url):
    async with two(url, BRIDGE_CALLER_CALLS_MAX=2, BRIDGE_AGENT="retell") as (a, b):
        async with a.bridged(caller=ABUSER) as (_, _), b.bridged(caller=ABUSER) as (call, session):
            assert await verbs_of(a) == await verbs_of(b) == REFUSED
            await call.send_media(b"still here")
            await until(lambda: session.received)
        await until(lambda: a.is_idle and b.is_idle)
        async with asyncio.timeout(10):
            while await verbs_of(a) == REFUSED:
                pass


async def test_media_socket_at_the_other_process_keeps_the_place(url):
    async with two(url, BRIDGE_CALLER_CALLS_MAX=1) as (a, b), a.answered(caller=ABUSER) as call:
        call.endpoint.url = b.url
        await call.open_stream()
        await until(lambda: call.call_sid in b.server._callers._held)
        await b.server._callers.on_round()
        assert await verbs_of(a) == await verbs_of(b) == REFUSED


async def use_up(live: Live, seconds: float) -> None:
    """Have the store say that calls of this day have taken so long, as another process would."""
    key = f"day:{datetime.now(UTC).date().isoformat()}"
    await live.server._tallies.change(key, lambda fields: {"seconds": seconds, "said": 0}, 60)


async def test_when_the_day_is_used_up_running_calls_go_on_and_new_ones_hear_the_sentence(url, logs):
    async with two(url, BRIDGE_DAY_MINUTES=1, BRIDGE_AGENT="retell") as (a, b):
        async with a.bridged() as (call, session):
            await use_up(a, 48)
            for live in (a, b):
                await live.server._callers._day.share()
            assert (await verbs_of(b))[0] == STREAM
            await use_up(a, 60)
            for live in (a, b):
                await live.server._callers._day.share()
            assert await verbs_of(a) == await verbs_of(b) == REFUSED
            await call.send_media(b"still here")
            await until(lambda: session.received)
            assert session.received[0].audio == b"still here"
        metrics = await b.metrics()
        assert metrics["bridge_day_call_seconds"] >= 60
        assert metrics["bridge_day_call_seconds_max"] == 60
        assert metrics['bridge_calls_refused_total{reason="day_minutes"}'] == 1
    assert len([line for line in logs.lines if "minutes of the day are used up" in line]) >= 1


async def test_time_of_a_running_call_is_counted_and_survives_a_restart(tmp_path):
    settings = {"BRIDGE_STORE": f"sqlite:{tmp_path}/store.sqlite3", "BRIDGE_DAY_MINUTES": 1}
    async with serving(BRIDGE_AGENT="echo", **settings) as live, live.answered() as call:
        await call.open_stream()
        await until(lambda: live.live_calls == 1)
        await live.server._callers._day.share()
        before = (await live.metrics())["bridge_day_call_seconds"]
        await live.server._callers._day.share()
        assert (await live.metrics())["bridge_day_call_seconds"] > before
    async with serving(BRIDGE_AGENT="echo", **settings) as live:
        await live.server._callers.on_round()
        assert (await live.metrics())["bridge_day_call_seconds"] > before


async def test_file_of_numbers_is_read_again_and_a_bad_one_is_refused_whole(live_server, tmp_path, logs):
    file = tmp_path / "numbers.toml"
    file.write_text("")
    live = await live_server(BRIDGE_NUMBERS_FILE=file, BRIDGE_AGENT="echo", **REFUSAL)
    assert (await verbs_of(live))[0] == STREAM
    file.write_text(f'refused = ["{ABUSER[:6]}*"]\n')
    live.server.reload()
    assert [line for line in logs.lines if "numbers reloaded" in line]
    assert await verbs_of(live) == REFUSED
    assert (await verbs_of(live, "+4930111222"))[0] == STREAM
    file.write_text('refused = ["+4930*", "me"]\n')
    live.server.reload()
    (line,) = [line for line in logs.lines if "the former numbers stay" in line]
    assert "refused.1: must be a number" in line
    assert await verbs_of(live) == REFUSED
    assert (await verbs_of(live, "+4930111222"))[0] == STREAM
    assert await refused(live, "number_refused") == 2
    logs.records.clear()


async def test_reject_costs_nothing(live_server, tmp_path):
    file = tmp_path / "numbers.toml"
    file.write_text(f'refused = ["{ABUSER}"]\n')
    live = await live_server(BRIDGE_NUMBERS_FILE=file, BRIDGE_AGENT="echo", BRIDGE_REFUSAL="reject")
    assert await verbs_of(live) == (["Reject"], None)


async def test_refused_call_opens_no_session(live_server, tmp_path):
    file = tmp_path / "numbers.toml"
    file.write_text(f'refused = ["{ABUSER}"]\n')
    live = await live_server(BRIDGE_NUMBERS_FILE=file)
    assert (await verbs_of(live))[0] == ["Say", "Hangup"]
    assert live.agent.requests == []


async def test_nobody_is_refused_because_the_store_is_away(redis_server):
    await started(redis_server)
    async with two(redis_server.url, BRIDGE_CALLER_PER_HOUR=2) as (a, b):
        await redis_server.kill()
        assert [(await verbs_of(live))[0] for live in (a, a, b, b)] == 4 * [STREAM]
        assert await verbs_of(a) == await verbs_of(b) == REFUSED
        assert (await verbs_of(a, "+15550002222"))[0] == STREAM


async def test_dialled_call_has_its_place_until_its_end_is_heard_of(url, monkeypatch):
    monkeypatch.setattr("bridge.server.callers.GONE_S", 0.0)
    settings = {"BRIDGE_AGENT": "retell-sip", "BRIDGE_CALLER_CALLS_MAX": "1", **REFUSAL}
    async with (
        serving(agent={"protocol": "retell-sip"}, BRIDGE_STORE=url, **settings) as a,
        beside(a, url, **settings) as b,
        a.caller(caller=ABUSER) as call,
    ):
        answer = await call.post_voice()
        action = ElementTree.fromstring(answer.body).find("Dial").get("action")
        await a.server._callers.on_round()
        assert await verbs_of(a) == await verbs_of(b) == REFUSED
        call.endpoint.url = b.url
        form = {**call._form(None, {}), "DialCallStatus": "completed"}
        assert (await call.post(action, form)).verbs == ["Hangup"]
        await b.server._callers.on_round()
        assert (await verbs_of(b))[0][0] == "Dial"


async def test_disabled_agent_is_passed_over_after_a_reload_until_the_next_one(live_server, tmp_path, logs):
    file = tmp_path / "agents.toml"
    file.write_text("")
    live = await live_server(BRIDGE_AGENTS_FILE=file, BRIDGE_AGENT="retell,echo")
    async with live.bridged() as (call, session):
        file.write_text("[retell]\ndisabled = true\n")
        live.server.reload()
        async with live.answered() as second:
            await second.open_stream()
            await second.send_media(b"hello")
            await until(lambda: second.received_audio == [b"hello"])
        await call.send_media(b"still here")
        await until(lambda: session.received)
    file.write_text("")
    live.server.reload()
    async with live.bridged():
        assert len(live.agent.requests) == 2
    said = [line for line in logs.lines if "agent disabled" in line or "agent enabled" in line]
    assert len(said) == 2
