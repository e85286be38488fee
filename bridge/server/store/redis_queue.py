"""A queue in Redis: a list of IDs for each lane, a hash for each text, and when each lane is due."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar, cast

from redis.asyncio import Redis

from bridge.server.store.queue import KNOWN_S, Length, Queued

# In all scripts KEYS[1] is the prefix of the queue's keys. `due` and `all` are sorted by time; `leases` and `tries` are
# by lane. Redis forgets a text when its time is over.
PUSH = """
local q, lane, id = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', q .. 'text:' .. id) == 1 or redis.call('ZSCORE', q .. 'all', id) then return 1 end
if redis.call('ZCARD', q .. 'all') >= tonumber(ARGV[6]) then return 0 end
redis.call('HSET', q .. 'text:' .. id, 'text', ARGV[3], 'until', ARGV[5])
redis.call('PEXPIREAT', q .. 'text:' .. id, math.ceil(ARGV[5] * 1000))
redis.call('ZADD', q .. 'all', ARGV[4], id)
if redis.call('RPUSH', q .. 'lane:' .. lane, id) == 1 then redis.call('ZADD', q .. 'due', ARGV[4], lane) end
return 1
"""
TAKE = """
local q, now, found = KEYS[1], tonumber(ARGV[1]), {}
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', q .. 'due', '-inf', ARGV[1], 'LIMIT', 0, ARGV[4])) do
  local id = redis.call('LINDEX', q .. 'lane:' .. lane, 0)
  redis.call('ZADD', q .. 'due', ARGV[2], lane)
  redis.call('HSET', q .. 'leases', lane, ARGV[3])
  local tries = redis.call('HINCRBY', q .. 'tries', lane, 1)
  local kept = redis.call('HMGET', q .. 'text:' .. id, 'text', 'until')
  local text = kept[1] and tonumber(kept[2]) > now and kept[1] or ''
  for _, part in ipairs({lane, id, text, tostring(tries)}) do found[#found + 1] = part end
end
return found
"""
IS_LEASED = """
local q, lane, id = KEYS[1], ARGV[1], ARGV[2]
if redis.call('HGET', q .. 'leases', lane) ~= ARGV[3] then return 0 end
if redis.call('LINDEX', q .. 'lane:' .. lane, 0) ~= id then return 0 end
redis.call('HDEL', q .. 'leases', lane)
"""
FINISH = f"""{IS_LEASED}
redis.call('HDEL', q .. 'tries', lane)
redis.call('LPOP', q .. 'lane:' .. lane)
redis.call('ZREM', q .. 'all', id)
redis.call('DEL', q .. 'text:' .. id)
redis.call('SET', q .. 'text:' .. id, '', 'PX', ARGV[5])
if redis.call('EXISTS', q .. 'lane:' .. lane) == 1 then redis.call('ZADD', q .. 'due', ARGV[4], lane)
else redis.call('ZREM', q .. 'due', lane) end
return 1
"""
POSTPONE = f"""{IS_LEASED}
redis.call('ZADD', q .. 'due', ARGV[4], lane)
return 1
"""
BLANK = """
local q, count = KEYS[1], 0
for _, id in ipairs(redis.call('LRANGE', q .. 'lane:' .. ARGV[1], 0, -1)) do
  count = count + redis.call('DEL', q .. 'text:' .. id)
end
return count
"""

T = TypeVar("T")


class Ask(Protocol):
    """Waits for an answer of Redis, and raises what failed as a `StoreError`."""

    async def __call__(self, answer: Awaitable[T]) -> T: ...


class RedisQueue:
    """
    Keeps texts in Redis.

    Args:
        prefix: Stands before each key.
        ask: The store's.
    """

    def __init__(self, client: Redis, prefix: str, ask: Ask) -> None:
        self._client = client
        self._prefix = prefix
        self._ask = ask
        self._push = client.register_script(PUSH)
        self._take = client.register_script(TAKE)
        self._finish = client.register_script(FINISH)
        self._postpone = client.register_script(POSTPONE)
        self._blank = client.register_script(BLANK)

    async def push(self, lane: str, id: str, text: str, now: float, until: float, most: int) -> bool:
        return bool(await self._run(self._push, lane, id, text, now, until, most))

    async def take(self, now: float, until: float, lease: str, most: int) -> list[Queued]:
        found = await self._run(self._take, now, until, lease, most)
        rows = zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True)
        return [Queued(lane, id, text, int(tries)) for lane, id, text, tries in rows]

    async def finish(self, lane: str, id: str, lease: str, now: float) -> bool:
        return bool(await self._run(self._finish, lane, id, lease, now, round(KNOWN_S * 1000)))

    async def postpone(self, lane: str, id: str, lease: str, due: float) -> bool:
        return bool(await self._run(self._postpone, lane, id, lease, due))

    async def blank(self, lane: str) -> bool:
        return bool(await self._run(self._blank, lane))

    async def length(self) -> Length:
        key = f"{self._prefix}all"
        count = await self._ask(self._client.zcard(key))
        oldest = self._client.zrange(key, 0, 0, withscores=True)
        first = await self._ask(cast("Awaitable[list[tuple[str, float]]]", oldest))
        return Length(count, first[0][1] if first else 0.0)

    async def _run(self, script: Any, *arguments: str | float) -> Any:
        # Redis reads a number as Python writes it, to the last digit.
        return await self._ask(script(keys=[self._prefix], args=[str(one) for one in arguments]))
