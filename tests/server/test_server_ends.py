"""Ends of calls over real sockets: close codes of both legs, the answer of /voice/resume, no leaks."""

import asyncio
import base64
import time

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from live import DEADLINE_S, FACTOR, LIMITS, PLAIN_TLS_AND_GATHERED, Live, Resources, until, until_within
from live_raw import CLOSE, RawAgent, accept_head, raw_stream
from yarl import URL

from bridge.standins.audio import SILENCE

pytestmark = PLAIN_TLS_AND_GATHERED

FALLBACK = ["Say", "Hangup"]
HANGUP = ["Hangup"]
STREAM = ["Connect", "Redirect"]
ROUND_S = 0.5
SLACK_S = ROUND_S + 0.75 * FACTOR
# How long the agent of a lost caller is kept.
KEPT_S = LIMITS["grace_s"] + ROUND_S


async def settled(live: Live) -> Resources:
    """Resources of the server between two calls."""
    async with live.bridged() as (caller, _):
        await caller.hang_up()
    await until(lambda: live.is_idle)
    await until(lambda: len(asyncio.all_tasks()) <= 2)
    return Resources.now()


async def check_end(live, caller, session, *, caller_code, agent_code, verbs, within_s=SLACK_S):
    """Both legs closed with these codes within the time, the call forgotten, ``/voice/resume`` as the table says."""
    began = time.monotonic()
    await asyncio.wait_for(asyncio.gather(caller.closed.wait(), session.closed.wait()), DEADLINE_S)
    await until(lambda: live.live_calls == 0)
    assert time.monotonic() - began < within_s
    assert (caller.close_code, session.close_code) == (caller_code, agent_code)
    assert (await caller.follow_redirect()).verbs == verbs
    await until(lambda: live.is_idle)


# The agent ends the call


async def test_last_words_play_before_the_caller_is_closed(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        words = bytes(range(1, 251)) * 20
        assert SILENCE not in words[:200]
        await session.send_audio(words)
        await session.send_call_ended()
        await session.closed.wait()
        assert session.close_code == 1000
        assert not caller.closed.is_set()
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP, within_s=2)
        assert words in caller.heard()
        assert [item.message.event for item in caller.received] == ["media", "mark"]


async def test_agents_normal_close_lets_the_last_words_play_too(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        words = bytes(range(1, 251)) * 20
        await session.send_audio(words)
        await session.close(1000)
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP, within_s=2)
        assert words in caller.heard()


async def test_mark_that_is_never_echoed_is_given_up(live_server):
    live = await live_server(limits={"playout_margin_s": 0.3})
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        await session.send_audio(bytes(4000))
        began = time.monotonic()
        await session.send_call_ended()
        assert await socket.close_code() == 1000
        # Half a second of audio and the margin, and a tick for each of two estimates.
        assert 0.75 < time.monotonic() - began < 0.8 + 2 * SLACK_S
        assert (await caller.follow_redirect()).verbs == HANGUP


async def test_last_words_are_cut_at_the_longest_playout(live_server):
    live = await live_server(BRIDGE_PLAYOUT_MAX_S=0.4)
    async with live.bridged() as (caller, session):
        await session.send_audio(bytes(80_000))
        await session.send_call_ended()
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP, within_s=2)


async def test_caller_who_hangs_up_during_the_last_words_ends_the_call(live_server):
    live = await live_server(limits={"playout_margin_s": 60})
    async with live.bridged() as (caller, session):
        await session.send_audio(bytes(80_000))
        await session.send_call_ended()
        await session.closed.wait()
        await caller.send_stop()
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP)


async def test_call_ended_twice_and_audio_after_it_change_nothing(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await session.send_audio(b"last")
        for text in ('{"type":"call_ended"}', '{"type":"call_ended"}', '{"type":"audio","data":"YQ=="}'):
            await session.send_raw(text)
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP)
        assert caller.received_audio == [b"last"]


async def test_retells_webhook_ends_the_call_as_the_socket_does(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        url = live.url + "/retell/webhook"
        assert await live.agent.post_webhook(url, "call_ended", session.call_id, ssl=live.ssl) == 204
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP)


