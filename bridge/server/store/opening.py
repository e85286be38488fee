"""Opens the store that the settings ask for."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import structlog

from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store.agreement import Agreement
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.sqlite import SqliteStore
from bridge.server.store.store import Store
from bridge.server.store.tallies import Tallies
from bridge.settings import Settings, SettingsError

log = structlog.get_logger()

# Beyond a session's own time, another process opens the session.
ADMIT_MARGIN_S = 2.0


class Parts(NamedTuple):
    """What all that uses the store is made of."""

    store: Store
    breaker: Breaker
    seal: Seal


def open_agreement(settings: Settings, metrics: Metrics, claim_s: float) -> tuple[Agreement, Tallies, Parts]:
    """
    What this process agrees on with the others, what it counts together with them, and what both are made of.

    Args:
        claim_s: How long a media socket may take.
    """
    store = open_store(settings)
    parts = Parts(store, Breaker(store, metrics), Seal(settings.auth_tokens))
    agreement = Agreement(
        *parts,
        settings.bridge_session_s + ADMIT_MARGIN_S,
        claim_s,
        keeps_texts=settings.bridge_transcripts,
    )
    return agreement, Tallies(*parts), parts


def store_of_workers(settings: Settings, folder: Path) -> str | None:
    """
    The value of ``BRIDGE_STORE`` that workers get, None where their settings have one that they can share.

    Args:
        folder: For the store of a process without signatures, which is gone with the process.

    Raises:
        SettingsError: They would share nothing.
    """
    url = settings.bridge_store.get_secret_value()
    if url == "memory":
        raise SettingsError(
            ["BRIDGE_STORE: workers cannot share memory: use sqlite:PATH or Redis, or set BRIDGE_WORKERS=1"]
        )
    if url:
        return None
    if not settings.bridge_validate_signatures:
        return f"sqlite:{folder / 'store.sqlite3'}"
    try:
        _touch(_default_path(settings))
    except OSError as error:
        raise SettingsError(
            [
                f"BRIDGE_STATE_DIR: cannot be written ({error}), and workers must share a store: set it or BRIDGE_STORE"
            ]
        ) from None
    return None


def open_store(settings: Settings) -> Store:
    """The store of the settings. If the state directory cannot be written, a warning is logged and memory is used."""
    url = settings.bridge_store.get_secret_value()
    if url == "memory" or not (url or settings.bridge_validate_signatures):
        return MemoryStore()
    if url.startswith("sqlite:"):
        return SqliteStore(Path(url.removeprefix("sqlite:")))
    if url:
        # An extra, which takes its time to load.
        from bridge.server.store.redis import RedisStore

        return RedisStore(url, f"bridge:{_name(settings)}:")
    path = _default_path(settings)
    try:
        _touch(path)
    except OSError as error:
        log.warning(
            "state directory cannot be written: a call is forgotten when the process ends",
            problem=str(error),
            setting="BRIDGE_STATE_DIR",
        )
        return MemoryStore()
    return SqliteStore(path)


def _default_path(settings: Settings) -> Path:
    return settings.state_dir / f"store-{_name(settings)}.sqlite3"


def _touch(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _name(settings: Settings) -> str:
    """A name for this account and address, so that staging and production do not share what they keep."""
    name = f"{settings.twilio_account_sid}\n{settings.public_url}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]
