"""The page in Chromium: its lists, the search, one call, and what a keyboard and a small screen need."""

import contextlib
import json

import pytest
from chromium import tab
from live import until

from bridge.server.store.documents import Bounds

PASSWORD = "correct horse battery"
DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}
LOUD = bytes([0x80])
SIZES = [(width, scheme) for width in (375, 1280) for scheme in ("light", "dark")]


@contextlib.asynccontextmanager
async def page_of(live, browser, path="/"):
    """The page, which complains of nothing until the end of the block."""
    async with tab(browser) as page:
        await page.open(live.url + path)
        await page.until("document.readyState === 'complete'")
        yield page
        assert page.console == []


@contextlib.asynccontextmanager
async def call_of(live, **options):
    """A live call."""
    async with live.answered(**options) as caller:
        await caller.open_stream()
        caller.open_line()
        await until(lambda: any(call.started_at for call in live.open_calls))
        yield caller


async def finish(live, caller):
    await caller.hang_up()
    await until(lambda: live.is_idle)
    await live.server._agreement.documents.settled()


def rows(table):
    """An expression for the CallSids of a table's rows."""
    return f"[...document.querySelectorAll('#{table} tbody a')].map((link) => link.title)"


def shows(table, *sids):
    return f"JSON.stringify({rows(table)}) === {json.dumps(json.dumps(sids, separators=(',', ':')))}"


