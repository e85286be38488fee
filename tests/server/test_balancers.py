"""The delivered configurations of HAProxy and nginx in front of two bridge processes with one Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, until
from redis_server import RedisServer, redis_server, started

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import Account, AgentService
from bridge.standins.numbered import make_numbered
from bridge.standins.process import SERVE, BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller

__all__ = ["redis_server"]

DEPLOY = Path(__file__).parents[2] / "deploy"
SYSTEM_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
# The lines of the delivered files that name addresses and certificates: what an operator changes.
HAPROXY_BIND = "bind :443 ssl crt /etc/haproxy/voice.pem alpn http/1.1"
NGINX_LISTEN = "listen 443 ssl;"
NGINX_CERTIFICATES = re.compile(r"    ssl_certificate.*\n")
NGINX_MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/voice.conf;
}}
"""


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the delivered file"
    return text.replace(old, new)


@dataclass
class Bridge:
    name: str
    port: int
    process: BridgeProcess
    host: str = "127.0.0.1"

    async def get(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.host}:{self.port}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def live_calls(self) -> int:
        _, text = await self.get("/metrics")
        return int(float(re.search(r"^bridge_calls_live (\S+)$", text, re.MULTILINE)[1]))


class Balancer:
    """HAProxy or nginx with the delivered file, changed as its comments say."""

    def __init__(self, name: str, program: str, folder: Path, bridges: list[Bridge]) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = program
        self._folder = folder
        self._bridges = bridges
        self._process: asyncio.subprocess.Process | None = None

    def write(self, without: Bridge | None = None) -> None:
        text = (DEPLOY / f"{self.name}.{'cfg' if self.name == 'haproxy' else 'conf'}").read_text()
        for bridge, address in zip(self._bridges, ("10.0.0.11:8080", "10.0.0.12:8080"), strict=True):
            down = " down" if bridge is without and self.name == "nginx" else ""
            text = replaced(text, address, f"{bridge.host}:{bridge.port}{down}")
        if self.name == "haproxy":
            text = replaced(text, HAPROXY_BIND, f"bind 127.0.0.1:{self.port}")
            (self._folder / "haproxy.cfg").write_text(text)
            return
        text = replaced(text, NGINX_LISTEN, f"listen 127.0.0.1:{self.port};")
        (self._folder / "voice.conf").write_text(NGINX_CERTIFICATES.sub("", text))
        (self._folder / "nginx.conf").write_text(NGINX_MAIN.format(folder=self._folder))

    async def check(self) -> str:
        """The program's own check of the file; returns what it printed."""
        files = {
            "haproxy": ("-c", "-f", "haproxy.cfg"),
            "nginx": ("-t", "-p", str(self._folder), "-c", "nginx.conf"),
        }
        process = await asyncio.create_subprocess_exec(
            self._program, *files[self.name], cwd=self._folder, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def start(self) -> None:
        arguments = {
            "haproxy": ("-W", "-f", "haproxy.cfg"),
            "nginx": ("-p", str(self._folder), "-c", "nginx.conf"),
        }
        with (self._folder / "balancer.log").open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program, *arguments[self.name], cwd=self._folder, stdout=log, stderr=log
            )
        async with asyncio.timeout(2 * DEADLINE_S):
            while await self.health() != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def health(self) -> int:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/readyz") as answer:
                return answer.status
        return 0

    async def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2 if self.name == "haproxy" else signal.SIGHUP)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


