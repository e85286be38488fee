"""One leg on a real socket, with a peer that sends any bytes: what must hold for both sides of a call."""

from __future__ import annotations

import asyncio
import gc
import ssl
import time
import weakref
from collections.abc import Callable
from typing import ClassVar

import pytest
from leg_on_socket import LIMITS, serving_leg
from live import ACCOUNT_SID, FACTOR, random_call_sid, until
from live_raw import CLOSE, CONTINUATION, PING, PONG, TEXT

from _codec import Envelope, HeldBudget, SocketSet
from bridge.call.caller import CallerLeg
from bridge.call.ends import Why
from bridge.call.leg import Leg, LegLimits, Process
from bridge.call.limits import CallLimits
from bridge.call.sides import Relayed
from bridge.call.state import Call
from bridge.metrics import Metrics
from bridge.standins.twilio.messages import ToServer, read_from_server
from bridge.twilio import media

CALL_LIMITS = CallLimits(
    grace_s=5,
    start_s=60,
    duration_s=60,
    caller_silent_s=60,
    playout_max_s=60,
    playout_margin_s=5,
    twilio_api_s=60,
)
STREAM_SID = "MZ" + 32 * "0"
SLACK_S = 1.0 * FACTOR


def process(on_gone: Callable[[Leg], None] = lambda leg: None) -> Process:
    return Process(
        clock=time.monotonic,
        metrics=Metrics(),
        tls=ssl.create_default_context(),
        held=HeldBudget(64 << 20),
        sockets=SocketSet(),
        on_gone=on_gone,
    )


class PlainLeg(Leg):
    """Records the reports of its wire; the server's end of a socket, like the caller's leg."""

    side: ClassVar[str] = "plain"
    is_client: ClassVar[bool] = False

    def __init__(self, limits: LegLimits) -> None:
        call = Call(CALL_LIMITS, Nothing(), time.monotonic())
        super().__init__(call, limits, process(self._note_gone))
        self.wire.set_format(None, Envelope(b"<", b">"))
        self.reported: list[object] = []
        self.gone = 0

    def _note_gone(self, leg: Leg) -> None:
        self.gone += 1

    def read_text(self, message: bytes) -> None:
        if message == b"fault":
            raise RuntimeError("canary-of-a-fault")
        self.reported.append(message)

    def send_item(self, item: str) -> None:
        self.wire.send_text(item.encode())

    def on_ignored(self, reason: str) -> None:
        self.reported.append(("ignored", reason))

    def end_by_peer(self, code: int | None, detail: str) -> None:
        self.reported.append(("closed", code))

    def end_by_violation(self, code: int, detail: str) -> None:
        self.reported.append(("violation", code))

    def end_by_fault(self) -> None:
        self.reported.append("fault")
        self.close(1011)


class ClientLeg(PlainLeg):
    """A client's end, as the agent's leg is."""

    is_client: ClassVar[bool] = True


@pytest.fixture
def make_leg() -> Callable[..., PlainLeg]:
    return lambda kind=PlainLeg, **changed: kind(LegLimits(**{**LIMITS, **changed}))


