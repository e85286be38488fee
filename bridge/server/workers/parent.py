"""
The parent of the workers: keeps the port, starts, restarts and replaces them, and knows what all of them know.

It handles no call and no request. Workers are fresh interpreters, so that a replacement runs the code and reads the
files of its time. The parent stays as old as it is: what it says to workers, and they to it, is only ever added to, and
each side ignores what it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from bridge.server.workers.channel import Channel, pair
from bridge.server.workers.figures import Family, counted, merged

log = structlog.get_logger()

# Interpreter, imports, self-tests, and the store's answer.
READY_S = 30.0
# A worker that ends is started again after this, doubled each time until one has lived for STEADY_S.
FIRST_RESTART_S = 0.2
LAST_RESTART_S = 30.0
STEADY_S = 60.0
# How long the workers have for the answer that one of them asks for; it waits a little longer.
FIGURES_S = 0.25
# How many more calls than the least loaded worker one may have and still accept: as many as come between two reports.
SLACK_CALLS = 2
SLACK_SHARE = 0.05
# What a worker finds in its environment.
CHANNEL = "VOICE_BRIDGE_CHANNEL"
LISTEN = "VOICE_BRIDGE_LISTEN"
ADDRESS = "VOICE_BRIDGE_ADDRESS"


@dataclass(eq=False, slots=True)
class Worker:
    """
    One worker process.

    ``calls`` and ``room`` are what it reported last; ``families`` its metrics, ``owner`` its name in the store.
    """

    process: asyncio.subprocess.Process
    started_at: float
    channel: Channel | None = None
    is_ready: bool = False
    is_retired: bool = False
    # What the parent last sent it: whether it accepts, and the room of the others.
    said: tuple[bool, int] | None = None
    owner: str = ""
    calls: int = 0
    room: int = 0
    is_draining: bool = False
    families: list[Family] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Asking:
    """
    A question to all workers: who asked, under which number, and who has not answered.

    ``answers`` are those so far; None where the workers' figures are the answer.
    """

    asker: Worker
    number: int
    missing: set[Worker]
    timer: asyncio.TimerHandle
    answers: list[Any] | None


class StartError(Exception):
    """Workers did not become ready; ``exit_code`` is that of the first one that ended, or 1."""

    def __init__(self, exit_code: int, reason: str) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Parent:
    """
    Runs workers until a signal ends them.

    Args:
        command: Starts one worker.
        environment: Its variables, to which its descriptors are added.
        sockets: Bound and listening; the workers accept on them.
        address: As the settings have it; a worker whose settings differ says so.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        sockets: Sequence[socket.socket],
        workers: int,
        address: str,
    ) -> None:
        self._command = command
        self._environment = {**environment, ADDRESS: address}
        self._sockets = sockets
        self._wanted = workers
        # The present ones and retired ones that still have calls.
        self._workers: set[Worker] = set()
        # Tasks that watch them, restart them and replace them.
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._restart_s = FIRST_RESTART_S
        # The counters of workers that are gone.
        self._past: list[Family] = []
        self._asking: dict[str, _Asking] = {}
        self._changed = asyncio.Event()

    async def run(self) -> int:
        """Start the workers and wait until a signal has ended them; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        loop.add_signal_handler(signal.SIGUSR2, self._replace)
        exit_code = 0
        try:
            await self._start(self._wanted)
            log.info("serving", workers=self._wanted, port=self._sockets[0].getsockname()[1])
            self._balance()
        except StartError as error:
            if not self._is_stopping:
                exit_code = error.exit_code
                log.error("cannot start", error=str(error))
            self._stop()
        while self._workers or not self._is_stopping:
            self._changed.clear()
            await self._changed.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return exit_code

    # Starting

    async def _start(self, count: int) -> list[Worker]:
        """
        Start workers and wait until all of them are ready.

        Raises:
            StartError: One is not; all of them are ended.
        """
        started = [await self._spawn() for _ in range(count)]
        try:
            async with asyncio.timeout(READY_S):
                for worker in started:
                    while not worker.is_ready:
                        if worker.process.returncode is not None:
                            reason = f"a worker ended with exit code {worker.process.returncode} before it was ready"
                            raise StartError(worker.process.returncode or 1, reason)
                        worker.changed.clear()
                        await worker.changed.wait()
        except (StartError, TimeoutError) as error:
            for worker in started:
                worker.is_retired = True
                with contextlib.suppress(ProcessLookupError):
                    worker.process.kill()
            if isinstance(error, StartError):
                raise
            raise StartError(1, f"a worker was not ready within {READY_S:g} s") from None
        return started

    async def _spawn(self) -> Worker:
        ours, theirs = pair()
        descriptors = [sock.fileno() for sock in self._sockets]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                env={
                    **self._environment,
                    CHANNEL: str(theirs.fileno()),
                    LISTEN: ",".join(map(str, descriptors)),
                },
                stdin=subprocess.DEVNULL,
                # Ctrl-C reaches the parent, which passes it on.
                start_new_session=True,
                pass_fds=(theirs.fileno(), *descriptors),
            )
        worker = Worker(process, asyncio.get_running_loop().time())
        worker.channel = Channel(
            ours, lambda message, given: self._on_message(worker, message, given), worker.changed.set
        )
        self._workers.add(worker)
        self._keep(self._watch(worker), "watch worker")
        return worker

    def _keep(self, work: Any, name: str) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self, worker: Worker) -> None:
        """Wait for a worker's end; start another in its place if it was not meant to end."""
        exit_code = await worker.process.wait()
        assert worker.channel is not None
        worker.channel.close()
        self._workers.discard(worker)
        self._past = merged([self._past, counted(worker.families)])
        for asking in list(self._asking.values()):
            self._answered(asking, worker)
        worker.changed.set()
        self._changed.set()
        if worker.is_retired or self._is_stopping or not worker.is_ready:
            return
        lived_s = asyncio.get_running_loop().time() - worker.started_at
        self._restart_s = FIRST_RESTART_S if lived_s >= STEADY_S else self._restart_s
        log.error(
            "worker ended, another is started",
            pid=worker.process.pid,
            exit_code=exit_code,
            calls=worker.calls,
        )
        self._balance()
        self._keep(self._restart(), "restart worker")

    async def _restart(self) -> None:
        while not self._is_stopping:
            await asyncio.sleep(self._restart_s)
            self._restart_s = min(2 * self._restart_s, LAST_RESTART_S)
            try:
                await self._start(1)
            except StartError as error:
                log.error("worker cannot be started, tried again", error=str(error), after_s=self._restart_s)
            else:
                self._balance()
                return

    # Signals

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    def _stop(self) -> None:
        # A second signal ends the workers' drain.
        self._is_stopping = True
        self._pass_on(signal.SIGTERM)
        self._changed.set()

    def _replace(self) -> None:
        if self._is_stopping or (self._replacing is not None and not self._replacing.done()):
            log.warning("workers are not replaced: they are being replaced or stopped already")
            return
        self._replacing = self._keep(self._replace_all(), "replace workers")

    async def _replace_all(self) -> None:
        old = [worker for worker in self._workers if not worker.is_retired]
        log.info("workers are being replaced", workers=self._wanted)
        try:
            await self._start(self._wanted)
        except StartError as error:
            log.error("workers are not replaced, the former ones stay", error=str(error))
            return
        for worker in old:
            worker.is_retired = True
        self._balance()
        for worker in old:
            self._send(worker, {"type": "retire"})
        log.info(
            "workers replaced", workers=self._wanted, calls_of_the_former=sum(worker.calls for worker in old)
        )

    # The workers' messages

    def _on_message(self, worker: Worker, message: dict[str, Any], given: list[int]) -> None:
        try:
            match message:
                case {"type": "ready", "owner": str(owner)}:
                    worker.owner, worker.is_ready = owner, True
                    worker.changed.set()
                case {
                    "type": "load",
                    "calls": int(calls),
                    "room": int(room),
                    "is_draining": bool(is_draining),
                }:
                    worker.calls, worker.room, worker.is_draining = calls, room, is_draining
                    self._balance()
                case {"type": "figures", "families": list(families)}:
                    worker.families = families
                    if (asking := self._asking.get(str(message.get("question")))) is not None:
                        self._answered(asking, worker)
                case {"type": "ask", "what": "figures", "number": int(number)}:
                    self._ask(worker, number, {"type": "figures?"}, None)
                case {"type": "ask", "what": "answers", "number": int(number), "about": dict(about)}:
                    self._ask(worker, number, {"type": "question", "about": about}, [])
                case {"type": "answer", "question": str(question), "answer": answer}:
                    asking = self._asking.get(question)
                    if asking is not None and asking.answers is not None:
                        asking.answers.append(answer)
                        self._answered(asking, worker)
                case {"type": "ask", "what": "ready", "number": int(number)}:
                    self._send(worker, {"type": "ready", "number": number, "is_ready": self._is_any_ready()})
                case {"type": "announce", "number": int(number), "media_id": str(), "owner": str(owner)}:
                    # One of another host is for the balancer to find.
                    if any(other.owner == owner for other in self._workers):
                        for other in self._workers:
                            self._send(other, {**message, "type": "owner"})
                    self._send(worker, {"type": "announced", "number": number})
                case {"type": "connection", "owner": str(owner), "data": str()}:
                    found = next((other for other in self._workers if other.owner == owner), None)
                    # A worker that is gone cannot serve it: the one that has it does.
                    if found is None or not self._send(found, message, given):
                        self._send(worker, message, given)
        finally:
            for descriptor in given:
                os.close(descriptor)

    @staticmethod
    def _send(worker: Worker, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> bool:
        return worker.channel is not None and worker.channel.send(message, descriptors)

    def _balance(self) -> None:
        """Tell each worker whether it may accept, so that calls spread and none is full while another has room."""
        present = [worker for worker in self._workers if worker.is_ready and not worker.is_retired]
        able = [worker for worker in present if not worker.is_draining] or present
        with_room = [worker for worker in able if worker.room > 0] or able
        least = min((worker.calls for worker in with_room), default=0)
        most = least + max(SLACK_CALLS, SLACK_SHARE * least)
        for worker in present:
            accepts = worker in with_room and worker.calls <= most
            elsewhere = sum(other.room for other in able if other is not worker)
            if (accepts, elsewhere) != worker.said:
                worker.said = accepts, elsewhere
                self._send(worker, {"type": "accept", "is_on": accepts, "room_elsewhere": elsewhere})

    def _is_any_ready(self) -> bool:
        return any(w.is_ready and not (w.is_draining or w.is_retired) for w in self._workers)

    # Questions to all

    def _ask(self, asker: Worker, number: int, message: Mapping[str, Any], answers: list[Any] | None) -> None:
        question = secrets.token_hex(8)
        timer = asyncio.get_running_loop().call_later(FIGURES_S, self._answer, question)
        asked = {worker for worker in self._workers if worker.is_ready}
        asking = self._asking[question] = _Asking(asker, number, asked, timer, answers)
        for worker in list(asked):
            if not self._send(worker, {**message, "question": question}):
                self._answered(asking, worker)

    def _answered(self, asking: _Asking, worker: Worker) -> None:
        asking.missing.discard(worker)
        if not asking.missing:
            self._answer(next(question for question, other in self._asking.items() if other is asking))

    def _answer(self, question: str) -> None:
        asking = self._asking.pop(question, None)
        if asking is None:
            return
        asking.timer.cancel()
        if asking.answers is None:
            families = merged([*(worker.families for worker in self._workers), self._past])
            answer: dict[str, Any] = {"type": "figures", "families": families}
        else:
            answer = {"type": "answers", "answers": asking.answers, "is_whole": not asking.missing}
        self._send(asking.asker, {**answer, "number": asking.number})
