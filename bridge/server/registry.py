"""
The CallSids that this process knows, each with its phase: being admitted, admitted, live, or over.

At most one live session per CallSid; a token counts once; the outcome of a finished call is remembered for a day.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from bridge.agents.sessions import Session
from bridge.call.ends import ENDS, Outcome, Why
from bridge.call.state import Call
from bridge.server.store.agreement import Record, Stage

REMEMBERED_S = 24 * 3600
REMEMBERED_CALLS = 100_000


class Phase(enum.Enum):
    ADMITTED = "admitted"
    LIVE = "live"
    OVER = "over"


@dataclass(slots=True)
class Entry:
    """
    One CallSid.

    Attributes:
        until: When an unclaimed admitted call ends, or a finished call is forgotten; seconds, monotonic.
        attempt: How often the call was admitted again, for another agent.
        session: The session with the agents, whole.
        answer: The TwiML of a call that has no media socket.
        transfer_to: The number that the call was transferred to.
        outcome: How a finished call ended.
        call: The state machine of a live call.
        owner: The process that has a call of the store's; empty for one of this process.
        is_successor: A new stream of a call that lost its media socket.
        is_refused: Its media socket came with a wrong ``start``, and another one would too.
    """

    call_sid: str
    media_id: str
    phase: Phase
    until: float
    session: Session
    attempt: int = 0
    answer: str = ""
    transfer_to: str = ""
    outcome: Outcome | None = None
    call: Call | None = None
    owner: str = ""
    is_successor: bool = False
    is_refused: bool = False

    @classmethod
    def of(cls, call_sid: str, record: Record) -> Entry:
        """
        A call that another process knows, for an answer; it is not entered in the registry of this one.

        Raises:
            TypeError: A version of the bridge that this one does not understand admitted the call.
        """
        return cls(
            call_sid,
            record.media_id,
            _PHASES.get(record.stage, Phase.OVER),
            record.until,
            Session.of(record.session) if record.session else Session((), {}),
            record.attempt,
            record.answer,
            record.transfer_to,
            next((outcome for outcome in Outcome if outcome.value == record.outcome), None),
            owner=record.owner,
            is_successor=record.is_successor,
        )


_PHASES = {Stage.ADMITTED.value: Phase.ADMITTED, Stage.LIVE.value: Phase.LIVE}


class AdmittedElsewhereError(Exception):
    """Another process has admitted the call; ``entry`` is what it made of it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.call_sid)
        self.entry = entry


@dataclass(frozen=True, slots=True)
class Admission:
    """A session that was opened for a call; ``answer`` is the TwiML of a call without a media socket."""

    session: Session
    answer: str = ""


@dataclass(slots=True)
class _Admitting:
    task: asyncio.Task[Entry]
    waiting: int = 0
    is_over: bool = False


