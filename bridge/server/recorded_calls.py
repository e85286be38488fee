"""Which calls are recorded, by this process or by Twilio."""

from __future__ import annotations

import asyncio

from bridge.agents.agent import CallInfo
from bridge.agents.sessions import Sessions
from bridge.call.state import Call
from bridge.server.live import Live
from bridge.server.records.recordings import Recordings
from bridge.server.telephone_calls import is_of_page
from bridge.twilio.rest import TwilioApi


class RecordedCalls:
    """
    Begins the recordings of calls whose ``start`` is verified.

    Args:
        recordings: Makes those of this process; None: there are none.
        twilio: Has Twilio record the calls that it knows; None: it does not.
    """

    def __init__(
        self,
        live: Live,
        sessions: Sessions,
        recordings: Recordings | None,
        twilio: TwilioApi | None,
    ) -> None:
        self._live = live
        self._sessions = sessions
        self._recordings = recordings
        self._twilio = twilio
        # Requests that are under way.
        self._tasks: set[asyncio.Task[None]] = set()

    def on_start(self, call: Call, info: CallInfo, attempt: int, *, is_successor: bool) -> None:
        """
        Record a call from now on, if its route lets it be.

        Args:
            is_successor: The call goes on from another process, where Twilio was asked.
        """
        if not self._sessions.route(info).record:
            return
        if self._recordings is not None:
            recording = self._recordings.start(info.call_sid, attempt, call.opened_at)
            call.audio.attach(recording.recorder)
            self._live.book[call].recording = recording
        if self._twilio is not None and not (is_successor or is_of_page(info.call_sid)):
            work = self._record_at_twilio(self._twilio, call)
            task = asyncio.get_running_loop().create_task(work, name="Twilio records")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _record_at_twilio(self, twilio: TwilioApi, call: Call) -> None:
        sid = await twilio.record(call.call_sid)
        if (sides := self._live.book.get(call)) is not None:
            sides.record.recording_sid = sid
