"""The store: whether it takes texts, how fast, and whether it may lose them."""

from __future__ import annotations

import asyncio
import secrets
import time

from bridge.commands.finding import Finding, ok, problem, warning
from bridge.server.store.memory import MemoryStore
from bridge.server.store.opening import open_store
from bridge.server.store.store import Store, StoreError
from bridge.server.store.version import StoreTooNewError, check_version
from bridge.settings import Settings

DEADLINE_S = 5.0
# A bridge gives a question 300 ms.
SLOW_S = 0.1
TTL_S = 10.0


async def check_store(settings: Settings) -> list[Finding]:
    """Write a text, read it again, and look for the processes that use the store."""
    url = settings.bridge_store.get_secret_value()
    store = open_store(settings)
    if isinstance(store, MemoryStore):
        if url == "memory" or not settings.bridge_validate_signatures:
            text = "is memory: a call is forgotten when its process ends"
            return [warning("store", text, "set BRIDGE_STORE for more than development")]
        text = "the state directory cannot be written, and a bridge uses memory instead"
        return [problem("store", text, "set BRIDGE_STATE_DIR or BRIDGE_STORE")]
    kind = "Redis" if url.startswith("redis") else "SQLite"
    try:
        async with asyncio.timeout(DEADLINE_S):
            longest_s, processes = await _try(store)
            policy = await _eviction_policy(store) if kind == "Redis" else ""
    except TimeoutError:
        text = f"{kind} has not answered within {DEADLINE_S:g} s"
        return [problem("store", text, "look whether it runs, and at BRIDGE_STORE")]
    except StoreTooNewError as error:
        return [problem("store", *str(error).split("; ", 1))]
    except StoreError as error:
        return [
            problem("store", f"{kind} cannot be used: {error}", "look whether it runs, and at BRIDGE_STORE")
        ]
    finally:
        await store.close()
    found = []
    if policy:
        text = f"Redis may evict what it keeps of calls: its policy is {policy}"
        found.append(problem("store", text, "set maxmemory-policy to noeviction"))
    if longest_s > SLOW_S:
        text = f"{kind} took {longest_s * 1000:.0f} ms for a question, and a bridge waits 300 ms"
        found.append(warning("store", text, "move it nearer, or look what else it does"))
    # A shell has not the state directory that systemd gives a service.
    if not processes:
        found.append(warning("store", *_whose(settings)))
    return found or [
        ok(
            "store",
            f"{kind} answers within {longest_s * 1000:.0f} ms; running processes that use it: {processes}",
        )
    ]


def _whose(settings: Settings) -> tuple[str, str]:
    """The store in words, for where no bridge uses it, and what to do."""
    if settings.bridge_store.get_secret_value():
        return "no running bridge uses BRIDGE_STORE", "start the bridge, or set BRIDGE_STORE as it has it"
    todo = "start the bridge, or set BRIDGE_STATE_DIR to its directory, under systemd /var/lib/voice-bridge"
    return f"no running bridge uses the store in {settings.state_dir}", todo


async def _try(store: Store) -> tuple[float, int]:
    """The longest time of a question, and how many processes the store knows."""
    # The first question opens the connection. The version is left to a bridge, which may be an older one.
    await check_version(store)
    key, text, longest_s = f"check:{secrets.token_hex(8)}", secrets.token_hex(16), 0.0

    async def read() -> None:
        kept = await store.read(key)
        if kept is None or kept.text != text:
            raise StoreError("does not give back what it took")

    async def write() -> None:
        if not await store.write(key, text, TTL_S, 0):
            raise StoreError("takes nothing")

    for step in (write, read):
        began = time.perf_counter()
        await step()
        longest_s = max(longest_s, time.perf_counter() - began)
    # A time of 0 leaves no process behind.
    return longest_s, len(await store.beat(key, "", 0.0))


async def _eviction_policy(store: Store) -> str:
    # An extra, which may not be installed.
    from bridge.server.store.redis import RedisStore

    assert isinstance(store, RedisStore)
    return await store.eviction_policy()
