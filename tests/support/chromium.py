"""Debian's Chromium without a window, driven by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from live import DEADLINE_S

# On a loaded machine a page takes seconds.
WITHIN_S = 4 * DEADLINE_S
LISTENS = re.compile(r"DevTools listening on (ws://\S+)")
OPTIONS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-sync",
    "--lang=en",
)


@contextlib.contextmanager
def chromium(folder: Path, *options: str) -> Iterator[str]:
    """Run Chromium until the end of the block; yields the URL of its DevTools socket."""
    program = shutil.which("chromium")
    if program is None:
        assert not os.environ.get("CI"), "chromium is not installed, and CI must run this"
        pytest.skip("chromium is not installed: apt-get install chromium")
    # Its sandbox does not work for root.
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [program, *OPTIONS, *as_root, f"--user-data-dir={folder}", *options, "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    url = None
    for line in process.stderr:
        said.append(line)
        if (found := LISTENS.search(line)) is not None:
            url = found[1]
            break
    # It writes on, and must not wait for a reader.
    rest = threading.Thread(target=process.stderr.read, daemon=True)
    rest.start()
    try:
        assert url is not None, "".join(said)
        yield url
    finally:
        process.kill()
        process.wait()
        rest.join()
        process.stderr.close()


class Tab:
    """
    One tab with a profile of its own.

    Attributes:
        console: What the page or the browser complains of.
        frames: The texts on its WebSockets in order, each behind ``sent`` or ``received``.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.console: list[str] = []
        self.frames: list[tuple[str, str]] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        # Of the tab; empty for commands to the browser.
        self._session: dict[str, str] = {}
        self.context = ""

    async def attach(self) -> None:
        """Open the tab."""
        self.context = (await self.command("Target.createBrowserContext"))["browserContextId"]
        target = await self.command("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.command(f"{domain}.enable")

    async def read(self) -> None:
        """Read what the browser says, until the socket closes."""
        async for message in self._socket:
            fields = json.loads(message.data)
            if (answer := self._answers.pop(fields.get("id"), None)) is not None:
                if not answer.done():
                    answer.set_result(fields)
            elif "method" in fields:
                self._on_event(fields["method"], fields["params"])

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.webSocketFrameSent":
                self.frames.append(("sent", params["response"]["payloadData"]))
            case "Network.webSocketFrameReceived":
                self.frames.append(("received", params["response"]["payloadData"]))
            case "Runtime.exceptionThrown":
                self.console.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.console.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.console.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    async def command(self, method: str, *, of_browser: bool = False, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        session = {} if of_browser else self._session
        await self._socket.send_json({"id": number, "method": method, "params": params, **session})
        answer = await asyncio.wait_for(self._answers[number], WITHIN_S)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    # What a user does

    async def open(self, url: str) -> None:
        """Load a page."""
        answer = await self.command("Page.navigate", url=url)
        assert "errorText" not in answer, answer

    async def open_soon(self, url: str) -> None:
        """Load a page of a server that starts."""
        async with asyncio.timeout(WITHIN_S):
            while "errorText" in await self.command("Page.navigate", url=url):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self.console.clear()

    async def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        place = await self.evaluate(
            f"(() => {{ const at = document.querySelector({json.dumps(selector)});"
            "at.scrollIntoView({ block: 'center', behavior: 'instant' }); const box = at.getBoundingClientRect();"
            "return { x: box.x + box.width / 2, y: box.y + box.height / 2 }; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.command("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    async def press(self, key: str, text: str | None = None, code: int = 0) -> None:
        """Press a key of the keyboard."""
        fields = {"key": key, "windowsVirtualKeyCode": code}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text=text or key, **fields)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **fields)

    async def size(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the page in pixels, and what its user prefers: ``light`` or ``dark``."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def picture(self) -> bytes:
        """What the page looks like, as a PNG."""
        return base64.b64decode((await self.command("Page.captureScreenshot"))["data"])

    # What is seen

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; one of a promise, when it is there."""
        answer = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def text(self, selector: str) -> str:
        """The text of an element."""
        return str(await self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    async def until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        async with asyncio.timeout(WITHIN_S):
            while not await self.evaluate(expression):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def messages(self, direction: str, event: str) -> list[dict[str, Any]]:
        """The messages of one kind on the page's WebSockets."""
        found = [json.loads(text) for way, text in self.frames if way == direction]
        return [message for message in found if message["event"] == event]

    def payloads(self, direction: str) -> list[bytes]:
        """The audio of each ``media``."""
        return [base64.b64decode(one["media"]["payload"]) for one in self.messages(direction, "media")]


@contextlib.asynccontextmanager
async def tab(browser: str) -> AsyncIterator[Tab]:
    """A tab of the Chromium whose DevTools socket has this URL."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(browser, max_msg_size=0) as socket,
    ):
        opened = Tab(socket)
        reading = asyncio.create_task(opened.read())
        try:
            await opened.attach()
            yield opened
            await opened.command(
                "Target.disposeBrowserContext", of_browser=True, browserContextId=opened.context
            )
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
