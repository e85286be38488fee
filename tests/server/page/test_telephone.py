"""The page's telephone at a real server: its calls, and what attackers get."""

import pytest
from live import API_KEY, PUBLIC_URL
from page_phone import HOST, ORIGIN, PASSWORD, PagePhone

FORBIDDEN = "403 Forbidden\n"
SEALED = {"BRIDGE_PAGE_PASSWORD": PASSWORD}
DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}
FOREIGN = [
    pytest.param({**HOST, "Origin": "https://evil.example"}, id="another Origin"),
    pytest.param({"Host": "evil.example", "Origin": "https://evil.example"}, id="rebound Host"),
    pytest.param({"Host": "evil.example", "Origin": PUBLIC_URL}, id="another Host"),
    pytest.param({**ORIGIN, "Sec-Fetch-Site": "cross-site"}, id="another site"),
    pytest.param(HOST, id="no Origin"),
]


@pytest.fixture
async def live(live_server):
    return await live_server(**SEALED, BRIDGE_AGENT="echo,retell")


@pytest.fixture
async def phone(live):
    """Logged in, and with a call whose media socket is due."""
    phone = PagePhone(live)
    await phone.log_in()
    assert (await phone.call("echo"))[0] == 200
    return phone


# Calls


async def test_page_learns_which_agents_the_telephone_can_call(live_server):
    live = await live_server(**SEALED, BRIDGE_AGENT="echo,retell-sip", RETELL_API_KEY=API_KEY)
    phone = PagePhone(live)
    await phone.log_in()
    status, fields, _ = await phone.ask("GET", "/page/agents", HOST)
    assert (status, fields["agents"]) == (
        200,
        [{"name": "echo", "problem": ""}, {"name": "retell-sip", "problem": "only Twilio can dial it"}],
    )
    status, fields = await phone.call("retell-sip")
    assert (status, fields) == (
        503,
        {"problem": "The telephone cannot call retell-sip: only Twilio can dial it."},
    )
    assert (await phone.call("nobody"))[1]["problem"].startswith("There is no such agent")
    assert live.admitted == 0


async def test_agent_without_a_session_is_told_in_words(live_server):
    live = await live_server(**SEALED, BRIDGE_AGENT="retell")
    live.refuse_sessions()
    phone = PagePhone(live)
    await phone.log_in()
    status, fields = await phone.call("retell")
    assert (status, fields) == (503, {"problem": "The agent is unavailable: retell: status 403."})


async def test_full_and_draining_bridge_take_no_call(live_server):
    live = await live_server(**SEALED, BRIDGE_AGENT="echo", BRIDGE_MAX_CALLS="1")
    phone, other = PagePhone(live), PagePhone(live)
    for one in (phone, other):
        await one.log_in()
    assert (await phone.call("echo"))[0] == 200
    status, fields = await other.call("echo")
    assert (status, "BRIDGE_MAX_CALLS" in fields["problem"]) == (503, True)
    live.server.drain()
    status, fields = await other.call("echo")
    assert (status, "shutting down" in fields["problem"]) == (503, True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"agent":1}', b"agent=echo"])
async def test_request_that_is_not_the_telephones_is_bad(phone, body):
    status, _, headers = await phone.ask("POST", "/page/call", ORIGIN, data=body)
    assert (status, "Set-Cookie" in headers) == (400, False)
    assert phone.live.admitted == 1


# Attacks


@pytest.mark.parametrize("headers", FOREIGN)
async def test_page_of_another_site_gets_no_call(live, headers):
    phone = PagePhone(live)
    await phone.log_in()
    assert await phone.call("echo", headers) == (403, FORBIDDEN)
    assert live.admitted == 0


async def test_who_is_not_logged_in_gets_neither_a_call_nor_the_agents(live, live_server):
    elsewhere = PagePhone(await live_server(**SEALED, BRIDGE_AGENT="echo", TWILIO_AUTH_TOKEN="another"))
    await elsewhere.log_in()
    phone = PagePhone(live)
    for phone.cookie in ("", "bridge_page=", elsewhere.cookie):
        assert await phone.call("echo") == (401, "401 Unauthorized\n")
        status, text, _ = await phone.ask("GET", "/page/agents", HOST)
        assert (status, text) == (401, "401 Unauthorized\n")
    assert live.admitted == 0
