"""The generator against small relays with known faults: each fault must show in its own counter and in no other."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from certificates import Tls

from benchmarks.generator.driver import Caller, Generator, build_generator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLS = 2
TO_AGENT = '{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"%s"}'

CALL_COUNTERS = (
    "calls_refused",
    "calls_missing",
    "calls_closed_early",
    "bad_closes",
    "legs_left_open",
    "interrupts_unanswered",
    "clears_unexpected",
)
WAY_COUNTERS = (
    "lost",
    "duplicated",
    "reordered",
    "corrupt",
    "unexpected_messages",
    "stale_after_clear",
    "cleared",
)


class Relay:
    """The least that can stand between the two ends; a test replaces what it wants broken."""

    def __init__(
        self, caller: web.WebSocketResponse, agent: ClientWebSocketResponse, stream_sid: str
    ) -> None:
        self.caller = caller
        self.agent = agent
        self.stream_sid = stream_sid
        self.count = 0

    async def on_caller_audio(self, payload: str) -> None:
        await self.agent.send_str(TO_AGENT % payload)

    async def on_agent_audio(self, payload: str) -> None:
        await self.send_to_caller(payload)

    async def on_interrupt(self) -> None:
        await self.caller.send_str(f'{{"event":"clear","streamSid":"{self.stream_sid}"}}')

    async def on_stop(self) -> None:
        await self.agent.close()
        await self.caller.close()

    async def send_to_caller(self, payload: str) -> None:
        text = '{"event":"media","streamSid":"%s","media":{"payload":"%s"}}'
        await self.caller.send_str(text % (self.stream_sid, payload))

    async def run(self) -> None:
        down = asyncio.create_task(self._read_agent())
        try:
            async for message in self.caller:
                event = json.loads(message.data)
                if event["event"] == "media":
                    await self.on_caller_audio(event["media"]["payload"])
                elif event["event"] == "stop":
                    await self.on_stop()
                    return
        except ConnectionError:
            pass
        finally:
            down.cancel()

    async def _read_agent(self) -> None:
        async for message in self.agent:
            if message.type is not WSMsgType.TEXT:
                return
            event = json.loads(message.data)
            if event["type"] == "audio":
                await self.on_agent_audio(event["data"])
            else:
                await self.on_interrupt()


@asynccontextmanager
async def serving(
    relay: type[Relay], agent_port: int, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[int]:
    async with ClientSession() as session:

        async def media(request: web.Request) -> web.WebSocketResponse:
            caller = web.WebSocketResponse()
            await caller.prepare(request)
            assert (await caller.receive_json())["event"] == "connected"
            start = (await caller.receive_json())["start"]
            assert start["customParameters"] == {"token": "t"}
            url = f"ws://127.0.0.1:{agent_port}/audio-websocket/{request.match_info['id']}"
            async with session.ws_connect(url) as agent:
                await relay(caller, agent, start["streamSid"]).run()
            return caller

        application = web.Application()
        application.router.add_get("/media/{id}", media)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


async def result_of(
    relay: type[Relay], ssl_context: ssl.SSLContext | None = None, **settings: int
) -> dict[str, Any]:
    base = {
        "calls": CALLS,
        "seconds_ms": 600,
        "interrupt_ms": 0,
        "auth": 0,
        "caller_tls": int(ssl_context is not None),
    }
    executable = await asyncio.to_thread(build_generator, ssl_context is not None)
    generator = await Generator.start(executable, {**base, **settings})
    try:
        async with serving(relay, generator.agent_port, ssl_context) as port:
            for number in range(CALLS):
                generator.begin_call(
                    Caller(
                        number=number,
                        address="127.0.0.1",
                        port=port,
                        host="test",
                        path=f"/media/call-{number}",
                        signature=None,
                        account_sid="AC1",
                        call_sid=f"CA{number}",
                        stream_sid=f"MZ{number}",
                        parameters={"token": "t"},
                    )
                )
            generator.end_of_calls()
            async for event in generator.events():
                result = event
            return result
    finally:
        await generator.stop()


def faults(result: dict[str, Any]) -> dict[str, int]:
    found = {key: result[key] for key in CALL_COUNTERS if result[key]}
    for way in ("to_agent", "to_caller"):
        found |= {f"{way}.{key}": result[way][key] for key in WAY_COUNTERS if result[way][key]}
    return found


class EveryThird(Relay):
    """Broken for every third frame of the agent, in the way of the subclass."""

    async def on_agent_audio(self, payload: str) -> None:
        self.count += 1
        if self.count % 3:
            await self.send_to_caller(payload)
        else:
            await self.on_third(payload)

    async def on_third(self, payload: str) -> None:
        raise NotImplementedError


class Dropping(EveryThird):
    async def on_third(self, payload: str) -> None:
        pass


class Doubling(EveryThird):
    async def on_third(self, payload: str) -> None:
        await self.send_to_caller(payload)
        await self.send_to_caller(payload)


class Corrupting(EveryThird):
    async def on_third(self, payload: str) -> None:
        await self.send_to_caller(payload[:40] + ("B" if payload[40] == "A" else "A") + payload[41:])


class OtherJson(EveryThird):
    async def on_third(self, payload: str) -> None:
        await self.send_to_caller(payload)
        await self.caller.send_json(
            {"event": "media", "streamSid": self.stream_sid, "media": {"payload": "", "x": 1}}
        )


class Swapping(Relay):
    held: str | None = None

    async def on_caller_audio(self, payload: str) -> None:
        if self.held is None:
            self.held = payload
            return
        await super().on_caller_audio(payload)
        await super().on_caller_audio(self.held)
        self.held = None


class Clearing(Relay):
    """Holds the agent's frames for a while, and drops what it holds when it is interrupted: as a bridge should."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.held: list[str] = []

    async def on_agent_audio(self, payload: str) -> None:
        self.held.append(payload)
        if len(self.held) > 4:
            held, self.held = self.held, []
            for one in held:
                await self.send_to_caller(one)

    async def on_interrupt(self) -> None:
        self.held = []
        await super().on_interrupt()


