"""Whole calls with OpenAI's stand-in: what an unwell service does to the caller, tools, keys, and heard items."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from live import FACTOR, Live, serving, soon, until

from bridge.agents import openai_realtime
from bridge.agents.words import TRANSFERS
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.protocols.openai import OpenAISession
from bridge.standins.numbered import make_numbered
from bridge.standins.twilio.caller import Caller
from bridge.twilio.rest import TwilioApi

CALLER = "+14155550123"
QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your quota."}
SERVER = {"type": "server_error", "code": None, "message": "Sorry about that."}
RATE = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Please try again in 20s."}


@contextlib.asynccontextmanager
async def calling(**options: Any) -> AsyncIterator[tuple[Live, Caller, OpenAISession]]:
    """A call with the stand-in, which does not greet; the echo is next in the chain."""
    limits = options.pop("limits", {})
    settings = {"BRIDGE_AGENT": "openai,echo", "OPENAI_REALTIME_GREETS": "0", **options}
    async with (
        serving(agent={"protocol": "openai"}, limits=limits, **settings) as live,
        live.bridged() as (caller, session),
    ):
        assert isinstance(session, OpenAISession)
        yield live, caller, session


async def echo_answers(live: Live, caller: Caller, before: int = 0) -> None:
    """The next agent of the chain has taken the call; the service's own audio came before."""
    await until(lambda: live.agents_replaced == 1)
    await caller.send_media(make_numbered(77))
    await until(lambda: caller.received_audio[before:] == [make_numbered(77)])
    assert len(live.agent.sessions) == 1


def logged(logs: Any, text: str) -> bool:
    return any(text in line for line in logs.lines)


# A service that cannot go on


async def test_quota_that_ends_in_mid_call_leads_to_the_next_agent(logs):
    async with calling() as (live, caller, session):
        await session.send_audio(make_numbered(0))
        await session.end_turn()
        await until(lambda: caller.received_audio)
        await session.fail_response(**QUOTA)
        await echo_answers(live, caller, 1)
        assert logged(logs, "error code insufficient_quota: You exceeded your quota.")


@pytest.mark.parametrize("problem", [SERVER, RATE | {"message": "Please try again in 0.1s."}])
async def test_failure_that_passes_is_asked_again_and_the_call_goes_on(problem):
    async with calling() as (live, caller, session):
        await session.fail_response(**problem)
        await until(lambda: session.asked_to_speak)
        await session.send_audio(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])
        assert (session.asked_to_speak, session.refused_requests) == (1, 0)
        assert (await live.metrics())["bridge_agents_replaced_total"] == 0


async def test_failure_that_repeats_itself_leads_to_the_next_agent(logs):
    async with calling() as (live, caller, session):
        session.failures.append(SERVER)
        await session.fail_response(**SERVER)
        await echo_answers(live, caller)
        assert session.asked_to_speak == 1
        assert logged(logs, "error type server_error: Sorry about that.")


async def test_rate_limit_that_lasts_leads_to_the_next_agent_at_once():
    async with calling() as (live, caller, session):
        await session.fail_response(**RATE)
        await echo_answers(live, caller)
        assert session.asked_to_speak == 0


async def test_error_and_silence_lead_to_the_next_agent():
    async with calling(limits={"trouble_s": 0.2 * FACTOR}) as (live, caller, session):
        await session.send_error("internal_error", "Oops.")
        await echo_answers(live, caller)


async def test_error_and_an_ordinary_close_lead_to_the_next_agent(logs):
    async with calling() as (live, caller, session):
        await session.send_error("internal_error", "Oops.")
        await session.close(1000)
        await echo_answers(live, caller)
        assert logged(logs, "error code internal_error, type server_error: Oops.")


async def test_warning_and_an_ordinary_close_end_the_call():
    async with calling() as (_, caller, session):
        await session.send_error("invalid_value", kind="invalid_request_error")
        await session.close(1000)
        await soon(caller.closed.wait())
        assert caller.close_code == 1000


async def test_refused_settings_lead_to_the_next_agent_and_say_why(logs):
    options = {"protocol": "openai", "faults": Faults(fail_ready=True)}
    async with (
        serving(agent=options, BRIDGE_AGENT="openai,echo") as live,
        live.answered() as caller,
    ):
        await caller.open_stream()
        await echo_answers(live, caller)
        assert logged(logs, "error code session_update_failed, type invalid_request_error: The session could")


