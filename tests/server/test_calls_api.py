"""The records of calls over HTTP: for who has the token, at every process, in every store."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from call_schema import problems
from live import DEADLINE_S, Live, beside, random_call_sid, soon, until
from redis_server import RedisServer, redis_server, started

from bridge.call.replay import events_of, replay
from bridge.server.calls_api import LIMIT_MAX
from bridge.server.records.flights import FlightFiles
from bridge.server.records.recordings import Recordings
from bridge.server.store.store import StoreError
from bridge.standins.process import free_port

__all__ = ["redis_server"]

TOKEN = "canary-api-token-19c4"
BEARER = f"Bearer {TOKEN}"


class Api:
    """Asks one server's API."""

    def __init__(self, live: Live) -> None:
        self.live = live

    async def ask(self, method: str, path: str, token: str | None = BEARER) -> tuple[int, Any]:
        headers = {"Authorization": token} if token is not None else {}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, self.live.url + path, headers=headers, ssl=self.live.ssl) as answer,
        ):
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def get(self, path: str = "/calls") -> Any:
        status, found = await self.ask("GET", path)
        assert status == 200
        return found

    async def record(self, call_sid: str) -> dict[str, Any]:
        """The one record of a call, valid by the schema."""
        found = await self.get(f"/calls/{call_sid}")
        [record] = found["records"]
        assert found["call_sid"] == record["call_sid"] == call_sid
        assert problems(record) == []
        return record


async def over(live: Live, **options: Any) -> str:
    """A call that is over, and kept."""
    async with live.bridged(**options) as (caller, _):
        await caller.hang_up()
        await until(lambda: live.is_idle)
    await live.server._agreement.documents.settled()
    return caller.call_sid


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request, tmp_path, redis_server: RedisServer) -> AsyncIterator[str]:
    if request.param == "redis":
        await started(redis_server)
    yield {"memory": "memory", "sqlite": f"sqlite:{tmp_path}/store", "redis": redis_server.url}[request.param]


@pytest.fixture
async def live(live_server) -> Live:
    return await live_server(BRIDGE_API_TOKEN=TOKEN)


async def test_finished_call_is_listed_shown_and_removed(live_server, store):
    live = await live_server(BRIDGE_API_TOKEN=TOKEN, BRIDGE_STORE=store)
    api = Api(live)
    assert await api.get() == {"live": [], "live_count": 0, "is_whole": True, "finished": []}
    first, second = await over(live), await over(live)
    found = await api.get()
    assert [row["call_sid"] for row in found["finished"]] == [second, first]
    assert found["finished"][0] == {
        "call_sid": second,
        "attempt": 0,
        "from": "+141…23",
        "to": "+141…00",
        "route": "default",
        "agent": "retell",
        "agents_lost": 0,
        "start": found["finished"][0]["start"],
        "ended": found["finished"][0]["ended"],
        "duration_s": found["finished"][0]["duration_s"],
        "first_agent_audio_s": None,
        "wait_p50_ms": None,
        "interrupts": 0,
        "dropped": 0,
        "why": "caller_stopped",
        "outcome": "ended",
    }
    assert [row["call_sid"] for row in (await api.get("/calls?limit=1"))["finished"]] == [second]
    assert (await api.record(first))["end"]["why"] == "caller_stopped"
    assert await api.ask("DELETE", f"/calls/{first}") == (204, "")
    assert (await api.ask("DELETE", f"/calls/{first}"))[0] == 404
    assert (await api.ask("GET", f"/calls/{first}"))[0] == 404
    assert [row["call_sid"] for row in (await api.get())["finished"]] == [second]


async def test_transcript_is_shown_and_removed_with_the_call(live_server):
    settings = {"BRIDGE_AGENT": "openai", "OPENAI_REALTIME_GREETS": "1", "BRIDGE_API_TOKEN": TOKEN}
    live = await live_server(agent={"protocol": "openai"}, **settings)
    async with live.bridged() as (caller, session):
        await until(lambda: session.asked_to_speak)
        await session.send_heard("When do you open?")
        await until(lambda: live.open_calls[0].conversation.changes)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    agreement = live.server._agreement
    await agreement.documents.settled()
    await agreement.transcripts.settled()
    said = (await Api(live).record(caller.call_sid))["transcript"]
    assert [one["text"] for one in said] == ["When do you open?"]
    assert await agreement._store.read(f"said:{caller.call_sid}") is not None
    assert (await Api(live).ask("DELETE", f"/calls/{caller.call_sid}"))[0] == 204
    assert await agreement._store.read(f"said:{caller.call_sid}") is None


