"""HAProxy with its default health check in front of bridges: they are up, and calls go through it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from haproxy import HAPROXY, free_port
from live import DEADLINE_S, Live, beside, until

from bridge.standins.numbered import make_numbered

CONFIG = """
global
    stats socket {folder}/stats level admin
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
    timeout check 5s
frontend public
    bind 127.0.0.1:{port}
    default_backend bridges
backend bridges
    option httpchk
    option forwardfor
    balance roundrobin
"""
SERVER = "    server {name} 127.0.0.1:{port} check inter 100ms fall 1 rise 1\n"


class Balancer:
    def __init__(self, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._stats = folder / "stats"

    async def status(self) -> tuple[str, str]:
        """HAProxy's status of the bridge and its last check, from the stats socket."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._stats))
        except OSError:
            return "", ""
        writer.write(b"show stat\n")
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        [row] = [row for row in rows if row["svname"] == "bridge"]
        return row["status"], row["check_code"]

    async def until_status(self, status: str) -> str:
        async with asyncio.timeout(2 * DEADLINE_S):
            while (found := await self.status())[0] != status or not found[1]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found[1]


@contextlib.asynccontextmanager
async def balanced(live: Live, folder: Path, *others: Live) -> AsyncIterator[Balancer]:
    if HAPROXY is None:
        assert not os.environ.get("CI"), "haproxy is not installed, and CI must run this"
        pytest.skip("haproxy is not installed")
    port = free_port()
    config = folder / "haproxy.cfg"
    servers = {"bridge": live} | {f"bridge-{n}": other for n, other in enumerate(others, 2)}
    config.write_text(
        CONFIG.format(folder=folder, port=port)
        + "".join(SERVER.format(name=name, port=one.server.port) for name, one in servers.items())
    )
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            HAPROXY, "-db", "-f", str(config), stdout=log, stderr=log
        )
    try:
        yield Balancer(folder, port)
    finally:
        process.kill()
        await process.wait()


async def test_default_health_check_finds_the_bridge_up(live_server, tmp_path):
    live = await live_server()
    async with balanced(live, tmp_path) as balancer:
        # It asks OPTIONS / HTTP/1.0.
        assert await balancer.until_status("UP") == "200"


async def test_call_goes_through_the_balancer(live_server, tmp_path):
    live = await live_server()
    async with balanced(live, tmp_path) as balancer:
        await balancer.until_status("UP")
        caller = live.caller()
        caller.endpoint.url = balancer.url
        async with caller:
            assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
            await caller.open_stream()
            session = await live.session_of(caller)
            await caller.send_frames((make_numbered(n) for n in range(50)), paced=False)
            await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
            await until(lambda: len(session.received) == 50 and len(caller.received) == 50)
            assert [item.audio for item in session.received] == caller.received_audio
            await session.send_call_ended()
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
            assert caller.close_code == 1000
            assert (await caller.follow_redirect()).verbs == ["Hangup"]


async def test_running_call_survives_the_drain_behind_the_balancer(live_server, tmp_path):
    live = await live_server()
    async with balanced(live, tmp_path) as balancer:
        await balancer.until_status("UP")
        caller = live.caller()
        caller.endpoint.url = balancer.url
        async with caller:
            await caller.post_voice()
            await caller.open_stream()
            session = await live.session_of(caller)
            live.server.drain()
            await caller.send_media(b"still here")
            await until(lambda: session.received)
            await caller.send_stop()
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        await asyncio.wait_for(live.server.drained(), DEADLINE_S)


async def test_after_a_goodbye_no_process_apologizes(live_server, tmp_path):
    url = f"sqlite:{tmp_path}/store.sqlite3"
    live = await live_server(BRIDGE_STORE=url)
    async with beside(live, url) as other, balanced(live, tmp_path, other) as balancer:
        await balancer.until_status("UP")
        answers = [await verbs_after_goodbye(live, other, balancer) for _ in range(20)]
        assert answers == [["Hangup"]] * 20
        assert len(live.agent.sessions) == 20
        asked = [
            (await one.metrics())['bridge_http_requests_total{path="/voice/resume",status="200"}']
            for one in (live, other)
        ]
        assert sum(asked) == 20
        assert min(asked) > 0


async def verbs_after_goodbye(live: Live, other: Live, balancer: Balancer) -> list[str]:
    """One call, ended by its agent: what Twilio is answered behind the media socket."""
    caller = live.caller()
    caller.endpoint.url = balancer.url
    async with caller:
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        await caller.open_stream()
        await until(lambda: live.live_calls + other.live_calls == 1)
        session = await live.session_of(caller)
        await session.send_call_ended()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        return (await caller.follow_redirect()).verbs