class ClearingTooLate(Clearing):
    """Forgets to drop what it holds."""

    async def on_interrupt(self) -> None:
        await Relay.on_interrupt(self)


class Deaf(Relay):
    async def on_interrupt(self) -> None:
        pass


class Quitting(Relay):
    async def on_caller_audio(self, payload: str) -> None:
        self.count += 1
        if self.count == 20:
            await self.agent.close()
            await self.caller.close(code=1011)
        elif self.count < 20:
            await super().on_caller_audio(payload)


class Lingering(Relay):
    """Leaves the agent's leg open for longer than the generator waits."""

    async def on_stop(self) -> None:
        await self.caller.close()
        await asyncio.sleep(8)


RUNS: dict[str, tuple[type[Relay], int]] = {
    "faultless": (Relay, 200),
    "dropping": (Dropping, 0),
    "doubling": (Doubling, 0),
    "corrupting": (Corrupting, 0),
    "other JSON": (OtherJson, 0),
    "swapping": (Swapping, 0),
    "quitting": (Quitting, 0),
    "lingering": (Lingering, 0),
    "clearing": (Clearing, 150),
    "clearing too late": (ClearingTooLate, 150),
    "deaf": (Deaf, 150),
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    """Return the results of all relays, made side by side: each run is little but waiting."""

    async def run_all() -> list[dict[str, Any]]:
        return await asyncio.gather(*(result_of(relay, interrupt_ms=ms) for relay, ms in RUNS.values()))

    build_generator()
    return dict(zip(RUNS, asyncio.run(run_all()), strict=True))


def test_faultless_relay_shows_no_fault(results: dict[str, dict[str, Any]]) -> None:
    result = results["faultless"]
    assert faults(result) == {}
    assert result["calls_up"] == CALLS
    assert result["interrupts"] >= CALLS
    for way in ("to_agent", "to_caller"):
        assert result[way]["sent"] == result[way]["received"] > CALLS * 40
    assert 0 < result["clear_us"]["p50"] <= result["clear_us"]["max"]


def test_callers_with_tls_show_no_fault(tmp_path: Path) -> None:
    result = asyncio.run(result_of(Relay, Tls(tmp_path).server()))
    assert faults(result) == {}
    assert result["calls_up"] == CALLS
    for way in ("to_agent", "to_caller"):
        assert result[way]["sent"] == result[way]["received"] > CALLS * 30


def test_delays_are_measured_by_the_stamps_of_the_kernel(results: dict[str, dict[str, Any]]) -> None:
    # Only the first bytes on an accepted socket may be from before it asks for stamps.
    assert results["faultless"]["reads_without_stamp"] <= 2 * CALLS


@pytest.mark.parametrize(
    ("run", "is_expected"),
    [
        ("dropping", lambda found: set(found) == {"to_caller.lost"}),
        ("doubling", lambda found: set(found) == {"to_caller.duplicated"}),
        ("corrupting", lambda found: set(found) == {"to_caller.corrupt"}),
        ("other JSON", lambda found: set(found) == {"to_caller.unexpected_messages"}),
        # The relay may be left holding the last frame.
        ("swapping", lambda found: set(found) - {"to_agent.lost"} == {"to_agent.reordered"}),
        ("quitting", lambda found: found["calls_closed_early"] == CALLS),
        ("lingering", lambda found: found == {"legs_left_open": CALLS}),
        ("deaf", lambda found: found == {"interrupts_unanswered": CALLS}),
    ],
)
def test_fault_of_the_relay_shows_in_its_counter(
    results: dict[str, dict[str, Any]], run: str, is_expected: Callable[[dict[str, int]], bool]
) -> None:
    found = faults(results[run])
    assert is_expected(found), found


def test_frames_dropped_by_an_interrupt_are_cleared_and_not_lost(results: dict[str, dict[str, Any]]) -> None:
    found = faults(results["clearing"])
    # What the relay still holds when the load ends is at most four frames a call.
    assert found.pop("to_caller.lost", 0) <= 4 * CALLS
    assert set(found) == {"to_caller.cleared"}


def test_frames_of_before_an_interrupt_must_not_follow_the_clear(results: dict[str, dict[str, Any]]) -> None:
    assert "to_caller.stale_after_clear" in faults(results["clearing too late"])


def test_agent_leg_without_the_token_is_refused() -> None:
    """The relay sends no Authorization, so no call may come up when the agent asks for it."""
    result = asyncio.run(result_of(Relay, auth=1))
    assert (result["calls_up"], result["calls_refused"]) == (0, CALLS)