# The caller ends the call


async def test_stop_closes_both_legs(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await caller.send_stop()
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP)


async def test_what_comes_after_stop_changes_nothing(live_server):
    live = await live_server()
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        texts = [caller.writer.stop(), caller.writer.media(b"late", 0), caller.writer.stop()]
        for text in texts:
            await socket.send_frame(text.encode())
        assert await socket.close_code() == 1000
        await session.closed.wait()
        assert (session.close_code, session.received) == (1000, [])
        assert (await live.metrics())['bridge_calls_ended_total{why="caller_stopped"}'] == 1


async def test_status_completed_tears_the_call_down(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        assert (await caller.post_status("in-progress")).status == 204
        assert live.live_calls == 1
        assert (await caller.post_status("completed")).status == 204
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP)


async def test_resume_that_a_balancer_answers_for_a_dead_process_comes_again(live_server):
    live = await live_server()
    statuses = [503, 503]
    async with live.bridged() as (caller, session), aiohttp.ClientSession() as http:

        async def pass_on(request: web.Request) -> web.Response:
            if statuses:
                return web.Response(status=statuses.pop())
            url = URL(live.url + request.raw_path, encoded=True)
            async with http.post(
                url, data=await request.read(), headers=request.headers, ssl=live.ssl
            ) as answer:
                return web.Response(body=await answer.read(), content_type=answer.content_type)

        front = web.Application()
        front.router.add_post("/voice/resume", pass_on)
        async with TestServer(front) as server:
            await session.send_call_ended()
            await caller.closed.wait()
            caller.endpoint.url = str(server.make_url("")).rstrip("/")
            assert (await caller.follow_redirect()).verbs == HANGUP
        assert statuses == []


@pytest.mark.parametrize("code", [1000, 1001, 1006, 4000])
async def test_caller_closed_without_stop_is_lost(live_server, code):
    live = await live_server()
    async with live.bridged() as (caller, session):
        if code == 1006:
            caller.abort()
        else:
            await caller._socket.close(code=code)
            caller._note_closed(code)
        await asyncio.wait_for(session.closed.wait(), KEPT_S + SLACK_S)
        assert session.close_code == 1000
        async with live.caller(call_sid=caller.call_sid) as twilio:
            twilio.answer = caller.answer
            assert (await twilio.follow_redirect()).verbs == STREAM
        await until(lambda: live.is_idle)


