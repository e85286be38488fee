"""The telephone's audio in Chromium."""

import contextlib

from chromium import tab

from bridge.standins.audio import decode_mulaw, encode_mulaw

DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0", "BRIDGE_AGENT": "echo"}


@contextlib.asynccontextmanager
async def page_of(live, browser):
    async with tab(browser) as page:
        await page.open(f"{live.url}/")
        await page.until("document.readyState === 'complete'")
        yield page
        assert page.console == []


async def test_mu_law_is_that_of_g711(live_server, browser):
    live = await live_server(**DEVELOPMENT)
    async with page_of(live, browser) as page:
        samples, encoded = await page.evaluate(
            "import('/page/telephone.audio.js').then(({ SAMPLES, encode }) => [[...SAMPLES],"
            "Array.from({ length: 65536 }, (_, n) => encode((n - 32768) / 32768))])"
        )
        assert [round(sample * 32768) for sample in samples] == list(decode_mulaw(bytes(range(256))))
        assert bytes(encoded[32768:]) == encode_mulaw(range(32768))
        # Symmetric; -32768 has no counterpart.
        assert encoded[32767:0:-1] == [byte ^ 0x80 for byte in encoded[32769:]]
