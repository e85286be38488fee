"""Hides what is personal in a flight record: numbers, and the names that agents give to their turns and marks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bridge.call.flight import Event, Step
from bridge.call.record import masked
from bridge.call.state import PLAYED_MARK

# Events and steps whose first argument is a name that an agent has chosen; before a mark's stands which agent it was.
WITH_NAME = frozenset({"on_agent_mark", "on_agent_turn", "on_mark", "on_played", "send_mark"})
MARK = re.compile(r"(agent(?:-[0-9]+)?:)?(.*)", re.DOTALL)


class Masking:
    """Hides what is personal in one record; the same name is the same ``name 1`` everywhere."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def event(self, event: Event) -> Event:
        """An event with all that lies within it."""
        gives = event.gives
        if event.name == "on_interrupt" and gives:
            gives = [[self._name(name), *heard] for name, *heard in gives]
        args = self._args(event.name, event.args)
        return event._replace(args=args, steps=[self.step(Step(*step)) for step in event.steps], gives=gives)

    def step(self, step: Step) -> Step:
        """A step with all that lies within it."""
        events = [self.event(Event(*event)) for event in step.events]
        return step._replace(args=self._args(step.name, step.args), events=events)

    def _args(self, name: str, args: Sequence[Any]) -> Sequence[Any]:
        if args and isinstance(args[0], str):
            if name in WITH_NAME:
                return [self._name(args[0]), *args[1:]]
            if name == "on_agent_transfer":
                return [masked(args[0]), *args[1:]]
        return args

    def _name(self, text: str) -> str:
        found = MARK.fullmatch(text)
        assert found is not None
        prefix, name = found[1] or "", found[2]
        if text == PLAYED_MARK or not name:
            return text
        return prefix + self._names.setdefault(name, f"name {len(self._names) + 1}")