async def test_format_that_was_not_asked_for_leads_to_the_next_agent_before_a_frame_is_heard(logs):
    def confirm_pcm(session: Any) -> None:
        session.confirmed_format = {"type": "audio/pcm", "rate": 24000}

    async with serving(agent={"protocol": "openai"}, BRIDGE_AGENT="openai,echo") as live:
        live.agent.on_session = confirm_pcm
        async with live.answered() as caller:
            await caller.open_stream()
            await echo_answers(live, caller)
            assert logged(logs, "it confirms input audio as audio/pcm instead of audio/pcmu")


async def test_audio_of_a_service_that_speaks_before_it_confirms_its_format_is_never_heard():
    def speak_pcm_early(session: Any) -> None:
        session.confirmed_format = {"type": "audio/pcm", "rate": 24000}
        session.early_audio = 960 * b"\x01"

    async with serving(agent={"protocol": "openai"}, BRIDGE_AGENT="openai,echo") as live:
        live.agent.on_session = speak_pcm_early
        async with live.answered() as caller:
            await caller.open_stream()
            await echo_answers(live, caller)
            assert await live.ignored("agent", "audio_before_its_format") == 1


async def test_session_at_its_limit_is_followed_by_the_next_agent():
    async with calling() as (live, caller, session):
        await session.send_expired()
        await echo_answers(live, caller)


async def test_model_learns_that_the_limit_is_near():
    async with calling(limits={"notice_s": 3599.0}) as (_, _, session):
        await until(lambda: session.told)
        [(speaker, text)] = session.told
        assert speaker == "system"
        assert "35" in text


# What the model and the caller ask for


async def test_goodbye_after_the_request_to_hang_up_is_heard_whole(monkeypatch):
    asked: list[str] = []

    async def change(call_sid: str, form: Any) -> None:
        asked.append(call_sid)

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(call_sid, form))
    goodbye = [make_numbered(n) for n in range(50)]
    async with calling() as (_, caller, session):
        await session.send_function_call("hang_up", {}, is_last=False)
        await until(lambda: session.function_outputs)
        await session.send_frames(goodbye[:10])
        await session.send_frames(goodbye[10:], paced=False)
        assert asked == []
        await session.end_turn()
        await soon(caller.closed.wait())
        assert (caller.close_code, caller.received_audio) == (1000, goodbye)
        assert asked == [caller.call_sid]
        assert session.asked_to_speak == 0


async def test_refused_transfer_gets_its_result_and_the_model_goes_on_talking(logs):
    async with calling(BRIDGE_TRANSFER_TO="+4930") as (_, caller, session):
        names = [tool["name"] for tool in session.session["tools"]]
        assert names == ["hang_up", "transfer_call"]
        await session.send_function_call("transfer_call", {"to_number": "+19005550100"}, is_last=False)
        await session.send_function_call("unheard_of", {}, is_last=False)
        await until(lambda: len(session.function_outputs) == 2)
        assert session.asked_to_speak == 0
        await session.send_audio(make_numbered(0))
        await session.end_turn()
        await until(lambda: session.asked_to_speak)
        await session.send_audio(make_numbered(1))
        await until(lambda: len(caller.received_audio) == 2)
        assert (session.asked_to_speak, session.refused_requests) == (1, 0)
        assert logged(logs, "transfer refused")


async def test_number_is_transferred_to_however_the_model_writes_it(monkeypatch):
    forms: list[str] = []

    async def change(call_sid: str, form: Any) -> None:
        forms.append(str(form))

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(call_sid, form))
    async with calling(BRIDGE_TRANSFER_TO="+4930") as (_, caller, session):
        await session.send_function_call("transfer_call", {"to_number": "+49 (0)30 1234-5678"})
        await soon(caller.closed.wait())
        assert "+493012345678" in forms[0]
        # The result of the transfer is sent, and no request for more words.
        assert [json.loads(output.output) for output in session.function_outputs] == [{"result": TRANSFERS}]
        assert session.asked_to_speak == 0


async def test_transfer_is_not_offered_where_no_number_is_allowed():
    async with calling() as (_, _, session):
        assert [tool["name"] for tool in session.session["tools"]] == ["hang_up"]


