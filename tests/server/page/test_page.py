"""The page at a real server: who gets it, its data and its files."""

import json
import re
from urllib.parse import quote

import aiohttp
import pytest
from live import AUTH_TOKEN, PUBLIC_URL, until

from bridge.server.page.calls import NO_CALL, NO_STORE, NOT_A_NUMBER
from bridge.server.page.page import STATIC
from bridge.server.store.store import StoreError

PASSWORD = "correct horse battery"
HOST = {"Host": "voice.example.com"}
ORIGIN = {**HOST, "Origin": PUBLIC_URL}
DATA = ("/page/data", "/page/finished?words=x", f"/page/calls/CA{32 * '1'}", "/page/calls/x")
DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}


async def ask(live, method, path, headers=HOST, **options):
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        session.request(
            method, live.url + path, headers=headers, allow_redirects=False, **options
        ) as response,
    ):
        return response.status, await response.text(), response.headers


async def log_in(live, password=PASSWORD, headers=ORIGIN):
    return await ask(live, "POST", "/page/login", headers, data={"password": password})


async def test_without_a_password_there_is_no_page_outside_development(live_server):
    live = await live_server()
    assert (await ask(live, "GET", "/"))[:2] == (200, "ok\n")
    for path in (*DATA, "/page/page.js"):
        assert (await ask(live, "GET", path))[0] == 404
    assert (await log_in(live))[0] == 404


@pytest.mark.parametrize("overrides", [{"BRIDGE_PAGE_PASSWORD": PASSWORD}, DEVELOPMENT])
async def test_balancers_get_200_whatever_host_they_name(live_server, overrides):
    live = await live_server(**overrides)
    for method in ("GET", "HEAD", "OPTIONS"):
        for host in ("10.0.0.7", "voice.example.com"):
            assert (await ask(live, method, "/", {"Host": host}))[0] == 200
    assert (await ask(live, "OPTIONS", "/"))[1] == "ok\n"


async def test_login_opens_the_page_and_its_data(live_server):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    status, text, headers = await ask(live, "GET", "/")
    assert (status, 'type="password"' in text) == (200, True)
    assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]
    status, _, headers = await log_in(live)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"].partition(";")[0]
    status, text, _ = await ask(live, "GET", "/", {**HOST, "Cookie": cookie})
    assert (status, "Live calls" in text) == (200, True)
    status, text, _ = await ask(live, "GET", "/page/data", {**HOST, "Cookie": cookie})
    assert (status, '"calls":[]' in text) == (200, True)


async def test_data_of_calls_are_for_nobody_else(live_server, monkeypatch):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    cookie = (await log_in(live))[2]["Set-Cookie"].partition(";")[0]

    async def never(*arguments):
        raise AssertionError("the store was asked")

    for name in ("newest", "find"):
        monkeypatch.setattr(live.server._agreement._store.shelf, name, never)
    async with live.bridged() as (caller, _):
        for path in (*DATA, f"/page/calls/{caller.call_sid}"):
            for stolen in ("", "bridge_page=", cookie[:-4]):
                headers = {**HOST, "Cookie": stolen}
                assert (await ask(live, "GET", path, headers))[:2] == (401, "401 Unauthorized\n")
            for foreign in (
                {**ORIGIN, "Origin": "https://evil.example"},
                {"Host": "evil.example"},
                {**HOST, "Sec-Fetch-Site": "cross-site"},
            ):
                headers = {**foreign, "Cookie": cookie}
                assert (await ask(live, "GET", path, headers))[:2] == (403, "403 Forbidden\n")
        assert (await ask(live, "POST", "/page/data", {**HOST, "Cookie": cookie}))[0] == 405


async def test_wrong_passwords_open_nothing_and_soon_are_not_looked_at(live_server, logs):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    statuses = []
    for n in range(15):
        status, text, headers = await log_in(live, f"wrong {n}")
        statuses.append(status)
        assert "Set-Cookie" not in headers
        assert "Live calls" not in text
    assert statuses == 10 * [401] + 5 * [429]
    # Neither does the right one help now.
    status, _, headers = await log_in(live)
    assert status == 429
    assert int(headers["Retry-After"]) <= 30
    assert not [line for line in logs.lines if PASSWORD in line or "wrong 1" in line or AUTH_TOKEN in line]


async def test_form_of_another_site_is_refused(live_server):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    for headers in (
        HOST,
        {**HOST, "Origin": "https://evil.example"},
        {"Host": "evil.example", "Origin": "https://evil.example"},
    ):
        status, _, answered = await log_in(live, headers=headers)
        assert (status, "Set-Cookie" in answered) == (403, False)


