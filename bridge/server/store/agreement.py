"""What processes agree on about a call: who opens its session, who has its media socket, and how it ended."""

from __future__ import annotations

import asyncio
import enum
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from bridge.agents.sessions import Session
from bridge.call.ends import Outcome
from bridge.seal import BadSeal, Seal
from bridge.server.store.answers import KeptAnswers
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.documents import Documents
from bridge.server.store.presence import Presence
from bridge.server.store.store import Store
from bridge.server.store.transcripts import Transcripts
from bridge.server.store.version import StoreTooNewError, enter_version

T = TypeVar("T")

KEPT_S = 24 * 3600.0
# How often a process looks whether another one has opened the session of a call.
POLL_S = 0.1


class Stage(enum.StrEnum):
    """What has become of a call, over all processes."""

    OPENING = "opening"
    ADMITTED = "admitted"
    LIVE = "live"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Record:
    """
    What the store keeps of a call. Every field has a default, because an older version may not have written it.

    Attributes:
        attempt: How often the call was admitted again; a late change of an older attempt is dropped.
        owner: The process that opens the session, waits for the media socket, or has the socket until the end.
        until: The Unix time at which the session that is being opened, or its media socket, is no longer waited for.
        session: The fields of the call's `Session`; empty before and after it.
        answer: The TwiML of a call without a media socket.
        outcome: The value of an `Outcome`; another version may know others.
        is_successor: A new stream of a call that lost its media socket.
    """

    stage: str = Stage.OVER
    attempt: int = 0
    owner: str = ""
    until: float = 0.0
    media_id: str = ""
    session: Mapping[str, Any] = field(default_factory=dict)
    answer: str = ""
    transfer_to: str = ""
    outcome: str = ""
    is_successor: bool = False

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Record:
        """The record of these fields; those that another version added are ignored."""
        return cls(**{f.name: found[f.name] for f in fields(cls) if f.name in found})


# After these a call gets no new stream.
_NOT_READMITTED = frozenset(
    outcome.value for outcome in Outcome if outcome not in (Outcome.CALLER_LOST, Outcome.HANDED_OVER)
)

Rule = Callable[[Record | None], Record | None]


