"""``bridge serve``: settings, the event loop, signals, exit codes."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvloop

from bridge.agents.directory import DirectoryError
from bridge.descriptors import fill_standard_descriptors, raise_descriptor_limit
from bridge.http.front import on_loop_exception
from bridge.http.listener import BACKLOG, bind
from bridge.log_writer import LogWriter
from bridge.logs import set_up_logs
from bridge.server.server import Server
from bridge.server.store.opening import store_of_workers
from bridge.server.store.version import StoreTooNewError
from bridge.server.workers.parent import Parent
from bridge.server.workers.worker import Inherited, inherited
from bridge.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()


def run(overrides: Mapping[str, str]) -> int:
    """
    Serve until a signal ends the process.

    Args:
        overrides: Settings by variable name; they override the environment.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 1 if the server cannot start, 2 if settings are missing or wrong.
    """
    fill_standard_descriptors()
    try:
        settings = load_settings(overrides)
        raise_descriptor_limit(settings)
    except SettingsError as error:
        return _report(error)
    given = inherited(os.environ)
    is_worker = given.channel is not None
    writer = set_up_logs(settings.bridge_log_format, settings.bridge_log_level, names_process=is_worker)
    if not is_worker:
        for warning in (*settings.warnings, *settings.certificate_doubts()):
            log.warning("check this setting", detail=warning)
    if settings.workers > 1 and not is_worker:
        return _run_workers(settings, given)
    # With the default of four threads, a few look-ups at a dead name server delay all others.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "32")
    return uvloop.run(_serve(settings, writer, given))


def _run_workers(settings: Settings, given: Inherited) -> int:
    with tempfile.TemporaryDirectory(prefix="voice-bridge-") as folder:
        environment = dict(os.environ)
        try:
            store = store_of_workers(settings, Path(folder))
        except SettingsError as error:
            return _report(error)
        if store is not None:
            environment["BRIDGE_STORE"] = store
        if not (settings.auth_tokens or settings.twilio_account_sid):
            # Without an account too, each takes what another one has sealed.
            environment["TWILIO_AUTH_TOKEN"] = secrets.token_hex(16)
        return asyncio.run(_run_parent(settings, environment, given))


async def _run_parent(settings: Settings, environment: Mapping[str, str], given: Inherited) -> int:
    try:
        sockets = given.sockets or await bind(settings.host, settings.port)
    except OSError as error:
        log.error("cannot start", port=settings.port, error=str(error))
        return 1
    for sock in sockets:
        sock.listen(BACKLOG)
    command = (sys.executable, "-m", "bridge", *sys.argv[1:])
    return await Parent(command, environment, sockets, settings.workers, _address(settings)).run()


def _address(settings: Settings) -> str:
    """What a parent keeps for its whole life."""
    return f"HOST={settings.host} PORT={settings.port} BRIDGE_WORKERS={settings.bridge_workers}"


def _report(error: SettingsError) -> int:
    print("bridge cannot start; these settings are missing or wrong:", file=sys.stderr)  # noqa: T201
    for problem in error.problems:
        print(f"  - {problem}", file=sys.stderr)  # noqa: T201
    return 2


async def _serve(settings: Settings, writer: LogWriter, given: Inherited) -> int:
    server = Server(settings)
    server.metrics.watch_log(lambda: writer.dropped)
    stopping = asyncio.Event()
    forced = asyncio.Event()

    def on_signal() -> None:
        (forced if stopping.is_set() else stopping).set()

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(on_loop_exception)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await server.start(given.sockets, given.channel)
    except StoreTooNewError as error:
        log.error("cannot start", error=str(error))
        return 2
    except (OSError, DirectoryError) as error:
        log.error("cannot start", port=settings.port, error=str(error))
        return 1
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    is_worker = given.channel is not None
    loop.add_signal_handler(signal.SIGUSR2, _cannot_replace, is_worker)
    if is_worker and given.address != _address(settings):
        log.warning(
            "settings differ from those of the parent, which needs a restart for them",
            parent=given.address,
            now=_address(settings),
        )
    if not settings.bridge_validate_signatures:
        log.warning(
            "signatures are not checked: anyone who reaches this port can make calls; for development only"
        )
    log.info(
        "serving",
        host=settings.host,
        port=server.port,
        public_url=settings.public_url,
        agent=settings.bridge_agent,
        max_calls=settings.bridge_max_calls,
    )
    _settle_garbage_collector(server)
    # One that others have replaced drains for as long as its calls last.
    await _is_done_before(server.retired.wait(), stopping)
    server.drain()
    if stopping.is_set() or not await _is_done_before(server.drained(settings.bridge_call_max_s), stopping):
        await _is_done_before(server.drained(), forced)
    await server.stop()
    log.info("stopped")
    return 0


def _cannot_replace(is_worker: bool) -> None:
    log.warning(
        "signal ignored: SIGUSR2 replaces workers, "
        + ("and is for their parent" if is_worker else "and BRIDGE_WORKERS is 1")
    )


async def _is_done_before(work: Coroutine[Any, Any, Any], event: asyncio.Event) -> bool:
    """Whether work is done before an event, which cancels it."""
    done, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    await asyncio.wait({done, waiting}, return_when=asyncio.FIRST_COMPLETED)
    is_done = done.done()
    for task in (done, waiting):
        task.cancel()
    await asyncio.gather(done, waiting, return_exceptions=True)
    return is_done


def _settle_garbage_collector(server: Server) -> None:
    """
    Exclude the objects of the start from garbage collection.

    The collector stays on, because a TLS connection is a reference cycle of some 18 KB. A frame creates no object
    that the collector counts, so that only calls that begin or end cause a run, and the run visits only their objects.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(server.metrics.gc_pauses.on_gc)
