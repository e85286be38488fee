"""Whatever happens to the store, running calls lose no frame, new ones are answered, and it is used again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from certificates import Tls
from live import DEADLINE_S, FACTOR, Live, beside, soon, until
from numbered_checker import NumberedChecker
from redis_server import PASSWORD, RedisServer, redis_server, started

from bridge.server import reconciling
from bridge.server.store import breaker
from bridge.standins.agent.session import AgentSession
from bridge.standins.numbered import make_numbered
from bridge.standins.twilio.caller import Caller

__all__ = ["redis_server"]

# The store is tried so often while it fails, so that a line for each trial would be seen.
FAILURES = 3
FAILED, BACK = "store unavailable", "store answers again"


class Failing(NamedTuple):
    """A store, and what makes it fail until the context is left."""

    name: str
    url: str
    failure: Callable[[], AbstractAsyncContextManager[None]]


# What happens to a Redis


@contextlib.asynccontextmanager
async def frozen(redis: RedisServer) -> AsyncIterator[None]:
    assert redis.process is not None
    redis.process.send_signal(signal.SIGSTOP)
    yield
    redis.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def slow_to_write(redis: RedisServer) -> AsyncIterator[None]:
    """It answers what it has, and lets changes wait."""
    async with redis.client() as client:
        await client.client_pause(60_000, all=False)
        yield
        await client.client_unpause()


@contextlib.asynccontextmanager
async def killed(redis: RedisServer) -> AsyncIterator[None]:
    await redis.kill()
    yield
    await redis.start()


@contextlib.asynccontextmanager
async def full(redis: RedisServer) -> AsyncIterator[None]:
    fillers = {f"filler {n}": bytes(1_000_000) for n in range(9)}
    async with redis.client() as client:
        await client.mset(fillers)
        # Far beyond the limit: a text more or less makes no difference.
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "4mb")
        yield
        await client.delete(*fillers)


@contextlib.asynccontextmanager
async def failed_over(redis: RedisServer, sentinel: RedisServer) -> AsyncIterator[None]:
    """The server is killed, and Sentinel puts its copy in its place."""
    await redis.kill()
    yield
    async with sentinel.client(password=None) as client:
        await client.execute_command("SENTINEL FAILOVER calls")


# What happens to a file


@contextlib.asynccontextmanager
async def disk_full(folder: Path) -> AsyncIterator[None]:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@contextlib.asynccontextmanager
async def file_at_its_limit(folder: Path) -> AsyncIterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = folder / "store.sqlite3-wal"
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size if wal.exists() else 0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.asynccontextmanager
async def watched(redis: RedisServer, folder: Path) -> AsyncIterator[RedisServer]:
    """A Sentinel of a running Redis and of a copy of it."""
    replica, sentinel = RedisServer(folder), RedisServer(folder)
    try:
        await replica.start_replica(redis)
        await sentinel.start_sentinel(redis)
        await sentinel.until_replica_is_good()
        yield sentinel
    finally:
        await replica.kill()
        await sentinel.kill()


IN_REDIS, ON_DISK = [frozen, slow_to_write, killed, full], [disk_full, file_at_its_limit]


@pytest.fixture(params=[*IN_REDIS, failed_over, *ON_DISK], ids=lambda one: one.__name__)
async def failing(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Failing]:
    # So that a short failure has several trials.
    monkeypatch.setattr(breaker, "OPEN_S", 0.3)
    monkeypatch.setattr(breaker, "ASK_S", breaker.ASK_S * FACTOR)
    failure = request.param
    name = failure.__name__
    if failure in ON_DISK:
        folder = request.getfixturevalue("small_disk") if failure is disk_full else tmp_path
        yield Failing(name, f"sqlite:{folder}/store.sqlite3", lambda: failure(folder))
        return
    await started(redis_server)
    if failure in IN_REDIS:
        yield Failing(name, redis_server.url, lambda: failure(redis_server))
        return
    async with watched(redis_server, tmp_path) as sentinel:
        url = f"redis+sentinel://:{PASSWORD}@127.0.0.1:{sentinel.port}/calls"
        yield Failing(name, url, lambda: failure(redis_server, sentinel))


@contextlib.asynccontextmanager
async def talk(caller: Caller, session: AgentSession) -> AsyncIterator[None]:
    """Frames both ways at the speed of speech meanwhile, all of which arrive."""
    is_over = asyncio.Event()

    def frames() -> Iterator[bytes]:
        return itertools.takewhile(lambda _: not is_over.is_set(), map(make_numbered, itertools.count()))

    lines = [asyncio.ensure_future(side.send_frames(frames())) for side in (caller, session)]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*lines)
    await until(lambda: len(session.received) >= len(caller.sent))
    await until(lambda: len(caller.received_audio) >= len(session.sent))
    assert faults([item.audio for item in session.received], len(caller.sent)) == {}
    assert faults(caller.received_audio, len(session.sent)) == {}


def faults(received: list[bytes], sent: int) -> dict[str, int]:
    checker = NumberedChecker()
    for audio in received:
        checker.check(audio)
    return checker.faults(sent)


async def place_call(live: Live) -> None:
    """A whole call, with a few frames both ways."""
    async with live.bridged() as (caller, session):
        async with talk(caller, session):
            await until(lambda: session.received and caller.received_audio)
        await caller.send_stop()
        await closed(caller)


async def closed(caller: Caller) -> int | None:
    await soon(caller.closed.wait())
    return caller.close_code


async def assert_end_is_known(other: Live, caller: Caller, session: AgentSession) -> None:
    """Another process, which asks the store, knows that the agent has ended the call."""
    await session.send_call_ended()
    assert await closed(caller) == 1000
    caller.endpoint.url = other.url
    assert (await caller.follow_redirect()).verbs == ["Hangup"]


async def until_available(live: Live) -> None:
    """Place calls until one of them finds the store."""
    async with asyncio.timeout(4 * DEADLINE_S):
        while not (await live.metrics())["bridge_store_available"]:
            await place_call(live)


def times(before: dict[str, float], after: dict[str, float]) -> str:
    """How long the webhooks between these figures took."""
    name = "bridge_webhook_seconds"
    grown = {key: value - before[key] for key, value in after.items() if key.startswith(name)}
    count = grown[f"{name}_count"]
    bounds = [
        float(key.partition('le="')[2].rstrip('"}'))
        for key, value in grown.items()
        if "_bucket{" in key and value == count
    ]
    mean_ms = 1000 * grown[f"{name}_sum"] / count
    return f"{count:.0f} webhooks, mean {mean_ms:.0f} ms, all within {min(bounds):g} s"


def changes(logs: Any) -> tuple[int, ...]:
    """How often the log says that the store fails, and that it is back."""
    return tuple(sum(text in line for line in logs.lines) for text in (FAILED, BACK))


async def test_store_that_fails_touches_no_call_and_is_used_again(failing, live_server, logs):
    live = await live_server(BRIDGE_STORE=failing.url)
    async with live.bridged() as (caller, session):
        async with talk(caller, session):
            before = await live.metrics()
            assert (before["bridge_store_available"], before["bridge_store_failures_total"]) == (1, 0)
            async with failing.failure(), asyncio.timeout(4 * DEADLINE_S):
                while (during := await live.metrics())["bridge_store_failures_total"] < FAILURES:
                    await place_call(live)
                assert (during["bridge_store_available"], changes(logs)) == (0, (1, 0))
            await until_available(live)
        assert changes(logs) == (1, 1)
        async with beside(live, failing.url) as other, live.bridged() as new:
            await assert_end_is_known(other, *new)
            await assert_end_is_known(other, caller, session)
        frames = len(caller.sent) + len(session.sent)
    print(f"\n{failing.name}: {times(before, during)}; {frames} frames of the running call, none lost")


async def test_store_that_fails_at_the_start_is_used_once_it_answers(failing, live_server, logs):
    async with failing.failure():
        live = await live_server(BRIDGE_STORE=failing.url)
        await place_call(live)
        assert changes(logs) == (1, 0)
    await until_available(live)
    async with beside(live, failing.url) as other, live.bridged() as new:
        await assert_end_is_known(other, *new)
    assert changes(logs) == (1, 1)


async def test_redis_that_restarts_empty_is_used_as_if_nothing_were(live_server, redis_server, logs):
    await started(redis_server)
    live = await live_server(BRIDGE_STORE=redis_server.url)
    async with live.bridged() as (caller, session):
        async with talk(caller, session):
            await redis_server.kill()
            await redis_server.start()
            await place_call(live)
        async with beside(live, redis_server.url) as other:
            await assert_end_is_known(other, caller, session)
    assert changes(logs) == (0, 0)


async def test_new_stream_is_right_at_any_process_after_a_failure(live_server, redis_server, monkeypatch):
    monkeypatch.setattr(breaker, "OPEN_S", 0.3)
    monkeypatch.setattr(reconciling, "ENTER_EVERY_S", 0.1)
    await started(redis_server)
    live = await live_server(BRIDGE_STORE=redis_server.url)
    async with contextlib.AsyncExitStack() as stack:
        forgotten, _ = await stack.enter_async_context(live.bridged())
        await redis_server.kill()
        await redis_server.start()
        async with frozen(redis_server):
            unheard_of, _ = await stack.enter_async_context(live.bridged())
        other = await stack.enter_async_context(beside(live, redis_server.url))
        for caller in (forgotten, unheard_of):
            await until_kept(redis_server, caller)
            caller.abort()
            await soon(caller.closed.wait())
            caller.endpoint.url = other.url
            assert (await soon(caller.go_on())).verbs == ["Connect", "Redirect"]


async def until_kept(redis: RedisServer, caller: Caller) -> None:
    async with redis.client() as client, asyncio.timeout(DEADLINE_S):
        while not await client.keys(f"*:call:{caller.call_sid}"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_calls_agree_over_a_redis_with_tls_and_a_user_of_its_own(
    live_server, redis_server, tmp_path, logs
):
    tls = Tls(tmp_path)
    url = await redis_server.start_tls(tls, "calls")
    url += f"?ssl_ca_certs={tls.trusted}"
    live = await live_server(BRIDGE_STORE=url)
    async with live.bridged() as (caller, session), beside(live, url) as other:
        async with talk(caller, session):
            await place_call(other)
        await assert_end_is_known(other, caller, session)
    assert changes(logs) == (0, 0)


async def test_redis_whose_certificate_nobody_vouches_for_is_not_used(
    live_server, redis_server, tmp_path, logs
):
    url = await redis_server.start_tls(Tls(tmp_path), "calls")
    live = await live_server(BRIDGE_STORE=url)
    await place_call(live)
    assert changes(logs) == (1, 0)
    assert any("certificate verify failed" in line for line in logs.lines)
    assert not any(PASSWORD in line for line in logs.lines)
