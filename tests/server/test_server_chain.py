"""Unavailable agents of every kind and the next agent of the chain, on real sockets: no audio is lost."""

from __future__ import annotations

import asyncio
import json

import pytest
from live import DEADLINE_S, FACTOR, PLAIN_AND_TLS, serving, soon, until
from live_raw import RawAgent, accept_head, ws_frame

from bridge.call.state import State
from bridge.standins.agent.behaviours import silent
from bridge.standins.agent.faults import Faults, HttpAnswer
from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.service import AgentService
from bridge.standins.numbered import make_numbered
from bridge.twilio.rest import TwilioApi

pytestmark = PLAIN_AND_TLS

CLOSE, TEXT = 0x8, 0x1


async def closes_politely(socket):
    await socket.send(accept_head(socket) + ws_frame((1000).to_bytes(2), opcode=CLOSE, mask=False))
    await socket.gone()


async def closes_in_one_segment(socket):
    await socket.send(accept_head(socket) + ws_frame((1008).to_bytes(2), opcode=CLOSE, mask=False))
    await socket.gone()


async def resets(socket):
    await socket.send(accept_head(socket))
    socket.writer.transport.abort()


async def breaks_the_protocol(socket):
    await socket.send(accept_head(socket) + b"\xff\x00")
    await socket.gone()


async def says_nothing(socket):
    await socket.send(accept_head(socket))
    await socket.gone()


async def fails_at_a_message_of_its_own(socket):
    text = b'{"type":"session.updated","session":[' + 5000 * b"["
    await socket.send(accept_head(socket) + ws_frame(text, mask=False))
    await socket.send(ws_frame(b'{"type":"error","error":{"code":"invalid_api_key"}}', mask=False))
    await socket.gone()


async def floods(socket):
    await socket.send(accept_head(socket) + 300 * ws_frame(b'{"type":"rate_limits.updated"}', mask=False))
    await socket.gone()


