"""Workers as processes: they share the port and their figures, die and come back, and are replaced in mid-call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest
from live import ACCOUNT_SID, API_KEY, AUTH_TOKEN, DEADLINE_S, DEFAULTS, PUBLIC_URL, random_call_sid, until
from next_version import put_next_version
from page_phone import PagePhone

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.service import Account, AgentService
from bridge.standins.numbered import make_numbered
from bridge.standins.process import BridgeProcess, free_port
from bridge.standins.twilio.caller import Caller
from bridge.standins.twilio.twiml import read_twiml
from bridge.standins.twilio.webhook import FORM_TYPE, sign, voice_form

LONG_S = 4 * DEADLINE_S


class Workers:
    """A parent with two workers, and an agent for their calls."""

    def __init__(self, process: BridgeProcess, port: int, agent: AgentService, folder) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.agent = agent
        self.folder = folder

    def lines(self, event: str) -> list[dict]:
        found = []
        for line in self.process.log.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return [line for line in found if line.get("event") == event]

    @property
    def pids(self) -> list[int]:
        """The workers that have served so far, in the order of their start, dead ones too."""
        return [line["pid"] for line in self.lines("serving") if "pid" in line]

    async def until_log(self, event: str, count: int = 1) -> list[dict]:
        await until(lambda: len(self.lines(event)) >= count, LONG_S)
        return self.lines(event)

    async def get(self, path: str) -> tuple[int, str]:
        # A connection of its own, for any worker.
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def figure(self, name: str) -> float:
        _, text = await self.get("/metrics")
        found = re.findall(rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    async def until_figure(self, name: str, value: float) -> None:
        async with asyncio.timeout(LONG_S):
            while await self.figure(name) != value:
                pass

    def caller(self, call_sid: str | None = None) -> Caller:
        return Caller(
            self.url,
            public_url=PUBLIC_URL,
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            call_sid=call_sid,
        )

    @contextlib.asynccontextmanager
    async def bridged(self) -> AsyncIterator[tuple[Caller, object]]:
        async with self.caller() as caller:
            answer = await caller.post_voice()
            assert answer.verbs == ["Connect", "Redirect"], self.lines("call gets the fallback")
            await caller.open_stream()
            session = await self.agent.next_session(DEADLINE_S)
            await asyncio.wait_for(session.opened.wait(), DEADLINE_S)
            yield caller, session

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@pytest.fixture
async def start(tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        agent = await stack.enter_async_context(AgentService(behaviour=silent, account=Account(key=API_KEY)))

        async def started(**overrides: str) -> Workers:
            port = free_port()
            settings = {
                **agent.environment(),
                **DEFAULTS,
                "PORT": str(port),
                "BRIDGE_WORKERS": "2",
                "BRIDGE_LOG_FORMAT": "json",
                **overrides,
            }
            given = {name: value for name, value in settings.items() if value}
            process = stack.enter_context(BridgeProcess(tmp_path, given))
            workers = Workers(process, port, agent, tmp_path)
            stack.callback(kill_workers, workers)
            await workers.until_log("serving", 3)
            return workers

        yield started


def kill_workers(workers: Workers) -> None:
    workers.process.kill()
    for pid in workers.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
        yield


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        # A zombie's status is that of a process.
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


async def test_calls_spread_and_whichever_worker_is_asked_answers_for_all(start):
    workers = await start()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(40):
            await stack.enter_async_context(workers.bridged())
        for _ in range(6):
            assert await workers.figure("bridge_calls_live") == 40
            assert await workers.figure("bridge_calls_total") == 40
            assert (await workers.get("/readyz"))[0] == 200
        by_worker = Counter(line["pid"] for line in workers.lines("call bridged"))
        print(f"40 calls over 2 workers: {dict(by_worker)}")
        assert max(by_worker.values()) <= 0.6 * 40


async def test_no_call_is_refused_while_a_worker_has_room(start):
    workers = await start(BRIDGE_MAX_CALLS="10")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            # The worker that answered the webhook has learned that another has the socket.
            await workers.until_figure("bridge_calls_admitted", 0)
            await stack.enter_async_context(workers.bridged())
        await workers.until_figure("bridge_calls_live", 20)
        await workers.until_figure("bridge_calls_admitted", 0)
        # At whichever worker: each connection finds one.
        for _ in range(6):
            async with workers.caller() as caller:
                assert (await caller.post_voice()).reject_reason == "busy"


async def test_dead_worker_is_replaced_and_the_other_ones_calls_lose_nothing(start):
    workers = await start()
    async with workers.bridged() as (caller, session):
        [line] = await workers.until_log("call bridged")
        holder = line["pid"]
        dead = next(pid for pid in workers.pids if pid != holder)
        frames = [make_numbered(n) for n in range(100)]
        sending = asyncio.ensure_future(caller.send_frames(iter(frames), paced=True))
        os.kill(dead, signal.SIGKILL)
        [line] = await workers.until_log("worker ended, another is started")
        assert (line["pid"], line["exit_code"]) == (dead, -9)
        await workers.until_log("serving", 4)
        await asyncio.wait_for(sending, DEADLINE_S)
        await until(lambda: len(session.received) == 100)
        assert [item.audio for item in session.received] == frames
        # What the dead one counted stays.
        assert await workers.figure("bridge_calls_total") == 1
    assert len(set(workers.pids)) == 3


async def test_one_signal_drains_all_and_ends_with_0(start):
    workers = await start()
    async with workers.bridged() as (caller, session):
        workers.signal(signal.SIGTERM)
        await workers.until_log("draining", 2)
        await caller.send_media(b"still here")
        await until(lambda: session.received)
        await caller.hang_up()
    assert await asyncio.to_thread(workers.process.wait) == 0
    assert not any(is_alive(pid) for pid in workers.pids)


async def test_replacing_the_workers_costs_no_frame_and_no_call(start):
    workers = await start()
    async with contextlib.AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(workers.bridged()) for _ in range(6)]
        frames = [make_numbered(n) for n in range(250)]
        sending = [asyncio.ensure_future(caller.send_frames(iter(frames), paced=True)) for caller, _ in calls]
        former = workers.pids
        workers.signal(signal.SIGUSR2)
        while not workers.lines("workers replaced"):
            async with workers.bridged() as (caller, session):
                await session.send_call_ended()
                await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
                assert (await caller.follow_redirect()).verbs == ["Hangup"]
        for task in sending:
            await asyncio.wait_for(task, LONG_S)
        for _, session in calls:
            await until(lambda session=session: len(session.received) == 250)
            assert [item.audio for item in session.received] == frames
        before = len(workers.lines("call bridged"))
        async with workers.bridged():
            assert (await workers.until_log("call bridged", before + 1))[-1]["pid"] not in former
        await workers.until_figure("bridge_calls_live", 6)
        for caller, _ in calls:
            await caller.hang_up()
        await until(lambda: not any(is_alive(pid) for pid in former), LONG_S)
    assert workers.lines("call gets the fallback") == []
    assert workers.lines("call refused") == []


async def test_replaced_worker_answers_the_new_calls_of_connections_that_it_has(start):
    workers = await start()
    form = voice_form(
        account_sid=ACCOUNT_SID, call_sid=random_call_sid(), caller="+15550001111", called="+15550002222"
    )
    signature = sign(AUTH_TOKEN, f"{PUBLIC_URL}/voice", form)
    body = urlencode(form).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", workers.port)
    with contextlib.closing(writer):
        head = (
            f"POST /voice HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM_TYPE}\r\nContent-Length: {len(body)}\r\n"
        )
        writer.write(f"{head}X-Twilio-Signature: {signature}\r\n".encode())
        # They are accepted in order, by whichever worker.
        await workers.get("/healthz")
        workers.signal(signal.SIGUSR2)
        await workers.until_log("workers replaced")
        await workers.until_log("draining", 2)
        writer.write(b"\r\n" + body)
        answer = (await asyncio.wait_for(reader.read(), DEADLINE_S)).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    assert read_twiml(200, "text/xml", answer.partition("\r\n\r\n")[2]).verbs == ["Connect", "Redirect"]
    assert workers.lines("call gets the fallback") == []


async def test_workers_replaced_by_a_version_that_keeps_more_cost_no_call(start, tmp_path):
    workers = await start()
    async with contextlib.AsyncExitStack() as stack:
        calls = [await stack.enter_async_context(workers.bridged()) for _ in range(4)]
        put_next_version(tmp_path)
        workers.signal(signal.SIGUSR2)
        await workers.until_log("workers replaced")
        served = await workers.until_log("serving", 5)
        assert [line.get("version") for line in served].count("next") == 2
        # One asks for a new stream, which a worker of the new version answers, and goes on with its agent.
        (caller, session), *others = calls
        caller.abort()
        await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
        assert (await caller.go_on()).verbs == ["Connect", "Redirect"]
        await caller.send_media(b"still you?")
        await until(lambda: session.received)
        for caller, session in others:
            await session.send_call_ended()
            await asyncio.wait_for(caller.closed.wait(), DEADLINE_S)
            assert (await caller.follow_redirect()).verbs == ["Hangup"]
        async with workers.bridged():
            pass
    assert workers.lines("call gets the fallback") == workers.lines("call refused") == []


async def test_one_session_for_all_webhooks_of_a_call_and_its_token_is_used_once(start):
    workers = await start(BRIDGE_WORKERS="4")
    await workers.until_log("serving", 5)
    call_sid = random_call_sid()
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(workers.caller(call_sid)) for _ in range(100)]
        answers = await asyncio.gather(*(caller.post_voice() for caller in callers))
        assert {(answer.stream_url, *answer.verbs) for answer in answers} == {
            (answers[0].stream_url, "Connect", "Redirect")
        }
        assert len(workers.agent.requests) == 1
        first = callers[0]
        await first.open_stream()
        session = await workers.agent.next_session(DEADLINE_S)
        await first.send_media(b"hello")
        await until(lambda: session.received)
        # Each worker is asked while the others stand still.
        for pid in workers.pids:
            async with workers.caller(call_sid) as again:
                again.answer = first.answer
                with stopped(other for other in workers.pids if other != pid):
                    await asyncio.wait_for(again.open_stream(), DEADLINE_S)
                    await asyncio.wait_for(again.closed.wait(), DEADLINE_S)
                assert again.close_code == 1008
        refused = await workers.until_log("call ended", 4)
        assert {line["why"] for line in refused} == {"refused"}
        assert sorted(line["pid"] for line in refused) == sorted(workers.pids)
        assert len(workers.agent.requests) == len(workers.agent.sessions) == 1
        await first.send_media(b"still here")
        await until(lambda: len(session.received) == 2)


async def test_replaced_worker_leaves_its_admitted_call_to_a_new_one(start):
    workers = await start()
    async with workers.caller() as caller:
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        former = workers.pids
        workers.signal(signal.SIGUSR2)
        [line] = await workers.until_log("admitted calls left to other processes")
        assert (line["pid"] in former, line["count"]) == (True, 1)
        await until(lambda: not any(is_alive(pid) for pid in former), LONG_S)
        await caller.open_stream()
        session = await workers.agent.next_session(DEADLINE_S)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        assert len(workers.agent.sessions) == 1


async def test_workers_that_drain_together_wait_for_an_admitted_call(start):
    workers = await start()
    async with workers.caller() as caller:
        assert (await caller.post_voice()).verbs == ["Connect", "Redirect"]
        workers.signal(signal.SIGTERM)
        # The one without a call is gone.
        await workers.until_log("stopped")
        await caller.open_stream()
        session = await workers.agent.next_session(DEADLINE_S)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        await caller.hang_up()
    assert await asyncio.to_thread(workers.process.wait) == 0
    assert workers.lines("admitted calls left to other processes") == []


async def test_signal_to_a_worker_itself_costs_no_call(start):
    workers = await start()
    async with workers.bridged() as (caller, session):
        for pid in workers.pids:
            os.kill(pid, signal.SIGUSR2)
        await until(lambda: workers.process.log.count("is for their parent") == 2, LONG_S)
        await caller.send_media(b"still here")
        await until(lambda: session.received)


async def test_workers_that_do_not_start_change_nothing(start):
    workers = await start()
    former = workers.pids
    async with workers.bridged() as (caller, session):
        # A file that the workers read when they start.
        (workers.folder / ".env").write_text("BRIDGE_MAX_CALLS=many\n")
        workers.signal(signal.SIGUSR2)
        [line] = await workers.until_log("workers are not replaced, the former ones stay")
        assert line["level"] == "error"
        await caller.send_media(b"still here")
        await until(lambda: session.received)
    assert all(is_alive(pid) for pid in former)
    async with workers.bridged():
        assert (await workers.until_log("call bridged", 2))[-1]["pid"] in former


async def test_settings_of_the_parent_that_change_are_a_warning(start, tmp_path):
    (tmp_path / ".env").write_text("BRIDGE_WORKERS=2\n")
    workers = await start(BRIDGE_WORKERS="")
    (tmp_path / ".env").write_text("BRIDGE_WORKERS=3\n")
    workers.signal(signal.SIGUSR2)
    [line, _] = await workers.until_log(
        "settings differ from those of the parent, which needs a restart for them", 2
    )
    assert (line["level"], line["parent"][-1], line["now"][-1]) == ("warning", "2", "3")
    await workers.until_log("workers replaced")


async def test_workers_whose_parent_dies_drain(start):
    workers = await start()
    async with workers.bridged() as (caller, session):
        workers.process.kill()
        await workers.until_log("draining", 2)
        await caller.send_media(b"still here")
        await until(lambda: session.received)
        with pytest.raises(aiohttp.ClientError):
            await workers.get("/healthz")
        await caller.hang_up()
    await until(lambda: not any(is_alive(pid) for pid in workers.pids), LONG_S)


async def test_workers_without_an_account_take_each_others_tokens_and_tickets(start):
    workers = await start(
        BRIDGE_AGENT="echo",
        BRIDGE_VALIDATE_SIGNATURES="0",
        **dict.fromkeys(("PUBLIC_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN"), ""),
    )
    phone = PagePhone(workers)
    local = {"Origin": workers.url}
    for mine, other in itertools.permutations(workers.pids):
        # Each socket has a connection of its own.
        async with Caller(workers.url) as asking, Caller(workers.url, call_sid=asking.call_sid) as caller:
            with stopped([other]):
                caller.answer = await asyncio.wait_for(asking.post_voice(), DEADLINE_S)
                assert (await asyncio.wait_for(phone.call("echo", local), DEADLINE_S))[0] == 200
            with stopped([mine]):
                await asyncio.wait_for(caller.open_stream(), DEADLINE_S)
                await caller.send_media(make_numbered(1))
                await until(lambda caller=caller: caller.received_audio == [make_numbered(1)])
                assert await asyncio.wait_for(phone.upgrade(local), DEADLINE_S) == 101


async def test_memory_cannot_be_shared(start, tmp_path):
    folder = tmp_path / "memory"
    folder.mkdir()
    for setting, value in {"BRIDGE_STORE": "memory", "BRIDGE_STATE_DIR": "/proc/none"}.items():
        process = BridgeProcess(
            folder, {**DEFAULTS, "BRIDGE_AGENT": "echo", "BRIDGE_WORKERS": "2", setting: value}
        )
        with process:
            assert await asyncio.to_thread(process.wait) == 2
            assert f"  - {setting}: " in process.log


async def test_signal_to_replace_a_single_process_is_ignored_with_a_line(tmp_path):
    port = free_port()
    settings = {**DEFAULTS, "BRIDGE_AGENT": "echo", "PORT": str(port), "BRIDGE_LOG_FORMAT": "json"}
    with BridgeProcess(
        tmp_path, {**settings, "BRIDGE_VALIDATE_SIGNATURES": "0", "PUBLIC_URL": "http://x"}
    ) as process:
        await asyncio.to_thread(process.wait_ready, f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGUSR2)
        await until(lambda: "BRIDGE_WORKERS is 1" in process.log, LONG_S)
        assert await asyncio.to_thread(process.stop) == 0


# As systemd does it: the descriptor 3, and the process that it is for.
AS_SYSTEMD = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
    "os.execv(sys.executable, [sys.executable, '-m', 'bridge', 'serve'])"
)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_listening_socket_of_systemd_is_used(tmp_path, workers):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        settings = {
            **DEFAULTS,
            "PORT": "1",
            "LISTEN_FDS": "1",
            "BRIDGE_AGENT": "echo",
            "BRIDGE_WORKERS": workers,
        }
        command = (sys.executable, "-c", AS_SYSTEMD, str(sock.fileno()))
        with BridgeProcess(tmp_path, settings, command=command, pass_fds=(sock.fileno(),)) as process:
            # The connection waits in the queue until the process accepts.
            async with aiohttp.ClientSession() as session, session.get(f"{url}/healthz") as answer:
                assert answer.status == 200
            assert await asyncio.to_thread(process.stop) == 0
