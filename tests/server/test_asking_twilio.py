"""Requests to Twilio's REST API, of phone calls and of calls that Twilio does not know."""

import pytest
from call_script import LIMITS

from bridge.call.state import Call
from bridge.server.asking_twilio import ask_twilio
from bridge.server.telephone_calls import SID_BEGINNING, is_of_page


class Asked:
    def __init__(self):
        self.requests = []

    async def hang_up(self, call_sid):
        self.requests.append((call_sid,))

    async def transfer(self, call_sid, to_number, caller_id):
        self.requests.append((call_sid, to_number, caller_id))


@pytest.mark.parametrize("to_number", ["", "+493012345678"])
async def test_calls_of_the_page_are_none_of_twilios(to_number):
    asked = Asked()
    call = Call(LIMITS, None, 0.0)
    call.transfer_to = to_number
    for call.call_sid in ("CA" + 32 * "1", SID_BEGINNING + 16 * "1"):
        await ask_twilio(asked, call)
    assert asked.requests == [("CA" + 32 * "1", *([to_number, None] if to_number else []))]


def test_callsid_of_twilio_is_none_of_the_pages():
    assert is_of_page("CA" + 16 * "0" + 16 * "1")
    assert not is_of_page("CA" + 15 * "0" + 17 * "1")
    assert not is_of_page("")
