"""A whole bridge and a stand-in agent service in this process, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import secrets
import ssl
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest import mock

import aiohttp
import pytest
from certificates import Tls

from bridge.call.caller import CallerLeg
from bridge.call.leg import Leg
from bridge.call.limits import Limits
from bridge.call.state import Call, State
from bridge.metrics import Traffic
from bridge.server.agent_chain import SESSIONS_AGAIN
from bridge.server.server import Server
from bridge.settings import Settings, load_settings
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.agent.session import AgentSession
from bridge.standins.twilio.caller import Caller

FACTOR = float(os.environ.get("BRIDGE_TEST_TIMEOUT_FACTOR", "1"))
DEADLINE_S = 5.0 * FACTOR

PUBLIC_URL = "https://voice.example.com"
ACCOUNT_SID = "AC" + 32 * "a"
# Canaries too: none of them may be seen in a log.
AUTH_TOKEN = "canary-auth-token-5f1c"
API_KEY = "canary-api-key-77d0"

# Short, so that tests wait for conditions and not for time; each test overrides what it is about.
DEFAULTS = {
    "PUBLIC_URL": PUBLIC_URL,
    "HOST": "127.0.0.1",
    "PORT": "0",
    "TWILIO_ACCOUNT_SID": ACCOUNT_SID,
    "TWILIO_AUTH_TOKEN": AUTH_TOKEN,
    "BRIDGE_DRAIN_GRACE_S": "0",
    "BRIDGE_RESUME_LINGER_S": "0.3",
}

LIMITS = {"close_s": 0.5, "playout_margin_s": 2.0, "grace_s": 0.2}

# For modules whose tests all start servers: each test runs without TLS, and with TLS on both legs and all requests.
PLAIN_AND_TLS = pytest.mark.parametrize("tls", ["plain", "tls"], indirect=True)
# Likewise, and each once more with the sockets read as they are while many calls are up.
PLAIN_TLS_AND_GATHERED = pytest.mark.parametrize(
    "tls", ["plain", "tls", "gathered", "gathered-tls"], indirect=True
)

OF_AGENT = re.compile(r',?\b(agent|route)="[^"]*"')

T = TypeVar("T")
Factory = Callable[..., Awaitable["Live"]]


def make_settings(overrides: Mapping[str, str]) -> Settings:
    """Settings from these alone, whatever the environment and the working directory hold."""
    with mock.patch.dict(os.environ, {}, clear=True):
        return load_settings(overrides, env_file=os.devnull)


async def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; a failure shows the line of the caller."""
    deadline = asyncio.get_running_loop().time() + deadline_s
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError
        await asyncio.sleep(0.002)


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, DEADLINE_S)


DROPPED = "bridge_frames_dropped_total"


class Resources(NamedTuple):
    """Resources that a call must give back."""

    descriptors: int
    tasks: int
    timers: int

    @classmethod
    def now(cls, *, counts_timers: bool = True) -> Resources:
        # Event loops do not list their timers; this way takes some 20 ms.
        timers = counts_timers and sum(
            type(item).__name__ == "TimerHandle" and not item.cancelled() for item in gc.get_objects()
        )
        return cls(len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks()), timers)

    def is_within(self, bound: Resources) -> bool:
        return all(mine <= theirs for mine, theirs in zip(self, bound, strict=True))