class Registry:
    """
    The calls of one process.

    Args:
        max_calls: Live plus admitted plus being admitted.
        claim_s: How long an admitted call's media socket may take.
        on_over: Called with the CallSid, attempt, outcome, number and TwiML of each call that has become over.

    Attributes:
        is_draining: Set by `drain`: the process is not ready.
        admits: Cleared by `stop_admitting`: no new calls.
    """

    def __init__(
        self,
        max_calls: int,
        claim_s: float,
        on_over: Callable[[str, int, Outcome, str, str], None] = lambda *end: None,
    ) -> None:
        self._max_calls = max_calls
        self._claim_s = claim_s
        self._on_over = on_over
        self._admitting: dict[str, _Admitting] = {}
        self._admitted: OrderedDict[str, Entry] = OrderedDict()
        self._live: dict[str, Entry] = {}
        self._over: OrderedDict[str, Entry] = OrderedDict()
        self.is_draining = False
        self.admits = True
        # The room of the other processes on the same port; set by `Server` where there are several.
        self.room_elsewhere: Callable[[], int] = lambda: 0

    def drain(self) -> None:
        """Be no longer ready; new calls are taken until `stop_admitting`."""
        self.is_draining = True

    def stop_admitting(self) -> None:
        """Take no new calls; the ones that are admitted or live go on."""
        self.admits = False

    @property
    def live(self) -> int:
        """Calls with a verified media socket."""
        return len(self._live)

    @property
    def admitted(self) -> int:
        """Calls that are answered, or being answered, and whose media socket is due."""
        return len(self._admitted) + len(self._admitting)

    @property
    def room(self) -> int:
        """How many further calls are within the limit; below 0 after claims beyond it."""
        return self._max_calls - self.live - self.admitted

    @property
    def is_full(self) -> bool:
        """Whether a further call would be over the limits of all processes on this port together."""
        return self.room + self.room_elsewhere() <= 0

    def find(self, call_sid: str) -> Entry | None:
        """The entry of a CallSid; None while it is being admitted."""
        return self._live.get(call_sid) or self._admitted.get(call_sid) or self._over.get(call_sid)

    def is_being_admitted(self, call_sid: str) -> bool:
        """Whether a session for this CallSid is being opened."""
        return call_sid in self._admitting

    def live_calls(self) -> list[Entry]:
        """The live ones, as of now."""
        return list(self._live.values())

    async def admit(
        self,
        call_sid: str,
        media_id: str,
        open_session: Callable[[], Awaitable[Admission]],
        clock: Callable[[], float],
        attempt: int = 0,
    ) -> Entry:
        """
        Open one session for a CallSid, however many requests ask for it at once.

        A second request waits for the session of the first; the work is cancelled when the last request is gone. A
        call that ends meanwhile comes out as over. All requests get the exception that ``open_session`` raises.
        """
        admitting = self._admitting.get(call_sid)
        if admitting is None:

            async def work() -> Entry:
                try:
                    admission = await open_session()
                    entry = Entry(
                        call_sid,
                        media_id,
                        Phase.ADMITTED,
                        clock() + self._claim_s,
                        admission.session,
                        attempt,
                        admission.answer,
                    )
                    self._admitted[call_sid] = entry
                    if opening.is_over:
                        self.finish(call_sid, Outcome.ENDED, clock())
                    elif admission.answer:
                        # No media socket will claim it: it takes no place.
                        self.finish(call_sid, Outcome.DIALLED, clock())
                    return entry
                finally:
                    self._forget(call_sid, opening)

            opening = _Admitting(asyncio.get_running_loop().create_task(work(), name="admit"))
            admitting = self._admitting[call_sid] = opening
        admitting.waiting += 1
        try:
            return await asyncio.shield(admitting.task)
        finally:
            admitting.waiting -= 1
            if not admitting.waiting and not admitting.task.done():
                # At once: a request that comes while the work winds up must not join it.
                self._forget(call_sid, admitting)
                admitting.task.cancel()

    def _forget(self, call_sid: str, admitting: _Admitting) -> None:
        if self._admitting.get(call_sid) is admitting:
            del self._admitting[call_sid]

    def renew(self, entry: Entry, now: float) -> None:
        """Give an admitted call that is answered again the full time for its media socket."""
        if self._admitted.get(entry.call_sid) is entry:
            entry.until = now + self._claim_s
            self._admitted.move_to_end(entry.call_sid)

    def readmit(self, call_sid: str, media_id: str, session: Session, attempt: int, now: float) -> Entry:
        """
        Wait for a new stream of a call that lost its media socket.

        A live call of this process stays what the CallSid stands for, because the stream goes on with it.
        """
        entry = Entry(call_sid, media_id, Phase.ADMITTED, now + self._claim_s, session, attempt)
        entry.is_successor = True
        if call_sid not in self._live:
            self._over.pop(call_sid, None)
            self._admitted[call_sid] = entry
        return entry

    def refuse(self, media_id: str) -> None:
        """Note that the ``start`` of an admitted call was refused."""
        if (call_sid := self.admitted_at(media_id)) is not None:
            self._admitted[call_sid].is_refused = True

    def former(self, call_sid: str, attempt: int) -> Call | None:
        """The live call of an earlier attempt, whose agent a new stream may go on with."""
        entry = self._live.get(call_sid)
        return entry.call if entry is not None and entry.attempt < attempt else None

    def go_on(self, call_sid: str, media_id: str, attempt: int) -> None:
        """The live call goes on with a new stream."""
        entry = self._live[call_sid]
        entry.media_id, entry.attempt = media_id, attempt

    def claim(
        self,
        call_sid: str,
        media_id: str,
        session: Session,
        call: Call,
        attempt: int = 0,
    ) -> str | None:
        """
        Make a call live: its token is good and its media socket is open.

        A call that another process admitted, or this one before a restart, is unknown here and is taken, also beyond
        the limit: its caller is on the line.

        Returns:
            None, or the reason of a refusal: the token is used, or another session has the CallSid.
        """
        entry = self.find(call_sid)
        if entry is not None and entry.call is None and entry.attempt < attempt:
            # Another process has admitted the call again.
            self.drop(call_sid)
            entry = None
        if entry is None:
            entry = Entry(call_sid, media_id, Phase.ADMITTED, 0.0, session, attempt)
        elif entry.phase is Phase.LIVE:
            return "call_live"
        elif entry.phase is Phase.OVER:
            return "call_over"
        elif entry.media_id != media_id:
            return "token_replaced"
        self._admitted.pop(call_sid, None)
        # The same session: the token has brought it back, and the call keeps the token's.
        entry.phase, entry.session, entry.call = Phase.LIVE, session, call
        self._live[call_sid] = entry
        return None

    def finish(self, call_sid: str, outcome: Outcome, now: float, transfer_to: str = "") -> None:
        """Enter the outcome of a live or admitted call."""
        entry = self._live.pop(call_sid, None) or self._admitted.pop(call_sid, None)
        if entry is None:
            return
        entry.phase = Phase.OVER
        entry.outcome = outcome
        entry.transfer_to = transfer_to
        entry.until = now + REMEMBERED_S
        entry.call = None
        entry.session = replace(entry.session, credentials={})
        self._over[call_sid] = entry
        if len(self._over) > REMEMBERED_CALLS:
            self._over.popitem(last=False)
        self._on_over(call_sid, entry.attempt, outcome, transfer_to, entry.answer)

    def give_back(self, call: Call) -> None:
        """Free the place of a call that is over, if a fault has left it live."""
        if (entry := self._live.get(call.call_sid)) is not None and entry.call is call:
            del self._live[call.call_sid]

    def on_tick(self, now: float) -> list[str]:
        """End admitted calls that nobody claimed and forget old ones; returns the CallSids of unclaimed ones."""
        unclaimed = []
        while self._admitted:
            entry = next(iter(self._admitted.values()))
            if entry.until > now:
                break
            self.finish(entry.call_sid, Outcome.ENDED, now)
            unclaimed.append(entry.call_sid)
        while self._over and next(iter(self._over.values())).until <= now:
            self._over.popitem(last=False)
        return unclaimed

    def end(self, call_sid: str, why: Why, now: float) -> None:
        """End a call at the word of Twilio or the agent's service, outside of the sockets."""
        if admitting := self._admitting.get(call_sid):
            admitting.is_over = True
        entry = self.find(call_sid)
        if entry is None:
            return
        if entry.call is not None:
            entry.call.end(why, now)
        elif entry.phase is Phase.ADMITTED:
            self.finish(call_sid, ENDS[why].outcome or Outcome.ENDED, now)

    def on_caller_lost(self, call_sid: str, attempt: int, now: float) -> None:
        """Twilio asks what follows the stream of this attempt: its media socket is gone, and the caller is there."""
        entry = self.find(call_sid)
        if entry is None or entry.attempt > attempt:
            return
        if entry.call is not None and entry.attempt == attempt:
            entry.call.on_caller_lost(now, detail="Twilio asks what follows")
        else:
            self.end(call_sid, Why.CALLER_LOST, now)

    def set_credentials(self, call_sid: str, credentials: dict[str, str]) -> None:
        """Replaces the credentials of a live call after a fallback to another agent."""
        if entry := self._live.get(call_sid):
            entry.session = replace(entry.session, credentials=credentials)

    def drop(self, call_sid: str) -> None:
        """Forget a call that is another process's, or that comes back because its agent is unavailable."""
        for entries in (self._live, self._admitted, self._over):
            entries.pop(call_sid, None)

    def give_up_admitted(self, outcome: Outcome, now: float) -> int:
        """End all admitted calls; returns their number."""
        call_sids = list(self._admitted)
        for call_sid in call_sids:
            self.finish(call_sid, outcome, now)
        return len(call_sids)

    def release(self, call_sid: str) -> None:
        """Forget an admitted call whose media socket is at another process."""
        self._admitted.pop(call_sid, None)

    def admitted_calls(self) -> list[str]:
        """The CallSids of calls whose media socket is due, the oldest first."""
        return list(self._admitted)

    def admitted_at(self, media_id: str) -> str | None:
        """The CallSid of the admitted call whose media socket has this ID."""
        return next((entry.call_sid for entry in self._admitted.values() if entry.media_id == media_id), None)

    async def close(self) -> None:
        """Cancel sessions that are being opened."""
        tasks = [admitting.task for admitting in self._admitting.values()]
        # A task that is cancelled before its first step never runs its clean-up.
        self._admitting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