@dataclass
class Scene:
    agent: AgentService
    bridges: list[Bridge]
    balancer: Balancer

    def caller(self) -> Caller:
        return Caller(
            self.balancer.url, public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN
        )

    @contextlib.asynccontextmanager
    async def bridged(self) -> AsyncIterator[tuple[Caller, object]]:
        async with self.caller() as caller:
            answer = await caller.post_voice()
            assert answer.verbs == ["Connect", "Redirect"], answer
            await caller.open_stream()
            session = await self.agent.next_session(DEADLINE_S)
            await asyncio.wait_for(session.opened.wait(), DEADLINE_S)
            yield caller, session

    async def holder_of_one_call(self) -> tuple[Bridge, Bridge]:
        """The bridge with the one live call, and the other one."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                counts = [await bridge.live_calls() for bridge in self.bridges]
                if sum(counts) == 1:
                    return tuple(sorted(self.bridges, key=lambda b: -counts[self.bridges.index(b)]))


@pytest.fixture(params=["haproxy", "nginx"])
async def scene(request, tmp_path, redis_server: RedisServer) -> AsyncIterator[Scene]:
    program = shutil.which(request.param, path=SYSTEM_PATH)
    if program is None:
        assert not os.environ.get("CI"), f"{request.param} is not installed, and CI must run this"
        pytest.skip(f"{request.param} is not installed")
    await started(redis_server)
    async with contextlib.AsyncExitStack() as stack:
        agent = await stack.enter_async_context(AgentService(behaviour=silent, account=Account(key=API_KEY)))
        bridges = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            port = free_port()
            settings = {
                **agent.environment(),
                **DEFAULTS,
                "PORT": str(port),
                "BRIDGE_NODE": name,
                "BRIDGE_STORE": redis_server.url,
                "BRIDGE_LOG_FORMAT": "json",
            }
            process = stack.enter_context(BridgeProcess(folder, settings))
            await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
            bridges.append(Bridge(name, port, process))
        balancer = Balancer(request.param, program, tmp_path, bridges)
        balancer.write()
        stack.push_async_callback(balancer.stop)
        await balancer.start()
        yield Scene(agent, bridges, balancer)


async def test_delivered_file_is_valid(scene):
    output = await scene.balancer.check()
    assert "warn" not in output.lower(), output


async def test_call_goes_through_and_is_over_for_both(scene):
    async with scene.bridged() as (caller, session):
        frames = [make_numbered(n) for n in range(50)]
        await caller.send_frames(iter(frames), paced=False)
        await session.send_frames(iter(frames), paced=False)
        await until(lambda: len(session.received) == 50 and len(caller.received) == 50)
        assert [item.audio for item in session.received] == caller.received_audio == frames
        await session.send_call_ended()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        assert caller.close_code == 1000
        assert (await caller.follow_redirect()).verbs == ["Hangup"]
        # Round about both of them.
        for _ in range(4):
            assert (await caller.post_voice()).verbs == ["Hangup"]


async def test_metrics_are_not_for_the_world(scene):
    async with aiohttp.ClientSession() as session, session.get(f"{scene.balancer.url}/metrics") as answer:
        assert answer.status == 403


async def test_reload_of_the_balancer_costs_no_frame(scene):
    async with scene.bridged() as (caller, session):
        frames = [make_numbered(n) for n in range(150)]
        sending = asyncio.ensure_future(caller.send_frames(iter(frames), paced=True))
        for _ in range(3):
            await scene.balancer.reload()
            wanted = len(session.received) + 25
            await until(lambda: len(session.received) >= wanted)  # noqa: B023
        await asyncio.wait_for(sending, DEADLINE_S)
        await until(lambda: len(session.received) == 150)
        assert [item.audio for item in session.received] == frames


async def test_running_call_stays_and_new_ones_go_elsewhere_while_one_drains(scene):
    async with scene.bridged() as (caller, session):
        holder, other = await scene.holder_of_one_call()
        if scene.balancer.name == "nginx":
            scene.balancer.write(without=holder)
            await scene.balancer.reload()
        holder.process.send_signal(signal.SIGTERM)
        await until_status(holder, 503)
        await caller.send_media(b"still here")
        await until(lambda: session.received)
        async with contextlib.AsyncExitStack() as stack:
            # HAProxy notices after two checks.
            async with asyncio.timeout(2 * DEADLINE_S):
                while await other.live_calls() == 0:
                    await stack.enter_async_context(scene.bridged())
        await caller.hang_up()
    assert await asyncio.to_thread(holder.process.wait) == 0


async def until_status(bridge: Bridge, status: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await bridge.get("/readyz"))[0] != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_webhooks_go_to_the_other_bridge_while_one_is_dead(scene):
    dead, _ = scene.bridges
    dead.process.kill()
    for _ in range(10):
        async with scene.bridged() as (caller, session):
            await session.send_call_ended()
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
            assert (await caller.follow_redirect()).verbs == ["Hangup"]


@pytest.mark.parametrize("scene", ["haproxy"], indirect=True)
async def test_media_socket_goes_to_the_bridge_in_its_path(scene):
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for _ in range(8):
            caller, _ = await stack.enter_async_context(scene.bridged())
            nodes.append(re.search(r"/media/(\w+)-[0-9a-f]{32}$", caller.answer.stream_url)[1])
        assert {"a", "b"} == set(nodes)
        for bridge in scene.bridges:
            assert await bridge.live_calls() == nodes.count(bridge.name)


@pytest.mark.parametrize("scene", ["haproxy"], indirect=True)
async def test_media_socket_of_a_dead_bridge_is_taken_by_another(scene):
    async with scene.caller() as caller:
        answer = await caller.post_voice()
        node = re.search(r"/media/(\w+)-", answer.stream_url)[1]
        next(bridge for bridge in scene.bridges if bridge.name == node).process.kill()
        await caller.open_stream()
        session = await scene.agent.next_session(DEADLINE_S)
        await caller.send_media(b"hello")
        await until(lambda: session.received)


async def test_haproxy_notices_a_host_that_is_gone(slow_path, tmp_path):
    program = shutil.which("haproxy", path=SYSTEM_PATH)
    if program is None:
        pytest.skip("haproxy is not installed")
    port, host = free_port(), slow_path.far_address
    settings = {**DEFAULTS, "HOST": host, "PORT": str(port), "BRIDGE_AGENT": "echo", "BRIDGE_NODE": "a"}
    command = (*slow_path.command, *SERVE)
    with BridgeProcess(tmp_path, settings, command=command) as process:
        await asyncio.to_thread(process.wait_ready, f"http://{host}:{port}")
        # The second one is down from the beginning.
        bridges = [Bridge("a", port, process, host), Bridge("b", free_port(), process)]
        balancer = Balancer("haproxy", program, tmp_path, bridges)
        balancer.write()
        await balancer.start()
        try:
            async with Caller(
                balancer.url, public_url=PUBLIC_URL, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN
            ) as caller:
                await caller.post_voice()
                await caller.open_stream()
                await caller.send_media(b"hello")
                await until(lambda: caller.received)
                slow_path.cut()
                await caller.send_media(b"still here")
                # Well below the 5 minutes after which an idle tunnel is closed.
                await asyncio.wait_for(caller.closed.wait(), 12 * DEADLINE_S)
        finally:
            await balancer.stop()
