"""The page's telephone in Chromium, whose microphone plays a recording."""

import contextlib
import json

import numpy as np
import pytest
from chromium import WITHIN_S, chromium, tab
from live import until
from page_phone import PASSWORD
from recording import RATE_HZ, decoded, quality_db

from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.protocols.retell_twilio import RetellTwilioSession
from bridge.standins.audio import FRAME_BYTES
from bridge.standins.numbered import make_numbered
from bridge.standins.process import free_port

DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}


@contextlib.asynccontextmanager
async def page_of(live, browser):
    """The page, with a telephone that is ready; nothing on its console is an error."""
    async with tab(browser) as page:
        await page.open(f"{live.url}/")
        await page.until("document.querySelector('#telephone-call')?.disabled === false")
        yield page
        assert page.console == []


async def hang_up(live, page):
    await page.click("#telephone-hang-up")
    await until(lambda: live.documents, WITHIN_S)
    assert await page.text("#telephone-state") == "You have hung up."


async def test_echo_returns_the_bytes_that_the_page_sent(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        await page.click("#telephone-processing")
        await page.click("#telephone-call")
        await until(lambda: len(page.payloads("received")) >= 100, WITHIN_S)
        await hang_up(live, page)
        sent, received = page.payloads("sent"), page.payloads("received")
        assert {len(frame) for frame in sent} == {FRAME_BYTES}
        assert received == sent[: len(received)]
        # A loaded machine may disturb the fake microphone, but not for half of the time.
        pieces = [decoded(b"".join(sent[n : n + 10])) for n in range(10, len(sent) - 10, 10)]
        assert np.median([quality_db(piece, RATE_HZ) for piece in pieces]) > 20
        [document] = live.documents
        assert (document["end"]["why"], document["route"]) == ("caller_stopped", "(page)")
        assert document["frames"]["from_caller"] >= len(received)
        drops = document["drops"]
        assert (drops["to_agent"], drops["to_caller"], drops["cleared"], drops["ignored"]) == (0, 0, 0, {})
        assert document["end"]["caller_closed"]["code"] == 1000


async def test_page_plays_twilios_part(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        await page.click("#telephone-call")
        await until(lambda: len(page.payloads("received")) >= 5, WITHIN_S)
        await hang_up(live, page)
        sent = [json.loads(text) for way, text in page.frames if way == "sent"]
        assert [message["event"] for message in sent[:3]] == ["connected", "start", "media"]
        assert sent[-1]["event"] == "stop"
        assert [message["sequenceNumber"] for message in sent[1:]] == [str(n) for n in range(1, len(sent))]
        media = [message["media"] for message in sent[2:-1]]
        assert [one["chunk"] for one in media] == [str(n + 1) for n in range(len(media))]
        assert [one["timestamp"] for one in media] == [str(20 * n) for n in range(len(media))]


async def test_barge_in_marks_and_keys_reach_the_agent(live_server, browser):
    live = await live_server(
        agent={"protocol": "retell-twilio", "behaviour": silent},
        **{**DEVELOPMENT, "BRIDGE_AGENT": "retell-twilio"},
        BRIDGE_ALLOW_UNSIGNED_AGENT="1",
    )
    async with page_of(live, browser) as page:
        # By the keyboard alone.
        await page.evaluate("document.querySelector('#telephone-call').focus()")
        await page.press("Enter", "\r", 13)
        session = await live.agent.next_session(WITHIN_S)
        assert isinstance(session, RetellTwilioSession)
        await until(session.opened.is_set, WITHIN_S)
        await until(lambda: page.payloads("sent"), WITHIN_S)
        # A mark comes back when the audio before it has played: its frames are as long as those of the microphone.
        await session.send_frames([make_numbered(1)] * 50, paced=False)
        await session.send_mark("heard")
        await until(lambda: session.marks == ["heard"], WITHIN_S)
        # The agent may hear of it before the browser says that it was sent.
        await until(lambda: page.messages("sent", "mark"), WITHIN_S)
        texts = [text for _, text in page.frames]
        begin = next(n for n, text in enumerate(texts) if '"media"' in text and "track" not in text)
        end = next(n for n, text in enumerate(texts) if '"mark"' in text and "sequenceNumber" in text)
        assert sum('"track"' in text for text in texts[begin:end]) >= 48
        # A minute of audio, of which the caller hears the beginning.
        await session.send_frames([make_numbered(1)] * 3000, paced=False)
        for name in ("one", "two"):
            await session.send_mark(name)
        await page.until("document.querySelector('#telephone-heard').value > 0")
        assert session.marks == ["heard"]
        await session.send_interrupt()
        await until(lambda: session.marks == ["heard", "one", "two"], WITHIN_S)
        await until(lambda: page.messages("received", "clear"), WITHIN_S)
        assert len(page.messages("received", "clear")) == 1
        await page.until("document.querySelector('#telephone-heard').value === 0")
        await page.click('#telephone-keys [value="5"]')
        await page.press("#")
        await until(lambda: session.dtmf == ["5", "#"], WITHIN_S)
        await hang_up(live, page)
        assert live.documents[0]["keys"] == 2


async def test_agent_that_ends_the_call_is_heard_to_its_end(live_server, browser):
    async def goodbye(session):
        await session.send_frames([make_numbered(n) for n in range(40)], paced=False)
        await session.send_call_ended()

    live = await live_server(
        agent={"behaviour": goodbye},
        **{**DEVELOPMENT, "BRIDGE_AGENT": "retell"},
        BRIDGE_ALLOW_UNSIGNED_AGENT="1",
    )
    async with page_of(live, browser) as page:
        await page.click("#telephone-call")
        await page.until("document.querySelector('#telephone-state').textContent === 'The call has ended.'")
        assert page.payloads("received") == [make_numbered(n) for n in range(40)]
        [mark] = page.messages("sent", "mark")
        assert mark["mark"] == {"name": "played-out"}
        await until(lambda: live.documents, WITHIN_S)
        assert live.documents[0]["end"]["why"] == "agent_ended"


# What goes wrong


async def problem_of(page):
    await page.click("#telephone-call")
    await page.until("document.querySelector('#telephone-problem').textContent !== ''")
    assert await page.evaluate("document.querySelector('#telephone-hang-up').hidden")
    return await page.text("#telephone-problem")


@pytest.mark.parametrize(
    ("option", "setting", "words"),
    [
        ("--use-fake-device-for-media-stream", "denied", "The browser may not use the microphone."),
        ("--mute-audio", "granted", "No microphone is there."),
    ],
)
async def test_telephone_without_a_microphone_says_why(live_server, tmp_path, option, setting, words):
    live = await live_server(**DEVELOPMENT)
    with chromium(tmp_path, option) as url:
        async with page_of(live, url) as page:
            await page.command(
                "Browser.setPermission",
                of_browser=True,
                permission={"name": "microphone"},
                setting=setting,
                browserContextId=page.context,
            )
            has_one = await page.evaluate(
                "navigator.mediaDevices.enumerateDevices()"
                ".then((devices) => devices.some(({ kind }) => kind === 'audioinput'))"
            )
            if setting == "granted" and has_one:
                pytest.skip("this machine has a microphone")
            assert (await problem_of(page)).startswith(words)
            assert live.admitted == 0


async def test_page_that_is_not_https_is_told(live_server, browser):
    port = free_port()
    public_url = f"http://voice.example.com:{port}"
    live = await live_server(**DEVELOPMENT, PUBLIC_URL=public_url, PORT=port, BRIDGE_PAGE_PASSWORD=PASSWORD)
    live.url = public_url
    async with tab(browser) as page:
        await page.open(f"{public_url}/")
        await page.until("document.querySelector('#password') !== null")
        await page.evaluate("document.querySelector('#password').focus()")
        await page.command("Input.insertText", text=PASSWORD)
        await page.press("Enter", "\r", 13)
        await page.until("document.querySelector('#telephone-call')?.disabled === false")
        assert "because it is not https" in await problem_of(page)
        assert live.admitted == 0


# How it looks, and to whom


@pytest.mark.parametrize("width", [375, 1280])
async def test_page_fits_its_window_and_all_controls_have_names(live_server, browser, width):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        await page.size(width, 800)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        tree = await page.command("Accessibility.getFullAXTree")
        roles = {"button", "combobox", "checkbox", "meter", "timer"}
        found = [
            (node["role"]["value"], node["name"]["value"])
            for node in tree["nodes"]
            if not node["ignored"] and node["role"]["value"] in roles
        ]
        assert all(name for _, name in found), found
        assert {("combobox", "Agent"), ("button", "Call"), ("button", "Star"), ("meter", "You")} <= set(found)