async def test_utf8_split_between_fragments_is_whole(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        text = "κόσμε 🎧".encode()
        for i in range(len(text)):
            await socket.send_frame(text[i : i + 1], CONTINUATION if i else TEXT, fin=i == len(text) - 1)
        await until(lambda: leg.reported)
        assert leg.reported == [text]


async def test_new_message_inside_a_fragmented_one_is_1002(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        await socket.send_frame(b"a", fin=False)
        await socket.send_frame(b"b")
        assert await socket.close_code() == 1002
        await until(lambda: leg.gone)
        assert leg.reported == [("violation", 1002)]


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
async def test_peers_close_is_answered_with_its_code_and_reported_once(make_leg, code):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        await socket.send_frame(code.to_bytes(2) + "grüß".encode(), CLOSE)
        await socket.send_frame(b"late")
        assert await socket.close_code() == code
        await socket.gone()
        await until(lambda: leg.gone)
        assert leg.reported == [("closed", code)]
        assert leg.gone == 1


async def test_end_of_the_stream_without_a_close_is_reported_as_none(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        socket.writer.write_eof()
        await until(lambda: leg.gone)
        assert leg.reported == [("closed", None)]


async def test_own_close_is_not_reported_and_sent_once(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        leg.close(1000)
        leg.close(1011)
        leg.send_audio(b"YQ==")
        leg.wire.send_text(b"late")
        assert await socket.close_code() == 1000
        await socket.gone()
        await until(lambda: leg.gone)
        assert leg.reported == []


async def test_close_that_is_not_answered_is_an_abort_at_its_deadline(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        began = time.monotonic()
        leg.close(1000)
        assert (await socket.read_frame())[0] == CLOSE
        assert await socket.read_frame() is None
        assert 0.2 <= time.monotonic() - began < 0.2 + SLACK_S
        await until(lambda: leg.gone)


async def test_close_of_a_peer_that_does_not_read_is_an_abort_at_its_deadline(make_leg):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        socket.writer.transport.pause_reading()
        leg.wire.set_ready()
        while not leg.wire.is_congested:
            for _ in range(100):
                leg.send_audio(b"YQ==" * 50)
            await asyncio.sleep(0)
        leg.close(1000)
        await until(lambda: leg.gone, 0.2 + SLACK_S)
        socket.writer.transport.abort()


async def test_internal_fault_is_1011_without_details(make_leg, logs):
    leg = make_leg()
    async with serving_leg(leg) as socket:
        await socket.send_frame(b"fault")
        opcode, payload = await socket.read_frame()
        assert (opcode, payload) == (CLOSE, (1011).to_bytes(2))
        await socket.send_frame(payload, CLOSE)
        await until(lambda: leg.gone)
        assert leg.reported == ["fault"]
    assert [line for line in logs.faults() if "fault on a leg" in line]
    # This one was wanted.
    logs.records.clear()


class Helpless(PlainLeg):
    """Meets another fault when it acts on the first one."""

    def end_by_fault(self) -> None:
        raise RuntimeError("canary-of-a-second-fault")


async def test_second_fault_ends_the_call_and_aborts_the_socket(make_leg, logs, monkeypatch):
    faults: list[str] = []
    monkeypatch.setattr(Nothing, "on_fault", lambda observer, call, fault: faults.append(str(fault)))
    leg = make_leg(Helpless)
    async with serving_leg(leg) as socket:
        await socket.send_frame(b"fault")
        assert await socket.read_frame() is None
        await until(lambda: leg.gone)
    assert leg.call.why is Why.FAULT
    assert faults == ["canary-of-a-second-fault"]
    logs.records.clear()


async def test_silent_peer_is_lost_and_a_pong_keeps_it(make_leg):
    leg = make_leg(ClientLeg, silence_s=0.3, ping_s=0.1)
    async with serving_leg(leg) as socket:
        began = time.monotonic()
        while time.monotonic() - began < 0.6:
            found = await socket.read_frame()
            assert found == (PING, b"")
            await socket.send_frame(b"", PONG)
        assert leg.reported == []
        while await socket.read_frame() is not None:
            pass
        assert leg.reported == [("closed", None)]


async def test_peer_that_speaks_is_not_pinged(make_leg):
    leg = make_leg(ClientLeg, ping_s=0.15)
    async with serving_leg(leg) as socket:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            await socket.send_frame(b"x")
            await asyncio.sleep(0.02)
        leg.wire.send_text(b"end")
        assert await socket.read_frame() == (TEXT, b"end")


async def test_peer_that_does_not_read_is_lost_after_the_stall_though_it_speaks(make_leg):
    leg = make_leg(stall_s=0.3, silence_s=0.5)
    async with serving_leg(leg) as socket:
        socket.writer.transport.pause_reading()
        leg.wire.set_ready()
        began = time.monotonic()
        while not leg.gone:
            assert time.monotonic() - began < 0.3 + SLACK_S
            for _ in range(50):
                leg.send_audio(b"YQ==" * 50)
            await socket.send_frame(b"x")
            await asyncio.sleep(0.002)
        assert leg.reported[-1] == ("closed", None)
        assert leg.wire.dropped_frames > 0
        socket.writer.transport.abort()


async def test_peer_has_the_whole_stall_to_read_after_the_process_stood_still(make_leg):
    leg = make_leg(stall_s=10.0)
    async with serving_leg(leg, ticks=False):
        began = time.monotonic()
        leg.on_tick(began)
        leg.wire.pause_writing()
        # It stands still for half a minute; then ticks come every second again.
        ticks = iter(range(30, 60))
        while not leg.reported:
            ticked_s = next(ticks)
            leg.on_tick(began + ticked_s)
        assert leg.reported == [("closed", None)]
        assert ticked_s in (40, 41)


class CountedLeg(PlainLeg):
    """Notes its ticks."""

    def __init__(self, limits: LegLimits) -> None:
        super().__init__(limits)
        self.ticked_at: list[float] = []

    def _on_tick(self, now: float) -> None:
        self.ticked_at.append(now)
        super()._on_tick(now)


async def test_leg_whose_peer_does_well_has_nothing_to_do_for_most_of_its_looks(make_leg):
    leg = make_leg(CountedLeg, ping_s=3.0)
    async with serving_leg(leg, ticks=False) as socket:
        began = time.monotonic()
        for n in range(13):
            await socket.send_frame(b"x")
            await until(lambda n=n: leg.wire.messages_in > n)
            leg.on_tick(began + n / 2)
        assert leg.ticked_at == [began + n for n in (0, 2, 4, 6)]
        # Late by less than the settled time.
        assert await socket.read_frame() == (PING, b"")
        # It is quiet.
        leg.on_tick(began + 6.5)
        assert leg.ticked_at[-1] == began + 6.5


async def test_stall_that_ends_in_time_keeps_audio_and_marks_in_order(make_leg):
    leg = make_leg(hold_ms=600_000)
    async with serving_leg(leg) as socket:
        socket.writer.transport.pause_reading()
        leg.wire.set_ready()
        sent = 0
        while not leg.wire.is_congested:
            leg.send_audio(b"%08d" % sent)
            sent += 1
            if sent % 100 == 0:
                await asyncio.sleep(0)
        leg.wire.send_in_order("mark")
        leg.send_audio(b"%08d" % sent)
        socket.writer.transport.resume_reading()
        texts = []
        while len(texts) < sent + 2:
            texts.append((await socket.read_frame())[1])
        assert texts == [*(b"<%08d>" % n for n in range(sent)), b"mark", b"<%08d>" % sent]


async def test_large_messages_to_a_slow_reader_arrive_whole(make_leg):
    leg = make_leg(hold_ms=600_000)
    async with serving_leg(leg) as socket:
        leg.wire.set_ready()
        payloads = [bytes([65 + n]) * 20_000 for n in range(20)]
        socket.writer.transport.pause_reading()
        for payload in payloads:
            leg.send_audio(payload)
        socket.writer.transport.resume_reading()
        for payload in payloads:
            assert await socket.read_frame() == (TEXT, b"<" + payload + b">")


async def test_leg_closed_before_its_socket_opens_takes_the_socket_down(make_leg):
    leg = make_leg()
    leg.close(1000)
    async with serving_leg(leg) as socket:
        assert await socket.read_frame() is None
        await until(lambda: leg.gone)
        assert leg.reported == []


# The caller's leg, without a server around it


class Nothing:
    """An agent's side that takes everything, and the observer of a call."""

    tracks_heard = False

    def connect(self) -> None: ...
    def send_audio(self, payload: bytes) -> None: ...
    def relay_to(self, other: object) -> None: ...
    def relayed(self) -> Relayed:
        return Relayed(0, 0)

    def close(self, code: int) -> None: ...
    def take_over(self, other: object) -> None: ...
    def send_dtmf(self, digit: str) -> None: ...
    def on_played(self, name: str) -> None: ...
    def on_call_bridged(self, call: Call) -> None: ...
    def on_agent_replaced(self, call: Call, old: object, new: object, detail: str) -> None: ...
    def on_caller_kept(self, call: Call, kept: object, lost_s: float, detail: str) -> None: ...
    def on_twilio_asked(self, call: Call) -> None: ...
    def on_fault(self, call: Call, fault: Exception) -> None:
        raise fault

    def on_call_closed(self, call: Call) -> None:
        call.close_caller()


class OneStream:
    """A carrier whose second message starts the stream, for an agent that never opens."""

    finder = media.media_finder(STREAM_SID)
    envelope = media.media_envelope(STREAM_SID)

    def __init__(self) -> None:
        self._messages = 0

    def read(self, message: bytes, leg: CallerLeg) -> None:
        self._messages += 1
        if self._messages == 2:
            leg.on_start(OneAgent())


class OneAgent:
    def next_side(self) -> Nothing:
        return Nothing()

    def on_over(self) -> None: ...


async def test_agent_audio_before_start_waits_and_goes_out_in_order():
    call = Call(CALL_LIMITS, Nothing(), time.monotonic())
    leg = CallerLeg(OneStream(), call, LegLimits(**{**LIMITS, "max_message_bytes": 65536}), process())
    writer = ToServer(account_sid=ACCOUNT_SID, call_sid=random_call_sid(), stream_sid=STREAM_SID)
    async with serving_leg(leg) as socket:
        for n in range(20):
            call.on_agent_audio(b"%04d" % n, 3, time.monotonic)
        await socket.send_frame(writer.connected().encode())
        await socket.send_frame(b"", PING)
        assert await socket.read_frame() == (PONG, b"")
        await socket.send_frame(writer.start({}).encode())
        for n in range(20):
            opcode, text = await socket.read_frame()
            assert opcode == TEXT
            assert read_from_server(text.decode(), STREAM_SID).payload == f"{n:04d}"
        call.end(Why.CALLER_STOPPED, time.monotonic())
        assert await socket.close_code() == 1000


async def test_marks_that_the_queue_has_no_room_for_are_counted():
    call = Call(CALL_LIMITS, Nothing(), time.monotonic())
    leg = CallerLeg(OneStream(), call, LegLimits(**{**LIMITS, "max_message_bytes": 65536}), process())
    writer = ToServer(account_sid=ACCOUNT_SID, call_sid=random_call_sid(), stream_sid=STREAM_SID)
    async with serving_leg(leg) as socket:
        await socket.send_frame(writer.connected().encode())
        await socket.send_frame(writer.start({}).encode())
        await until(lambda: call.started_at is not None)
        leg.wire.pause_writing()
        for n in range(8192 + 2):
            leg.send_mark(f"{n}")
        assert call.stats.ignored == {"caller": {"too_many_marks": 2}}
        call.end(Why.CALLER_STOPPED, time.monotonic())
        assert await socket.close_code() == 1000


def test_memory_of_a_leg_whose_socket_never_came_comes_back_without_the_garbage_collector():
    gone: list[bool] = []
    gc.collect()
    gc.disable()
    try:
        now = time.monotonic()
        call = Call(CALL_LIMITS, Nothing(), now)
        leg = CallerLeg(OneStream(), call, LegLimits(**LIMITS), process(lambda leg: gone.append(True)))
        held = [weakref.ref(leg), weakref.ref(leg.wire)]
        call.end(Why.CALLER_LOST, now)
        # A tick that comes late changes nothing.
        for _ in range(2):
            leg.on_tick(now + 1)
        del call, leg
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()
    assert gone == [True]
