"""A worker's side: what it tells its parent, and what it asks of the others through it."""

from __future__ import annotations

import asyncio
import os
import socket
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.http.front import Front
from bridge.metrics import Metrics
from bridge.server.store.presence import Calls
from bridge.server.workers.channel import Channel
from bridge.server.workers.figures import Family
from bridge.server.workers.parent import ADDRESS, CHANNEL, LISTEN

log = structlog.get_logger()

# How long a request may wait for the others; it is answered with this worker's own figures then.
ANSWER_S = 0.3
# How often changes of the load are looked for, and how often figures are sent without a question: those of a worker
# that dies later are lost.
LOAD_EVERY_S = 0.1
FIGURES_EVERY_S = 5.0
# An announced media socket comes within the time of its token, or never.
ANNOUNCED_S = 60.0
MOST_ANNOUNCED = 10_000


@dataclass(frozen=True, slots=True)
class Inherited:
    """What a process was given by the one that started it."""

    sockets: list[socket.socket]
    channel: socket.socket | None
    address: str


def inherited(environment: Mapping[str, str]) -> Inherited:
    """
    The sockets that the parent, or systemd by ``LISTEN_FDS``, has handed to this process.

    Source of the latter: sd_listen_fds(3).
    """
    if CHANNEL in environment:
        numbers = [int(number) for number in environment[LISTEN].split(",")]
        channel = socket.socket(fileno=int(environment[CHANNEL]))
        return Inherited([socket.socket(fileno=number) for number in numbers], channel, environment[ADDRESS])
    if environment.get("LISTEN_PID") == str(os.getpid()):
        numbers = [*range(3, 3 + int(environment.get("LISTEN_FDS", "0")))]
        return Inherited([socket.socket(fileno=number) for number in numbers], None, "")
    return Inherited([], None, "")