@pytest.mark.parametrize(
    "serve",
    [
        floods,
        closes_politely,
        closes_in_one_segment,
        resets,
        breaks_the_protocol,
        says_nothing,
        fails_at_a_message_of_its_own,
    ],
)
async def test_next_agent_gets_every_word_of_the_caller(live_server, tls, tmp_path, serve):
    async with (
        RawAgent(serve, tls) as raw,
        AgentService(
            protocol="json", behaviour=silent, account=Account(key="key"), ssl=tls and tls.server()
        ) as second,
    ):
        (tmp_path / "agents.toml").write_text(
            f"""
[second]
url = "{second.ws_url}"
headers = {{ Authorization = "Bearer key" }}
to_agent = '{{"kind":"audio","body":{{"b64":"{{audio}}"}}}}'
from_agent = {{ path = "body.b64", equal = {{ kind = "audio" }} }}
"""
        )
        live = await live_server(
            BRIDGE_AGENT="openai,second",
            BRIDGE_AGENTS_FILE=tmp_path / "agents.toml",
            OPENAI_API_KEY="key",
            OPENAI_REALTIME_URL=raw.ws_url,
            BRIDGE_AGENT_CONNECT_S=(30.0 if serve is floods else 0.7) * FACTOR,
            BRIDGE_HOLD_FROM_CALLER_MS=60_000,
            BRIDGE_CONTROL_PER_S=100,
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.send_frames((make_numbered(n) for n in range(10)), paced=False)
            session = await second.next_session(DEADLINE_S)
            await soon(session.opened.wait())
            await caller.send_frames((make_numbered(n) for n in range(10, 20)), paced=False)
            await until(lambda: len(session.received) == 20)
            assert [item.audio for item in session.received] == [make_numbered(n) for n in range(20)]
            [call] = live.open_calls
            await until(lambda: call.state is State.BRIDGED)
            metrics = await live.metrics()
            assert metrics["bridge_agents_replaced_total"] == 1
            assert await live.dropped("to_agent") == 0
            await session.send_audio(make_numbered(0))
            await until(lambda: caller.received_audio == [make_numbered(0)])
        assert session.violations == []


async def test_after_a_fallback_the_counts_are_those_of_both_agents(live_server, tls):
    async with RawAgent(says_nothing, tls) as raw:
        live = await live_server(
            BRIDGE_AGENT="openai,retell",
            OPENAI_API_KEY="key",
            OPENAI_REALTIME_URL=raw.ws_url,
            BRIDGE_AGENT_CONNECT_S=0.5,
            # Two agents: the ring holds 1 s, and the rest of the caller's audio is dropped.
            BRIDGE_HOLD_FROM_CALLER_MS=500,
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.send_frames((make_numbered(n) for n in range(70)), paced=False)
            session = await live.agent.next_session(DEADLINE_S)
            await until(lambda: len(session.received) == 50)
            traffic = live.traffic
            assert (traffic.from_caller, traffic.to_agent, traffic.dropped_to_agent) == (70, 50, 20)
        await until(lambda: live.is_idle)
        traffic = live.traffic
        assert (traffic.from_caller, traffic.to_agent, traffic.dropped_to_agent) == (70, 50, 20)


async def test_fault_after_a_fallback_cuts_the_agent_that_answered(live_server, tls, logs):
    async with RawAgent(closes_in_one_segment, tls) as raw:
        live = await live_server(
            BRIDGE_AGENT="openai,retell", OPENAI_API_KEY="key", OPENAI_REALTIME_URL=raw.ws_url
        )
        async with live.answered() as caller:
            await caller.open_stream()
            session = await live.agent.next_session(DEADLINE_S)
            await soon(session.opened.wait())
            await until(lambda: len(live.agent_legs) == 1)
            [call] = live.open_calls

            def on_tick(now: float) -> None:
                raise RuntimeError("canary-of-a-fault")

            call.on_tick = on_tick
            await soon(session.closed.wait())
            assert session.close_code == 1011
            await soon(caller.closed.wait())
            assert caller.close_code == 1011
            await until(lambda: live.is_idle)
        assert live.server.snapshot().live == 0
    assert logs.faults()
    logs.records.clear()


@pytest.mark.parametrize(
    ("chain", "verbs"), [("openai,echo", None), ("openai,retell-sip", ["Dial"])], ids=["socket", "dialled"]
)
async def test_next_agent_answers_where_another_process_took_the_media_socket(live_server, tls, chain, verbs):
    async with RawAgent(closes_in_one_segment, tls) as raw:
        options = {
            "agent": {"protocol": "retell-sip"},
            "BRIDGE_AGENT": chain,
            "OPENAI_API_KEY": "key",
            "OPENAI_REALTIME_URL": raw.ws_url,
        }
        asked, other = await live_server(**options), await live_server(**options)
        async with asked.answered() as caller:
            caller.endpoint.url = other.url
            await caller.open_stream()
            if verbs is None:
                await until(lambda: any(call.state is State.BRIDGED for call in other.open_calls))
                await caller.send_media(make_numbered(0))
                await until(lambda: caller.received_audio == [make_numbered(0)])
            else:
                await caller.closed.wait()
                assert (await caller.follow_redirect()).verbs == verbs
                assert len(other.agent.sessions) == 1


async def test_what_the_service_of_an_agent_that_was_replaced_says_does_not_end_the_call(live_server):
    refusal = Faults(upgrade_answers=[HttpAnswer(status=503)])
    live = await live_server(agent={"faults": refusal}, BRIDGE_AGENT="retell,echo")
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: any(call.state is State.BRIDGED for call in live.open_calls))
        [call_id] = live.agent.sessions
        url = f"{live.url}/retell/webhook"
        status = await live.agent.post_webhook(url, "call_ended", call_id, ssl=live.ssl)
        assert status == 204
        await caller.send_media(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])


async def test_agent_that_is_dialled_is_tried_after_the_media_socket(live_server, tls):
    async with RawAgent(closes_in_one_segment, tls) as raw:
        live = await live_server(
            agent={"protocol": "retell-sip"},
            BRIDGE_AGENT="openai,retell-sip",
            OPENAI_API_KEY="key",
            OPENAI_REALTIME_URL=raw.ws_url,
        )
        async with live.answered() as caller:
            await caller.open_stream()
            await caller.closed.wait()
            assert caller.close_code == 1011
            answer = await caller.follow_redirect()
            assert answer.verbs == ["Dial"]
            assert len(live.agent.sessions) == 1


