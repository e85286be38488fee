"""Sessions: the agents of a chain in turn, against services that answer, refuse or hang."""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from live import until

from bridge.agents.agent import CallInfo, Resources, SessionError
from bridge.agents.directory import open_directory
from bridge.agents.hand_over import SipAddress
from bridge.agents.health import AgentHealth
from bridge.agents.sessions import VALUES_BYTES, Session, Sessions
from bridge.agents.slots import Slots
from bridge.metrics import Metrics

CALL = CallInfo("CA" + "2" * 32, "+15551234567", "+14155550100")
TABLE = """
[{name}]
url = "wss://h"
binary = true
session = {{ url = "{url}/{name}", body = {{ call = "{{call_sid}}" }}, reply = ["id"] }}
"""
DISABLED = "\ndisabled = true"


def call_number(n: int) -> CallInfo:
    return replace(CALL, call_sid=f"CA{n:032x}")


class Services:
    """One REST API for every agent of a test, distinguished by its path: each answers, refuses or hangs."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.let_go = asyncio.Event()
        self.asked: list[str] = []
        # The calls that each agent was asked for.
        self.callers: dict[str, set[str]] = defaultdict(set)
        # A request that is refused is made again at once.
        self.headers = {"Retry-After": "0"}

    async def handle(self, request: web.Request) -> web.Response:
        name = request.path.strip("/")
        self.asked.append(name)
        self.callers[name].add((await request.json())["call"])
        if name in self.hanging:
            await self.let_go.wait()
        status = self.statuses.get(name, 200)
        return web.json_response({"id": f"of-{name}"}, status=status, headers=self.headers)


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    services = Services()
    app = web.Application()
    app.router.add_post("/{name}", services.handle)
    async with TestServer(app) as server:
        services.url = str(server.make_url("")).rstrip("/")
        yield services
        services.let_go.set()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def open_sessions(tmp_path: Path, services: Services, http: aiohttp.ClientSession):
    """Makes the sessions of a process whose agents have these names."""

    def directory(*names: str, routes: str = "", more: str = "", **variables: str):
        file = tmp_path / "agents.toml"
        own = [name for name in names if name in ("a", "b", "c")]
        tables = "".join(TABLE.format(name=name, url=services.url) for name in own)
        file.write_text(tables.replace("[a]", f"[a]{more}"))
        return open_directory(names, str(tmp_path / routes) if routes else "", str(file), variables)

    def make(
        *names: str, session_s: float = 5.0, clock: Callable[[], float] = time.monotonic, **variables: str
    ) -> Sessions:
        health, slots = AgentHealth(Metrics(), clock), Slots(Metrics())
        return Sessions(directory(*names, **variables), Resources(http, session_s), health, slots)

    make.directory = directory
    return make


async def test_first_that_gives_a_session_has_the_call(open_sessions, services):
    sessions = open_sessions("a", "b")
    assert sessions.route(CALL).chain(CALL.call_sid) == ("a", "b")
    assert await sessions.open(CALL, ("a", "b")) == Session(("a", "b"), {"id": "of-a"})
    assert services.asked == ["a"]


async def test_disabled_one_is_passed_over_until_the_file_enables_it(open_sessions, services, logs):
    sessions = open_sessions("a", "b")
    enabled, off = open_sessions.directory("a", "b"), open_sessions.directory("a", "b", more=DISABLED)
    for _ in range(2):
        sessions.replace(off)
    assert await sessions.open(CALL, ("a", "b")) == Session(("b",), {"id": "of-b"})
    with pytest.raises(SessionError, match="a: disabled"):
        await sessions.open(call_number(1), ("a",))
    assert (sessions.agent("a"), sessions.is_known("a")) == (None, True)
    sessions.replace(enabled)
    assert (await sessions.open(call_number(2), ("a", "b"))).agents == ("a", "b")
    said = [line for line in logs.lines if "agent disabled" in line or "agent enabled" in line]
    assert len(said) == 2
    assert "agent disabled, calls pass it over" in said[0]
    assert "agent='a'" in said[0]
    assert "agent enabled, calls try it again" in said[1]


async def test_one_that_refuses_is_followed_by_the_next(open_sessions, services, logs):
    services.statuses["a"] = 500
    opened = await open_sessions("a", "b", "c").open(CALL, ("a", "b", "c"))
    assert opened == Session(("b", "c"), {"id": "of-b"})
    (line,) = [line for line in logs.lines if "agent unavailable, trying next" in line]
    assert "WARNING" in line
    assert "agent='a'" in line
    assert "status 500" in line
    assert CALL.call_sid in line


async def test_one_that_hangs_leaves_time_for_those_after_it(open_sessions, services, logs):
    services.hanging = {"a"}
    opened = await open_sessions("a", "b", session_s=1.0).open(CALL, ("a", "b"))
    assert opened == Session(("b",), {"id": "of-b"})
    (line,) = [line for line in logs.lines if "agent unavailable, trying next" in line]
    (told_s,) = re.findall(r"no session within (0\.[0-9]+) s", line)
    assert 0.4 < float(told_s) <= 0.5


async def test_when_nobody_gives_a_session_each_is_named_with_its_reason(open_sessions, services):
    services.statuses = {"a": 401, "b": 404}
    services.hanging = {"c"}
    with pytest.raises(SessionError) as caught:
        await open_sessions("a", "b", "c", session_s=0.2).open(CALL, ("a", "b", "c"))
    first, second, third = str(caught.value).split("; ")
    assert (first, second) == ("a: status 401", "b: status 404")
    assert third.startswith("c: no session within 0.")


async def test_only_agent_may_take_all_the_time_there_is(open_sessions, services):
    services.hanging = {"a"}
    with pytest.raises(SessionError, match=r"^a: no session within 0\.(2|1[0-9]*) s$"):
        await open_sessions("a", session_s=0.2).open(CALL, ("a",))


async def test_asking_that_is_cancelled_ends_at_once(open_sessions, services):
    services.hanging = {"a"}
    asking = asyncio.ensure_future(open_sessions("a", "b").open(CALL, ("a", "b")))
    await until(lambda: services.asked)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert services.asked == ["a"]


# Agents that fail

MINUTE_OF_CALLS = 120


@pytest.mark.parametrize(("status", "most"), [(401, 3), (500, 4), (503, 4)])
async def test_agent_that_refuses_for_a_minute_is_asked_for_few_calls(open_sessions, services, status, most):
    now = 0.0
    sessions = open_sessions("a", "b", clock=lambda: now)
    services.statuses["a"] = status
    for n in range(MINUTE_OF_CALLS):
        now = n / 2
        assert (await sessions.open(call_number(n), ("a", "b"))).agents == ("b",)
    assert len(services.callers["a"]) == most


async def test_refusal_counts_at_once_although_the_request_is_made_again(open_sessions, services):
    sessions = open_sessions("a", "b")
    services.statuses["a"] = 503
    services.headers = {}
    asking = [asyncio.ensure_future(sessions.open(call_number(n), ("a", "b"))) for n in range(2)]
    await until(lambda: not sessions.health.admits("a", "next"))
    assert not any(task.done() for task in asking)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def test_agents_that_fail_are_the_last_resort(open_sessions, services):
    sessions = open_sessions("a", "b")
    services.statuses = {"a": 401}
    for n in range(2):
        await sessions.open(call_number(n), ("a", "b"))
    services.statuses = {"b": 401}
    services.asked.clear()
    opened = await sessions.open(call_number(2), ("a", "b"))
    assert (opened.agents, opened.credentials) == (("a", "b"), {"id": "of-a"})
    assert services.asked == ["b", "a"]
    # The session shows that the agent works again.
    services.asked.clear()
    await sessions.open(call_number(3), ("a", "b"))
    assert services.asked == ["a"]


async def test_reason_of_a_call_lies_with_the_call(with_values):
    sessions = with_values("a", needed="a")
    for n in range(3):
        with pytest.raises(SessionError, match=r"this call has no value\.customer"):
            await sessions.open(call_number(n), ("a",))
    assert sessions.health.admits("a", "next")


async def test_calls_that_are_over_do_not_count(open_sessions, services):
    services.hanging = {"a"}
    sessions = open_sessions("a")
    for n in range(3):
        asking = asyncio.ensure_future(sessions.open(call_number(n), ("a",)))
        await until(lambda n=n: len(services.asked) == n + 1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert sessions.health.admits("a", "next")


# Another directory


async def test_agent_that_a_reload_removed_is_passed_over(open_sessions, services):
    sessions = open_sessions("a", "b")
    sessions.replace(open_sessions.directory("b"))
    assert sessions.agent("a") is None
    assert await sessions.open(CALL, ("a", "b")) == Session(("b",), {"id": "of-b"})
    with pytest.raises(SessionError, match=r"^a: removed by a reload$"):
        await sessions.open(CALL, ("a",))
    assert services.asked == ["b"]


async def test_calls_go_by_the_directory_that_came_last(open_sessions):
    sessions = open_sessions("a")
    sessions.replace(open_sessions.directory("b", "echo"))
    assert sessions.route(CALL).chain(CALL.call_sid) == ("b", "echo")
    assert sessions.agent("echo").dialogue is None


async def test_directory_that_cannot_be_described_changes_nothing(open_sessions, monkeypatch):
    sessions = open_sessions("a")
    other = open_sessions.directory("b")

    def describe(resources):
        raise FileNotFoundError

    monkeypatch.setattr(other, "describe", describe)
    with pytest.raises(FileNotFoundError):
        sessions.replace(other)
    assert sessions.route(CALL).chain(CALL.call_sid) == ("a",)
    assert sessions.agent("a") is not None


# How a call gets to its agent


async def test_address_is_dialled_where_the_agent_has_one(open_sessions):
    sessions = open_sessions("echo", "retell-sip", "a", retell_api_key="k", retell_agent_id="x")
    assert sessions.hand_over(Session(("retell-sip", "a"), {"call_id": "abc"}), CALL) == SipAddress(
        "sip:abc@sip.retellai.com;transport=tcp"
    )
    assert sessions.hand_over(Session(("a", "retell-sip"), {"id": "abc"}), CALL) is None
    assert sessions.hand_over(Session(("echo",), {}), CALL) is None
    assert sessions.hand_over(Session(("gone",), {}), CALL) is None


async def test_echo_needs_no_service(open_sessions, services):
    assert await open_sessions("echo").open(CALL, ("echo",)) == Session(("echo",), {})
    assert services.asked == []


def test_session_of_a_newer_version_is_read_without_what_it_added():
    fields = {"agents": ["one"], "credentials": {"id": "1"}, "added": 1}
    assert Session.of(fields) == Session(("one",), {"id": "1"}, {})
    with pytest.raises(TypeError):
        Session.of({"agents": ["one"]})


# Values of the call

GREETING = """
[{name}]
url = "wss://h"
binary = true
first = ['{{"customer":"{{value.customer{mark}}}","name":"{{form.CallerName}}"}}']
"""


@pytest.fixture
def with_values(tmp_path, http):
    """Makes sessions whose agents greet with a value, which those named in ``needed`` require."""

    def make(*names: str, needed: str = "") -> Sessions:
        file = tmp_path / "agents.toml"
        file.write_text("".join(GREETING.format(name=name, mark="!" * (name in needed)) for name in names))
        directory = open_directory(names, "", str(file), {})
        return Sessions(directory, Resources(http, 1.0), AgentHealth(Metrics()), Slots(Metrics()))

    return make


def call_with(**values: str) -> CallInfo:
    return replace(
        CALL, values={f"form.{name}": text for name, text in values.items()} | {"value.other": "o"}
    )


async def test_session_keeps_the_values_that_its_agents_name(with_values, logs):
    call = call_with(CallerName="Zoë", From=CALL.from_number)
    opened = await with_values("a", "b").open(call, ("a", "b"))
    assert opened.values == {"form.CallerName": "Zoë"}
    (line,) = [line for line in logs.lines if "values of the call are empty" in line]
    assert "missing=['value.customer']" in line


# As JSON a quote takes two bytes, an umlaut too, and a control character six.
@pytest.mark.parametrize(("letter", "size_bytes"), [("n", 1), ("ö", 2), ('"', 2), ("\x01", 6)])
async def test_values_of_a_call_are_bounded_together_by_their_size_in_a_url(
    with_values, logs, letter, size_bytes
):
    around = len('{"form.CallerName":""}')
    most = letter * ((VALUES_BYTES - around) // size_bytes)
    fits = await with_values("a").open(call_with(CallerName=most), ("a",))
    assert fits.values == {"form.CallerName": most}
    opened = await with_values("a").open(call_with(CallerName=most + letter), ("a",))
    assert opened.values == {}
    lines = [line for line in logs.lines if "values of the call are empty" in line]
    assert "too_long=['form.CallerName']" in lines[-1]


async def test_long_text_of_a_caller_displaces_no_value_of_the_users_webhook(with_values):
    call = call_with(CallerName="n" * (VALUES_BYTES - 40))
    opened = await with_values("a").open(
        replace(call, values={**call.values, "value.customer": 100 * "c"}), ("a",)
    )
    assert opened.values == {"value.customer": 100 * "c"}


async def test_agent_without_a_required_value_is_passed_over(with_values, logs):
    sessions = with_values("a", "b", needed="a")
    assert (await sessions.open(CALL, ("a", "b"))).agents == ("b",)
    (line,) = [line for line in logs.lines if "agent unavailable, trying next" in line]
    assert "this call has no value.customer" in line
    call = replace(CALL, values={"value.customer": "c"})
    assert (await sessions.open(call, ("a", "b"))).agents == ("a", "b")


@pytest.mark.parametrize("chain", [("a", "b"), ("a",)])
async def test_required_value_that_is_too_long_for_the_media_socket_is_refused_in_the_webhook(
    with_values, logs, chain
):
    sessions = with_values("a", "b", needed="a")
    call = replace(CALL, values={"value.customer": "c" * VALUES_BYTES})
    if "b" in chain:
        assert (await sessions.open(call, chain)).agents == ("b",)
    else:
        with pytest.raises(SessionError):
            await sessions.open(call, chain)
    (line,) = [line for line in logs.lines if "agent unavailable" in line]
    assert (
        "value.customer: too long, the values of a call have at most 2000 bytes together: shorten the text"
        in line
    )


# Routes


ROUTES = """
[[route]]
name = "night"
hours = "Mon-Sun 22:00-06:00"
time_zone = "UTC"
agents = ["b"]

[[route]]
to = "+14155550100"
agents = ["a", "b"]
"""


def test_call_without_a_route_gets_the_one_that_fits_now_and_keeps_it(open_sessions, tmp_path, monkeypatch):
    (tmp_path / "routes.toml").write_text(ROUTES)
    sessions = open_sessions("a", "b", routes="routes.toml")

    class Evening(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 27, 22, 0, tzinfo=tz)

    assert sessions.route(replace(CALL, route="night")).name == "night"
    monkeypatch.setattr("bridge.agents.sessions.datetime", Evening)
    assert sessions.route(CALL).name == "night"
    assert sessions.route(replace(CALL, route="route-2")).chain(CALL.call_sid) == ("a", "b")
    assert sessions.route(replace(CALL, route="default")).chain(CALL.call_sid) == ("a", "b")
    assert sessions.route(replace(CALL, route="removed")).name == "night"


async def test_session_names_the_route_of_its_call(open_sessions):
    opened = await open_sessions("a").open(replace(CALL, route="night"), ("a",))
    assert opened.route == "night"
    assert Session.of(asdict(opened)) == opened
