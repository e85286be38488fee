"""The page at a real server: who gets it, its data and its files."""

import re

import aiohttp
import pytest
from live import AUTH_TOKEN, PUBLIC_URL, until

from bridge.server.page.page import STATIC

PASSWORD = "correct horse battery"
HOST = {"Host": "voice.example.com"}
ORIGIN = {**HOST, "Origin": PUBLIC_URL}
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
    for path in ("/page/data", "/page/page.js"):
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
    assert (await ask(live, "GET", "/page/data"))[:2] == (401, "401 Unauthorized\n")
    status, _, headers = await log_in(live)
    assert (status, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"].partition(";")[0]
    status, text, _ = await ask(live, "GET", "/", {**HOST, "Cookie": cookie})
    assert (status, "Live calls" in text) == (200, True)
    status, text, _ = await ask(live, "GET", "/page/data", {**HOST, "Cookie": cookie})
    assert (status, '"calls":[]' in text) == (200, True)
    for foreign in ({**ORIGIN, "Origin": "https://evil.example"}, {"Host": "evil.example"}):
        assert (await ask(live, "GET", "/page/data", {**foreign, "Cookie": cookie}))[0] == 403


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


async def test_data_have_the_live_calls(live_server):
    live = await live_server(**DEVELOPMENT)
    async with live.answered(called="+14155550100") as caller:
        await caller.open_stream()
        await caller.send_raw(caller.writer.mark("x"))
        status, text, _ = await ask(live, "GET", "/page/data", {})
        await caller.hang_up()
        await until(lambda: live.is_idle)
    assert status == 200
    assert f'"call_sid":"{caller.call_sid}"' in text
    assert '"agent":"echo"' in text
    assert '"wait_p50_ms":null,"interrupts":0,"dropped_frames":0' in text


async def test_page_asks_for_nothing_that_is_not_served(live_server):
    live = await live_server(**DEVELOPMENT, PUBLIC_URL="https://voice.example.com/bridge")
    asked = set()
    for path in sorted(STATIC.glob("*.html")):
        asked |= set(re.findall(r'(?:src|href)="([^"]*)"', path.read_text()))
    assert len(asked) >= 3
    for reference in asked:
        path = reference.replace("{{prefix}}", "/bridge")
        assert (await ask(live, "GET", path))[0] == 200, path
    assert 'data-prefix="/bridge"' in (await ask(live, "GET", "/bridge/"))[1]
