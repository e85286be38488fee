"""What must be answered whatever strangers do: signed webhooks, upgrades of media sockets, health checks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from benchmarks.calls import CALLED, CALLERS, Account
from bridge.standins.twilio.twiml import TwimlAnswer
from bridge.standins.twilio.webhook import Endpoint, post_form, sign, voice_form

# Twilio waits no longer for a webhook.
ANSWER_S = 15.0
# Each is sent once: what Twilio would send again counts as missing.
ONCE = "#rc=0"


class _Missing(Exception):
    """The answer is not what it must be."""


@dataclass(kw_only=True)
class Asked:
    """The requests of one kind: the times of those that were answered, and what was wrong with the others."""

    times_ms: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.times_ms) + len(self.problems)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Time one request, from the connection to the answer; a failure counts and is raised as `_Missing`."""
        before = time.perf_counter()
        try:
            yield
        except (_Missing, aiohttp.ClientError, OSError, TimeoutError) as error:
            self.problems.append(str(error) or type(error).__name__)
            raise _Missing from error
        self.times_ms.append((time.perf_counter() - before) * 1000)


class Probes:
    """
    Asks for answers, each on a connection of its own.

    Attributes:
        webhooks: New calls, and the status callbacks that end them.
        upgrades: The media sockets of these calls, which close without a word.
        checks: Of a load balancer.
    """

    def __init__(self, url: str, account: Account, session: aiohttp.ClientSession) -> None:
        self.webhooks, self.upgrades, self.checks = Asked(), Asked(), Asked()
        self._url = url
        self._account = account
        self._session = session
        self._endpoint = Endpoint(url)
        self._run = secrets.token_hex(12)
        self._asking: set[asyncio.Task[None]] = set()

    async def keep_asking(self, rate_per_s: float) -> None:
        """Begin a call and ask for a health check at this rate, whatever the answers; runs until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in itertools.count():
            for asking in (self._call(number), self._check()):
                task = asyncio.create_task(asking)
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            due += 1 / rate_per_s
            await asyncio.sleep(due - loop.time())

    async def settled(self) -> None:
        """Wait for the last answers."""
        await asyncio.gather(*self._asking)

    async def _call(self, number: int) -> None:
        form = voice_form(
            account_sid=self._account.sid,
            call_sid=f"CA{self._run}{number:08x}",
            caller=CALLERS[0],
            called=CALLED,
        )
        with contextlib.suppress(_Missing):
            with self.webhooks.one():
                answer = await self._post("/voice", form)
                if answer.problems or answer.stream_url is None:
                    raise _Missing(answer.describe())
            with self.upgrades.one():
                socket = await self._upgrade(answer.stream_url)
            await socket.close()
            with self.webhooks.one():
                answer = await self._post("/voice/status", {**form, "CallStatus": "completed"})
                if answer.status != 204:
                    raise _Missing(f"HTTP status {answer.status}")

    async def _post(self, path: str, form: dict[str, str]) -> TwimlAnswer:
        return await post_form(
            self._session,
            self._endpoint,
            self._url + path + ONCE,
            form,
            auth_token=self._account.auth_token,
            timeout_s=ANSWER_S,
        )

    async def _upgrade(self, url: str) -> aiohttp.ClientWebSocketResponse[bool]:
        async with asyncio.timeout(ANSWER_S):
            return await self._session.ws_connect(
                self._endpoint.dialled(url),
                headers={"X-Twilio-Signature": sign(self._account.auth_token, url)},
            )

    async def _check(self) -> None:
        with contextlib.suppress(_Missing), self.checks.one():
            async with asyncio.timeout(ANSWER_S), self._session.get(f"{self._url}/readyz") as response:
                if response.status != 200:
                    raise _Missing(f"HTTP status {response.status}")


@asynccontextmanager
async def probing(url: str, account: Account, tls: ssl.SSLContext | None) -> AsyncIterator[Probes]:
    """
    Yields probes of a bridge.

    Args:
        tls: For an https URL: a context that trusts the bridge's certificate.
    """
    connector = aiohttp.TCPConnector(ssl=tls or True, limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Probes(url, account, session)