async def test_keys_are_told_together_and_answered():
    async with calling(OPENAI_REALTIME_KEYS="1") as (_, caller, session):
        for key in "42#":
            await caller.send_dtmf(key)
        await until(lambda: session.asked_to_speak)
        [(speaker, text)] = session.told
        assert speaker == "caller"
        assert "42#" in text


async def test_session_file_and_the_calls_values_reach_the_model(tmp_path):
    path = tmp_path / "session.json"
    path.write_text(json.dumps({"audio": {"input": {"noise_reduction": {"type": "far_field"}}}}))
    settings = {
        "OPENAI_REALTIME_SESSION_FILE": path,
        "OPENAI_REALTIME_INSTRUCTIONS": "The caller is {from}.",
    }
    async with calling(**settings) as (_, _, session):
        assert session.session["audio"]["input"]["noise_reduction"] == {"type": "far_field"}
        assert session.session["instructions"] == f"The caller is {CALLER}."


# What the caller heard


async def test_each_of_two_overlapping_items_is_truncated_at_its_own_share():
    async with calling() as (live, caller, session):
        caller.open_line()
        session.turn_pause_s = 60.0
        await session.send_frames((make_numbered(n) for n in range(100)), paced=False)
        await session.end_turn()
        await session.send_frames((make_numbered(n) for n in range(100, 150)), paced=False)
        await until(lambda: len(caller.received_audio) == 150)
        [call] = live.open_calls
        # Twilio's side has played the first 400 ms.
        await until(lambda: call._heard._played_bytes >= 3200)
        await session.send_interrupt()
        await until(lambda: len(session.truncates) == 2)
        first, second = session.truncates
        assert [first.item_id, second.item_id] == list(session.items)
        assert 400 <= first.audio_end_ms < 2000
        assert second.audio_end_ms == 0


async def test_item_that_is_still_made_is_truncated_where_all_of_it_was_heard():
    async with calling() as (live, caller, session):
        session.turn_pause_s = 60.0
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        await until(lambda: len(caller.received_audio) == 10)
        [call] = live.open_calls
        loop = asyncio.get_running_loop()
        await until(lambda: call._heard._heard_bytes(1600, loop.time()) == 1600)
        await session.send_interrupt()
        await until(lambda: session.truncates)
        assert [truncate.audio_end_ms for truncate in session.truncates] == [200]


async def test_refused_truncate_is_a_warning(logs):
    async with calling() as (_, caller, session):
        session.refuses_truncates = True
        session.turn_pause_s = 60.0
        await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
        await until(lambda: len(caller.received_audio) == 50)
        await session.send_interrupt()
        await until(lambda: logged(logs, "Only model output audio messages can be truncated"))
        await session.send_audio(make_numbered(50))
        await until(lambda: len(caller.received_audio) == 51)


async def test_caller_does_not_interrupt_a_model_that_goes_on_speaking(tmp_path):
    path = tmp_path / "session.json"
    detection = {"type": "server_vad", "interrupt_response": False}
    path.write_text(json.dumps({"audio": {"input": {"turn_detection": detection}}}))
    async with calling(OPENAI_REALTIME_SESSION_FILE=path) as (_, caller, session):
        session.stale_frames = 0
        await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
        await session.send_interrupt()
        await session.send_audio(make_numbered(50))
        await until(lambda: len(caller.received_audio) == 51)
        assert [item for item in caller.received if item.message.event == "clear"] == []
        assert session.truncates == []


@pytest.mark.parametrize("is_heard", [False, True])
async def test_service_that_never_hears_the_caller_is_in_the_log(logs, monkeypatch, is_heard):
    monkeypatch.setattr(openai_realtime, "HEARD_WITHIN_S", 0.0)
    async with calling() as (live, caller, session):
        if is_heard:
            await session.send_interrupt()
            await until(lambda: any(item.message.event == "clear" for item in caller.received))
        await caller.hang_up()
        await until(lambda: live.is_idle)
        assert logged(logs, "it reported no speech of the caller") is not is_heard


async def test_empty_delta_is_dropped_and_counted():
    async with calling() as (live, caller, session):
        await session.send_audio(make_numbered(0))
        await session.send_audio(b"")
        await session.send_audio(make_numbered(1))
        await until(lambda: len(caller.received_audio) == 2)
        await live.until_ignored("agent", "empty_audio")
