"""The state of a call's machine as values that JSON has: a replay takes it up where a record begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bridge.call.ends import Why
from bridge.call.heard import Heard
from bridge.call.state import Call
from bridge.call.talk import State

# Attributes that are such values already.
PLAIN = (
    "detail",
    "has_asked_twilio",
    "started_at",
    "_agent_mark",
    "_agentless_since",
    "_agents_replaced",
    "_bridged_at",
    "_deadline",
    "_grace_until",
    "_is_relayed",
    "_lost_detail",
)
# Attributes that no decision reads, or that stay as they are made.
LEFT_OUT = (
    *("audio", "call_sid", "caller_id", "conversation", "hearing", "opened_at", "transfer_to"),
    *("_frames_at_last_audio", "_limits", "_observer"),
)


class StatefulCall(Call):
    """A call whose state can be written down and taken up again."""

    __slots__ = ()

    def meters(self) -> list[Any]:
        """
        What audio, its marks and ticks move between two events.

        The frames of the caller and of the agent, when the last audio of the caller was noticed, the playout, and what
        is heard.
        """
        meters = [
            self.stats.frames_from_caller,
            self.stats.frames_from_agent,
            self._last_audio_at,
            *self._playout.state(),
        ]
        if self._heard is not None:
            meters += self._heard.position()
        return meters

    def set_meters(self, meters: Sequence[Any]) -> None:
        """Go on from former `meters`."""
        self.stats.frames_from_caller, self.stats.frames_from_agent, self._last_audio_at = meters[:3]
        self._playout.restore(*meters[3:6])
        if self._heard is not None:
            self._heard.set_position(*meters[6:])

    def checkpoint(self) -> dict[str, Any]:
        """The whole state that decisions depend on; the sides by their labels."""
        return {
            **{name.lstrip("_"): getattr(self, name) for name in PLAIN},
            "state": self.state.value,
            "why": self.why.value if self.why is not None else None,
            "agent_connect_s": self.stats.agent_connect_s,
            "caller": getattr(self._caller, "label", None),
            "agent": getattr(self._agent, "label", None),
            "chain": getattr(self._chain, "label", None),
            "heard": self._heard.state() if self._heard is not None else None,
            "meters": self.meters(),
        }

    def restore(self, checkpoint: dict[str, Any], labelled: Callable[[str], Any]) -> None:
        """
        Go on from a former `checkpoint`.

        Args:
            labelled: Gives what has a label.
        """
        for name in PLAIN:
            setattr(self, name, checkpoint[name.lstrip("_")])
        self.state = State(checkpoint["state"])
        self.why = Why(checkpoint["why"]) if checkpoint["why"] is not None else None
        self.stats.agent_connect_s = checkpoint["agent_connect_s"]
        caller, agent, chain = (checkpoint[name] for name in ("caller", "agent", "chain"))
        self._caller = labelled(caller) if caller is not None else None
        self._agent = labelled(agent) if agent is not None else None
        self._chain = labelled(chain) if chain is not None else None
        self._heard = None
        if checkpoint["heard"] is not None:
            self._heard = Heard(0.0)
            self._heard.restore(*checkpoint["heard"])
        self.set_meters(checkpoint["meters"])
