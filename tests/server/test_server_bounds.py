"""Bounds for peers: they cannot fill the memory, exceed the number of calls, or block an orderly stop."""

import asyncio
import contextlib
import socket
import time

from live import DEADLINE_S, PLAIN_TLS_AND_GATHERED, Live, until
from numbered_checker import read_numbered

from bridge.call.agent_socket import RECEIVE_BUFFER_BYTES
from bridge.standins.numbered import make_numbered

pytestmark = PLAIN_TLS_AND_GATHERED

FALLBACK = ["Say", "Hangup"]
HOLD_FRAMES = 50
HOLD_MS = 20 * HOLD_FRAMES
# A transport with at most `write_high_bytes` takes one more write: at least 4096 bytes of frames, and less than one
# frame more. A frame to the caller has 309 bytes here, one to the agent less.
MOST_UNSENT_BYTES = 4096 + 4096 + 309
STALL_S = 0.5
# 16 s of audio in kernels and TLS before a stall is noticed; with aiofastnet's own TLS buffers it would be over 20 s.
BEFORE_A_STALL_FRAMES = 800


async def flood_caller(caller, session, live: Live, count: int) -> None:
    """The agent says ``count`` frames at once; wait until the bridge has read them all."""
    await session.send_frames((make_numbered(n) for n in range(count)), paced=False)
    await until(lambda: live.traffic.from_agent == count, 4 * DEADLINE_S)


def check_order(numbers: list[int], count: int) -> int:
    """In order, none twice, with the beginning and the end; returns how many were lost between them."""
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, count - 1)
    return count - len(numbers)


