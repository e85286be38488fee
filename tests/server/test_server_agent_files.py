"""Whole calls with the agents of `examples/agents`, against stand-ins written from the vendors' documents."""

from __future__ import annotations

import asyncio
import audioop
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from live import PLAIN_AND_TLS, Live, until

from bridge.standins.agent.faults import Faults
from bridge.standins.audio import frames, speech
from bridge.standins.process import free_port

pytestmark = PLAIN_AND_TLS

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
VENDORS = {
    "assemblyai": "wss://agents.assemblyai.com",
    "cartesia": "wss://api.cartesia.ai",
    "ultravox": "https://api.ultravox.ai",
    "vapi": "https://api.vapi.ai",
}
QUESTION = b"".join(frames(speech("caller_question")))
ANSWER = b"".join(frames(speech("agent_answer")))
GOODBYE = b"".join(frames(speech("agent_goodbye")))

Start = Callable[..., Awaitable[Live]]


@pytest.fixture
async def start(live_server, tls, tmp_path) -> AsyncIterator[Start]:
    """Starts a server with an example's agent at its stand-in, which is the only address that is changed."""

    async def start_one(vendor: str, agent: dict[str, Any] | None = None, **settings: Any) -> Live:
        port = free_port()
        scheme = VENDORS[vendor].partition("://")[0]
        scheme = scheme if tls else scheme.removesuffix("s")
        text = (EXAMPLES / f"{vendor}.toml").read_text()
        assert VENDORS[vendor] in text
        (tmp_path / "agents.toml").write_text(text.replace(VENDORS[vendor], f"{scheme}://127.0.0.1:{port}"))
        (tmp_path / "prompt.txt").write_text('Say "hello".')
        return await live_server(
            agent={"protocol": vendor, "port": port, **(agent or {})},
            BRIDGE_AGENTS_FILE=tmp_path / "agents.toml",
            BRIDGE_AGENT=vendor,
            ASSEMBLYAI_PROMPT_FILE=tmp_path / "prompt.txt",
            **settings,
        )

    yield start_one


def linear(mulaw: bytes) -> bytes:
    """Samples, in which mu-law's two zeros are one."""
    return audioop.ulaw2lin(mulaw, 2)


def heard_by_agent(session: Any) -> bytes:
    return b"".join(item.audio for item in session.received)


def heard_by_caller(caller: Any) -> bytes:
    return b"".join(caller.received_audio)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_speech_arrives_sample_for_sample_each_way(start, vendor):
    live = await start(vendor)
    async with live.bridged() as (caller, session):
        await asyncio.gather(
            caller.send_frames(frames(QUESTION), paced=False),
            session.send_frames(frames(ANSWER), paced=False),
        )
        await until(lambda: len(heard_by_caller(caller)) == len(ANSWER))
        await until(lambda: len(heard_by_agent(session)) == len(QUESTION))
        assert linear(heard_by_caller(caller)) == linear(ANSWER)
        assert linear(heard_by_agent(session)) == linear(QUESTION)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_first_word_is_kept_while_the_agent_opens(start, vendor):
    late = Faults(ready_delay_s=0.3) if vendor in ("assemblyai", "cartesia") else Faults(open_delay_s=0.3)
    live = await start(vendor, {"faults": late})
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_frames(frames(QUESTION), paced=False)
        session = await live.session_of(caller)
        await until(lambda: len(heard_by_agent(session)) == len(QUESTION))
        assert linear(heard_by_agent(session)) == linear(QUESTION)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_caller_who_cuts_in_is_not_talked_over(start, vendor):
    live = await start(vendor)
    async with live.bridged() as (caller, session):
        await session.send_frames(frames(ANSWER), paced=False)
        await until(lambda: len(heard_by_caller(caller)) == len(ANSWER))
        await session.send_interrupt()
        await session.send_frames(frames(GOODBYE), paced=False)
        await until(lambda: len(heard_by_caller(caller)) == len(ANSWER) + len(GOODBYE))
        names = [item.message.event for item in caller.received if item.message.event != "mark"]
        before, after = names[: names.index("clear")], names[names.index("clear") :]
        assert (before.count("media"), after.count("clear")) == (len(list(frames(ANSWER))), 1)
        assert caller.playout.cleared_bytes > len(ANSWER) // 2


@pytest.mark.parametrize("vendor", VENDORS)
async def test_last_words_of_an_agent_that_ends_are_played(start, vendor):
    live = await start(vendor)
    async with live.bridged() as (caller, session):
        await session.send_frames(frames(GOODBYE), paced=False)
        await session.send_call_ended()
        await caller.closed.wait()
        caller.playout.advance(asyncio.get_running_loop().time())
        assert caller.playout.buffered_bytes == 0
        assert linear(heard_by_caller(caller)) == linear(GOODBYE)
        assert caller.close_code == 1000


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_message_of_the_vendor_is_understood(start, vendor):
    live = await start(vendor)
    async with live.bridged() as (caller, session):
        await session.send_audio(ANSWER[:160])
        await session.send_heard("Hello?")
        await session.send_interrupt()
        if vendor in ("ultravox", "vapi"):
            await session.send_transcript("agent" if vendor == "ultravox" else "assistant", "Good day.")
        else:
            session.transcript = "Good day."
            await session.end_turn()
        [call] = live.open_calls
        said = lambda: [(s.speaker.value, s.text) for s in call.memory(0.0).said]  # noqa: E731
        await until(lambda: {("caller", "Hello?"), ("agent", "Good day.")} <= set(said()))
        assert await live.ignored("agent", "unknown_type") == 0
        await caller.hang_up()
        await session.closed.wait()
        if vendor == "assemblyai":
            assert session.is_ended_by_bridge
            assert 'Say "hello".' in session.settings["system_prompt"]
        elif vendor in ("ultravox", "vapi"):
            assert getattr(session, "is_hung_up_by_bridge", False) or session.is_ended_by_bridge


async def test_cartesia_gets_keys_one_by_one(start):
    live = await start("cartesia")
    async with live.bridged() as (caller, session):
        for digit in "42#":
            await caller.send_dtmf(digit)
        await until(lambda: session.digits == ["4", "2", "#"])


async def test_ultravox_gets_keys_together(start):
    live = await start("ultravox")
    async with live.bridged() as (caller, session):
        for digit in "42#":
            await caller.send_dtmf(digit)
        await until(lambda: session.texts == ["The caller pressed 42#."])


@pytest.mark.parametrize("vendor", ["assemblyai", "cartesia", "ultravox"])
async def test_refused_transfer_is_answered(start, vendor):
    live = await start(vendor)
    async with live.bridged() as (_, session):
        call_id = await session.send_tool_call("transfer_call", {"to_number": "+4930123456"})
        await until(lambda: call_id in session.tool_results)
        assert "allowed" in str(session.tool_results[call_id])
