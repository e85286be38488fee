"""The calls of the page's telephone: which agents it can have, and its sessions."""

from __future__ import annotations

import secrets

from bridge.agents.agent import CallInfo, SessionError
from bridge.agents.sessions import Sessions
from bridge.server.admissions import Admissions
from bridge.server.page.telephone import AgentChoice, NoCall, OpenedCall
from bridge.server.registry import Phase, Registry

# Twilio's CallSids are random: none of them begins like this.
SID_BEGINNING = "CA" + 16 * "0"
# In place of a route's name, which has no parentheses.
ROUTE = "(page)"
# The account of a bridge without one.
NO_ACCOUNT_SID = "AC" + 32 * "0"


def is_of_page(call_sid: str) -> bool:
    """Whether a call is one of the page's telephone, which Twilio knows nothing of."""
    return call_sid.startswith(SID_BEGINNING)


class TelephoneCalls:
    """
    Opens calls of the page's telephone.

    Args:
        admissions: Without the user's answer webhook: the page chooses the agent.
    """

    def __init__(
        self, account_sid: str, sessions: Sessions, registry: Registry, admissions: Admissions
    ) -> None:
        self._account_sid = account_sid or NO_ACCOUNT_SID
        self._sessions = sessions
        self._registry = registry
        self._admissions = admissions

    def agents(self) -> list[AgentChoice]:
        """The agents in use."""
        return [AgentChoice(name, self._problem(name)) for name in sorted(self._sessions.names)]

    def _problem(self, name: str) -> str:
        """Why the telephone cannot have an agent; empty if it can."""
        agent = self._sessions.agent(name)
        if agent is None:
            return "disabled in the agents file"
        if agent.hand_over is not None:
            return "only Twilio can dial it"
        if agent.required:
            return f"needs values of a phone call: {', '.join(sorted(agent.required))}"
        return ""

    async def open(self, name: str) -> OpenedCall:
        """
        Open a session with one agent.

        Raises:
            NoCall: It cannot be had now.
        """
        if not self._sessions.is_known(name):
            raise NoCall("There is no such agent any more. Load the page again.")
        if problem := self._problem(name):
            raise NoCall(f"The telephone cannot call {name}: {problem}.")
        if not self._registry.admits:
            raise NoCall("The bridge is shutting down. Call again in a moment.")
        if self._registry.is_full:
            raise NoCall("The bridge has as many calls as BRIDGE_MAX_CALLS allows. Call again later.")
        info = CallInfo(SID_BEGINNING + secrets.token_hex(8), "", "", route=ROUTE)
        try:
            entry = await self._admissions.open(info, [name], 0)
        except SessionError as error:
            raise NoCall(f"The agent is unavailable: {error}.") from None
        parameters = self._admissions.media_parameters(entry, info)
        return OpenedCall(entry.media_id, entry.call_sid, self._account_sid, parameters)

    def is_used(self, call_sid: str) -> bool:
        """Whether this process knows that a call has had its media socket, or gets none any more."""
        entry = self._registry.find(call_sid)
        return entry is not None and entry.phase is not Phase.ADMITTED
