"""What was said in a call lately, for an agent that takes it over."""

from __future__ import annotations

from bridge.agents.succession import Memory, Said, Speaker

# Older utterances matter less than the time that a model takes to read them.
MOST_S = 300.0
# Together they bound what one call holds, and the length of the messages to a successor.
MOST_UTTERANCES = 60
MOST_CHARS = 8000
# One utterance must not push out all others.
UTTERANCE_CHARS = 2000


class Conversation:
    """
    The last utterances of a call.

    Attributes:
        keeps_texts: If False, only who spoke last is known.
        changes: How often what a successor learns has changed.
    """

    def __init__(self) -> None:
        self.keeps_texts = True
        self.changes = 0
        # Each with its time, the oldest first. One without a text marks the place of words that are still to come.
        self._said: list[tuple[float, Said]] = []
        self._chars = 0
        self._is_awaited = False

    def add(self, said: Said, now: float) -> None:
        """Add a finished utterance. Words of a caller whose turn was already reported go to that turn's place."""
        self.changes += 1
        is_caller = said.speaker is Speaker.CALLER
        place = self._place() if is_caller else None
        if place is None or not said.text:
            self._is_awaited = is_caller
        if not self.keeps_texts or not (said.text or is_caller):
            return
        said = Said(said.speaker, said.text[:UTTERANCE_CHARS])
        self._chars += len(said.text)
        if place is not None and said.text:
            self._said[place] = self._said[place][0], said
        else:
            if place is not None:
                # The words of that turn have not come.
                del self._said[place]
            self._said.append((now, said))
        self._forget(now)

    def _place(self) -> int | None:
        return next((n for n, (_, said) in enumerate(self._said) if not said.text), None)

    def correct(self, text: str) -> None:
        """The caller heard only this of the agent's last utterance."""
        self.changes += 1
        for n in reversed(range(len(self._said))):
            at, said = self._said[n]
            if said.speaker is Speaker.AGENT:
                self._chars -= len(said.text)
                if text:
                    self._said[n] = at, Said(Speaker.AGENT, text[:UTTERANCE_CHARS])
                    self._chars += len(self._said[n][1].text)
                else:
                    del self._said[n]
                return

    def on_cut(self) -> None:
        """The agent is lost in the middle of an utterance."""
        self.changes += 1
        self._is_awaited = True

    def memory(self, now: float, is_cut: bool = False) -> Memory:
        """
        What a successor learns.

        Args:
            is_cut: Whether the agent is in the middle of an utterance, which its loss would cut.
        """
        self._forget(now)
        return Memory(tuple(said for _, said in self._said if said.text), self._is_awaited or is_cut)

    def utterances(self) -> list[tuple[float, Said]]:
        """What is kept, each with its time, the oldest first."""
        return [(at, said) for at, said in self._said if said.text]

    def restore(self, memory: Memory, now: float) -> None:
        """Begin with what another process kept of the call."""
        for said in memory.said:
            self.add(said, now)
        self._is_awaited = memory.is_awaited

    def _forget(self, now: float) -> None:
        while self._said and (
            self._chars > MOST_CHARS or len(self._said) > MOST_UTTERANCES or now - self._said[0][0] > MOST_S
        ):
            self._chars -= len(self._said.pop(0)[1].text)