@pytest.mark.parametrize("protocol", ["openai", "elevenlabs", "deepgram"])
async def test_transfer_that_is_not_allowed_is_refused_in_words_and_the_call_goes_on(
    live_server, tmp_path, protocol
):
    (tmp_path / "agent.json").write_text(json.dumps({"language": "en"}))
    live = await live_server(
        agent={"protocol": protocol},
        DEEPGRAM_AGENT_FILE=tmp_path / "agent.json",
        BRIDGE_TRANSFER_TO="+4930",
    )
    async with live.bridged() as (caller, session):
        ask = session.send_tool_call if protocol == "elevenlabs" else session.send_function_call
        for _ in range(2):
            await ask("transfer_call", {"to_number": "+19005550100"})
        await until(
            lambda: len(session.tool_results if protocol == "elevenlabs" else session.function_outputs) == 2
        )
        await session.send_audio(make_numbered(0))
        await until(lambda: caller.received_audio == [make_numbered(0)])
        assert await live.ignored("agent", "transfer_not_allowed") == 2


@pytest.mark.parametrize("wish", ["hang_up", "transfer_call"])
@pytest.mark.parametrize("protocol", ["openai", "elevenlabs", "deepgram"])
async def test_what_an_agent_asks_of_twilio_is_asked_after_its_last_words(
    live_server, tmp_path, monkeypatch, protocol, wish
):
    asked: list[tuple[str, ...]] = []
    (tmp_path / "agent.json").write_text(json.dumps({"language": "en"}))
    live = await live_server(
        agent={"protocol": protocol},
        DEEPGRAM_AGENT_FILE=tmp_path / "agent.json",
        BRIDGE_TRANSFER_TO="+4930",
    )

    async def change(call_sid, form):
        asked.append((call_sid, *form))

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change(call_sid, form))
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(10)), paced=False)
        ask = session.send_tool_call if protocol == "elevenlabs" else session.send_function_call
        await ask(wish, {"to_number": "+493012345678"} if wish == "transfer_call" else {})
        await caller.closed.wait()
        assert (caller.close_code, len(caller.received_audio)) == (1000, 10)
        assert asked == [(caller.call_sid, "Twiml" if wish == "transfer_call" else "Status")]
        verbs = (await caller.follow_redirect()).verbs
        assert verbs == (["Dial", "Hangup"] if wish == "transfer_call" else ["Hangup"])


async def test_keys_pressed_before_the_next_agent_is_ready_keep_their_place(live_server, tls, tmp_path):
    async with (
        RawAgent(says_nothing, tls) as raw,
        AgentService(
            protocol="retell-twilio", behaviour=silent, account=Account(key="key"), ssl=tls and tls.server()
        ) as second,
    ):
        live = await live_server(
            **{**second.environment(), "BRIDGE_AGENT": "openai,retell-twilio"},
            OPENAI_API_KEY="key",
            OPENAI_REALTIME_URL=raw.ws_url,
            BRIDGE_AGENT_CONNECT_S=0.7 * FACTOR,
        )
        async with live.answered() as caller:
            await caller.open_stream()
            for n, key in enumerate("12#"):
                await caller.send_media(make_numbered(n))
                await caller.send_dtmf(key)
            session = await second.next_session(DEADLINE_S)
            await until(lambda: len(session.dtmf) == 3)
            await caller.send_dtmf("4")
            await until(lambda: len(session.dtmf) == 4)
            assert "".join(session.dtmf) == "12#4"
            order = [
                message["event"] for message in session.messages if message["event"] in ("media", "dtmf")
            ]
            assert order == ["media", "dtmf"] * 3 + ["dtmf"]
            assert session.violations == []


async def test_request_that_twilio_does_not_answer_is_given_up_when_the_process_stops(
    clean_loop, tls, monkeypatch
):
    asked, given_up = asyncio.Event(), asyncio.Event()

    async def change() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    monkeypatch.setattr(TwilioApi, "_change", lambda api, call_sid, form: change())
    async with serving(agent={"protocol": "elevenlabs"}, tls=tls) as live:
        async with live.bridged() as (_, session):
            await session.send_tool_call("hang_up", {})
            await soon(asked.wait())
        assert not given_up.is_set()
    assert given_up.is_set()
