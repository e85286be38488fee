"""The store, as `bridge check` finds them."""

from __future__ import annotations

import pytest
from check_setup import rest, start
from haproxy import free_port
from redis_server import RedisServer, redis_server, started

from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.version import MAJOR, VERSION_KEY

__all__ = ["redis_server", "rest", "start"]

UNUSED = (
    "warning  store: no running bridge uses BRIDGE_STORE; start the bridge, or set BRIDGE_STORE as it has it"
)


async def test_store_that_is_gone(start):
    pytest.importorskip("redis")
    setup = await start()
    (line,) = await setup.faults(BRIDGE_STORE=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert line.startswith("problem  store: Redis cannot be used: ConnectionError")
    assert "secret" not in line


async def test_redis_that_evicts(start, redis_server: RedisServer):
    await started(redis_server)
    setup = await start()
    assert await setup.faults(BRIDGE_STORE=redis_server.url) == [UNUSED]
    async with redis_server.client() as client:
        await client.config_set("maxmemory", "100mb")
        await client.config_set("maxmemory-policy", "allkeys-lru")
    line, _ = await setup.faults(BRIDGE_STORE=redis_server.url)
    assert "its policy is allkeys-lru; set maxmemory-policy to noeviction" in line


async def test_state_directory_that_cannot_be_written(start, tmp_path):
    setup = await start()
    (tmp_path / "file").write_text("")
    del setup.variables["BRIDGE_STORE"]
    (line,) = await setup.faults(BRIDGE_STATE_DIR=f"{tmp_path}/file/below")
    assert line.startswith("problem  store: the state directory cannot be written")


async def test_store_of_a_newer_version_is_left_as_it_is(start, tmp_path):
    setup = await start()
    store = SqliteStore(tmp_path / "newer.sqlite3")
    await store.write(VERSION_KEY, str(MAJOR + 1), 60.0, 0)
    (line,) = await setup.faults(BRIDGE_STORE=f"sqlite:{tmp_path}/newer.sqlite3")
    assert line.startswith(
        "problem  store: a newer version of the bridge uses the store; install that version"
    )
    await store.close()


async def test_check_leaves_no_version_and_no_process_in_a_store(start, tmp_path):
    setup = await start()
    assert await setup.faults(BRIDGE_STORE=f"sqlite:{tmp_path}/new.sqlite3") == [UNUSED]
    store = SqliteStore(tmp_path / "new.sqlite3")
    assert await store.read(VERSION_KEY) is None
    assert await store.beat("me", "", 60.0) == {"me": ""}
    await store.close()


async def test_store_of_another_directory_than_the_bridge_has_is_named(start, tmp_path):
    setup = await start()
    del setup.variables["BRIDGE_STORE"]
    (line,) = await setup.faults(BRIDGE_STATE_DIR=f"{tmp_path}/mine")
    assert line.startswith(
        f"warning  store: no running bridge uses the store in {tmp_path}/mine; start the bridge"
    )
    assert "under systemd /var/lib/voice-bridge" in line
