"""Reads the certificate and the files of agents, routes and numbers again; what is bad is refused and logged."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import structlog

from bridge.agents.directory import DirectoryError
from bridge.agents.sessions import Sessions
from bridge.server.callers import Callers
from bridge.settings import Settings

log = structlog.get_logger()


def reload_port_tls(settings: Settings, use: Callable[[ssl.SSLContext], None]) -> None:
    """Read the files again and ``use`` them; bad ones are refused, and the former certificate stays."""
    try:
        tls = settings.read_tls()
    except OSError as error:
        log.error(
            "certificate refused, the former one stays: correct the files and send SIGHUP again",
            problem=str(error),
        )
        return
    if tls is not None:
        use(tls)
        log.info("certificate reloaded", file=settings.bridge_tls_cert)
        for doubt in settings.certificate_doubts():
            log.warning("check this setting", detail=doubt)


def reload_directory(settings: Settings, sessions: Sessions) -> None:
    """Read the files of agents and routes again, for new calls; bad ones are refused whole."""
    try:
        directory = settings.read_directory()
    except DirectoryError as error:
        for _, problem in error.problems:
            log.error("reload refused, the former agents and routes stay", problem=problem)
        return
    sessions.replace(directory)
    log.info("reloaded", agents=sorted(directory.names))


def reload_numbers(settings: Settings, callers: Callers) -> None:
    """Read the file of numbers again, for new calls; a bad one is refused whole."""
    try:
        lists = settings.read_number_lists()
    except DirectoryError as error:
        for _, problem in error.problems:
            log.error("reload refused, the former numbers stay", problem=problem)
        return
    callers.use(lists)
    if settings.bridge_numbers_file:
        log.info("numbers reloaded", refused=len(lists.refused), allowed=len(lists.allowed))
