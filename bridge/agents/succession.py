"""What one agent of a call leaves to the next: why it cannot go on."""

from __future__ import annotations

import enum


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
