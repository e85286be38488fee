"""A store in Redis, for the processes of many hosts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, RedisError

from bridge.server.store.redis_queue import RedisQueue
from bridge.server.store.redis_shelf import RedisShelf
from bridge.server.store.store import Kept, StoreError

log = structlog.get_logger()

# Questions at once, each on a connection of its own. An answer takes well under a millisecond; to open a connection for
# each call of a burst takes longer than a question may.
MOST_AT_ONCE = 8
SENTINEL_PORT = 26379
# A question leaves time for two Sentinels that do not answer, and for the one that does.
SENTINEL_S = 0.1
SENTINEL_URL = re.compile(
    r"redis\+sentinel://((?P<user>[^:@/]*)(:(?P<password>[^@/]*))?@)?(?P<hosts>[^@/]+)/(?P<service>[^/]+)(/(?P<db>[0-9]+))?"
)
# A script is one step: no other process comes between the comparison and the change.
WRITE = """
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', version + 1, 'text', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
# One hash for all processes, each text behind its end, by the clock of Redis; those that are over are removed.
BEAT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
local found, last = {}, now
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, text = string.match(all[i + 1], '^(%d+) (.*)$')
  till = tonumber(till)
  if till > now then
    found[#found + 1] = all[i]
    found[#found + 1] = text
    last = math.max(last, till)
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
return found
"""

T = TypeVar("T")


class RedisStore:
    """
    Keeps each text as a hash with its version.

    Args:
        url: ``redis://``, ``rediss://`` or ``redis+sentinel://user:password@host:port,host:port/service/db``, whose
            user and password are those of the data servers.
        prefix: Stands before each key.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._prefix = prefix
        # A connection that the server has closed since the last question is opened again.
        options: dict[str, Any] = {"decode_responses": True, "retry": Retry(NoBackoff(), 1)}
        self._sentinel: Sentinel | None = None
        if found := SENTINEL_URL.fullmatch(url):
            hosts = [host.partition(":") for host in found["hosts"].split(",")]
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call, unused-ignore]
                [(name, int(port or SENTINEL_PORT)) for name, _, port in hosts],
                sentinel_kwargs={
                    "socket_timeout": SENTINEL_S,
                    "socket_connect_timeout": SENTINEL_S,
                    "retry": Retry(NoBackoff(), 0),
                },
            )
            self._client: Redis = self._sentinel.master_for(
                found["service"],
                db=int(found["db"] or 0),
                username=unquote(found["user"] or "") or None,
                password=unquote(found["password"] or "") or None,
                **options,
            )
        else:
            self._client = Redis.from_url(url, **options)
        self._write = self._client.register_script(WRITE)
        self._beat = self._client.register_script(BEAT)
        # Held by the questions that are under way.
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self.queue = RedisQueue(self._client, f"{prefix}queue:", self._ask)
        self.shelf = RedisShelf(self._client, f"{prefix}shelf:", self._ask)
        # Set by the first answer.
        self._is_checked = False

    async def read(self, key: str) -> Kept | None:
        answer = self._client.hmget(self._prefix + key, "version", "text")
        version, text = await self._ask(cast("Awaitable[list[str | None]]", answer))
        return Kept(int(version), text) if version is not None and text is not None else None

    async def write(self, key: str, text: str, ttl_s: float, after: int) -> bool:
        answer = self._write(keys=[self._prefix + key], args=[after, text, round(ttl_s * 1000)])
        return await self._ask(cast("Awaitable[int]", answer)) == 1

    async def beat(self, owner: str, text: str, ttl_s: float) -> dict[str, str]:
        answer = self._beat(keys=[self._prefix + "processes"], args=[owner, text, round(ttl_s * 1000)])
        found = await self._ask(cast("Awaitable[list[str]]", answer))
        return dict(zip(found[::2], found[1::2], strict=True))

    async def close(self) -> None:
        await self._client.aclose()
        if self._sentinel is not None:
            for client in self._sentinel.sentinels:
                await client.aclose()

    async def _ask(self, answer: Awaitable[T]) -> T:
        try:
            async with self._places:
                found = await answer
            if not self._is_checked:
                await self._warn_of_eviction()
                self._is_checked = True
        except (RedisError, OSError) as error:
            raise StoreError(f"{type(error).__name__}: {error}") from None
        return found

    async def eviction_policy(self) -> str:
        """The policy by which this Redis may evict what it keeps; empty if it does not, or does not say so."""
        try:
            memory: dict[str, Any] = await self._client.info("memory")
        except NoPermissionError:
            return ""
        policy = memory.get("maxmemory_policy", "noeviction")
        return str(policy) if memory.get("maxmemory") and policy != "noeviction" else ""

    async def _warn_of_eviction(self) -> None:
        if policy := await self.eviction_policy():
            log.warning(
                "Redis may evict what it keeps of calls: set maxmemory-policy to noeviction", policy=policy
            )