async def test_half_open_call_whose_new_stream_does_not_come_ends(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        assert (await caller.follow_redirect()).verbs == STREAM
        await session.closed.wait()
        assert session.close_code == 1000


@pytest.mark.parametrize("how", ["stop", "close", "abort"])
async def test_caller_who_hangs_up_while_the_agent_connects_leaves_nothing(live_server, tls, how):
    held, gone = asyncio.Event(), asyncio.Event()

    async def never_answer(socket):
        held.set()
        await socket.gone()
        gone.set()

    async with RawAgent(never_answer, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            await caller.open_stream()
            await held.wait()
            if how == "stop":
                await caller.send_stop()
            elif how == "close":
                await caller.hang_up(stop=False)
            else:
                caller.abort()
            await asyncio.wait_for(caller.closed.wait(), SLACK_S)
            # Far less than the connect deadline of 5 s.
            await asyncio.wait_for(gone.wait(), SLACK_S)
            await until(lambda: live.is_idle, SLACK_S)


# Deadlines


async def test_call_is_over_at_its_longest_duration(live_server):
    live = await live_server(BRIDGE_CALL_MAX_S=0.3)
    async with live.bridged() as (caller, session):
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP, within_s=1.5)


async def test_caller_without_audio_is_given_up_though_other_messages_come(live_server):
    live = await live_server(BRIDGE_CALLER_NO_AUDIO_S=0.4, BRIDGE_CALLER_SILENCE_S=60)
    async with live.bridged() as (caller, session):
        await caller.send_dtmf("5")
        await check_end(live, caller, session, caller_code=1000, agent_code=1000, verbs=HANGUP, within_s=1.7)


async def test_socket_without_start_is_closed_and_no_agent_is_opened(live_server):
    live = await live_server(limits={"start_s": 0.3})
    async with live.answered() as caller, raw_stream(live, caller, start=False) as socket:
        await socket.send_frame(caller.writer.connected().encode())
        assert await socket.close_code() == 1008
        await until(lambda: live.is_idle)
        assert not any(session.opened.is_set() for session in live.agent.sessions.values())
        assert live.admitted == 1
        assert (await caller.follow_redirect()).verbs == STREAM


@pytest.mark.parametrize("way", ["reset", "no start", "violation"])
async def test_socket_that_ends_before_start_leaves_the_call_to_the_next_one(live_server, way):
    live = await live_server(limits={"start_s": 0.3})
    async with live.answered() as caller:
        async with raw_stream(live, caller, start=False) as socket:
            await socket.send_frame(caller.writer.connected().encode())
            if way == "reset":
                socket.reset()
            elif way == "violation":
                await socket.send_frame(b"", opcode=3)
            if way != "reset":
                assert await socket.close_code() in (1002, 1008)
        await until(lambda: live.is_idle)
        assert live.admitted == 1
        await caller.open_stream()
        session = await live.session_of(caller)
        await caller.send_media(160 * b"\x7f")
        await until(lambda: session.received)


async def test_caller_whose_start_was_refused_gets_the_fallback(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(parameters={"token": "forged"})
        await asyncio.wait_for(caller.closed.wait(), SLACK_S)
        assert caller.close_code == 1008
        assert (await caller.follow_redirect()).verbs == FALLBACK
        assert (await caller.post_voice()).verbs == HANGUP


async def test_answered_call_that_nobody_claims_is_given_up(live_server, logs):
    live = await live_server(limits={"token_s": 1})
    async with live.answered() as caller:
        assert live.admitted == 1
        await until(lambda: live.admitted == 0)
        assert (await caller.follow_redirect()).verbs == HANGUP
        assert (await live.metrics())['bridge_calls_refused_total{reason="not_claimed"}'] == 1
        [line] = [line for line in logs.lines if "media socket never came" in line]
        assert caller.call_sid in line
        assert "31920" in line


# The peers vanish


async def test_silent_caller_is_lost(live_server):
    live = await live_server(BRIDGE_CALLER_SILENCE_S=0.4)
    at_rest = await settled(live)
    async with live.bridged() as (caller, session):
        before = Resources.now()
        caller.pause_reading()
        await asyncio.wait_for(session.closed.wait(), 0.4 + KEPT_S + SLACK_S)
        assert session.close_code == 1000
        await until(lambda: live.is_idle)
        # The sockets of the legs; the caller's own end is still open.
        await until(lambda: Resources.now().descriptors <= before.descriptors - 2)
        caller.abort()
        assert (await live.metrics())['bridge_calls_ended_total{why="caller_lost"}'] == 1
    await until_within(at_rest)


async def test_pongs_alone_do_not_keep_a_caller(live_server):
    live = await live_server(BRIDGE_CALLER_SILENCE_S=0.6, limits={"caller_ping_s": 0.1})
    async with live.bridged() as (caller, session):
        await asyncio.wait_for(
            asyncio.gather(caller.closed.wait(), session.closed.wait()), 0.6 + KEPT_S + SLACK_S
        )
        assert session.close_code == 1000


async def test_silent_agent_that_answers_pings_is_alive(live_server):
    live = await live_server(BRIDGE_AGENT_SILENCE_S=0.6, limits={"agent_ping_s": 0.1})
    async with live.bridged() as (caller, session):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.closed.wait(), 1.4)
        await session.send_audio(b"alive")
        await until(lambda: caller.received)


async def test_agent_that_answers_nothing_is_lost(live_server):
    live = await live_server(BRIDGE_AGENT_SILENCE_S=0.6, limits={"agent_ping_s": 0.1})
    before = await settled(live)
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        session.pause_reading()
        await asyncio.wait_for(caller.closed.wait(), 0.6 + SLACK_S)
        assert caller.close_code == 1011
        assert (await caller.follow_redirect()).verbs == FALLBACK
        await until(lambda: live.is_idle)
        session.resume_reading()
    await until_within(before)


@pytest.mark.parametrize("code", [1001, 1008, 1011, 1012, 1013, 3000, 4000, 4999])
async def test_agents_close_with_any_other_code_is_a_loss(live_server, tls, code):
    answers = []

    async def serve(socket):
        await socket.send(accept_head(socket))
        await socket.send_frame(code.to_bytes(2) + b"r" * 123, CLOSE)
        answers.append(await socket.close_code())
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            live.refuse_sessions()
            await caller.open_stream()
            await asyncio.wait_for(caller.closed.wait(), SLACK_S)
            assert caller.close_code == 1011
            assert (await caller.follow_redirect()).verbs == FALLBACK
            await until(lambda: live.is_idle)
    assert answers == [code]


async def test_agents_close_without_a_code_is_an_end_and_its_last_words_play(live_server, tls):
    answers = []

    async def serve(socket):
        await socket.send(accept_head(socket))
        await socket.send_frame(b'{"type":"audio","data":"%b"}' % base64.b64encode(bytes(8000)))
        await socket.send_frame(b"", CLOSE)
        answers.append(await socket.close_code())
        await socket.gone()

    async with RawAgent(serve) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            await caller.open_stream()
            await asyncio.wait_for(caller.closed.wait(), 1 + SLACK_S)
            assert caller.close_code == 1000
            assert caller.playout.cleared_bytes == 0
            assert caller.received_audio == [bytes(8000)]
            assert (await caller.follow_redirect()).verbs == ["Hangup"]
            await until(lambda: live.is_idle)
    assert answers == [1005]


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_agent_that_just_goes_away_is_lost(live_server, how):
    live = await live_server()
    before = await settled(live)
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        if how == "reset":
            session.abort()
        else:
            session._transport.close()
        await asyncio.wait_for(caller.closed.wait(), SLACK_S)
        assert caller.close_code == 1011
        assert (await caller.follow_redirect()).verbs == FALLBACK
    await until(lambda: live.is_idle)
    await until_within(before)


async def test_peer_that_does_not_answer_a_close_is_aborted(live_server):
    live = await live_server(limits={"close_s": 0.3})
    before = await settled(live)
    async with live.answered() as caller, raw_stream(live, caller) as socket:
        session = await live.session_of(caller)
        session.pause_reading()
        await socket.send_frame(caller.writer.stop().encode())
        while (await socket.read_frame()) is not None:
            pass
        await until(lambda: live.is_idle, 0.3 + SLACK_S)
        session.resume_reading()
        await session.closed.wait()
    await until_within(before)


async def test_hundred_short_calls_leave_nothing(live_server):
    live = await live_server()
    before = await settled(live)

    async def call(n):
        async with live.bridged() as (caller, session):
            await caller.send_media(b"x")
            await session.send_audio(b"y")
            if n % 4 == 0:
                await caller.send_stop()
            elif n % 4 == 1:
                session.abort()
                await session.closed.wait()
                # Another session takes over.
                await caller.send_stop()
            elif n % 4 == 2:
                caller.abort()
            else:
                await session.send_call_ended()
            await asyncio.gather(caller.closed.wait(), session.closed.wait())

    for batch in range(0, 100, 20):
        await asyncio.wait_for(asyncio.gather(*map(call, range(batch, batch + 20))), 4 * DEADLINE_S)
    await until(lambda: live.is_idle)
    # Twenty at a time leave as many connections to the session API open, for ten seconds at most.
    spare = Resources(2 * 20, 20, 40)
    await until_within(Resources(*(a + b for a, b in zip(before, spare, strict=True))))
    metrics = await live.metrics()
    assert metrics["bridge_calls_total"] == 101
    assert (
        sum(value for name, value in metrics.items() if name.startswith("bridge_calls_ended_total{why="))
        == 101
    )


async def test_upgrade_that_is_reset_at_once_leaves_no_leg(live_server):
    live = await live_server(limits={"start_s": 0.2})
    async with live.answered() as caller:
        for _ in range(50):
            async with raw_stream(live, caller, start=False) as socket:
                socket.reset()
        await until(lambda: live.is_idle)
    assert (await live.get("/healthz"))[0] == 200
