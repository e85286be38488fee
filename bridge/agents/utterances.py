"""Utterances out of a transcript that comes in fragments and does not tell where one ends."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.agents.succession import Said, Speaker

# A longer pause between two fragments of one speaker ends an utterance; between words there is less.
PAUSE_MS = 1000
# An utterance is given out in pieces of about this length, so that little is unsaid if the agent is lost.
MOST_CHARS = 400
ENDINGS = (".", "?", "!", "…", "。", "？", "！")


@dataclass(slots=True)
class _Open:
    """An utterance that may go on, and the end of its last fragment."""

    text: str
    end_ms: int


class Utterances:
    """
    Puts the fragments of both speakers together; each has one open utterance at most.

    An utterance ends with a sentence, with a pause of a second, with 400 characters, or when the other speaker begins
    after it. Where both speak at once, both go on.
    """

    def __init__(self) -> None:
        self._open: dict[Speaker, _Open] = {}

    def add(self, speaker: Speaker, text: str, start_ms: int, end_ms: int) -> list[Said]:
        """
        Add a fragment; returns what ends by it, and an empty utterance where the caller begins to speak.

        Args:
            start_ms, end_ms: Its place on the session's timeline, which both speakers share.
        """
        said: list[Said] = []
        for each, one in tuple(self._open.items()):
            if start_ms >= one.end_ms + (PAUSE_MS if each is speaker else 0):
                said += self._end(each)
        mine = self._open.get(speaker)
        if mine is None:
            if not text.strip():
                return said
            mine = self._open[speaker] = _Open("", end_ms)
            if speaker is Speaker.CALLER:
                said.append(Said(speaker, ""))
        mine.text += text
        mine.end_ms = max(mine.end_ms, end_ms)
        if mine.text.rstrip().endswith(ENDINGS) or len(mine.text) >= MOST_CHARS:
            said += self._end(speaker)
        return said

    def end(self) -> list[Said]:
        """Return what was said until now and has not ended."""
        return [said for speaker in tuple(self._open) for said in self._end(speaker)]

    def _end(self, speaker: Speaker) -> list[Said]:
        return [Said(speaker, self._open.pop(speaker).text.strip())]
