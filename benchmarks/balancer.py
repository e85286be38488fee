"""HAProxy with the delivered configuration, in front of two bridges of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.bridge_process import wait_ready

DELIVERED = Path(__file__).parents[1] / "deploy" / "haproxy.cfg"
# What an operator changes there.
BIND = "bind :443 ssl crt /etc/haproxy/voice.pem alpn http/1.1"
ADDRESSES = {"a": "10.0.0.11:8080", "b": "10.0.0.12:8080"}
# Debian puts it where an ordinary user's PATH does not look.
SEARCHED = (os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")


class NoBalancerError(Exception):
    """HAProxy is not installed; the text says what to do."""


def find_haproxy() -> str:
    """
    Return the path of HAProxy.

    Raises:
        NoBalancerError: It is not installed.
    """
    program = shutil.which("haproxy", path=os.pathsep.join(SEARCHED))
    if program is None:
        raise NoBalancerError("HAProxy is not installed: apt-get install haproxy (or your system's)")
    return program


@asynccontextmanager
async def balancing(ports: Mapping[str, int], folder: Path, port: int) -> AsyncIterator[None]:
    """
    Run HAProxy on 127.0.0.1, ready for calls.

    Args:
        ports: Those of the bridges "a" and "b", which are ready; the names are their `BRIDGE_NODE`.
        folder: Gets the configuration and the log.

    Raises:
        NoBalancerError: It is not installed.
        BridgeError: It does not start.
    """
    text = DELIVERED.read_text().replace(BIND, f"bind 127.0.0.1:{port}")
    for name, address in ADDRESSES.items():
        text = text.replace(address, f"127.0.0.1:{ports[name]}")
    config = folder / "haproxy.cfg"
    config.write_text(text)
    with (folder / "haproxy.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            find_haproxy(), "-db", "-f", str(config), stdout=log, stderr=log
        )
    try:
        await wait_ready(f"http://127.0.0.1:{port}")
        yield
    finally:
        process.kill()
        await process.wait()
