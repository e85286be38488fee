"""Delivery on real sockets: an outage by a clock of the test's, processes that share the work, and each way to fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from certificates import Tls
from live import DEADLINE_S, soon, until
from stores import open_store, redis_server
from user_side import SECRET, UserSide, user_side

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.events.delivery import (
    LINE_EVERY_S,
    NOT_REACHED,
    NOT_TRUSTED,
    REDIRECTED,
    REFUSED,
    SLOW,
    TRIES_MOST,
    Delivery,
)
from bridge.server.events.queue import ENDED, LEASE_S, STARTED, TRANSCRIPT, EventQueue
from bridge.server.events.standard_webhooks import WebhookSigner
from bridge.server.outgoing import client_tls, http_session
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Store
from bridge.standins.process import free_port

__all__ = ["open_store", "redis_server"]

KEEP_S = 24 * 3600.0
LONG_S, SHORT_S = 60.0, 0.2
OUTAGE_S = 600


class Clock:
    """The Unix time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.added_s


class Process:
    """The events of one process; its loop runs only where a test starts it."""

    def __init__(
        self, store: Store, url: str, http: aiohttp.ClientSession, clock: Clock, try_s: float = LONG_S
    ) -> None:
        self.metrics = Metrics()
        breaker = Breaker(store, self.metrics)
        self.queue = EventQueue(store, breaker, Seal(["auth"]), self.metrics, KEEP_S, clock)
        self.delivery = Delivery(url, WebhookSigner([SECRET]), http, self.queue, clock, try_s)

    async def work(self) -> None:
        """Try what is due, until nothing is or the receiver fails."""
        is_failing = False
        while not is_failing and await self.delivery.step():
            await self.delivery.settled()
            is_failing = self.delivery.is_failing

    def count(self, type: str, result: str) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_events_total", {"type": type, "result": result})


@pytest.fixture
async def user() -> AsyncIterator[UserSide]:
    async with user_side() as user:
        yield user


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_session(client_tls(), 3600.0) as session:
        yield session


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(user, http, clock) -> Process:
    return Process(MemoryStore(), f"{user.url}/events", http, clock)


def warnings(logs) -> list[str]:
    return [line for line in logs.lines if line.startswith("WARNING")]


def says(status: int, **headers: str):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    return answer


def by_call(user: UserSide) -> dict[str, list[str]]:
    found = defaultdict(list)
    for event in user.events:
        found[event["data"]["call_sid"]].append(event["type"])
    return found


async def test_receiver_gets_each_event_once_signed_and_as_it_was_put(user, process):
    process.queue.put(STARTED, "CA1", {"call_sid": "CA1", "from": "+15551234567"})
    await process.work()
    (event,) = user.events
    assert (event["type"], event["data"]) == (STARTED, {"call_sid": "CA1", "from": "+15551234567"})
    assert process.count(STARTED, "delivered") == 1


