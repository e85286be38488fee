"""The version of what a store keeps, so that old and new code do not work on the same texts by mistake."""

from __future__ import annotations

from bridge.server.store.store import Kept, Store, StoreError

# Raised only if older code could not go on with what this code keeps.
MAJOR = 1
VERSION_KEY = "version"
VERSION_TTL_S = 100 * 365 * 24 * 3600.0


class StoreTooNewError(StoreError):
    """A newer version of the bridge, which this one does not understand, uses the store."""

    def __init__(self) -> None:
        super().__init__(
            "a newer version of the bridge uses the store; install that version, or set BRIDGE_STORE to another store"
        )


async def check_version(store: Store) -> Kept | None:
    """
    Look whether this code can use a store, and change nothing; returns the version that is kept.

    Raises:
        StoreTooNewError: It cannot.
        StoreError: The store does not answer.
    """
    kept = await store.read(VERSION_KEY)
    if kept is not None and not (kept.text.isdecimal() and int(kept.text) <= MAJOR):
        raise StoreTooNewError
    return kept


async def enter_version(store: Store) -> None:
    """
    Look whether this code can use a store, and write its version, which shows that the store takes texts.

    Raises:
        StoreTooNewError: It cannot.
        StoreError: The store does not answer, or takes nothing.
    """
    kept = await check_version(store)
    # Where another process is faster, the store takes what that one writes.
    await store.write(VERSION_KEY, str(MAJOR), VERSION_TTL_S, kept.version if kept is not None else 0)
