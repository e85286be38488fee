"""The store that the settings ask for, and where its file lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from live import DEFAULTS, make_settings

from bridge.server.store.memory import MemoryStore
from bridge.server.store.opening import open_store
from bridge.server.store.sqlite import SqliteStore

GIVEN = {**DEFAULTS, "BRIDGE_AGENT": "echo"}


def files_in(folder: Path) -> set[Path]:
    return set(folder.glob("**/*.sqlite3"))


async def file_of(folder: Path, **settings: str) -> Path:
    """Open the store of these settings and return the file that it has made."""
    before = files_in(folder)
    store = open_store(make_settings({**GIVEN, "BRIDGE_STATE_DIR": str(folder), **settings}))
    assert isinstance(store, SqliteStore)
    await store.write("key", "text", 60, 0)
    await store.close()
    (made,) = files_in(folder) - before
    return made


async def test_default_is_a_file_of_this_account_and_address(tmp_path):
    folder = tmp_path / "new" / "state"
    production = await file_of(folder)
    staging = await file_of(folder, PUBLIC_URL="https://staging.example.com")
    other = await file_of(folder, TWILIO_ACCOUNT_SID="AC" + 32 * "b")
    assert len({production, staging, other}) == 3
    assert folder.stat().st_mode & 0o777 == 0o700
    assert production.stat().st_mode & 0o777 == 0o600


async def test_given_store_wins(tmp_path):
    assert isinstance(open_store(make_settings({**GIVEN, "BRIDGE_STORE": "memory"})), MemoryStore)
    path = tmp_path / "given.sqlite3"
    assert await file_of(tmp_path, BRIDGE_STORE=f"sqlite:{path}", BRIDGE_VALIDATE_SIGNATURES="0") == path


async def test_with_signatures_off_it_is_memory(tmp_path):
    settings = make_settings({"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_STATE_DIR": str(tmp_path)})
    assert isinstance(open_store(settings), MemoryStore)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("path", ["/dev/null/state", "/proc/state"])
async def test_state_directory_that_cannot_be_written_is_warned_of(path, logs):
    assert isinstance(open_store(make_settings({**GIVEN, "BRIDGE_STATE_DIR": path})), MemoryStore)
    assert sum("state directory cannot be written" in line for line in logs.lines) == 1