class Live:
    """
    One running server with its stand-in agent service.

    Attributes:
        documents: Of the calls that are over.
        tls: None for a server and an agent without TLS.
        ssl: How aiohttp's clients check the server's certificate.
    """

    def __init__(self, server: Server, agent: AgentService, tls: Tls | None) -> None:
        self.server = server
        self.agent = agent
        self.documents: list[dict[str, Any]] = []
        server._live.on_ended.append(self.documents.append)
        self.tls = tls
        self.ssl: ssl.SSLContext | bool = tls.client if tls else True
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"

    def caller(self, **options: Any) -> Caller:
        """A caller whose Twilio knows this server; use as an async context manager."""
        options = {
            "public_url": PUBLIC_URL,
            "account_sid": ACCOUNT_SID,
            "auth_token": AUTH_TOKEN,
            "ssl": self.ssl,
            **options,
        }
        return Caller(self.url, **options)

    @contextlib.asynccontextmanager
    async def answered(self, **options: Any) -> AsyncIterator[Caller]:
        """A call with its TwiML, before its stream opens."""
        async with self.caller(**options) as caller:
            answer = await caller.post_voice()
            assert answer.problems == []
            assert answer.verbs == ["Connect", "Redirect"]
            yield caller

    @contextlib.asynccontextmanager
    async def bridged(self, **options: Any) -> AsyncIterator[tuple[Caller, AgentSession]]:
        """A call with both sides open."""
        async with self.answered(**options) as caller:
            await caller.open_stream()
            yield caller, await self.session_of(caller)

    async def session_of(self, caller: Caller) -> AgentSession:
        """Return the agent's end of a call once both ends are open; the next new one if the agent knows no CallSid."""
        sessions = [
            session
            for session in self.agent.sessions.values()
            if (session.request or {}).get("metadata", {}).get("callSid") == caller.call_sid
        ]
        session = sessions[0] if sessions else await self.agent.next_session(DEADLINE_S)
        await soon(session.opened.wait())
        await until(
            lambda: (
                not any(
                    call.call_sid == caller.call_sid and call.state is State.CONNECTING
                    for call in self.open_calls
                )
            )
        )
        return session

    # State of the server

    @property
    def open_calls(self) -> tuple[Call, ...]:
        return self.server.snapshot().open_calls

    @property
    def caller_legs(self) -> tuple[CallerLeg, ...]:
        return self.server.snapshot().caller_legs

    @property
    def agent_legs(self) -> tuple[Leg, ...]:
        return self.server.snapshot().agent_legs

    @property
    def legs(self) -> tuple[Leg, ...]:
        return (*self.caller_legs, *self.agent_legs)

    @property
    def live_calls(self) -> int:
        return self.server.snapshot().live

    @property
    def admitted(self) -> int:
        return self.server.snapshot().admitted

    @property
    def has_other(self) -> bool:
        return self.server._agreement.presence.has_other()

    async def beat(self) -> None:
        """Write a heartbeat at once; the others read it with their next one."""
        await self.server._agreement.presence.renew()

    @property
    def held_bytes(self) -> int:
        return self.server.snapshot().held_bytes

    @property
    def traffic(self) -> Traffic:
        return self.server.snapshot().traffic

    @property
    def agents_replaced(self) -> float:
        """How many agents gave way to the next one."""
        [family] = self.server.metrics.agents_replaced.collect()
        return sum(sample.value for sample in family.samples)

    def refuse_sessions(self) -> None:
        """Refuse further sessions at Retell, so that no agent takes over from a lost one."""
        self.agent.rest_answers.extend(SESSIONS_AGAIN * [HttpAnswer(status=403)])

    @property
    def is_idle(self) -> bool:
        """No socket, no call and no place taken."""
        return not (self.legs or self.open_calls or self.live_calls)

    # HTTP

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers=headers, ssl=self.ssl) as response,
        ):
            return response.status, await response.text()

    async def metrics(self) -> dict[str, float]:
        """
        Every sample of ``/metrics`` by its name and labels, as written there; 0 for a missing one.

        Where they are counted by agent and route, their sum is there too, without these labels.
        """
        status, text = await self.get("/metrics")
        assert status == 200
        found: defaultdict[str, float] = defaultdict(float)
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] += float(value)
                if (whole := OF_AGENT.sub("", name).replace("{,", "{").replace("{}", "")) != name:
                    found[whole.replace(",}", "}")] += float(value)
        return found

    async def dropped(self, direction: str) -> float:
        """The frames dropped on their way ``to_agent`` or ``to_caller``, for every reason."""
        label = f'direction="{direction}"'
        counts = [
            count
            for name, count in (await self.metrics()).items()
            if name.startswith(DROPPED) and label in name
        ]
        assert counts, f"no {DROPPED} has {label}"
        return sum(counts)

    async def ignored(self, side: str, reason: str) -> float:
        return (await self.metrics())[f'bridge_messages_ignored_total{{reason="{reason}",side="{side}"}}']

    async def until_ignored(self, side: str, reason: str, count: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.ignored(side, reason) < count:
                pass


@contextlib.asynccontextmanager
async def serving(
    *,
    agent: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    tls: Tls | None = None,
    **overrides: Any,
) -> AsyncIterator[Live]:
    """
    A server with its agent service; at the end, no resource of either is left.

    Args:
        agent: Arguments of the `AgentService`; by default its agent is silent.
        limits: Fields of `Limits`.
        tls: Puts TLS on the server's port, the agent's API and its socket.
        overrides: Settings by variable name.
    """
    options = {
        "behaviour": silent,
        "account": Account(key=API_KEY),
        "ssl": tls and tls.server(),
        **(agent or {}),
    }
    async with contextlib.AsyncExitStack() as stack:
        service = await stack.enter_async_context(AgentService(**options))
        before = Resources.now(counts_timers=False)._replace(timers=sys.maxsize)
        files = tls.write() if tls else {}
        state_dir = stack.enter_context(tempfile.TemporaryDirectory())
        texts = {name: str(value) for name, value in {**files, **overrides}.items()}
        server = Server(
            make_settings({**service.environment(), **DEFAULTS, "BRIDGE_STATE_DIR": state_dir, **texts}),
            Limits(**{**LIMITS, **(limits or {})}),
        )
        with mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(tls.trusted)} if tls else {}):
            await server.start()
        live = Live(server, service, tls)
        try:
            yield live
        finally:
            await server.stop()
        assert live.is_idle, f"left: {live.legs}, {live.open_calls}, {live.live_calls} live calls"
        violations = [service.violations, *(session.violations for session in service.sessions.values())]
        assert not any(violations), f"the bridge's errors, as the agent's side sees them: {violations}"
        await until_within(before)


@contextlib.asynccontextmanager
async def beside(
    live: Live, url: str, *, limits: Mapping[str, Any] | None = None, **overrides: Any
) -> AsyncIterator[Live]:
    """Another server over the same store, with the same agent."""
    texts = {name: str(value) for name, value in overrides.items()}
    files = {"BRIDGE_STORE": url, "BRIDGE_STATE_DIR": str(live.server._settings.state_dir)}
    settings = make_settings({**live.agent.environment(), **DEFAULTS, **files, **texts})
    server = Server(settings, Limits(**{**LIMITS, **(limits or {})}))
    await server.start()
    try:
        yield Live(server, live.agent, None)
    finally:
        await server.stop()


async def until_within(bound: Resources, deadline_s: float = DEADLINE_S) -> None:
    """Wait until no more resources are held than ``bound``."""
    counts_timers = bound.timers < sys.maxsize
    try:
        await until(lambda: Resources.now(counts_timers=counts_timers).is_within(bound), deadline_s)
    except TimeoutError:
        raise AssertionError(f"held: {Resources.now()}, and before it was {bound}") from None


def random_call_sid() -> str:
    return "CA" + secrets.token_hex(16)
