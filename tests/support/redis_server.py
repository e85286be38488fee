"""A Redis of a test's own; without Debian's redis-server, or redis-py, the test is skipped."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from certificates import Tls
from live import DEADLINE_S

from bridge.standins.process import free_port

if TYPE_CHECKING:
    from redis.asyncio import Redis

REDIS = shutil.which("redis-server")
PASSWORD = "canary-of-redis"


class RedisServer:
    """A Redis of the test's own, which it may freeze, kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *options: str) -> None:
        assert REDIS is not None
        given = ("--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", PASSWORD, "--save", "")
        await self._run(*given, *options)

    async def start_tls(self, tls: Tls, user: str) -> str:
        """Start with TLS alone and a user who may not ask for figures; returns this user's URL."""
        skip_without_redis()
        files = tls.write()
        await self.start(
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *(
                "--tls-cert-file",
                str(files["BRIDGE_TLS_CERT"]),
                "--tls-key-file",
                str(files["BRIDGE_TLS_KEY"]),
            ),
            *("--user", user, "on", f">{PASSWORD}", "~bridge:*", "+@all", "-@dangerous"),
        )
        return f"rediss://{user}:{PASSWORD}@127.0.0.1:{self.port}/0"

    async def _run(self, *arguments: str) -> None:
        assert REDIS is not None
        with (self._folder / "redis.log").open("a") as log:
            self.process = await asyncio.create_subprocess_exec(
                REDIS, *arguments, cwd=self._folder, stdout=log, stderr=log
            )
        async with asyncio.timeout(DEADLINE_S):
            while not await self._is_listening():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def start_replica(self, of: RedisServer) -> None:
        """Start as a copy of another server; returns once that one knows it."""
        await self.start("--replicaof", f"127.0.0.1 {of.port}", "--masterauth", PASSWORD)
        async with of.client() as client, asyncio.timeout(DEADLINE_S):
            while not (await client.info("replication"))["connected_slaves"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def start_sentinel(self, watched: RedisServer) -> None:
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"bind 127.0.0.1\nport {self.port}\nsentinel monitor calls 127.0.0.1 {watched.port} 1\n"
            f"sentinel auth-pass calls {PASSWORD}\n"
        )
        await self._run(str(config), "--sentinel")

    async def until_replica_is_good(self) -> None:
        """Wait until this Sentinel has heard from a copy, which it may then put in the server's place."""
        async with self.client(password=None) as client, asyncio.timeout(DEADLINE_S):
            while not any(  # noqa: ASYNC110
                one["info-refresh"] < 60_000 for one in await client.sentinel_slaves("calls")
            ):
                await asyncio.sleep(0.02)

    async def _is_listening(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    def client(self, password: str | None = PASSWORD) -> Redis:
        """A client of this server; use as an async context manager. A Sentinel has no password."""
        # An extra, which may be missing.
        from redis.asyncio import Redis

        return Redis(port=self.port, password=password)

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None


@pytest.fixture
async def redis_server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    await server.kill()


@pytest.fixture
async def redis(redis_server: RedisServer) -> RedisServer:
    await started(redis_server)
    return redis_server


async def started(server: RedisServer) -> None:
    skip_without_redis()
    await server.start()


def skip_without_redis() -> None:
    if REDIS is None or find_spec("redis") is None:
        missing = "redis-server" if REDIS is None else "the package redis"
        assert not os.environ.get("CI"), f"{missing} is not installed, and CI must run this"
        pytest.skip(f"{missing} is not installed")