async def show(live, path):
    status, text, headers = await ask(live, "GET", path, {})
    assert headers["Cache-Control"] == "no-store"
    return status, json.loads(text)


async def test_live_call_is_listed_and_shown_as_far_as_it_has_come(live_server):
    live = await live_server(**DEVELOPMENT)
    async with live.answered(called="+14155550100") as caller:
        await caller.open_stream()
        await until(lambda: any(call.started_at for call in live.open_calls))
        status, found = await show(live, "/page/data")
        assert (status, found["count"], found["is_whole"]) == (200, 1, True)
        [row] = found["calls"]
        assert (row["call_sid"], row["agent"], row["state"]) == (caller.call_sid, "echo", "bridged")
        status, found = await show(live, f"/page/calls/{caller.call_sid}")
        assert (status, found["is_live"], found["records"][0]["end"]) == (200, True, None)
        await caller.hang_up()
        await until(lambda: live.is_idle)
    assert (await show(live, "/page/data"))[1] == {"calls": [], "count": 0, "is_whole": True}


async def test_finished_calls_are_searched_and_shown(live_server):
    live = await live_server(**DEVELOPMENT)
    sids = []
    for called in ("+14155550100", "+14155550177"):
        async with live.answered(called=called) as caller:
            await caller.open_stream()
            await until(lambda: any(call.started_at for call in live.open_calls))
            await caller.hang_up()
            await until(lambda: live.is_idle)
        sids.insert(0, caller.call_sid)
    await live.server._agreement.documents.settled()
    for words, expected in (
        ("", sids),
        (sids[1], sids[1:]),
        (quote("+1 415 555 0177"), sids[:1]),
        ("echo%20stopped", sids),
        ("nobody", []),
    ):
        status, found = await show(live, f"/page/finished?words={words}")
        assert (status, found["next"]) == (200, None)
        assert [row["call_sid"] for row in found["calls"]] == expected, words
    status, found = await show(live, "/page/finished?skip=1")
    assert [row["call_sid"] for row in found["calls"]] == sids[1:]
    status, found = await show(live, f"/page/calls/{sids[0]}")
    assert (status, found["is_live"]) == (200, False)
    assert found["records"][0]["end"]["why"] == "caller_stopped"


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/page/finished?skip=-1", 400, NOT_A_NUMBER),
        (f"/page/finished?skip={5000 * '1'}", 400, NOT_A_NUMBER),
        ("/page/finished?skip=x&words=%ff%00", 400, NOT_A_NUMBER),
        (f"/page/calls/CA{32 * '1'}", 404, NO_CALL),
        ("/page/calls/CA1", 404, NO_CALL),
        ("/page/calls/", 404, NO_CALL),
        ("/page/calls", 404, NO_CALL),
        ("/page/calls/page.js", 404, NO_CALL),
    ],
)
async def test_data_that_cannot_be_shown_are_a_problem_in_words(live_server, path, status, problem):
    live = await live_server(**DEVELOPMENT)
    assert await show(live, path) == (status, {"problem": problem})


async def test_store_that_is_down_is_a_problem_in_words(live_server, monkeypatch):
    live = await live_server(**DEVELOPMENT)

    async def fails(*arguments):
        raise StoreError("gone")

    for name in ("newest", "find"):
        monkeypatch.setattr(live.server._agreement._store.shelf, name, fails)
    for path in ("/page/finished", f"/page/calls/CA{32 * '1'}"):
        assert await show(live, path) == (503, {"problem": NO_STORE})
    assert (await show(live, "/page/data"))[0] == 200


async def test_requests_for_single_calls_are_counted_under_one_path(live_server):
    live = await live_server(**DEVELOPMENT)
    for n in range(3):
        await show(live, f"/page/calls/CA{n:032x}")
    assert (await live.metrics())['bridge_http_requests_total{path="/page/calls",status="404"}'] == 3


async def test_page_asks_for_nothing_that_is_not_served(live_server):
    live = await live_server(**DEVELOPMENT, PUBLIC_URL="https://voice.example.com/bridge")
    asked = set()
    for path in sorted(STATIC.glob("*.html")):
        asked |= set(re.findall(r'(?:src|href)="([^"]*)"', path.read_text()))
    for path in sorted(STATIC.glob("*.js")):
        imported = re.findall(r'from "\./([^"]*)"', path.read_text())
        asked |= {f"{{{{prefix}}}}/page/{name}" for name in imported}
    assert len(asked) >= 8
    for reference in asked:
        path = reference.replace("{{prefix}}", "/bridge")
        assert (await ask(live, "GET", path))[0] == 200, path
    assert 'data-prefix="/bridge"' in (await ask(live, "GET", "/bridge/"))[1]
