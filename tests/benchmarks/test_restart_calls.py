"""The calls of a restart: what they count."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from benchmarks.calls import Account
from benchmarks.restart_agent import Agents, serving
from benchmarks.restart_calls import End, RestartCalls, compared
from bridge.standins.process import free_port


@pytest.mark.parametrize("status", ["completed", "in-progress"])
async def test_bridge_may_end_a_call_by_twilios_rest_api(status):
    agents, account = Agents(), Account.random()
    # Answers no webhook, so that the calls last.
    silent = socket.create_server(("127.0.0.1", 0))
    calls = RestartCalls(f"http://127.0.0.1:{silent.getsockname()[1]}", account, agents)
    async with serving(agents, calls.rest) as port, aiohttp.ClientSession() as http:
        one, other = calls.begin(), calls.begin()
        url = f"http://127.0.0.1:{port}/2010-04-01/Accounts/{account.sid}/Calls/{one.call_sid}.json"
        async with http.post(url, data={"Status": status}) as answer:
            assert (answer.status == 200) is one.is_hung_up is (status == "completed")
        assert not other.is_hung_up
    await calls.cancel()
    silent.close()


async def test_call_whose_webhook_is_not_answered_is_refused():
    calls = RestartCalls(f"http://127.0.0.1:{free_port()}", Account.random(), Agents())
    calls.begin()
    await calls.settled()
    assert [result.end for result in calls.results] == [End.REFUSED]


def test_frames_are_counted_by_their_numbers():
    sent = [b"a", b"b", b"c", b"d"]
    assert compared(sent, sent) == (0, False)
    assert compared(sent, [b"a", b"d"]) == (2, False)
    assert compared(sent, [b"a", b"b", b"b", b"c", b"d"]) == (0, True)
    assert compared(sent, [b"a", b"c", b"b", b"d"]) == (0, True)
    assert compared(sent, [b"a", b"x", b"c", b"d"]) == (1, True)
