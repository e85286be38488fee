"""The page's telephone at a real server: its calls, and what attackers get."""

import json
import time

import pytest
from live import API_KEY, PUBLIC_URL, beside, soon, until
from page_phone import HOST, ORIGIN, PASSWORD, PagePhone

from bridge.call.state import State
from bridge.server.page.telephone import COOKIE
from bridge.standins.agent.behaviours import echo
from bridge.standins.agent.protocols.openai import OpenAISession
from bridge.standins.numbered import make_numbered
from bridge.standins.sockets import abort_with_reset
from bridge.twilio.rest import TwilioApi

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


@pytest.fixture
def asked_of_twilio(monkeypatch):
    asked = []

    async def change(call_sid, form):
        asked.append(call_sid)

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(call_sid, form))
    return asked


async def still_works(phone):
    """What the attacker did has opened nothing and used nothing up."""
    assert phone.live.open_calls == ()
    async with phone.started() as socket:
        await socket.send_str(phone.writer.media(make_numbered(1), 0))
        answer = json.loads((await soon(socket.receive())).data)
        assert answer["event"] == "media"
        await socket.send_str(phone.writer.stop())
        assert await phone.close_code(socket) == 1000
    await until(lambda: phone.live.is_idle)


# Calls


async def test_call_is_marked_in_its_document_its_metrics_and_the_log(phone, live, logs):
    assert phone.fields["call_sid"].startswith("CA" + 16 * "0")
    await still_works(phone)
    [document] = live.documents
    assert (document["call_sid"], document["route"]) == (phone.fields["call_sid"], "(page)")
    assert (document["from"], document["end"]["why"]) == ("", "caller_stopped")
    _, text = await live.get("/metrics")
    assert 'bridge_calls_total{agent="echo",route="(page)"} 1.0' in text
    assert not [line for line in logs.lines if phone.ticket.partition("=")[2] in line]


async def test_call_that_loses_its_socket_is_over_without_a_grace(live_server):
    live = await live_server(
        **SEALED, BRIDGE_AGENT="retell", agent={"behaviour": echo}, limits={"grace_s": 60}
    )
    phone = PagePhone(live)
    await phone.log_in()
    await phone.call("retell")
    async with phone.started() as socket:
        await until(lambda: live.open_calls and live.open_calls[0].state is State.BRIDGED)
        abort_with_reset(socket.transport)
        await until(lambda: live.is_idle)
    assert live.documents[0]["end"]["why"] == "caller_lost"


async def test_agent_that_hangs_up_ends_the_call_by_its_socket_alone(live_server, asked_of_twilio):
    live = await live_server(**SEALED, BRIDGE_AGENT="openai", agent={"protocol": "openai"})
    phone = PagePhone(live)
    await phone.log_in()
    await phone.call("openai")
    async with phone.started() as socket:
        session = await live.agent.next_session()
        assert isinstance(session, OpenAISession)
        await until(lambda: live.open_calls and live.open_calls[0].state is State.BRIDGED)
        await session.send_function_call("hang_up", {})
        assert await phone.close_code(socket) == 1000
    await until(lambda: live.is_idle)
    assert live.documents[0]["end"]["why"] == "agent_hung_up"
    assert asked_of_twilio == []


async def test_transfer_is_refused_and_the_agent_goes_on_talking(live_server, asked_of_twilio, logs):
    live = await live_server(
        **SEALED, BRIDGE_AGENT="openai", BRIDGE_TRANSFER_TO="+4930", agent={"protocol": "openai"}
    )
    phone = PagePhone(live)
    await phone.log_in()
    await phone.call("openai")
    async with phone.started() as socket:
        session = await live.agent.next_session()
        await until(lambda: live.open_calls and live.open_calls[0].state is State.BRIDGED)
        await session.send_function_call("transfer_call", {"to_number": "+493012345678"})
        await until(lambda: session.function_outputs)
        assert "not allowed" in session.function_outputs[0].output
        await session.send_audio(make_numbered(1))
        assert json.loads((await soon(socket.receive())).data)["event"] == "media"
        await socket.send_str(phone.writer.stop())
        await phone.close_code(socket)
    await until(lambda: live.is_idle)
    assert asked_of_twilio == []
    assert [line for line in logs.lines if "a call of the page has none" in line]


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


