"""How a call can end: the reasons, the outcomes, and the table that leads from one to the other."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Outcome(enum.Enum):
    """The memory of a finished call; it decides the answer of ``/voice/resume``."""

    ENDED = "ended"
    CALLER_LOST = "caller_lost"
    AGENT_LOST = "agent_lost"
    HANDED_OVER = "handed_over"
    TRANSFERRED = "transferred"
    DIALLED = "dialled"


class Why(enum.Enum):
    """Why a call ends."""

    AGENT_ENDED = "agent_ended"
    AGENT_HUNG_UP = "agent_hung_up"
    AGENT_TRANSFERRED = "agent_transferred"
    CALLER_STOPPED = "caller_stopped"
    CALL_COMPLETED = "call_completed"
    CALLER_LOST = "caller_lost"
    AGENT_LOST = "agent_lost"
    NO_START = "no_start"
    TIME_LIMIT = "time_limit"
    SILENT_CALLER = "silent_caller"
    REFUSED = "refused"
    CALLER_VIOLATION = "caller_violation"
    AGENT_VIOLATION = "agent_violation"
    DRAINED = "drained"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class End:
    """
    One row of `ENDS`.

    ``caller_code`` and ``agent_code`` are the WebSocket close codes of legs that are still open; a leg whose peer
    broke the protocol is already closed with the code of RFC 6455. ``outcome`` is None where nothing is remembered,
    so that a live call of the same CallSid stays untouched. ``lets_audio_play``: the agent's last words play first.
    ``asks_twilio``: its REST API ends or transfers the call before the caller's leg is closed, because Twilio asks
    ``/voice/resume`` at the close. ``is_bad``: something went wrong in a call that had begun, and its last events are
    written to a file.
    """

    caller_code: int
    agent_code: int
    outcome: Outcome | None
    lets_audio_play: bool = False
    asks_twilio: bool = False
    is_bad: bool = False


ENDS: dict[Why, End] = {
    Why.AGENT_ENDED: End(1000, 1000, Outcome.ENDED, lets_audio_play=True),
    Why.AGENT_HUNG_UP: End(1000, 1000, Outcome.ENDED, lets_audio_play=True, asks_twilio=True),
    Why.AGENT_TRANSFERRED: End(1000, 1000, Outcome.TRANSFERRED, lets_audio_play=True, asks_twilio=True),
    Why.CALLER_STOPPED: End(1000, 1000, Outcome.ENDED),
    Why.CALL_COMPLETED: End(1000, 1000, Outcome.ENDED),
    Why.CALLER_LOST: End(1001, 1000, Outcome.CALLER_LOST, is_bad=True),
    Why.AGENT_LOST: End(1011, 1011, Outcome.AGENT_LOST, lets_audio_play=True, is_bad=True),
    Why.NO_START: End(1008, 1000, None),
    Why.TIME_LIMIT: End(1000, 1000, Outcome.ENDED, lets_audio_play=True),
    Why.SILENT_CALLER: End(1000, 1000, Outcome.ENDED, is_bad=True),
    Why.REFUSED: End(1008, 1000, None),
    Why.CALLER_VIOLATION: End(1002, 1000, Outcome.ENDED, is_bad=True),
    Why.AGENT_VIOLATION: End(1011, 1002, Outcome.AGENT_LOST, lets_audio_play=True, is_bad=True),
    Why.DRAINED: End(1001, 1000, Outcome.HANDED_OVER),
    # A fault in this program is not the caller's doing: the caller gets the fallback.
    Why.FAULT: End(1011, 1011, Outcome.AGENT_LOST, is_bad=True),
}
