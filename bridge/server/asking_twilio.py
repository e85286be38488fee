"""Ends or transfers a call by Twilio's REST API, where Twilio has the call."""

from __future__ import annotations

from bridge.call.state import Call
from bridge.server.telephone_calls import is_of_page
from bridge.twilio.rest import TwilioApi


async def ask_twilio(twilio: TwilioApi, call: Call) -> None:
    """Transfer the call to the number that its agent has named, else end it; a call of the page ends by its socket."""
    if is_of_page(call.call_sid):
        return
    if call.transfer_to:
        await twilio.transfer(call.call_sid, call.transfer_to, call.caller_id)
    else:
        await twilio.hang_up(call.call_sid)
