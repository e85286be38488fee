"""The limit of open files, which the number of calls needs, and the three that each process has from its start."""

from __future__ import annotations

import os
import resource

from bridge.settings import Settings, SettingsError

# A call has a webhook and two sockets. The spare ones are for calls that end, the agent's REST API, the log and the
# interpreter.
DESCRIPTORS_PER_CALL = 3
SPARE_DESCRIPTORS = 192
STDERR = 2


def needed_descriptors(settings: Settings) -> int:
    """How many files one process opens at most."""
    return (
        settings.bridge_max_calls * DESCRIPTORS_PER_CALL
        + settings.bridge_http_connections
        + SPARE_DESCRIPTORS
    )


def descriptor_problem(settings: Settings) -> str:
    """Why the hard limit is too low, and what would fit; empty if it is not."""
    needed = needed_descriptors(settings)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or needed <= hard:
        return ""
    fit = max(0, (hard - settings.bridge_http_connections - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CALL)
    return (
        f"BRIDGE_MAX_CALLS: {settings.bridge_max_calls} calls need {needed} open files and the hard limit is "
        f"{hard}: raise it (ulimit -Hn, LimitNOFILE), or set BRIDGE_MAX_CALLS to at most {fit}"
    )


def raise_descriptor_limit(settings: Settings) -> None:
    """
    Raise the soft limit of open files to what ``BRIDGE_MAX_CALLS`` needs.

    Raises:
        SettingsError: The hard limit is lower.
    """
    if text := descriptor_problem(settings):
        raise SettingsError([text])
    needed = needed_descriptors(settings)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def fill_standard_descriptors() -> None:
    """
    Open ``/dev/null`` in place of standard input, output and error that are closed.

    Otherwise a socket or the event loop gets such a number: libuv aborts the process when it closes that, and messages
    of C libraries go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)