async def test_agent_ahead_of_a_caller_who_does_not_read_is_read_on_and_nothing_is_lost(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    count = 12_000
    async with live.bridged() as (caller, session):
        [leg], [source] = live.caller_legs, live.agent_legs
        caller.pause_reading()
        await session.send_frames((make_numbered(n) for n in range(count)), paced=False)
        await until(lambda: live.traffic.from_agent == count, 4 * DEADLINE_S)
        assert not source.wire.is_paused
        assert live.traffic.to_caller < 1000
        assert leg._transport.get_write_buffer_size() < MOST_UNSENT_BYTES
        caller.resume_reading()
        await until(lambda: caller.received and caller.received_audio[-1] == make_numbered(count - 1))
        assert check_order([read_numbered(audio)[1] for audio in caller.received_audio], count) == 0
        assert await live.dropped("to_caller") == 0
        assert caller.warnings == []
        assert live.held_bytes == 0


async def test_agent_is_paused_only_when_the_process_holds_its_budget(live_server):
    live = await live_server(BRIDGE_HELD_BYTES=1 << 20, BRIDGE_STALL_S=60)
    count = 12_000
    async with live.bridged() as (caller, session):
        [source] = live.agent_legs
        caller.pause_reading()
        speaking = asyncio.ensure_future(
            session.send_frames((make_numbered(n) for n in range(count)), paced=False)
        )
        await until(lambda: source.wire.is_paused, 4 * DEADLINE_S)
        # The block of the ring doubles, and a read brings 64 KiB at most.
        assert live.held_bytes == 2 << 20
        caller.resume_reading()
        await speaking
        await until(lambda: caller.received and caller.received_audio[-1] == make_numbered(count - 1))
        assert check_order([read_numbered(audio)[1] for audio in caller.received_audio], count) == 0
        assert await live.dropped("to_caller") == 0
        assert caller.warnings == []


async def test_kernel_takes_a_fixed_amount_of_an_agent_that_is_not_read(live_server):
    live = await live_server()
    with socket.socket() as like:
        like.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        wanted = like.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    async with live.bridged():
        [leg] = live.agent_legs
        tcp = leg._transport.get_extra_info("socket")
        # A buffer that is not set grows with what comes.
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == wanted


async def test_agent_that_reads_late_gets_the_newest_in_order(live_server):
    live = await live_server(BRIDGE_AGENT_CONNECT_S=1, BRIDGE_HOLD_FROM_CALLER_MS=HOLD_MS, BRIDGE_STALL_S=60)
    count = 6000
    async with live.bridged() as (caller, session):
        [leg] = live.agent_legs
        session.pause_reading()
        for n in range(count):
            await caller.send_media(make_numbered(n))
        await until(lambda: live.traffic.from_caller == count, 4 * DEADLINE_S)
        traffic = live.traffic
        assert 0 <= count - traffic.dropped_to_agent - traffic.to_agent <= HOLD_FRAMES
        assert leg._transport.get_write_buffer_size() < MOST_UNSENT_BYTES
        session.resume_reading()
        await until(lambda: session.received and session.received[-1].audio == make_numbered(count - 1))
        lost = check_order([read_numbered(item.audio)[1] for item in session.received], count)
        assert await live.dropped("to_agent") == lost > 0
        await caller.send_media(make_numbered(count))
        await until(lambda: session.received[-1].audio == make_numbered(count))


async def test_agent_that_stalls_is_noticed_after_seconds_of_audio(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    count = 3 * BEFORE_A_STALL_FRAMES
    async with live.bridged() as (caller, session):
        session.pause_reading()
        await caller.send_frames((make_numbered(n) for n in range(count)), paced=False)
        await until(lambda: live.traffic.from_caller == count)
        assert live.traffic.to_agent < BEFORE_A_STALL_FRAMES
        session.resume_reading()


async def test_caller_who_stalls_is_noticed_after_seconds_of_audio(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    count = 3 * BEFORE_A_STALL_FRAMES
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        await session.send_frames((make_numbered(n) for n in range(count)), paced=False)
        await until(lambda: live.traffic.from_agent == count)
        # The rest is held, within reach of an interrupt.
        assert live.traffic.to_caller < BEFORE_A_STALL_FRAMES
        caller.resume_reading()


async def test_other_calls_notice_nothing_of_one_that_does_not_read(live_server):
    live = await live_server(BRIDGE_STALL_S=60)
    async with live.bridged() as (caller, session), live.bridged() as (other, other_session):
        caller.pause_reading()
        # Half of what a flood is sent at once; the frames of the other call go in between.
        for batch in range(20):
            await session.send_frames((make_numbered(n) for n in range(200)), paced=False)
            await other.send_media(make_numbered(batch, seed=2))
            await other_session.send_audio(make_numbered(batch, seed=3))
        await until(lambda: len(other.received) == 20 and len(other_session.received) == 20)
        assert [read_numbered(audio) for audio in other.received_audio] == [(3, n) for n in range(20)]
        caller.abort()


async def test_caller_who_never_reads_is_aborted(live_server):
    live = await live_server(BRIDGE_STALL_S=STALL_S)
    async with live.bridged() as (caller, session):
        caller.pause_reading()
        began = time.monotonic()
        while live.caller_legs:
            # Its media go on coming: it is not silent, it only does not read.
            await caller.send_media(b"x")
            if time.monotonic() - began < STALL_S:
                await session.send_frames((make_numbered(n) for n in range(100)), paced=False)
            await asyncio.sleep(0.005)
            assert time.monotonic() - began < STALL_S + 2
        await asyncio.wait_for(session.closed.wait(), DEADLINE_S)
        assert session.close_code == 1000
        await until(lambda: live.is_idle)
        caller.abort()
        assert (await live.metrics())['bridge_calls_ended_total{why="caller_lost"}'] == 1


async def test_agent_that_never_reads_is_aborted(live_server):
    live = await live_server(BRIDGE_STALL_S=STALL_S)
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        session.pause_reading()
        began = time.monotonic()
        while not caller.closed.is_set():
            if time.monotonic() - began < STALL_S:
                for n in range(100):
                    await caller.send_media(make_numbered(n))
            # It speaks on until its socket is aborted: it is not silent, it only does not read.
            with contextlib.suppress(ConnectionError):
                await session.send_audio(b"x")
            await asyncio.sleep(0.005)
            assert time.monotonic() - began < STALL_S + DEADLINE_S
        assert caller.close_code == 1011
        await until(lambda: live.is_idle)
        assert (await caller.follow_redirect()).verbs == FALLBACK
        session.resume_reading()


# Places


async def test_call_above_the_limit_is_busy_and_running_calls_are_untouched(live_server):
    live = await live_server(BRIDGE_MAX_CALLS=2)
    async with live.bridged() as (one, session), live.answered() as two:
        async with live.caller() as three:
            answer = await three.post_voice()
            assert (answer.verbs, answer.reject_reason) == (["Reject"], "busy")
        assert (await live.get("/readyz"))[0] == 200
        assert len(live.agent.requests) == 2
        await one.send_media(b"still here")
        await until(lambda: session.received)
        await two.open_stream()
        await live.session_of(two)
        await one.send_stop()
        await until(lambda: live.live_calls == 1)
        async with live.bridged():
            assert live.live_calls == 2
        assert (await live.metrics())['bridge_calls_refused_total{reason="full"}'] == 1


async def test_calls_at_once_never_exceed_the_limit(live_server):
    live = await live_server(BRIDGE_MAX_CALLS=5)
    callers = [live.caller() for _ in range(20)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(enter(caller)) for caller in callers]
    verbs = [task.result() for task in tasks]
    assert verbs.count(["Connect", "Redirect"]) == 5
    assert verbs.count(["Reject"]) == 15


async def enter(caller) -> list[str]:
    async with caller:
        return (await caller.post_voice()).verbs


# The end of the process


async def test_stop_closes_what_is_left(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await live.server.stop()
        await asyncio.wait_for(asyncio.gather(caller.closed.wait(), session.closed.wait()), DEADLINE_S)
        assert (caller.close_code, session.close_code) == (1001, 1000)
        assert live.is_idle
