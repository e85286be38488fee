"""
Which CallSids this process knows, and as what: being admitted, admitted, live, or over.

At most one live session per CallSid; a token counts once; "this call ended on purpose" is remembered for a day.
"""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bridge.call.state import ENDS, Call, Outcome, Why

REMEMBERED_S = 24 * 3600
REMEMBERED_CALLS = 100_000


class Phase(enum.Enum):
    ADMITTED = "admitted"
    LIVE = "live"
    OVER = "over"


@dataclass(slots=True)
class Entry:
    """One CallSid. ``until``: when an admitted call counts as not claimed, or a call that is over is forgotten."""

    call_sid: str
    media_id: str
    phase: Phase
    until: float
    agents: tuple[str, ...] = ()
    session: dict[str, str] = field(default_factory=dict)
    # The TwiML of a call that has no media socket, and the number that one was transferred to.
    answer: str = ""
    transfer_to: str = ""
    record: Outcome | None = None
    call: Call | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """
    What was opened for a call: the first of ``agents`` gave the session, the others are tried after it.

    ``answer`` is the TwiML of a call that goes to its agent without a media socket.
    """

    agents: tuple[str, ...]
    session: dict[str, str]
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
    """

    def __init__(self, max_calls: int, claim_s: float) -> None:
        self._max_calls = max_calls
        self._claim_s = claim_s
        self._admitting: dict[str, _Admitting] = {}
        self._admitted: OrderedDict[str, Entry] = OrderedDict()
        self._live: dict[str, Entry] = {}
        self._over: OrderedDict[str, Entry] = OrderedDict()

    @property
    def live(self) -> int:
        """Calls with a verified media socket."""
        return len(self._live)

    @property
    def admitted(self) -> int:
        """Calls that were or are being answered and whose media socket is due."""
        return len(self._admitted) + len(self._admitting)

    @property
    def is_full(self) -> bool:
        """Whether a further call would be over the limit."""
        return self.live + self.admitted >= self._max_calls

    def find(self, call_sid: str) -> Entry | None:
        """What is known of a CallSid that is not just being admitted."""
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
        open_session: Callable[[], Awaitable[Session]],
        clock: Callable[[], float],
    ) -> Entry:
        """
        Open one session for a CallSid, however many requests ask for it at once.

        Whoever comes second waits for the first one's session; the work is cancelled when the last of them has
        gone. A call that ends meanwhile comes out as over. What ``open_session`` raises comes out here for all of them.
        """
        admitting = self._admitting.get(call_sid)
        if admitting is None:

            async def work() -> Entry:
                try:
                    opened = await open_session()
                    known = Entry(
                        call_sid,
                        media_id,
                        Phase.ADMITTED,
                        clock() + self._claim_s,
                        opened.agents,
                        opened.session,
                        opened.answer,
                    )
                    self._admitted[call_sid] = known
                    if opening.is_over:
                        self.finish(call_sid, Outcome.ENDED, clock())
                    elif opened.answer:
                        # Nobody will claim it: it takes no place here.
                        self.finish(call_sid, Outcome.DIALLED, clock())
                    return known
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
                # At once: whoever asks while the work still winds up must not join it.
                self._forget(call_sid, admitting)
                admitting.task.cancel()

    def _forget(self, call_sid: str, admitting: _Admitting) -> None:
        if self._admitting.get(call_sid) is admitting:
            del self._admitting[call_sid]

    def renew(self, known: Entry, now: float) -> None:
        """An admitted call was answered again, with a fresh token."""
        if known.phase is Phase.ADMITTED:
            known.until = now + self._claim_s
            self._admitted.move_to_end(known.call_sid)

    def claim(self, call_sid: str, media_id: str, session: dict[str, str], call: Call) -> str | None:
        """
        Make a call live: its token was good and its media socket is there.

        Returns:
            None, or why not: the token was used, or another session has the CallSid. A call admitted by another
            process, or before a restart, is not known here and is taken.
        """
        known = self.find(call_sid)
        if known is None:
            if self.is_full:
                return "full"
            known = Entry(call_sid, media_id, Phase.ADMITTED, 0.0, session=session)
        elif known.phase is Phase.LIVE:
            return "call_live"
        elif known.phase is Phase.OVER:
            return "call_over"
        elif known.media_id != media_id:
            return "token_replaced"
        self._admitted.pop(call_sid, None)
        known.phase = Phase.LIVE
        known.call = call
        self._live[call_sid] = known
        return None

    def finish(self, call_sid: str, record: Outcome, now: float, transfer_to: str = "") -> None:
        """A live or admitted call is over."""
        known = self._live.pop(call_sid, None) or self._admitted.pop(call_sid, None)
        if known is None:
            return
        known.phase = Phase.OVER
        known.record = record
        known.transfer_to = transfer_to
        known.until = now + REMEMBERED_S
        known.call = None
        known.session = {}
        self._over[call_sid] = known
        if len(self._over) > REMEMBERED_CALLS:
            self._over.popitem(last=False)

    def on_tick(self, now: float) -> int:
        """Give up admitted calls that nobody claimed and forget old ones; returns how many were not claimed."""
        unclaimed = 0
        while self._admitted:
            known = next(iter(self._admitted.values()))
            if known.until > now:
                break
            self.finish(known.call_sid, Outcome.ENDED, now)
            unclaimed += 1
        while self._over and next(iter(self._over.values())).until <= now:
            self._over.popitem(last=False)
        return unclaimed

    def end(self, call_sid: str, why: Why, now: float) -> None:
        """Twilio or the agent service says out of band that the call is over."""
        if admitting := self._admitting.get(call_sid):
            admitting.is_over = True
        known = self.find(call_sid)
        if known is None:
            return
        if known.call is not None:
            known.call.end(why, now)
        elif known.phase is Phase.ADMITTED:
            self.finish(call_sid, ENDS[why].record or Outcome.ENDED, now)

    def set_session(self, call_sid: str, session: dict[str, str]) -> None:
        """A live call has another session: the agent that it was admitted with could not be had."""
        if known := self._live.get(call_sid):
            known.session = session

    def forget_over(self, call_sid: str) -> None:
        """A call that was over here comes back: the agent that it was sent to could not be had."""
        self._over.pop(call_sid, None)

    def give_up_admitted(self, record: Outcome, now: float) -> int:
        """No more media sockets are waited for; returns for how many."""
        call_sids = list(self._admitted)
        for call_sid in call_sids:
            self.finish(call_sid, record, now)
        return len(call_sids)

    def admitted_at(self, media_id: str) -> str | None:
        """The CallSid of the admitted call whose media socket is to have this ID."""
        return next((known.call_sid for known in self._admitted.values() if known.media_id == media_id), None)

    async def close(self) -> None:
        """Cancel sessions that are being opened."""
        tasks = [admitting.task for admitting in self._admitting.values()]
        # A task that is cancelled before its first step never comes to its own clean-up.
        self._admitting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
