"""The tool calls of one session: each is decided and answered once, in the order in which they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bridge.agents.agent import Control, Event, Ignored, Reply, Transfer
from bridge.agents.json_dialogue import on_tool_call
from bridge.agents.words import HANGS_UP, TRANSFERS

# Ids that are remembered: a service that repeats a call does so soon.
CALLS_REMEMBERED = 64


class ToolCalls:
    """
    Decides a model's tool calls.

    Args:
        answer: Makes the message with the result of a call, from its id, its name, the result, and whether it failed.
    """

    def __init__(self, answer: Callable[[str, str, str, bool], bytes]) -> None:
        self._answer = answer
        # Ids of the last calls.
        self._decided: deque[str] = deque(maxlen=CALLS_REMEMBERED)

    def decide(self, call_id: Any, name: Any, arguments: Any) -> Iterable[Event]:
        """
        Return what a call means; nothing of it is trusted.

        Args:
            arguments: Parsed; a function without parameters may come without an object here.
        """
        if call_id in self._decided:
            return (Ignored("repeated_tool_call"),)
        if isinstance(call_id, str):
            self._decided.append(call_id)

        def answer(result: str, is_error: bool) -> tuple[bytes, ...]:
            if not isinstance(call_id, str) or not isinstance(name, str):
                return ()
            return (self._answer(call_id, name, result, is_error),)

        events: list[Event] = []
        for event in on_tool_call(
            name, arguments if isinstance(arguments, dict) else {}, lambda reason: answer(reason, True)
        ):
            if event is Control.HANG_UP:
                events += map(Reply, answer(HANGS_UP, False))
            elif isinstance(event, Transfer):
                event = replace(event, acceptance=answer(TRANSFERS, False))
            events.append(event)
        return events