async def test_outage_of_ten_minutes_loses_nothing_and_leaves_each_call_in_order(
    user, http, clock, open_store
):
    """One call a second from two processes over one store: what begins before, within and after the outage."""
    pair = [Process(open_store(), f"{user.url}/events", http, clock) for _ in range(2)]
    tried: Counter[str] = Counter()

    async def is_down(request: web.Request) -> web.Response:
        tried[request.headers["webhook-id"]] += 1
        return web.Response(status=503)

    calls = OUTAGE_S + 120
    for second in range(calls + 30):
        user.on_try = is_down if 60 <= second < 60 + OUTAGE_S else None
        if second < calls:
            pair[second % 2].queue.put(STARTED, f"CA{second}", {"call_sid": f"CA{second}"})
        if 0 <= (over := second - 30) < calls:
            # A call may end at another process than it began at.
            for type in (ENDED, TRANSCRIPT):
                pair[second // 2 % 2].queue.put(type, f"CA{over}", {"call_sid": f"CA{over}"})
        for one in pair:
            await one.work()
        clock.added_s += 1
    clock.added_s += 300
    for one in pair:
        await one.work()
    assert by_call(user) == {f"CA{n}": [STARTED, ENDED, TRANSCRIPT] for n in range(calls)}
    assert len(user.event_ids) == len(set(user.event_ids)) == 3 * calls
    # Each try of the outage was about an event that arrived later.
    assert tried and tried.keys() <= set(user.event_ids)
    failed = sum(one.count(type, "failed") for one in pair for type in (STARTED, ENDED, TRANSCRIPT))
    # After its first failures, each process tries once a second.
    assert failed == tried.total() <= 2 * (OUTAGE_S + TRIES_MOST)


async def test_two_processes_deliver_each_event_once_at_the_same_time(user, http, clock, open_store):
    pair = [Process(open_store(), f"{user.url}/events", http, clock) for _ in range(2)]
    for one in pair:
        one.delivery.start()
    for n in range(60):
        for type in (STARTED, ENDED):
            pair[n % 2].queue.put(type, f"CA{n}", {"call_sid": f"CA{n}"})
        await asyncio.sleep(0)
    await until(lambda: len(user.events) == 120, 4 * DEADLINE_S)
    await soon(asyncio.gather(*(one.delivery.stop() for one in pair)))
    assert by_call(user) == {f"CA{n}": [STARTED, ENDED] for n in range(60)}
    assert len(set(user.event_ids)) == len(user.event_ids)


PROGRAM = """
import asyncio, sys, time
from pathlib import Path
sys.path.insert(0, {support!r})
from test_delivery import Process, Clock
from bridge.server.outgoing import client_tls, http_session
from bridge.server.store.sqlite import SqliteStore

async def main():
    async with http_session(client_tls(), 3600.0) as http:
        process = Process(SqliteStore(Path({path!r})), {url!r}, http, Clock())
        for n in range(3):
            for type in ("call.started", "call.ended"):
                process.queue.put(type, f"CA{{n}}", {{"call_sid": f"CA{{n}}"}})
        process.delivery.start()
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_events_of_a_killed_process_are_delivered_by_another_one(user, http, clock, tmp_path):
    all_tried, tries = asyncio.Event(), []

    async def hangs(request: web.Request) -> web.Response:
        tries.append(request.headers["webhook-id"])
        if len(tries) == 3:
            all_tried.set()
        await asyncio.Event().wait()
        raise AssertionError

    user.on_try = hangs
    path = tmp_path / "store.sqlite3"
    here = Path(__file__).parent
    code = PROGRAM.format(support=str(here), path=str(path), url=f"{user.url}/events")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment)
    try:
        async with asyncio.timeout(4 * DEADLINE_S):
            await all_tried.wait()
    finally:
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
    user.on_try = None
    store = SqliteStore(path)
    other = Process(store, f"{user.url}/events", http, clock)
    await other.work()
    # Nobody can know that it is dead and not slow.
    assert user.events == []
    clock.added_s += LEASE_S
    await other.work()
    assert by_call(user) == {f"CA{n}": [STARTED, ENDED] for n in range(3)}
    assert set(tries) < set(user.event_ids)
    await store.close()


async def test_event_that_is_refused_each_time_holds_up_its_own_call_alone(user, process, clock):
    async def answer(request: web.Request) -> web.Response:
        event = json.loads(await request.read())
        if event["data"]["call_sid"] == "CA1":
            return web.Response(status=422)
        user.events.append(event)
        return web.Response()

    user.on_try = answer
    for n in range(4):
        process.queue.put(STARTED, f"CA{n}", {"call_sid": f"CA{n}"})
        process.queue.put(ENDED, f"CA{n}", {"call_sid": f"CA{n}"})
    for _ in range(60):
        await process.work()
        clock.added_s += 10
    assert by_call(user) == {f"CA{n}": [STARTED, ENDED] for n in (0, 2, 3)}
    clock.added_s += KEEP_S
    await process.work()
    await process.work()
    assert (process.count(STARTED, "expired"), process.count(ENDED, "expired")) == (1, 1)


async def test_tries_at_once_are_bounded_and_one_while_the_receiver_fails(user, process, clock):
    under_way, may_answer = [], asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        under_way.append(request.headers["webhook-id"])
        await may_answer.wait()
        return web.Response(status=500)

    user.on_try = answer
    for n in range(3 * TRIES_MOST):
        process.queue.put(STARTED, f"CA{n}", {})
    assert await process.delivery.step() == TRIES_MOST
    assert await process.delivery.step() == 0
    await until(lambda: len(under_way) == TRIES_MOST)
    may_answer.set()
    await process.delivery.settled()
    for _ in range(3):
        assert await process.delivery.step() == 1
        await process.delivery.settled()
    user.on_try = None
    assert await process.delivery.step() == 1
    await process.delivery.settled()
    assert await process.delivery.step() == TRIES_MOST
    await process.delivery.settled()


async def test_connection_stays_open_for_the_next_event(user, process):
    peers = []

    async def answer(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(text="taken")

    user.on_try = answer
    for _ in range(3):
        process.queue.put(STARTED, "CA1", {})
        await process.work()
    assert len(set(peers)) == 1


async def test_status_counts_although_the_rest_of_the_answer_never_comes(user, http, clock):
    process = Process(MemoryStore(), f"{user.url}/events", http, clock)
    tries = []

    async def answer(request: web.Request) -> web.StreamResponse:
        tries.append(request)
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    user.on_try = answer
    process.queue.put(STARTED, "CA1", {})
    await soon(process.work())
    assert process.count(STARTED, "delivered") == 1
    assert len(tries) == 1


# Failures


async def hangs(_: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


async def resets(request: web.Request) -> web.Response:
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "problem", "hint"),
    [
        (hangs, "no answer within 0.2 s", SLOW),
        (resets, "it closed the connection without an answer", NOT_REACHED),
        (says(500), "status 500", REFUSED),
        (says(404), "status 404", REFUSED),
        (says(302, Location="/answer"), "status 302", REDIRECTED),
        (says(307, Location="/answer"), "status 307", REDIRECTED),
    ],
)
async def test_failed_try_is_counted_and_said_and_comes_again_with_the_same_id(
    user, http, clock, logs, answer, problem, hint
):
    process = Process(
        MemoryStore(), f"{user.url}/events", http, clock, SHORT_S if answer is hangs else LONG_S
    )
    tries = []

    async def on_try(request: web.Request) -> web.StreamResponse:
        tries.append((request.headers["webhook-id"], await request.read()))
        return await answer(request)

    user.on_try = on_try
    process.queue.put(STARTED, "CA1", {"said": "canary"})
    await process.work()
    assert process.count(STARTED, "failed") == 1
    (line,) = warnings(logs)
    assert problem in line and hint in line and "CA1" in line and "canary" not in line
    # No redirect was followed.
    assert (len(tries), user.questions) == (1, [])
    user.on_try = None
    await process.work()
    assert user.events == []
    clock.added_s += 5
    await process.work()
    assert user.event_ids == [tries[0][0]]
    assert json.loads(tries[0][1]) == user.events[0]
    assert any("takes events again" in line for line in logs.lines)


async def test_outage_is_one_line_a_minute(user, process, clock, logs):
    user.on_try = says(503)
    for n in range(30):
        process.queue.put(STARTED, f"CA{n}", {})
        await process.work()
    assert len(warnings(logs)) == 1
    clock.added_s += LINE_EVERY_S
    await process.work()
    assert len(warnings(logs)) == 2


async def test_nobody_at_the_address_is_a_failure_that_does_not_tell_it(http, clock, logs):
    process = Process(MemoryStore(), f"http://127.0.0.1:{free_port()}/?key=canary", http, clock)
    process.queue.put(STARTED, "CA1", {})
    await process.work()
    assert process.count(STARTED, "failed") == 1
    (line,) = warnings(logs)
    assert "canary" not in line


async def test_certificate_that_nobody_vouches_for_is_a_failure(http, clock, logs, tmp_path):
    async with user_side(Tls(tmp_path)) as user:
        process = Process(MemoryStore(), f"{user.url}/events", http, clock)
        process.queue.put(STARTED, "CA1", {})
        await process.work()
        assert user.events == []
    (line,) = warnings(logs)
    assert "certificate refused: " in line and NOT_TRUSTED in line


# The end of a process


async def test_end_delivers_what_is_there_and_waits_for_tries(user, process):
    is_tried, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        is_tried.set()
        await may_answer.wait()
        user.events.append(json.loads(await request.read()))
        return web.Response()

    user.on_try = answer
    process.delivery.start()
    process.queue.put(STARTED, "CA1", {"call_sid": "CA1"})
    await soon(is_tried.wait())
    process.queue.put(ENDED, "CA1", {"call_sid": "CA1"})
    stopping = asyncio.create_task(process.delivery.stop())
    await asyncio.sleep(0)
    may_answer.set()
    await soon(stopping)
    assert by_call(user) == {"CA1": [STARTED, ENDED]}


async def test_end_waits_for_a_slow_answer_so_that_nobody_delivers_the_event_again(
    user, process, monkeypatch
):
    monkeypatch.setattr("bridge.server.events.delivery.STOP_S", 0.0)
    is_tried, may_answer = asyncio.Event(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        is_tried.set()
        await may_answer.wait()
        return web.Response()

    user.on_try = answer
    process.delivery.start()
    process.queue.put(STARTED, "CA1", {})
    await soon(is_tried.wait())
    stopping = asyncio.create_task(process.delivery.stop())
    done, _ = await asyncio.wait({stopping}, timeout=SHORT_S)
    assert not done
    may_answer.set()
    await soon(stopping)
    assert process.count(STARTED, "delivered") == 1


async def test_end_leaves_what_a_failing_receiver_does_not_take_to_the_next_start(
    user, http, clock, tmp_path
):
    user.on_try = says(503)
    path = tmp_path / "store.sqlite3"
    for turn in range(2):
        async with contextlib.aclosing(_closing(SqliteStore(path))) as stores:
            process = Process(await anext(stores), f"{user.url}/events", http, clock)
            process.delivery.start()
            if not turn:
                process.queue.put(STARTED, "CA1", {"call_sid": "CA1"})
            await soon(process.delivery.stop())
        user.on_try = None
        clock.added_s += 5
    assert by_call(user) == {"CA1": [STARTED]}


async def _closing(store: Any) -> AsyncIterator[Any]:
    try:
        yield store
    finally:
        await store.close()
