"""
Retell by phone, which it supports today: the call is registered, and Twilio dials its SIP address.

Media does not pass the bridge. Source: docs.retellai.com, register-phone-call and deploy/custom-telephony: the
address must be dialled within 5 minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from bridge.agents.agent import Agent, AgentModule, CallInfo, Resources
from bridge.agents.hand_over import SipAddress
from bridge.agents.session_request import ask
from bridge.agents.setting_types import E164
from bridge.agents.vendors.retell import CALL_ID, RetellAccountSettings


class RetellSipSettings(RetellAccountSettings):
    """Settings of this agent."""

    retell_sip_host: str = Field(
        "sip.retellai.com",
        pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        description="the host, and if needed the port, that Twilio dials",
    )
    retell_sip_transport: Literal["tcp", "udp", "tls"] = Field(
        "tcp", description="how Twilio reaches the host; Retell recommends tcp"
    )


def _describe(settings: RetellSipSettings, resources: Resources) -> Agent:

    async def open_session(call: CallInfo) -> dict[str, str]:
        body: dict[str, object] = {
            "agent_id": settings.retell_agent_id,
            "direction": "inbound",
            **settings.values(resources, call),
        }
        # An anonymous caller or one with a client: address has no number.
        for name, number in (("from_number", call.from_number), ("to_number", call.to_number)):
            if E164.fullmatch(number):
                body[name] = number
        return await ask(
            resources,
            "POST",
            f"{settings.retell_api_url}/v2/register-phone-call",
            settings.authorization,
            fields={"call_id": CALL_ID},
            json=body,
        )

    def hand_over(session: Mapping[str, str], call: CallInfo) -> SipAddress:
        return SipAddress(
            f"sip:{session['call_id']}@{settings.retell_sip_host};transport={settings.retell_sip_transport}"
        )

    return Agent(
        open_session=open_session, hand_over=hand_over, names=settings.names, required=settings.required
    )


AGENT = AgentModule(RetellSipSettings, _describe)
