"""
Logging: structlog for our events, the standard library's records of others through the same end.

INFO: start, stop, drain, and two lines per call (bridged; ended). WARNING: something a person may act on. ERROR:
a fault of ours. Never audio, tokens, secrets or whole messages; values are escaped, so that a line stays a line.
"""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logs(log_format: str, level: str) -> None:
    """Write to standard error, as ``console`` or ``json``; empty: console on a terminal, else json."""
    is_console = log_format == "console" or (not log_format and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            # The plain one: others print local variables, secrets among them.
            colors=sys.stderr.isatty(),
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # picows logs each peer's fault as an error and prints the answer of a refused handshake; the legs tell both
    # in their own words.
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    logging.getLogger("aiofastnet").setLevel(logging.CRITICAL)