class Agreement:
    """
    Asks the store about calls, by the rules that all processes follow.

    Args:
        seal: Seals the records, each for its own call.
        lease_s: How long a process may take to open a session.
        claim_s: How long an admitted call's media socket may take.
        keeps_texts: Whether transcripts are written.

    Attributes:
        transcripts: What was said in the calls.
        answers: What the answer webhook said about them.
        documents: Of those that are over.
        owner: The name of this process in the store.
        presence: Which other processes are there.
    """

    def __init__(
        self,
        store: Store,
        breaker: Breaker,
        seal: Seal,
        lease_s: float,
        claim_s: float,
        *,
        keeps_texts: bool = True,
    ) -> None:
        self.transcripts = Transcripts(store, breaker, seal, is_on=keeps_texts)
        self.answers = KeptAnswers(store, breaker, seal)
        self.documents = Documents(store, breaker, seal)
        self.owner = secrets.token_hex(8)
        self.presence = Presence(store, breaker, self.owner)
        self._store = store
        self._breaker = breaker
        self._seal = seal
        self._lease_s = lease_s
        self._claim_s = claim_s
        # Changes that nobody awaits; each leaves when it is done.
        self._tasks: set[asyncio.Task[Any]] = set()
        # The change among them by which a call ended.
        self._ends: dict[str, asyncio.Task[bool]] = {}

    async def start(self) -> None:
        """
        Look whether this version can use the store; one that does not answer is used once it does.

        Raises:
            StoreTooNewError: It cannot.
        """

        async def question() -> StoreTooNewError | None:
            try:
                await enter_version(self._store)
            except StoreTooNewError as error:
                return error
            return None

        try:
            problem = await self._breaker.ask(question)
        except StoreUnavailableError:
            return
        if problem is not None:
            raise problem

    async def find(self, call_sid: str) -> Record | None:
        """
        What is known of a call.

        Raises:
            StoreUnavailableError: The store is unavailable.
        """
        record, _ = await self._change(call_sid, lambda _: None)
        return record

    async def is_taken(self, call_sid: str) -> bool:
        """Whether a call that this process has admitted is now another one's; False if the store is unavailable."""
        try:
            record = await self.find(call_sid)
        except StoreUnavailableError:
            return False
        return (
            record is not None
            and record.owner != self.owner
            and record.stage in (Stage.LIVE.value, Stage.OVER.value)
        )

    async def admit(self, call_sid: str, attempt: int) -> Record | None:
        """
        Take the lease to open a call's session; wait while another process has it.

        Returns:
            None if this process opens it: `offer` or `release` must follow. Else what another process made of it.
        """

        def rule(before: Record | None) -> Record | None:
            if before is not None and not self._may_open(before, attempt):
                return None
            return Record(Stage.OPENING, attempt, self.owner, time.time() + self._lease_s)

        while True:
            try:
                record, is_ours = await self._change(call_sid, rule)
            except StoreUnavailableError:
                return None
            if is_ours:
                return None
            if record is not None and record.stage != Stage.OPENING:
                return record
            await asyncio.sleep(POLL_S)

    def _may_open(self, before: Record, attempt: int) -> bool:
        if before.stage == Stage.OPENING:
            # This process asks once at a time: its own lease is one that it gave up.
            return before.owner == self.owner or before.until <= time.time()
        if before.stage == Stage.ADMITTED:
            # Its owner would have ended it.
            return before.until + self._lease_s <= time.time()
        # Only an unavailable agent is followed by another one.
        return before.attempt < attempt and before.outcome in (
            Outcome.DIALLED.value,
            Outcome.AGENT_LOST.value,
        )

    async def offer(self, call_sid: str, attempt: int, media_id: str, session: Session) -> Record | None:
        """
        Enter the session that was opened, so that every process gives the same answer.

        Returns:
            None, or what another process made of the call meanwhile.
        """

        def rule(before: Record | None) -> Record | None:
            if before is not None and (before.stage != Stage.OPENING or before.owner != self.owner):
                return None
            until = time.time() + self._claim_s
            return Record(Stage.ADMITTED, attempt, self.owner, until, media_id, asdict(session))

        try:
            record, is_ours = await self._change(call_sid, rule)
        except StoreUnavailableError:
            return None
        return None if is_ours else record

    async def readmit(self, call_sid: str, attempt: int, media_id: str, session: Session) -> Record | None:
        """
        Enter a new stream of a call that lost its media socket; from now on its former owner has no say.

        Returns:
            None, or what another process made of the call meanwhile.
        """

        def rule(before: Record | None) -> Record | None:
            if before is not None and (before.attempt >= attempt or before.outcome in _NOT_READMITTED):
                return None
            until = time.time() + self._claim_s
            return Record(
                Stage.ADMITTED, attempt, self.owner, until, media_id, asdict(session), is_successor=True
            )

        try:
            record, is_ours = await self._change(call_sid, rule)
        except StoreUnavailableError:
            return None
        return None if is_ours else record

    def release(self, call_sid: str) -> None:
        """Give the lease back, because no session could be opened."""

        def rule(before: Record | None) -> Record | None:
            if before is None or before.stage != Stage.OPENING or before.owner != self.owner:
                return None
            return replace(before, until=0.0)

        self._start(self._try(call_sid, rule))

    def claim(self, call_sid: str, attempt: int, media_id: str, then: Callable[[str | None], None]) -> None:
        """
        Use a token up: its media socket is open.

        ``then`` gets None, or the reason of a refusal, which is a metric label. It is called at once if the store
        is unavailable.
        """
        refusal: str | None = None

        def rule(before: Record | None) -> Record | None:
            nonlocal refusal
            refusal = _refusal(before, attempt, media_id)
            return None if refusal else Record(Stage.LIVE, attempt, self.owner, 0.0, media_id)

        async def work() -> None:
            try:
                await self._change(call_sid, rule)
            except StoreUnavailableError:
                then(None)
            else:
                then(refusal)

        if self._breaker.is_open:
            then(None)
        else:
            self._start(work())

    async def enter_again(self, call_sid: str, attempt: int, media_id: str) -> None:
        """Enter a live call of this process, if the store has lost it or was away when its media socket opened."""

        def rule(before: Record | None) -> Record | None:
            if before is not None:
                is_known = before.attempt == attempt and before.stage in (Stage.LIVE.value, Stage.OVER.value)
                if before.attempt > attempt or is_known:
                    return None
            return Record(Stage.LIVE, attempt, self.owner, 0.0, media_id)

        await self._try(call_sid, rule)

    def end(
        self, call_sid: str, attempt: int, outcome: Outcome, transfer_to: str = "", answer: str = ""
    ) -> None:
        """Enter how a call of this process ended; `after_end` waits for it."""

        def rule(before: Record | None) -> Record | None:
            if before is not None:
                is_elsewhere = before.stage == Stage.LIVE and before.owner != self.owner
                is_late = before.attempt == attempt and before.stage == Stage.OVER
                if before.attempt > attempt or is_elsewhere or is_late:
                    return None
            return Record(
                Stage.OVER,
                attempt,
                self.owner,
                answer=answer,
                transfer_to=transfer_to,
                outcome=outcome.value,
            )

        if self._breaker.is_open:
            return
        task = self._start(self._try(call_sid, rule))
        self._ends[call_sid] = task

        def on_done(done: asyncio.Task[bool]) -> None:
            if self._ends.get(call_sid) is done:
                del self._ends[call_sid]

        task.add_done_callback(on_done)

    def after_end(self, call_sid: str, then: Callable[[bool], None]) -> None:
        """
        Call ``then`` once the end of a call is in the store, or cannot be written within the bound.

        ``then`` gets whether it is there.
        """
        task = self._ends.get(call_sid)
        if task is None:
            then(not self._breaker.is_open)
        else:
            task.add_done_callback(lambda done: then(not done.cancelled() and done.result()))

    async def settled(self) -> None:
        """Wait for the changes that are under way, which are bounded."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Finish the changes that are under way and close the store."""
        await self.presence.stop()
        await self.settled()
        await self.transcripts.settled()
        await self.documents.settled()
        await self._breaker.settled()
        await self._store.close()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name="store")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _try(self, call_sid: str, rule: Rule) -> bool:
        try:
            await self._change(call_sid, rule)
        except StoreUnavailableError:
            # The breaker has logged and counted it.
            return False
        return True

    async def _change(self, call_sid: str, rule: Rule) -> tuple[Record | None, bool]:
        """Change a record by a rule, which returns None to leave it; returns what stands, and whether by this call."""
        key = f"call:{call_sid}"

        async def question() -> tuple[Record | None, bool]:
            while True:
                kept = await self._store.read(key)
                before = self._open(key, kept.text) if kept is not None else None
                after = rule(before)
                if after is None:
                    return before, False
                text = self._seal.seal(key, asdict(after))
                if await self._store.write(key, text, KEPT_S, kept.version if kept is not None else 0):
                    return after, True

        return await self._breaker.ask(question)

    def _open(self, key: str, text: str) -> Record | None:
        try:
            return Record.of(self._seal.open(key, text, None))
        except BadSeal:
            # Sealed with an auth token that is no longer used: nobody can read it any more.
            return None


def _refusal(before: Record | None, attempt: int, media_id: str) -> str | None:
    if before is None or before.attempt < attempt:
        # The store did not answer when the call was admitted.
        return None
    if before.attempt > attempt:
        return "token_replaced"
    if before.stage == Stage.LIVE:
        return "call_live"
    if before.stage == Stage.OVER:
        return "call_over"
    return None if before.media_id == media_id else "token_replaced"
