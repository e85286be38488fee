"""``bridge serve``: settings, the event loop, signals, exit codes."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Mapping

import structlog
import uvloop

from bridge.agents.directory import DirectoryError
from bridge.descriptors import raise_descriptor_limit
from bridge.http.front import on_loop_exception
from bridge.log_writer import LogWriter
from bridge.logs import set_up_logs
from bridge.server.server import Server
from bridge.server.store.agreement import StoreTooNewError
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
    try:
        settings = load_settings(overrides)
        raise_descriptor_limit(settings)
    except SettingsError as error:
        print("bridge cannot start; these settings are missing or wrong:", file=sys.stderr)  # noqa: T201
        for problem in error.problems:
            print(f"  - {problem}", file=sys.stderr)  # noqa: T201
        return 2
    writer = set_up_logs(settings.bridge_log_format, settings.bridge_log_level)
    for warning in settings.warnings:
        log.warning("setting ignored", detail=warning)
    # With the default of four threads, a few look-ups at a dead name server delay all others.
    os.environ.setdefault("UV_THREADPOOL_SIZE", "32")
    return uvloop.run(_serve(settings, writer))


async def _serve(settings: Settings, writer: LogWriter) -> int:
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
        await server.start()
    except StoreTooNewError:
        log.error(
            "cannot start: a newer version of the bridge uses the store; install that version, or set BRIDGE_STORE to "
            "another store"
        )
        await server.stop()
        return 2
    except (OSError, DirectoryError) as error:
        log.error("cannot start", port=settings.port, error=str(error))
        await server.stop()
        return 1
    loop.add_signal_handler(signal.SIGHUP, server.reload)
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
    await stopping.wait()
    server.drain()
    drained = asyncio.ensure_future(server.drained())
    force = asyncio.ensure_future(forced.wait())
    await asyncio.wait({drained, force}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drained, force):
        task.cancel()
    await asyncio.gather(drained, force, return_exceptions=True)
    await server.stop()
    log.info("stopped")
    return 0


def _settle_garbage_collector(server: Server) -> None:
    """
    Exclude the objects of the start from garbage collection.

    The collector stays on, because a TLS connection is a reference cycle of some 18 KB. A frame creates no object
    that the collector counts, so that only calls that begin or end cause a run, and the run visits only their objects.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(server.metrics.gc_pauses.on_gc)
