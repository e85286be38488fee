"""
Logging: events by structlog; records of libraries go through the same formatter.

INFO: start, stop, drain, and two lines per call (bridged; ended). WARNING: a person may have to act. ERROR: a fault
of the bridge. A log contains no audio, token, secret or whole message. Values are escaped: an event is one line.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from bridge.log_writer import LogWriter


def set_up_logs(log_format: str, level: str, *, names_process: bool = False) -> LogWriter:
    """
    Send all logs to standard error, from a thread of its own; returns their writer, which counts dropped lines.

    Args:
        log_format: ``console``, ``json``, or empty: console on a terminal, else json.
        level: The least level that is logged.
        names_process: Each line has the process's id, for one of several with the same log.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    is_console = log_format == "console" or (not log_format and is_terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_add_pid] if names_process else []),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            # The other formatters print local variables, which may be secrets.
            colors=is_terminal,
            exception_formatter=structlog.dev.plain_traceback,
        )
        if is_console
        else structlog.processors.JSONRenderer()
    )
    if is_console:
        shared = [p for p in shared if p is not structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    writer = LogWriter(sys.stderr.fileno() if sys.stderr is not None else None)
    writer.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [writer]
    root.setLevel(level.upper())
    # picows logs each fault of a peer as an error, and the whole answer to a refused handshake. The legs log both in
    # their own words.
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    logging.getLogger("aiofastnet").setLevel(logging.CRITICAL)
    return writer


def _add_pid(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event["pid"] = os.getpid()
    return event
