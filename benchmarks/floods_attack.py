"""
A process whose calls flood a bridge: it plays their agent and their caller, and one of the two sends without end.

    python -m benchmarks.floods_attack < PLAN

The first line of stdin is the plan as JSON; the process answers with a line that has the agent's port. A second line
names the bridge. From then on one call follows the other until stdin closes, at most for `DEADLINE_S`; a last line of
JSON says what the bridge has read. The process is nice, so that the load on the same cores goes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

from benchmarks.calls import Account, Webhooks
from benchmarks.floods_messages import CALLERS_MESSAGES, OF_AGENT, OF_CALLER, TEXT, chunk_of_caller, frame
from benchmarks.floods_sockets import Socket, accept, upgrade
from benchmarks.generator.driver import Caller
from bridge.standins.twilio.messages import ToServer

DEADLINE_S = 600.0
# The number that the flooded calls come from, and no others.
CALLER = "+15010550199"
FRAME_S = 0.02
FRAME = b"\xff" * 160
# Between two tries of a call that the bridge refuses.
REFUSED_S = 0.1
# A handshake that takes longer has failed.
ANSWER_S = 5.0
LAST_WORD_S = 1.0
NICE = 10


@dataclass(frozen=True, kw_only=True)
class Attack:
    """
    What a call floods the bridge with.

    Attributes:
        kind: One of `OF_AGENT`, `OF_CALLER` or `NO_FLOOD` of `benchmarks.floods_messages`.
        rate_per_s: Messages; 0: as many as the socket takes.
        tls_pem: A file with the agent's certificate and key; empty for an agent without TLS.
    """

    kind: str
    rate_per_s: float = 0.0
    tls_pem: str = ""

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True, kw_only=True)
class Aim:
    """The bridge to call."""

    url: str
    account_sid: str
    auth_token: str

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Flooder:
    """
    The calls of an attack, one at a time, and their agent.

    Attributes:
        counts: ``calls``; ``refused``, calls that the bridge did not take; ``read``, messages by the bridge's pongs;
            ``closed CODE`` and ``reset``, sockets of either side that the bridge closed.
    """

    def __init__(self, attack: Attack) -> None:
        self.counts: Counter[str] = Counter()
        self._attack = attack
        # The present call, and whether a socket of its agent is closed.
        self._call_sid = ""
        self._agent_closed = asyncio.Event()
        self._is_over = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    def serve_agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play the agent on a new socket until it closes; its path is the CallSid."""
        task = asyncio.create_task(self._serve_agent(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve_agent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                path = await accept(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.close()
            return
        socket = Socket(reader, writer, self.counts)
        try:
            if flood := OF_AGENT.get(self._attack.kind):
                await socket.flood(flood.chunk(), flood.messages, self._attack.rate_per_s)
            await socket.closed.wait()
        finally:
            if path == f"/{self._call_sid}":
                self._agent_closed.set()
            socket.abort()

    async def keep_calling(self, aim: Aim) -> None:
        """Make one call after the other until `hang_up`; each goes on until the bridge closes one of its sockets."""
        account = Account(sid=aim.account_sid, auth_token=aim.auth_token)
        while not self._is_over.is_set():
            webhooks = Webhooks(url=aim.url, public_url=aim.url, account=account, callers=[CALLER])
            placed: list[Caller] = []
            await webhooks.place_calls(1, 0.0, placed.append)
            try:
                async with asyncio.timeout(ANSWER_S):
                    reader, writer = await upgrade(placed[0])
            except (IndexError, OSError, TimeoutError, asyncio.IncompleteReadError):
                self.counts["refused"] += 1
                await asyncio.sleep(REFUSED_S)
                continue
            self.counts["calls"] += 1
            await self._call(placed[0], Socket(reader, writer, self.counts))

    def hang_up(self) -> None:
        """End the present call and begin no other; `keep_calling` returns then."""
        self._is_over.set()

    async def close(self) -> None:
        """Abort what is left of the agent's sockets."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _call(self, caller: Caller, socket: Socket) -> None:
        self._call_sid = caller.call_sid
        self._agent_closed.clear()
        stream = ToServer(
            account_sid=caller.account_sid, call_sid=caller.call_sid, stream_sid=caller.stream_sid
        )
        for text in (stream.connected(), stream.start(caller.parameters)):
            await socket.send(frame(TEXT, text.encode(), is_masked=True))
        if self._attack.kind == OF_CALLER:
            flooding = socket.flood(chunk_of_caller(stream), CALLERS_MESSAGES, self._attack.rate_per_s)
            sending = asyncio.create_task(flooding)
        else:
            sending = asyncio.create_task(self._speak(stream, socket))
        ends = [
            asyncio.create_task(event.wait()) for event in (self._agent_closed, socket.closed, self._is_over)
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, *ends):
                task.cancel()
            await asyncio.gather(sending, *ends, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_S):
                    await socket.send(frame(TEXT, stream.stop().encode(), is_masked=True))
                    await socket.closed.wait()
            socket.abort()

    async def _speak(self, stream: ToServer, socket: Socket) -> None:
        started = time.monotonic()
        number = 0
        while not socket.closed.is_set():
            await socket.send(frame(TEXT, stream.media(FRAME, 20 * number).encode(), is_masked=True))
            number += 1
            await asyncio.sleep(max(0.0, started + number * FRAME_S - time.monotonic()))


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def attack() -> None:
    """Do what stdin says."""
    stdin = await _stdin()
    plan = Attack(**json.loads(await stdin.readline()))
    flooder, tls = Flooder(plan), None
    if plan.tls_pem:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(plan.tls_pem)
    server = await asyncio.start_server(flooder.serve_agent, "127.0.0.1", 0, ssl=tls)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    if line := await stdin.readline():
        began = time.monotonic()
        calling = asyncio.create_task(flooder.keep_calling(Aim(**json.loads(line))))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_S):
                await stdin.read()
        result = {"seconds": time.monotonic() - began, "counts": dict(flooder.counts)}
        # Not cancelled: the bridge would wait for a call that it has taken and whose socket does not open.
        flooder.hang_up()
        await calling
        print(json.dumps(result), flush=True)
    server.close()
    await flooder.close()


if __name__ == "__main__":
    os.nice(NICE)
    asyncio.run(attack())