class Siblings:
    """
    The other workers, as one of them sees them.

    Args:
        channel: To the parent.
        owner: This worker's name in the store.
        retire: Called once when other workers have taken its place, or the parent is gone.

    Attributes:
        answer: Answers what a worker asks all of them, in values that JSON has.
    """

    def __init__(
        self,
        channel: socket.socket,
        owner: str,
        calls: Calls,
        metrics: Metrics,
        retire: Callable[[], None],
    ) -> None:
        self.owner = owner
        self._calls = calls
        # Set by `start`, before which the parent asks nothing of it.
        self._front: Front | None = None
        self._metrics = metrics
        self._retire = retire
        self._loop = asyncio.get_running_loop()
        # Set when other workers have taken its place.
        self.is_replaced = False
        # As the parent said last.
        self._room_elsewhere = 0
        self._number = 0
        self.answer: Callable[[Mapping[str, Any]], Awaitable[Any]] | None = None
        # Its answers that are being made.
        self._answering: set[asyncio.Task[None]] = set()
        # Questions to the parent that are under way, by number.
        self._answers: dict[int, asyncio.Future[Any]] = {}
        # Media IDs that belong to other workers, the oldest first, and until when.
        self._owners: OrderedDict[str, tuple[str, float]] = OrderedDict()
        # The report that the parent has.
        self._reported: dict[str, Any] = {}
        self._figures_due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._channel = Channel(channel, self._on_message, self._on_end)

    def start(self, front: Front) -> None:
        """
        Tell the parent that this worker is ready.

        Args:
            front: Accepts as the parent says, and adopts connections of others.
        """
        self._front = front
        self._channel.send({"type": "ready", "owner": self.owner, "pid": os.getpid()})
        self._report()

    def stop(self) -> None:
        """Send the last figures; the others are no longer asked."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._answering:
            task.cancel()
        self._send_figures(None)
        self._channel.close()

    async def all_families(self) -> list[Family] | None:
        """The metrics of all workers as those of one process; None if the parent does not answer in time."""
        found = await self._ask({"type": "ask", "what": "figures"})
        return found["families"] if found is not None else None

    async def all_answers(self, about: Mapping[str, Any]) -> tuple[list[Any], bool] | None:
        """
        What each worker of this host, this one too, answers, and whether all of them do in time.

        Returns:
            None if the parent does not answer in time, or is of a version that asks nobody.
        """
        found = await self._ask({"type": "ask", "what": "answers", "about": about})
        return (found["answers"], found["is_whole"]) if found is not None else None

    async def is_any_ready(self) -> bool:
        """Whether any worker takes calls; False if the parent does not answer in time."""
        found = await self._ask({"type": "ask", "what": "ready"})
        return found is not None and found["is_ready"]

    async def announce(self, media_id: str, owner: str) -> None:
        """Let all workers know that a media socket belongs to one of them; at most `ANSWER_S`."""
        await self._ask({"type": "announce", "media_id": media_id, "owner": owner})

    def room_elsewhere(self) -> int:
        """How many further calls the other workers may take, as of a moment ago; below 0 beyond their limits."""
        return self._room_elsewhere

    def owner_of(self, media_id: str) -> str | None:
        """The other worker that a media socket belongs to; None: this one serves it."""
        owner, until = self._owners.get(media_id, ("", 0.0))
        return owner if owner not in ("", self.owner) and self._loop.time() < until else None

    def give(self, media_id: str, sock: socket.socket, data: bytes) -> bool:
        """
        Send a connection to the worker that it belongs to, with the bytes that were read of it.

        It comes back, to be served here, if that worker is gone.

        Returns:
            False if it cannot be sent.
        """
        owner, _ = self._owners[media_id]
        text = b64encode(data).decode()
        message = {"type": "connection", "owner": owner, "media_id": media_id, "data": text}
        return self._channel.send(message, [sock.fileno()])

    async def _ask(self, message: Mapping[str, Any]) -> Any:
        self._number += 1
        # Further questions are asked while this one waits.
        number = self._number
        answer = self._answers[number] = self._loop.create_future()
        try:
            if not self._channel.send({**message, "number": number}):
                return None
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            log.warning("parent does not answer: this worker speaks for itself alone")
            return None
        finally:
            del self._answers[number]

    def _on_message(self, message: dict[str, Any], given: list[int]) -> None:
        try:
            match message:
                case {"type": "figures" | "answers" | "ready" | "announced", "number": int(number)}:
                    answer = self._answers.get(number)
                    if answer is not None and not answer.done():
                        answer.set_result(message)
                case {"type": "figures?", "question": str(question)}:
                    # The load first: whoever has read the figures finds the others as informed.
                    self._send_load()
                    self._send_figures(question)
                case {"type": "question", "question": str(question), "about": dict(about)}:
                    task = self._loop.create_task(self._send_answer(question, about), name="answer a worker")
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                case {"type": "accept", "is_on": bool(is_on), "room_elsewhere": int(room)} if (
                    self._front is not None
                ):
                    self._room_elsewhere = room
                    self._front.set_accepting(is_on)
                case {"type": "owner", "media_id": str(media_id), "owner": str(owner)}:
                    self._owners[media_id] = owner, self._loop.time() + ANNOUNCED_S
                    while len(self._owners) > MOST_ANNOUNCED:
                        self._owners.popitem(last=False)
                case {"type": "connection", "media_id": str(media_id), "data": str(data)} if given:
                    self._owners.pop(media_id, None)
                    assert self._front is not None
                    self._front.adopt(socket.socket(fileno=given.pop(0)), b64decode(data))
                case {"type": "retire"}:
                    self.is_replaced = True
                    if self._front is not None:
                        # What waits in the queue is for the workers that have taken its place.
                        self._front.set_accepting(False)
                    self._retire()
        finally:
            for descriptor in given:
                os.close(descriptor)

    def _on_end(self) -> None:
        log.error("parent is gone: this worker drains")
        self._retire()

    def _send_figures(self, question: str | None) -> None:
        self._figures_due = self._loop.time() + FIGURES_EVERY_S
        self._channel.send({"type": "figures", "question": question, "families": self._metrics.families()})

    async def _send_answer(self, question: str, about: Mapping[str, Any]) -> None:
        answer = None
        try:
            if self.answer is not None:
                answer = await self.answer(about)
        except Exception:
            log.exception("fault while another worker is answered")
        self._channel.send({"type": "answer", "question": question, "answer": answer})

    def _report(self) -> None:
        self._timer = self._loop.call_later(LOAD_EVERY_S, self._report)
        self._send_load()
        if self._loop.time() >= self._figures_due:
            self._send_figures(None)

    def _send_load(self) -> None:
        calls = self._calls
        report = {
            "type": "load",
            "calls": calls.live + calls.admitted,
            "room": calls.room,
            "is_draining": calls.is_draining,
        }
        if report != self._reported:
            self._reported = report
            self._channel.send(report)