async def test_events_that_wait_are_removed_with_the_call(live_server, store):
    # Nobody listens there.
    url = f"http://127.0.0.1:{free_port()}/events"
    secret = "whsec_" + base64.b64encode(bytes(32)).decode()
    events = {"BRIDGE_EVENTS_URL": url, "BRIDGE_EVENTS_SECRET": secret}
    live = await live_server(BRIDGE_API_TOKEN=TOKEN, BRIDGE_STORE=store, **events)
    call_sid = await over(live)
    queue = live.server._parts.store.queue
    async with asyncio.timeout(DEADLINE_S):
        while (await queue.length()).texts < 2:
            pass
    assert (await Api(live).ask("DELETE", f"/calls/{call_sid}"))[0] == 204
    assert not await queue.blank(call_sid)


async def test_live_call_is_shown_as_far_as_it_has_come_and_cannot_be_removed(live):
    api = Api(live)
    async with live.bridged() as (caller, _):
        [row] = (await api.get())["live"]
        assert (row["call_sid"], row["agent"], row["ended"]) == (caller.call_sid, "retell", None)
        found = await api.get(f"/calls/{caller.call_sid}")
        assert found["is_live"]
        assert (await api.record(caller.call_sid))["end"] is None
        assert (await api.ask("DELETE", f"/calls/{caller.call_sid}"))[0] == 409
        await caller.hang_up()
        await until(lambda: live.is_idle)
    assert (await api.get())["live"] == []


async def test_answered_call_cannot_be_removed_before_its_media_socket_is_there(live):
    async with live.answered() as caller:
        assert (await Api(live).ask("DELETE", f"/calls/{caller.call_sid}"))[0] == 409


async def test_each_process_shows_what_another_one_has_finished(live_server, tmp_path, monkeypatch):
    monkeypatch.setattr("bridge.server.store.presence.BEAT_S", 0.05)
    url = f"sqlite:{tmp_path}/store"
    live = await live_server(BRIDGE_API_TOKEN=TOKEN, BRIDGE_STORE=url)
    async with beside(live, url, BRIDGE_API_TOKEN=TOKEN) as other:
        api = Api(other)
        await other.beat()
        async with live.bridged() as (caller, _):
            path = f"/calls/{caller.call_sid}"
            await until(lambda: live.server._agreement._tasks == set())
            assert await api.get(path) == {"call_sid": caller.call_sid, "is_live": True, "records": []}
            assert (await api.ask("DELETE", path))[0] == 409
            await caller.hang_up()
            await until(lambda: live.is_idle)
        await live.server._agreement.documents.settled()
        assert (await api.record(caller.call_sid))["end"]["why"] == "caller_stopped"
        assert (await api.ask("DELETE", path))[0] == 204
        assert (await Api(live).ask("GET", path))[0] == 404


async def test_call_of_a_process_that_is_gone_can_be_removed(live_server, tmp_path):
    url = f"sqlite:{tmp_path}/store"
    live = await live_server(BRIDGE_API_TOKEN=TOKEN, BRIDGE_STORE=url)
    call_sid = random_call_sid()
    agreement = live.server._agreement
    # As a process that was killed leaves it.
    agreement.owner, mine = "gone", agreement.owner
    await agreement.enter_again(call_sid, 0, "m")
    agreement.owner = mine
    assert (await Api(live).ask("DELETE", f"/calls/{call_sid}"))[0] == 404


# Flight records


async def test_flight_record_of_a_live_call_is_shown_as_far_as_it_has_come(live):
    api = Api(live)
    async with live.bridged() as (caller, _):
        await caller.send_dtmf("5")
        await until(lambda: live.traffic.dtmf)
        flight = await api.get(f"/calls/{caller.call_sid}/flight")
        assert (flight["call_sid"], flight["why"]) == (caller.call_sid, None)
        assert [event.name for event in events_of(flight)] == ["on_start", "on_agent_open", "on_dtmf"]
        assert replay(flight) is None
        await caller.hang_up()
        await until(lambda: live.is_idle)
    # It has not ended badly.
    assert (await api.ask("GET", f"/calls/{caller.call_sid}/flight"))[0] == 404


async def test_flight_record_of_a_bad_end_is_shown_and_removed_with_the_call(live):
    api = Api(live)
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        session.abort()
        await soon(caller.closed.wait())
        await until(lambda: live.is_idle)
    await live.server._agreement.documents.settled()
    path = f"/calls/{caller.call_sid}"
    flight = await api.get(f"{path}/flight")
    assert flight["why"] == "agent_lost"
    assert replay(flight) is None
    assert (await api.ask("DELETE", path))[0] == 204
    assert (await api.ask("GET", f"{path}/flight"))[0] == 404
    assert list((live.server._settings.state_dir / "flights").iterdir()) == []


