"""What one agent of a call leaves to the next: why it cannot go on, and what was said."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """Why an agent cannot go on, which decides whether another session of it may help."""

    # The account has no credit, or has used up its share.
    QUOTA = "quota"
    # The key is missing, wrong or withdrawn.
    CREDENTIALS = "credentials"
    # The vendor ends a session of this age.
    SESSION_LIMIT = "session_limit"
    # A fault at the vendor.
    SERVER = "server"
    # The vendor does not accept our settings.
    REFUSED = "refused"
    # The connection is gone, or the agent no longer answers.
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether another session of the same agent would fail too."""
        return self in (FailureKind.QUOTA, FailureKind.CREDENTIALS, FailureKind.REFUSED)


# What the HTTP status of a refused request or upgrade says of the next one; the others may pass.
STATUS_KINDS = {
    400: FailureKind.REFUSED,
    401: FailureKind.CREDENTIALS,
    402: FailureKind.QUOTA,
    403: FailureKind.CREDENTIALS,
    404: FailureKind.REFUSED,
    422: FailureKind.REFUSED,
}


class Speaker(enum.Enum):
    """Who said something."""

    AGENT = "agent"
    CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Said:
    """One finished utterance. Without a text, its words are unknown or follow as the same speaker's next ones."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Memory:
    """
    What was said before an agent takes a call over.

    Attributes:
        said: The last utterances, the oldest first; each has a text.
        is_awaited: The caller waits for an answer: the agent speaks first. Else it listens.
    """

    said: tuple[Said, ...]
    is_awaited: bool

    def as_text(self) -> str:
        """The utterances as lines, for agents that take them in one text."""
        return "\n".join(f"{said.speaker.value.capitalize()}: {said.text}" for said in self.said)