async def test_call_moves_from_the_live_ones_to_the_finished_ones(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        await page.until("!document.getElementById('no-finished').hidden")
        async with call_of(live) as caller:
            await page.until(shows("calls", caller.call_sid))
            assert await page.text("#count") == "1"
            # The row is renewed under the reader's focus.
            await page.evaluate("document.querySelector('#calls a').focus()")
            await page.until("document.querySelector('#calls tbody').rows[0].cells[3].textContent > '0:01'")
            assert await page.evaluate("document.activeElement.title") == caller.call_sid
            assert await page.evaluate(rows("calls")) == [caller.call_sid]
            await finish(live, caller)
        await page.until(shows("calls"))
        await page.until(shows("finished", caller.call_sid))
        assert await page.evaluate("document.getElementById('no-calls').hidden") is False


async def test_finished_calls_are_searched_and_turned_over(live_server, browser, monkeypatch):
    monkeypatch.setattr("bridge.server.page.calls.ROWS", 2)
    live = await live_server(**DEVELOPMENT)
    sids = []
    for called in ("+14155550100", "+14155550100", "+14155550177"):
        async with call_of(live, called=called) as caller:
            await finish(live, caller)
        sids.insert(0, caller.call_sid)
    async with page_of(live, browser) as page:
        await page.until(shows("finished", *sids[:2]))
        assert await page.evaluate("document.getElementById('newer').disabled") is True
        await page.click("#older")
        await page.until(shows("finished", sids[2]))
        assert await page.text("#page-number") == "Page 2"
        assert await page.evaluate("document.getElementById('older').disabled") is True
        await page.click("#newer")
        await page.until(shows("finished", *sids[:2]))
        await page.evaluate("document.getElementById('words').focus()")
        for key in "14155550177":
            await page.press(key)
        await page.press("Enter", "\r", 13)
        await page.until(shows("finished", sids[0]))
        await page.evaluate("document.getElementById('words').value = 'nobody'")
        await page.click("#search button")
        await page.until(
            "document.getElementById('no-finished').textContent.startsWith('No finished call has')"
        )


HOLD_ANSWERS = """
const answered = window.fetch;
window.fetch = async (address, options) => {
  const answer = await answered(address, options);
  if (address.includes("words=%2B14155550100")) await new Promise((go) => { window.letGo = go; });
  return answer;
};
"""


async def test_answer_that_a_later_search_has_overtaken_is_not_shown(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with call_of(live, called="+14155550100") as caller:
        await finish(live, caller)
    async with page_of(live, browser) as page:
        await page.until(shows("finished", caller.call_sid))
        await page.evaluate(HOLD_ANSWERS)
        for words in ("+14155550100", "nobody"):
            await page.evaluate(f"document.getElementById('words').value = '{words}'")
            await page.click("#search button")
        await page.until("window.letGo && !document.getElementById('no-finished').hidden")
        # The page reads the answer in some turns of its loop.
        await page.evaluate(
            "(async () => { letGo(); for (let n = 0; n < 50; n += 1) await new Promise((go) => setTimeout(go)); })()"
        )
        assert await page.evaluate(rows("finished")) == []


async def test_second_click_before_the_page_has_come_turns_no_further(live_server, browser, monkeypatch):
    monkeypatch.setattr("bridge.server.page.calls.ROWS", 1)
    live = await live_server(**DEVELOPMENT)
    sids = []
    for _ in range(3):
        async with call_of(live) as caller:
            await finish(live, caller)
        sids.insert(0, caller.call_sid)
    async with page_of(live, browser) as page:
        await page.until(shows("finished", sids[0]))
        await page.evaluate("for (let n = 0; n < 2; n += 1) document.getElementById('older').click()")
        await page.until(shows("finished", sids[1]))
        assert await page.text("#page-number") == "Page 2"


async def test_call_is_opened_by_the_keyboard_and_left_again(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with call_of(live) as caller, page_of(live, browser) as page:
        await page.until(shows("calls", caller.call_sid))
        await page.evaluate("document.querySelector('#calls a').focus()")
        await page.press("Enter", "\r", 13)
        await page.until("document.getElementById('call-state').textContent === 'live'")
        assert await page.evaluate("document.activeElement.id") == "call-title"
        assert await page.text("#call-sid") == caller.call_sid
        assert await page.evaluate("document.getElementById('lists').hidden") is True
        link = await page.evaluate("document.getElementById('record').href")
        assert link == f"{live.url}/page/calls/{caller.call_sid}"
        await finish(live, caller)
        await page.until("document.getElementById('call-state').textContent === 'over'")
        facts = await page.evaluate("document.querySelector('#call dl').textContent")
        assert "Endcaller stopped" in facts
        assert "Agentecho" in facts
        await page.press("Tab", code=9)
        await page.evaluate("history.back()")
        await page.until(shows("finished", caller.call_sid))


async def test_login_leads_to_the_call_of_the_address(live_server, browser):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    async with live.bridged() as (caller, _), page_of(live, browser, f"/#{caller.call_sid}") as page:
        caller.open_line()
        await page.evaluate(f"document.getElementById('password').value = {json.dumps(PASSWORD)}")
        await page.click("button")
        await page.until("document.getElementById('call-state')?.textContent === 'live'")
        assert await page.text("#call-sid") == caller.call_sid


async def test_call_that_nobody_knows_is_said_so_until_it_comes(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with live.caller() as caller, tab(browser) as page:
        await page.open(f"{live.url}/#{caller.call_sid}")
        await page.until("document.getElementById('page-problem')?.textContent.startsWith('Nobody knows')")
        await caller.post_voice()
        await page.until("!document.getElementById('call-elsewhere').hidden")
        await caller.open_stream()
        await page.until("document.getElementById('call-state').textContent === 'live'")
        assert await page.text("#page-problem") == ""


async def test_what_was_said_is_text_and_no_markup(live_server, browser):
    live = await live_server(
        agent={"protocol": "openai"},
        BRIDGE_AGENT="openai",
        BRIDGE_PAGE_PASSWORD=PASSWORD,
        OPENAI_REALTIME_GREETS="1",
    )
    said = "<img src=x onerror=\"document.body.textContent=''\"><script>1</script>"
    async with live.bridged() as (caller, agent):
        caller.open_line()
        await until(lambda: agent.asked_to_speak)
        await agent.send_heard(said)
        await until(lambda: live.open_calls[0].conversation.changes)
        async with page_of(live, browser, f"/#{caller.call_sid}") as page:
            await page.evaluate(f"document.getElementById('password').value = {json.dumps(PASSWORD)}")
            await page.click("button")
            await page.until("document.querySelector('.said li') !== null")
            assert said in await page.text(".said")
            assert await page.evaluate("document.querySelectorAll('.said img, .said script').length") == 0
        await caller.hang_up()
        await until(lambda: live.is_idle)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
async def test_nothing_sticks_out_and_everything_has_a_name(live_server, browser, width, scheme):
    live = await live_server(**DEVELOPMENT)
    async with call_of(live) as caller, page_of(live, browser) as page:
        await page.size(width, 800, scheme)
        await page.until(shows("calls", caller.call_sid))
        await check_layout(page, width)
        await page.click("#calls a")
        await page.until("document.getElementById('call-state').textContent === 'live'")
        await check_layout(page, width)


async def check_layout(page, width):
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    nodes = (await page.command("Accessibility.getFullAXTree"))["nodes"]
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in ("button", "link", "searchbox", "textbox", "table", "region", "image", "img"):
            assert role == "table" or node.get("name", {}).get("value"), node
    # A colour of the legend stands beside its word.
    torn = "[...document.querySelectorAll('.key')].filter((one) => one.getClientRects().length > 1)"
    assert await page.evaluate(f"{torn}.map((one) => one.textContent)") == []
    # Whoever uses a finger hits what he can press; a checkbox has its label.
    small = await page.evaluate(
        "[...document.querySelectorAll('button, input:not([type=checkbox])')].filter((one) => one.checkVisibility())"
        ".filter((one) => one.getBoundingClientRect().height < 44).map((one) => one.id)"
    )
    assert small == []


async def test_picture_of_a_call_grows_and_stays(live_server, browser):
    live = await live_server(BRIDGE_PAGE_PASSWORD=PASSWORD)
    async with (
        live.bridged() as (caller, agent),
        page_of(live, browser, f"/#{caller.call_sid}") as page,
    ):
        # A caller without any message for 15 s is lost.
        caller.open_line()
        await page.evaluate(f"document.getElementById('password').value = {json.dumps(PASSWORD)}")
        await page.click("button")
        await page.until(
            "document.querySelector('svg')?.getAttribute('aria-label')?.includes('0 interrupts')"
        )
        assert await page.evaluate("document.querySelector('svg path.agent').getAttribute('d')") == ""
        await caller.send_frames(iter([LOUD * 3200]), paced=False)
        # Two seconds, of which the caller hears nothing after the clear.
        await agent.send_audio(LOUD * 16000)
        for side in ("caller", "agent"):
            await page.until(f"document.querySelector('svg path.{side}').getAttribute('d')")
        assert await page.evaluate("document.querySelector('svg path.cleared').getAttribute('d')") == ""
        await agent.send_interrupt()
        await page.until("document.querySelector('svg line.interrupt') !== null")
        assert "interrupt, clear in" in await page.text("svg")
        length = await page.evaluate("document.querySelector('svg').getAttribute('width')")
        await page.click(".closer")
        assert float(await page.evaluate("document.querySelector('svg').getAttribute('width')")) > float(
            length
        )
        await finish(live, caller)
        await page.until("document.getElementById('call-state').textContent === 'over'")
        assert await page.evaluate("document.querySelector('svg line.end') !== null")
        assert await page.evaluate("document.querySelector('.no-audio').hidden") is True


async def test_finished_call_without_its_audio_has_its_turns_and_waits(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with call_of(live) as caller:
        await finish(live, caller)
    turn = {
        "caller": {"at_s": 1.0, "until_s": 3.0},
        "agent": {"at_s": 3.7, "until_s": 6.0},
        "wait_ms": 700.0,
        "overlap_s": 0.0,
        "interrupts": {"caller": 0, "agent": 0},
        "vain_interrupts": {"caller": 0, "agent": 1},
    }
    [document] = live.documents
    turns = {**document["turns"], "count": 1, "last": [turn]}
    turns["waits"] = {**turns["waits"], "count": 1, "p50_ms": 700.0}
    sid = "CA" + 32 * "f"
    kept = live.server._agreement.documents
    marks = {"count": 40, "last": [4.0, 6.0]}
    shown = {**document, "call_sid": sid, "turns": turns, "marks": marks}
    kept.keep(sid, 0, shown, [], Bounds(10, 3600.0))
    await kept.settled()
    async with page_of(live, browser, f"/#{sid}") as page:
        await page.until("document.querySelectorAll('svg path.wait').length === 1")
        assert await page.evaluate("document.querySelectorAll('svg rect.caller, svg rect.agent').length") == 2
        assert await page.evaluate("document.querySelector('svg text.wait').textContent") == "0.70 s"
        assert await page.evaluate("document.querySelectorAll('svg path.mark').length") == 2
        assert await page.evaluate("document.querySelector('.no-audio').hidden") is False
        label = await page.evaluate("document.querySelector('svg').getAttribute('aria-label')")
        assert label.endswith("1 turn, 0 interrupts, the caller waits 0.70 s in the median.")
        cells = await page.evaluate(
            "[...document.querySelectorAll('.turns td')].map((cell) => cell.textContent)"
        )
        assert cells == ["1", "1.00 to 3.00 s", "0.70 s", "3.70 to 6.00 s", "–", "agent in vain"]
