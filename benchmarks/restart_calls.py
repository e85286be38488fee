"""The calls of a restart: each follows Twilio's redirects until its time is over, and counts its frames."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import aiohttp
from aiohttp import web

from benchmarks.calls import Account
from benchmarks.restart_agent import CALLER, Agents, AgentSession, frame
from bridge.standins.twilio.caller import Caller, Received
from bridge.standins.twilio.twiml import TwimlAnswer

# A call that hears no agent for this long is lost.
HEARD_S = 10.0
# Frames that have not arrived after this are lost.
ARRIVAL_S = 5.0
POLL_S = 0.01
# Beyond what the bridge waits for the caller to have heard the last words.
END_S = 10.0
# Twilio opens the media socket on another connection than that of its webhook.
ONE_REQUEST = {"Connection": "close"}


class End(Enum):
    """What became of a call."""

    AS_PLANNED = "as planned"
    LOST = "lost"
    REFUSED = "refused"
    FALLBACK = "heard the fallback"


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """
    One call.

    Attributes:
        detail: Why it did not end as planned.
        streams: The number of its media sockets.
        pause_s: The longest time between two frames of an agent at the caller.
        frames_lost: Frames that did not arrive, both ways. None if the call had several streams, or did not end as
            planned: what was on its way to a lost socket is lost.
        is_disordered: Whether other frames arrived than were sent, or in another order.
    """

    number: int
    end: End
    detail: str
    streams: int
    pause_s: float
    frames_lost: int | None
    is_disordered: bool


class _Ended(Exception):
    """The call has ended otherwise than planned."""

    def __init__(self, end: End, detail: str) -> None:
        super().__init__(detail)
        self.end = end


class RestartCall:
    """
    One phone call.

    Attributes:
        over: When it is set, the call ends: by its agent if its number is even, else by its caller.
        is_hung_up: Set when the bridge ends the call by Twilio's REST API; Twilio then asks nothing more.
    """

    def __init__(self, number: int, caller: Caller, agents: Agents) -> None:
        self.over = asyncio.Event()
        self.is_hung_up = False
        self.call_sid = caller.call_sid
        self._number = number
        self._caller = caller
        self._agents = agents
        # Set by the first frame of an agent on the present stream.
        self._heard = asyncio.Event()
        self._last_heard = b""
        # Ends the caller's frames.
        self._is_silent = False

    @property
    def is_by_agent(self) -> bool:
        return self._number % 2 == 0

    @property
    def is_up(self) -> bool:
        """Whether the caller hears an agent."""
        return self._heard.is_set() and not self._caller.closed.is_set()

    @property
    def streams(self) -> int:
        return self._caller.streams

    async def run(self) -> CallResult:
        """Make the call."""
        end, detail = End.AS_PLANNED, ""
        self._caller.on_message = self._on_message
        async with self._caller:
            try:
                await self._make()
            except _Ended as ended:
                end, detail = ended.end, str(ended)
        return self._result(end, detail)

    def _on_message(self, item: Received) -> None:
        if item.message.event == "media":
            self._heard.set()
            self._last_heard = item.message.audio

    async def _make(self) -> None:
        answer = await self._ask(self._caller.post_voice(headers=ONE_REQUEST), End.REFUSED)
        while True:
            if answer.stream_url is None:
                raise _Ended(End.LOST if self._caller.streams else End.REFUSED, answer.describe())
            if await self._stream():
                break
            if self.is_hung_up:
                raise _Ended(End.LOST, "hung up by Twilio's REST API")
            answer = await self._ask(self._caller.follow_redirect(), End.LOST)
        if self.is_by_agent and not self.is_hung_up:
            answer = await self._ask(self._caller.follow_redirect(), End.LOST)
            if answer.verbs != ["Hangup"]:
                raise _Ended(End.LOST, f"after the agent's goodbye: {answer.describe()}")

    async def _ask(self, request: Awaitable[TwimlAnswer], if_not: End) -> TwimlAnswer:
        try:
            answer = await request
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Ended(if_not, f"no answer: {error or type(error).__name__}") from error
        if answer.problems:
            raise _Ended(if_not, answer.describe())
        if answer.say is not None:
            raise _Ended(End.FALLBACK, answer.describe())
        return answer

    async def _stream(self) -> bool:
        """Carry the call on one media socket; returns whether it has ended as planned there."""
        caller = self._caller
        self._heard.clear()
        try:
            await caller.open_stream()
        except (aiohttp.ClientError, TimeoutError):
            # Twilio goes on with what follows <Connect>.
            return False
        talking = asyncio.create_task(self._talk())
        try:
            return (
                await self._comes_first(self._heard, HEARD_S, "no agent was heard")
                and await self._comes_first(self.over)
                and await self._end(talking)
            )
        finally:
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)

    async def _comes_first(
        self, event: asyncio.Event, within_s: float | None = None, if_not: str = ""
    ) -> bool:
        """Wait for an event or the end of the media socket; returns whether the socket is still open."""
        waiting = [asyncio.ensure_future(either.wait()) for either in (event, self._caller.closed)]
        try:
            done, _ = await asyncio.wait(waiting, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if not done:
            raise _Ended(End.LOST, f"{if_not} for {within_s:g} s")
        return not self._caller.closed.is_set()

    async def _talk(self) -> None:
        try:
            await self._caller.send_frames(self._frames())
        except ConnectionError:
            # The caller's reader notes the end of the socket.
            return

    def _frames(self) -> Iterator[bytes]:
        while not (self._is_silent or self._caller.closed.is_set()):
            yield frame(self._number, CALLER, len(self._caller.sent))

    async def _end(self, talking: asyncio.Task[None]) -> bool:
        session = self._agents.sessions[self._number][-1]
        self._is_silent = True
        await asyncio.wait([talking])
        await session.fall_silent()
        await self._arrival(session)
        if self._caller.closed.is_set():
            # Not by this call: it goes on with another stream.
            self._is_silent = False
            return False
        if self.is_by_agent:
            await session.end_call()
            await self._comes_first(self._caller.closed, END_S, "the agent's goodbye was without effect")
        else:
            await self._caller.hang_up()
        return True

    async def _arrival(self, session: AgentSession) -> None:
        """Wait until the last frames have arrived, at most `ARRIVAL_S`."""
        caller, loop = self._caller, asyncio.get_running_loop()
        last_sent = caller.sent[-1].audio, session.sent[-1]
        deadline = loop.time() + ARRIVAL_S
        while not caller.closed.is_set() and loop.time() < deadline:
            if session.received and last_sent == (session.received[-1], self._last_heard):
                break
            await asyncio.sleep(POLL_S)

    def _result(self, end: End, detail: str) -> CallResult:
        caller = self._caller
        sessions = self._agents.sessions.pop(self._number, [])
        lost, is_disordered = None, False
        if end is End.AS_PLANNED and caller.streams == 1:
            to_agent = compared([item.audio for item in caller.sent], sessions[0].received)
            to_caller = compared(sessions[0].sent, caller.received_audio)
            lost, is_disordered = to_agent[0] + to_caller[0], to_agent[1] or to_caller[1]
        at = [item.at for item in caller.received if item.message.event == "media"]
        return CallResult(
            number=self._number,
            end=end,
            detail=detail,
            streams=caller.streams,
            pause_s=max((after - before for before, after in itertools.pairwise(at)), default=0.0),
            frames_lost=lost,
            is_disordered=is_disordered,
        )


def compared(sent: Sequence[bytes], received: Sequence[bytes]) -> tuple[int, bool]:
    """Return how many frames did not arrive, and whether the others are not as they were sent."""
    arrived = set(received)
    expected = [audio for audio in sent if audio in arrived]
    return len(sent) - len(expected), list(received) != expected


class RestartCalls:
    """
    Makes calls.

    Attributes:
        results: Of the calls that are over.
    """

    def __init__(self, url: str, account: Account, agents: Agents) -> None:
        self.results: list[CallResult] = []
        self._url = url
        self._account = account
        self._agents = agents
        self._run = secrets.token_hex(12)
        self._count = 0
        self._present: dict[RestartCall, asyncio.Task[None]] = {}

    @property
    def rest(self) -> web.RouteDef:
        """Twilio's REST API, which ends calls."""
        return web.post("/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}.json", self._change)

    async def _change(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("Status") != "completed":
            raise web.HTTPBadRequest
        for call in self._present:
            if call.call_sid == request.match_info["call_sid"]:
                call.is_hung_up = True
        return web.json_response({})

    def begin(self) -> RestartCall:
        """Begin a call."""
        number = self._count
        self._count += 1
        caller = Caller(
            self._url,
            account_sid=self._account.sid,
            call_sid=f"CA{self._run}{number:08x}",
            auth_token=self._account.auth_token,
        )
        call = RestartCall(number, caller, self._agents)
        self._present[call] = asyncio.create_task(self._make(call))
        return call

    async def _make(self, call: RestartCall) -> None:
        self.results.append(await call.run())
        del self._present[call]

    async def keep_coming(self, at_once: int, lasts_s: float) -> None:
        """Begin calls at a constant rate, of which ``at_once`` are present at any time; runs until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            loop.call_later(lasts_s, self.begin().over.set)
            due += lasts_s / at_once
            await asyncio.sleep(due - loop.time())

    @property
    def present(self) -> Sequence[RestartCall]:
        return list(self._present)

    def end_all(self) -> None:
        """Let all present calls end."""
        for call in self._present:
            call.over.set()

    async def settled(self) -> None:
        """Wait until the present calls are over."""
        await asyncio.gather(*self._present.values())

    async def cancel(self) -> None:
        """Drop the present calls without counting them."""
        tasks = list(self._present.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
