"""Internal faults and wrong settings: each ends one call at most and is logged."""

from __future__ import annotations

import asyncio
import gc
import weakref
from types import MethodType

import aiohttp
import pytest
from call_script import bridged
from live import ACCOUNT_SID, AUTH_TOKEN, until

from bridge.standins.twilio.caller import Caller

AGENT_LOST = 'bridge_calls_ended_total{why="agent_lost"}'


async def test_whatever_opening_the_agents_socket_raises_ends_the_call(live_server, logs, monkeypatch):
    live = await live_server()

    async def connect(*args, **kwargs):
        raise RuntimeError("canary-of-a-fault")

    monkeypatch.setattr("bridge.call.agent_socket.picows.ws_connect", connect)
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.closed.wait()
        assert caller.close_code == 1011
        await until(lambda: live.is_idle)
    assert (await live.metrics())[AGENT_LOST] == 1
    assert logs.faults()
    # Wanted here.
    logs.records.clear()


async def test_fault_on_one_calls_tick_leaves_the_others_and_the_next_ticks(live_server, logs):
    live = await live_server()
    async with live.bridged() as (broken, _), live.bridged() as (sound, session):
        [leg] = [leg for leg in live.caller_legs if leg.call.call_sid == broken.call_sid]

        def on_tick(self, now):
            raise RuntimeError("canary-of-a-fault")

        leg._on_tick = MethodType(on_tick, leg)
        await broken.closed.wait()
        assert broken.close_code == 1011
        assert (await live.metrics())['bridge_calls_ended_total{why="fault"}'] == 1
        await sound.send_media(160 * b"\x7f")
        await until(lambda: session.received)
        rounds = live.server.snapshot().rounds
        await until(lambda: live.server.snapshot().rounds > rounds)
    assert logs.faults()
    logs.records.clear()


async def test_memory_of_a_call_comes_back_without_the_garbage_collector(live_server, monkeypatch):
    live = await live_server()
    gc.collect()
    gc.disable()
    try:
        async with live.bridged() as (caller, session):
            leg = live.caller_legs[0]
            held = [weakref.ref(leg), weakref.ref(leg.wire), weakref.ref(live.agent_legs[0])]
            del leg
            await session.send_audio(160 * b"\x7f")
            await caller.hang_up()
            await session.closed.wait()
        await until(lambda: live.is_idle)
        await until(lambda: not any(reference() for reference in held))
    finally:
        gc.enable()


@pytest.mark.parametrize("is_stripped", [True, False])
async def test_path_prefix_is_signed_whether_a_proxy_strips_it_or_not(live_server, is_stripped):
    public_url = "https://voice.example.com/phone"
    live = await live_server(PUBLIC_URL=public_url)
    url = live.url if is_stripped else f"{live.url}/phone"
    async with Caller(url, public_url=public_url, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as caller:
        assert (await caller.post_voice()).stream_url.startswith("wss://voice.example.com/phone/media/")
        await caller.open_stream()
        session = await live.session_of(caller)
        await caller.send_media(160 * b"\x7f")
        await until(lambda: session.received)


def test_a_call_that_is_over_holds_neither_side():
    script = bridged()
    script.run([(1, "stop")])
    assert script.call._caller is None
    assert script.call._agent is None


async def test_browser_is_refused_where_signatures_are_off(live_server):
    live = await live_server(BRIDGE_VALIDATE_SIGNATURES=0, PUBLIC_URL="http://127.0.0.1", BRIDGE_AGENT="echo")
    async with aiohttp.ClientSession() as http:
        for headers, status in (({"Origin": "http://evil.example"}, 403), ({}, 101)):
            try:
                async with http.ws_connect(f"{live.url}/media/{32 * '0'}", headers=headers):
                    found = 101
            except aiohttp.WSServerHandshakeError as error:
                found = error.status
            assert found == status


async def test_start_and_stop_in_one_segment_leave_no_leg(live_server):
    live = await live_server()
    async with live.answered() as caller:
        await caller.open_stream(greet=False)
        writer = caller.writer
        text = [writer.connected(), writer.start(caller.answer.parameters), writer.stop()]
        for message in text:
            await caller.send_raw(message)
        await caller.closed.wait()
        await until(lambda: not live.agent_legs)


async def test_idle_connections_give_way_to_new_ones(live_server):
    live = await live_server(BRIDGE_HTTP_CONNECTIONS=5, BRIDGE_MAX_CALLS=1)
    idle = []
    for _ in range(12):
        reader, writer = await asyncio.open_connection("127.0.0.1", live.server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        idle.append(writer)
    async with live.bridged():
        pass
    for writer in idle:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_minutes_of_speech_in_one_burst_reach_a_caller_who_reads(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        frames = [n.to_bytes(4) * 40 for n in range(6000)]
        for frame in frames:
            await session.send_audio(frame)
        await until(lambda: len(caller.received) >= len(frames), 20)
        assert list(caller.received_audio) == frames


async def test_interrupts_to_a_caller_who_does_not_read_pile_up_nowhere(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        leg = live.caller_legs[0]
        while not leg.wire.is_congested:
            await session.send_audio(8000 * b"\x7f")
            await asyncio.sleep(0)
        waiting = leg._transport.get_write_buffer_size()
        for _ in range(2000):
            await session.send_interrupt()
        await session.send_audio(160 * b"\x7e")
        await until(lambda: leg.wire.audio_out_frames + leg.wire.dropped_frames + leg.wire.cleared_frames)
        assert leg._transport.get_write_buffer_size() <= waiting + 20_000
        caller.resume_reading()
        await until(lambda: caller.received_audio[-1:] == [160 * b"\x7e"])


async def test_flood_of_control_messages_closes_the_one_who_sends_it(live_server):
    live = await live_server(BRIDGE_CONTROL_PER_S=200)
    async with live.bridged() as (caller, session), live.bridged() as (other, other_session):
        live.refuse_sessions()
        for _ in range(2000):
            if session.closed.is_set():
                break
            await session.send_raw('{"type":"unknown"}')
        await session.closed.wait()
        assert session.close_code == 1008
        await caller.closed.wait()
        assert caller.close_code == 1011
        await other.send_media(160 * b"\x7f")
        await until(lambda: other_session.received)
