"""
Retell by phone, the way in that it supports today: the call is registered, and Twilio dials its SIP address.

Media does not pass the bridge. Source: docs.retellai.com, register-phone-call and deploy/custom-telephony: the
address is to be dialled within 5 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from bridge.agents.agent import Agent, CallInfo, Resources
from bridge.agents.session_request import ask
from bridge.agents.setting_types import E164
from bridge.agents.vendors.retell import CALL_ID, RetellNeeds


class Needs(RetellNeeds):
    """What this agent wants."""

    retell_sip_host: str = Field(default="sip.retellai.com", pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$")
    # Retell recommends TCP.
    retell_sip_transport: Literal["tcp", "udp", "tls"] = "tcp"


def describe(needs: Needs, tools: Resources) -> Agent:
    """Describe the agent."""

    async def open_session(call: CallInfo) -> dict[str, str]:
        body: dict[str, object] = {
            "agent_id": needs.retell_agent_id,
            "direction": "inbound",
            "metadata": {"callSid": call.call_sid},
        }
        # An anonymous or client: caller is no number.
        for name, number in (("from_number", call.from_number), ("to_number", call.to_number)):
            if E164.fullmatch(number):
                body[name] = number
        return await ask(
            tools,
            "POST",
            f"{needs.retell_api_url}/v2/register-phone-call",
            needs.authorization,
            fields={"call_id": CALL_ID},
            json=body,
        )

    def dial(session: Mapping[str, str]) -> str:
        return f"sip:{session['call_id']}@{needs.retell_sip_host};transport={needs.retell_sip_transport}"

    return Agent(name="retell-sip", open_session=open_session, dial=dial)