async def test_disk_that_does_not_answer_is_reported(live_server, monkeypatch):
    def fails(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(FlightFiles, "_read", fails)
    monkeypatch.setattr(FlightFiles, "_remove", fails)
    live = await live_server(BRIDGE_API_TOKEN=TOKEN)
    call_sid = await over(live)
    for asked in (("GET", f"/calls/{call_sid}/flight"), ("DELETE", f"/calls/{call_sid}")):
        status, text = await Api(live).ask(*asked)
        assert (status, "BRIDGE_STATE_DIR" in text) == (503, True)


async def test_disk_of_recordings_that_does_not_answer_is_reported_by_its_setting(
    live_server, monkeypatch, tmp_path
):
    def fails(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Recordings, "_remove", fails)
    live = await live_server(BRIDGE_API_TOKEN=TOKEN, BRIDGE_RECORD_DIR=tmp_path)
    call_sid = await over(live)
    status, text = await Api(live).ask("DELETE", f"/calls/{call_sid}")
    assert (status, "BRIDGE_RECORD_DIR" in text, "STATE" in text) == (503, True, False)


# The token


@pytest.mark.parametrize(
    "token", [None, "", TOKEN, "Bearer", f"Bearer {TOKEN}x", f"bearer {TOKEN}", "Bearer é"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_request_without_the_token_learns_nothing(live, logs, token, method):
    call_sid = await over(live)
    agreement = live.server._agreement
    asked = agreement._breaker.ask

    async def never(question):
        raise AssertionError("the store was asked")

    agreement._breaker.ask = never
    try:
        paths = ("/calls", f"/calls/{call_sid}", f"/calls/{call_sid}/flight", "/calls/none")
        for path in (*paths, f"/calls/{random_call_sid()}"):
            lines = len(logs.lines)
            assert await Api(live).ask(method, path, token) == (401, "401 Unauthorized\n")
            assert logs.lines[lines:] == []
    finally:
        agreement._breaker.ask = asked


async def test_without_a_token_there_is_no_api(live_server):
    live = await live_server()
    for token in (None, "Bearer ", BEARER):
        for path in ("/calls", f"/calls/{random_call_sid()}"):
            assert (await Api(live).ask("GET", path, token))[0] == 404


async def test_token_is_in_no_line_of_the_log(live, logs):
    await over(live)
    await Api(live).get()
    assert not any(TOKEN in line for line in logs.lines)


# Requests that cannot be answered


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/calls/CA1", 404),
        ("GET", f"/calls/{'CA' + 32 * 'A'}", 404),
        ("GET", "/calls/", 404),
        ("GET", f"/calls/{random_call_sid()}", 404),
        ("DELETE", f"/calls/{random_call_sid()}", 404),
        ("GET", f"/calls/{random_call_sid()}/flight", 404),
        ("GET", "/calls/flight", 404),
        ("DELETE", f"/calls/{random_call_sid()}/flight", 405),
        ("DELETE", "/calls", 405),
        ("POST", "/calls", 405),
        ("PUT", f"/calls/{random_call_sid()}", 405),
        ("GET", "/calls?limit=0", 400),
        ("GET", f"/calls?limit={LIMIT_MAX + 1}", 400),
        ("GET", "/calls?limit=x", 400),
        ("GET", f"/calls?limit={5000 * '1'}", 400),
        ("GET", "/calls?limit=1&limit=2", 400),
    ],
)
async def test_request_that_cannot_be_answered(live, method, path, status):
    assert (await Api(live).ask(method, path))[0] == status


async def test_requests_are_counted_under_one_path(live):
    await Api(live).ask("GET", f"/calls/{random_call_sid()}")
    await Api(live).ask("GET", "/calls/any")
    assert (await live.metrics())['bridge_http_requests_total{path="/calls",status="404"}'] == 2


async def test_store_that_is_down_leaves_the_live_calls(live, monkeypatch):
    api, agreement = Api(live), live.server._agreement

    async def fails(*arguments):
        raise StoreError("gone")

    async with live.bridged() as (caller, _):
        for name in ("newest", "find"):
            monkeypatch.setattr(agreement._store.shelf, name, fails)
        found = await api.get()
        assert [row["call_sid"] for row in found["live"]] == [caller.call_sid]
        assert found["finished"] is None
        # Until the breaker asks again.
        assert (await api.ask("GET", f"/calls/{random_call_sid()}"))[0] == 503
        assert (await api.ask("DELETE", f"/calls/{random_call_sid()}"))[0] == 503
        assert (await api.ask("DELETE", f"/calls/{caller.call_sid}"))[0] == 409
        await caller.hang_up()
        await soon(caller.closed.wait())
        await until(lambda: live.is_idle)
    await agreement.documents.settled()
    assert (await live.metrics())["bridge_records_lost_total"] == 1
