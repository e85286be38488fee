"""A shelf in Redis: a hash for each name, and the names by the time of their last text."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis

# In all scripts KEYS[1] is the prefix of the shelf's keys.
PUT = """
local s, name, till = KEYS[1], ARGV[1], math.ceil(ARGV[5] * 1000)
redis.call('HSET', s .. 'name:' .. name, ARGV[2], ARGV[3])
redis.call('PEXPIREAT', s .. 'name:' .. name, till)
redis.call('ZADD', s .. 'all', ARGV[4], name)
redis.call('PEXPIREAT', s .. 'all', till)
for _, former in ipairs(redis.call('ZRANGE', s .. 'all', 0, -1 - ARGV[6])) do
  redis.call('DEL', s .. 'name:' .. former)
  redis.call('ZREM', s .. 'all', former)
end
"""
# The parts of a name, each followed by its text.
FIND = "return redis.call('HGETALL', KEYS[1] .. 'name:' .. ARGV[1])"
# The parts of names in whose texts those asked for are, and how many of these texts come before them.
NEWEST = """
local s, most, skip, found, texts = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), {}, 0
for _, name in ipairs(redis.call('ZREVRANGE', s .. 'all', 0, skip + most - 1)) do
  local length = redis.call('HLEN', s .. 'name:' .. name)
  if length == 0 then redis.call('ZREM', s .. 'all', name) end
  if texts == 0 and skip >= length then
    skip = skip - length
  elseif texts < skip + most then
    found[#found + 1] = redis.call('HGETALL', s .. 'name:' .. name)
    texts = texts + length
  end
end
return {skip, found}
"""
REMOVE = """
redis.call('ZREM', KEYS[1] .. 'all', ARGV[1])
return redis.call('DEL', KEYS[1] .. 'name:' .. ARGV[1])
"""

T = TypeVar("T")


class Ask(Protocol):
    """Waits for an answer of Redis, and raises what failed as a `StoreError`."""

    async def __call__(self, answer: Awaitable[T]) -> T: ...


class RedisShelf:
    """
    Keeps texts in Redis.

    Args:
        prefix: Stands before each key.
        ask: The store's.
    """

    def __init__(self, client: Redis, prefix: str, ask: Ask) -> None:
        self._prefix = prefix
        self._ask = ask
        self._put = client.register_script(PUT)
        self._find = client.register_script(FIND)
        self._newest = client.register_script(NEWEST)
        self._remove = client.register_script(REMOVE)

    async def put(self, name: str, part: int, text: str, now: float, until: float, most: int) -> None:
        await self._run(self._put, name, part, text, now, until, most)

    async def find(self, name: str, now: float) -> list[str]:
        return _by_part(await self._run(self._find, name))

    async def newest(self, now: float, most: int, skip: int = 0) -> list[str]:
        before, names = await self._run(self._newest, most, skip)
        return [text for parts in names for text in reversed(_by_part(parts))][before : before + most]

    async def remove(self, name: str) -> bool:
        return bool(await self._run(self._remove, name))

    async def _run(self, script: Any, *arguments: str | float) -> Any:
        # Redis reads a number as Python writes it, to the last digit.
        return await self._ask(script(keys=[self._prefix], args=[str(one) for one in arguments]))


def _by_part(pairs: list[str]) -> list[str]:
    parts = {int(part): text for part, text in zip(pairs[::2], pairs[1::2], strict=True)}
    return [text for _, text in sorted(parts.items())]
