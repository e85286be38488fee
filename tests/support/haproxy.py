"""A real HAProxy in front of a port, with rules of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from live import DEADLINE_S

from bridge.standins.process import free_port

__all__ = ["HAPROXY", "free_port", "proxied"]

# Debian puts it where an ordinary user's PATH does not look.
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIG = """
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
frontend public
    bind 127.0.0.1:{port}
    {rules}
    default_backend bridges
backend bridges
    server bridge 127.0.0.1:{bridge}
"""


@contextlib.asynccontextmanager
async def proxied(bridge_port: int, port: int, folder: Path, rules: str = "") -> AsyncIterator[None]:
    """Pass on what comes to ``port``, by rules of HAProxy's frontend."""
    if HAPROXY is None:
        assert not os.environ.get("CI"), "haproxy is not installed, and CI must run this"
        pytest.skip("haproxy is not installed")
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, bridge=bridge_port, rules=rules))
    with (folder / "haproxy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            HAPROXY, "-db", "-f", str(config), stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(2 * DEADLINE_S):
            while not await _is_listening(port):
                assert process.returncode is None, (folder / "haproxy.log").read_text()
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        await process.wait()


async def _is_listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
