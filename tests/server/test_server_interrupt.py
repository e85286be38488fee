"""Barge-in through the whole server: what the caller has not heard is dropped, and nothing else."""

import asyncio

from live import PLAIN_TLS_AND_GATHERED, until
from live_raw import RawAgent, accept_head, raw_stream, ws_frame
from numbered_checker import read_numbered

from bridge.standins.numbered import make_numbered

pytestmark = PLAIN_TLS_AND_GATHERED


def events(caller) -> list[object]:
    """The messages to the caller, in order: the number of a frame, or the name of another message."""
    return [
        (read_numbered(item.message.audio) or (0, item.message.audio))[1]
        if item.message.event == "media"
        else item.message.event
        for item in caller.received
    ]


async def test_clear_comes_after_what_was_sent_before_the_interrupt_and_before_what_came_after(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await session.send_frames((make_numbered(n) for n in range(50)), paced=False)
        await session.send_interrupt()
        await session.send_frames((make_numbered(n) for n in range(50, 60)), paced=False)
        await until(lambda: len(caller.received) == 61)
        assert events(caller) == [*range(50), "clear", *range(50, 60)]
        assert caller.playout.cleared_bytes > 49 * 160
        metrics = await live.metrics()
        assert metrics["bridge_interrupts_total"] == 1
        assert metrics["bridge_interrupt_to_clear_seconds_count"] == 1
        # The budget is 100 ms; within the process it is the time of one write.
        assert metrics['bridge_interrupt_to_clear_seconds_bucket{le="0.1"}'] == 1


async def test_hundred_interrupts_are_hundred_clears_in_their_places(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        for n in range(100):
            await session.send_audio(make_numbered(n))
            await session.send_interrupt()
        await until(lambda: len(caller.received) == 200)
        assert events(caller) == [item for n in range(100) for item in (n, "clear")]
        assert caller.warnings == []
        assert (await live.metrics())["bridge_interrupts_total"] == 100


async def test_interrupt_before_any_audio_is_a_clear_too(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        await session.send_interrupt()
        await session.send_audio(make_numbered(0))
        await until(lambda: len(caller.received) == 2)
        assert events(caller) == ["clear", 0]


async def test_interrupt_in_one_segment_with_audio_around_it(live_server, tls):
    def audio(text):
        return ws_frame(b'{"type":"audio","data":"%s"}' % text, mask=False)

    async def serve(socket):
        interrupt = ws_frame(b'{"type":"interrupt"}', mask=False)
        await socket.send(accept_head(socket) + audio(b"YQ==") + interrupt + audio(b"Yg=="))
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller:
            await caller.open_stream()
            await until(lambda: len(caller.received) == 3)
            assert events(caller) == [b"a", "clear", b"b"]


async def test_audio_held_for_a_caller_that_does_not_read_is_dropped_at_the_interrupt(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        [leg] = live.caller_legs
        caller.pause_reading()
        sent = 0
        while not leg.wire.is_congested:
            await session.send_frames((make_numbered(n) for n in range(sent, sent + 200)), paced=False)
            sent += 200
            await asyncio.sleep(0)
        await session.send_audio(make_numbered(sent))
        await session.send_interrupt()
        await until(lambda: live.traffic.interrupts == 1)
        assert leg.wire.cleared_frames > 0
        await session.send_audio(make_numbered(99_999))
        await until(lambda: live.traffic.from_agent == sent + 2)
        caller.resume_reading()
        await until(lambda: caller.received and events(caller)[-1] == 99_999)
        heard = events(caller)
        clear_at = heard.index("clear")
        # A beginning without gaps, the clear, and only what came after the interrupt.
        assert heard == [*range(clear_at), "clear", 99_999]
        assert clear_at < sent
        metrics = await live.metrics()
        assert metrics["bridge_frames_cleared_total"] == sent + 1 - clear_at
        assert await live.dropped("to_caller") == 0


async def test_caller_audio_is_never_dropped_by_an_interrupt(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):

        async def interrupt():
            for _ in range(50):
                await session.send_interrupt()
                await asyncio.sleep(0)

        async def speak():
            for n in range(500):
                await caller.send_media(make_numbered(n))

        await asyncio.gather(interrupt(), speak())
        await until(lambda: len(session.received) == 500 and len(caller.received) == 50)
        assert [read_numbered(item.audio)[1] for item in session.received] == list(range(500))
        assert events(caller) == ["clear"] * 50


async def test_caller_audio_held_for_a_stalled_agent_survives_an_interrupt(live_server):
    live = await live_server()
    async with live.bridged() as (caller, session):
        [leg] = live.agent_legs
        session.pause_reading()
        sent = 0
        while not leg.wire.is_congested:
            for n in range(sent, sent + 100):
                await caller.send_media(make_numbered(n))
            sent += 100
            await asyncio.sleep(0)
        await session.send_interrupt()
        await until(lambda: caller.received)
        session.resume_reading()
        await until(lambda: len(session.received) == sent)
        assert [read_numbered(item.audio)[1] for item in session.received] == list(range(sent))


async def test_interrupt_after_the_agents_end_clears_nothing(live_server, tls):
    async def serve(socket):
        frames = (b'{"type":"audio","data":"YQ=="}', b'{"type":"call_ended"}', b'{"type":"interrupt"}')
        await socket.send(accept_head(socket) + b"".join(ws_frame(text, mask=False) for text in frames))
        await socket.gone()

    async with RawAgent(serve, tls) as agent:
        live = await live_server(RETELL_WS_URL=agent.ws_url)
        async with live.answered() as caller, raw_stream(live, caller) as socket:
            texts = []
            while (found := await socket.read_frame()) and found[0] == 1:
                texts.append(found[1])
                if b'"mark"' in found[1]:
                    await socket.send_frame(caller.writer.mark("played-out").encode())
            assert [b'"media"' in texts[0], b'"mark"' in texts[1], len(texts)] == [True, True, 2]