async def test_any_process_with_the_same_store_takes_the_socket_once(live_server, tmp_path):
    store = f"sqlite:{tmp_path}/store.sqlite3"
    settings = {**SEALED, "BRIDGE_AGENT": "echo"}
    live = await live_server(**settings, BRIDGE_STORE=store)
    async with beside(live, store, **settings) as other:
        phone = PagePhone(live)
        await phone.log_in()
        await phone.call("echo")
        async with phone.started(live=other) as socket:
            await socket.send_str(phone.writer.media(make_numbered(1), 0))
            assert json.loads((await soon(socket.receive())).data)["event"] == "media"
            # The process that has made the ID cannot know yet that it is used, and the store says so.
            async with phone.started() as second:
                assert await phone.close_code(second) == 1008
            assert other.live_calls == 1
        await until(lambda: other.is_idle and live.is_idle)


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


@pytest.mark.parametrize("headers", FOREIGN)
async def test_page_of_another_site_gets_no_media_socket(phone, headers):
    assert await phone.upgrade(headers) == 403
    await still_works(phone)


async def test_media_socket_needs_the_cookie_of_this_server(phone, live_server):
    elsewhere = PagePhone(await live_server(**SEALED, BRIDGE_AGENT="echo", TWILIO_AUTH_TOKEN="another"))
    await elsewhere.log_in()
    await elsewhere.call("echo")
    for cookie in ("", "bridge_page=", elsewhere.cookie):
        assert await phone.upgrade(cookie=cookie) == 403
    for ticket in ("", f"{COOKIE}=", elsewhere.ticket, phone.cookie.replace("bridge_page", COOKIE)):
        assert await phone.upgrade(ticket=ticket) == 403
    await still_works(phone)


async def test_media_id_is_good_once(phone):
    async with phone.started() as socket:
        await until(lambda: phone.live.live_calls == 1)
        assert await phone.upgrade() == 403
        await socket.send_str(phone.writer.stop())
        await phone.close_code(socket)
    await until(lambda: phone.live.is_idle)
    # A thief has all of it: URL, token, both cookies.
    assert await phone.upgrade() == 403


async def test_of_two_sockets_with_one_ticket_one_gets_the_call(phone):
    async with phone.socket() as first, phone.socket() as second:
        await phone.start(first)
        await until(lambda: phone.live.live_calls == 1)
        await phone.start(second)
        assert await phone.close_code(second) == 1008
        assert phone.live.live_calls == 1


async def test_media_id_is_good_for_a_minute(phone, monkeypatch):
    now = time.time
    with monkeypatch.context() as later:
        later.setattr("time.time", lambda: now() + 61)
        assert await phone.upgrade() == 403
    await still_works(phone)


async def test_ticket_leads_to_no_other_media_id(phone, live):
    other = PagePhone(live)
    other.cookie = phone.cookie
    await other.call("echo")
    assert await phone.upgrade(path=other.fields["path"]) == 403
    async with live.answered() as caller:
        # The socket of a phone call needs Twilio's signature as ever.
        path = "/media/" + caller.answer.stream_url.rpartition("/")[2]
        assert await phone.upgrade(path=path) == 403
        await caller.open_stream()
        # Neither does the page's own socket take the token of a phone call.
        async with phone.socket() as socket:
            await socket.send_str(phone.writer.connected())
            await socket.send_str(phone.writer.start(caller.answer.parameters))
            assert await phone.close_code(socket) == 1008
        assert live.live_calls == 1


async def test_development_takes_the_pages_own_socket_and_no_other_pages(live_server):
    live = await live_server(**DEVELOPMENT)
    phone = PagePhone(live)
    local = {"Host": "localhost:3000", "Origin": "http://localhost:3000"}
    assert (await phone.call("echo", local))[0] == 200
    assert await phone.upgrade(ORIGIN) == 403
    assert await phone.upgrade(local, ticket="") == 403
    assert await phone.upgrade({**local, "X-Forwarded-For": "192.0.2.1"}) == 403
    async with phone.started(headers=local) as socket:
        await socket.send_str(phone.writer.media(make_numbered(1), 0))
        assert json.loads((await soon(socket.receive())).data)["event"] == "media"
    await until(lambda: live.is_idle)
