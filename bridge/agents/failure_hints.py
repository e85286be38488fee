"""What an operator does about the failure of an agent."""

from __future__ import annotations

from bridge.agents.succession import FailureKind

HINTS = {
    FailureKind.CREDENTIALS: "correct the agent's key; bridge check --agents tries it",
    FailureKind.QUOTA: "the account at the service has no credit left, or has used up its share: top it up there",
    FailureKind.REFUSED: "correct the agent's settings, such as its id or its model; bridge check --agents tries them",
}
# It was not even asked.
NO_VALUE = (
    "give the value in the webhook's URL or by the answer webhook, or leave out the ! in its placeholder"
)
OTHER = "look at the service's status page and at the network; a second agent in BRIDGE_AGENT takes over meanwhile"


def hint_of(kind: FailureKind) -> str:
    """One sentence for the log."""
    return HINTS.get(kind, OTHER)
