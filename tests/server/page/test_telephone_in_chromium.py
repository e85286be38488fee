"""The page's telephone in Chromium, whose microphone plays a recording."""

import contextlib
import json

import numpy as np
from chromium import WITHIN_S, tab
from live import until
from recording import RATE_HZ, decoded, quality_db

from bridge.standins.audio import FRAME_BYTES

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
        assert document["drops"] == {
            "to_agent": 0,
            "to_caller": 0,
            "cleared": 0,
            "lost_audio_s": 0,
            "ignored": {},
        }


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
