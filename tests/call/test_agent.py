"""The agent's leg on a real socket and a clock of its own: reports, last words, keys, waits and limits."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import ssl
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from call_script import LIMITS as CALL_LIMITS
from call_script import RecordingChain, Script
from leg_on_socket import LIMITS, serving_leg
from live import until
from live_raw import RawSocket

from _codec import Envelope, HeldBudget, SocketSet, ToMulaw
from bridge.agents.agent import (
    Agent,
    Audio,
    AudioFormat,
    CallInfo,
    Control,
    Dialogue,
    Endpoint,
    Event,
    Failed,
    Ignored,
    Reply,
    StreamInfo,
    Transfer,
    Troubled,
    Warned,
    no_session,
)
from bridge.agents.succession import FailureKind, Said, Speaker
from bridge.call.agent import AgentLeg
from bridge.call.ends import Why
from bridge.call.farewell import BEGINS_S, QUIET_S
from bridge.call.keys import PAUSE_S
from bridge.call.leg import SETTLED_S, LegLimits, Process
from bridge.call.limits import AgentLimits
from bridge.call.state import State
from bridge.metrics import Metrics

AGENT_LIMITS = AgentLimits(connect_s=5.0, trouble_s=5.0, notice_s=60.0)
STREAM = StreamInfo(CallInfo("CA1", "+1", "+2"), "AC", "MZ", {}, True)
EVENTS: dict[str, Event] = {
    "failed": Failed("error quota", FailureKind.QUOTA),
    "troubled": Troubled("error busy", FailureKind.SERVER),
    "warned": Warned("slow"),
    "hang_up": Control.HANG_UP,
    "speech_ended": Control.SPEECH_ENDED,
    "transfer": Transfer("+4930123456", (b"no",), (b"yes",)),
    "later": Reply(b"later", 1.5),
    "odd": Ignored("unknown_type"),
    "{}": Ignored("unknown_type"),
    "interrupt": Control.INTERRUPT,
    "heard": Said(Speaker.CALLER, ""),
    "opus": Audio(b"AAAA", AudioFormat("opus", 48000)),
}


class Scripted(Dialogue):
    """Each text is the name of an event; every message to the agent says what it is about."""

    gathers_keys = True

    def read(self, message: bytes) -> Iterable[Event]:
        return (EVENTS[message.decode()],)

    def on_dtmf(self, digit: str) -> Iterable[bytes]:
        return (f"keys {digit}".encode(),)

    def on_limit_near(self, left_s: float) -> Iterable[bytes]:
        return (f"{left_s:g} s left".encode(),)


class Leg(AgentLeg):
    """A leg whose socket the test opens."""

    def connect(self) -> None:
        pass


class Scene:
    """A bridged call whose agent's side is a leg, at time 0."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.now = 0.0
        self.script = Script()
        self.sent: list[str] = []
        agent = Agent(
            open_session=no_session,
            endpoint=lambda session, call: Endpoint("", {}),
            dialogue=lambda stream, next_number: dialogue,
        )
        self.leg = Leg(
            agent,
            STREAM,
            self.script.call,
            LegLimits(**{**LIMITS, "silence_s": 1e6, "ping_s": 1e6}),
            Process(
                clock=lambda: self.now,
                metrics=Metrics(),
                tls=ssl.create_default_context(),
                held=HeldBudget(1 << 20),
                sockets=SocketSet(),
                on_gone=lambda leg: None,
            ),
            agent_limits=AGENT_LIMITS,
            transfer_prefixes=("+49",),
            on_session=lambda session: None,
        )
        self.chain = RecordingChain([self.leg])
        self.script.call.on_start(self.chain, 0.0)

    def read(self, *names: str) -> None:
        for name in names:
            self.leg.read_text(name.encode())

    def hear(self, frames: int = 1) -> None:
        """The agent speaks."""
        for _ in range(frames):
            self.script.agent_audio(self.now)

    def tick(self, now: float) -> None:
        self.now = now
        self.leg.on_tick(now)

    @property
    def call(self) -> Any:
        return self.script.call


@contextlib.asynccontextmanager
async def scene(dialogue: Dialogue | None = None) -> AsyncIterator[tuple[Scene, RawSocket]]:
    made = Scene(dialogue or Scripted())
    async with serving_leg(made.leg, ticks=False) as socket:
        await until(lambda: made.call.state is State.BRIDGED)
        yield made, socket


def test_attributes_of_a_leg_share_one_set_of_names():
    legs = [Scene(Scripted()).leg for _ in range(3)]
    assert all(sys.getsizeof(vars(leg)) < 500 for leg in legs)


async def test_failure_is_the_end_of_the_agent_for_its_reason():
    async with scene() as (made, _):
        made.read("failed")
        assert made.chain.asked == [(FailureKind.QUOTA, True)]
        assert made.call.detail == "error quota"


async def test_silence_after_an_error_is_the_end_of_the_agent(logs):
    async with scene() as (made, _):
        made.hear()
        made.read("troubled", "troubled")
        made.tick(4.9)
        assert made.call.state is State.BRIDGED
        made.tick(5.0)
        assert made.chain.asked == [(FailureKind.SERVER, True)]
        assert made.call.detail == "error busy, and no audio after it"
    assert len([line for line in logs.lines if "agent reports an error" in line]) == 1


@pytest.mark.parametrize("sign", ["interrupt", "heard"])
async def test_agent_that_hears_the_caller_after_an_error_is_not_lost_while_it_listens(sign):
    async with scene() as (made, _):
        made.read("troubled")
        made.tick(4.0)
        made.read(sign)
        made.tick(8.9)
        assert made.call.state is State.BRIDGED
        made.tick(9.0)
        assert made.chain.asked == [(FailureKind.SERVER, True)]


async def test_agent_whose_audio_cannot_be_played_gives_way_to_the_next_one():
    async with scene() as (made, _):
        made.read("opus")
        made.tick(4.9)
        assert made.call.state is State.BRIDGED
        made.tick(5.0)
        assert made.chain.asked == [(FailureKind.REFUSED, True)]


async def test_agent_whose_audio_can_be_played_again_stays():
    async with scene() as (made, _):
        made.read("opus")
        made.hear()
        made.tick(60.0)
        assert made.chain.asked == []


async def test_audio_after_an_error_keeps_the_agent():
    async with scene() as (made, _):
        made.read("troubled")
        made.tick(4.0)
        made.hear()
        for now in (5.0, 60.0, 600.0):
            made.tick(now)
        assert made.call.state is State.BRIDGED


@pytest.mark.parametrize("close", [1000, 1005, 1011])
async def test_error_then_any_close_is_a_loss_for_the_errors_reason(close):
    async with scene() as (made, _):
        made.read("troubled")
        made.leg.on_peer_closed(close, "bye\nnow")
        assert made.chain.asked == [(FailureKind.SERVER, True)]
        assert made.call.detail == f"error busy, then close {close} bye now"


@pytest.mark.parametrize(
    ("code", "is_end"), [(1000, True), (1005, True), (1001, False), (1011, False), (None, False)]
)
async def test_ordinary_close_is_the_end_and_any_other_a_loss(code, is_end):
    async with scene() as (made, _):
        made.leg.end_by_peer(code, "close")
        assert (made.call.why is Why.AGENT_ENDED) == is_end
        assert len(made.chain.asked) == (not is_end)


class Slow(Scripted):
    """An agent that is not ready yet."""

    waits_for_ready = True


async def test_ordinary_close_before_the_agent_is_ready_is_a_loss():
    made = Scene(Slow())
    made.leg.end_by_peer(1000, "close")
    assert made.chain.reports[0] == "lost: lost close"
    assert made.call.why is Why.AGENT_LOST


async def test_warning_is_logged_once_a_call(logs):
    async with scene() as (made, _):
        made.read("warned", "warned", "warned")
        assert made.call.state is State.BRIDGED
    assert len([line for line in logs.lines if "agent warns" in line and "slow" in line]) == 1


async def test_hang_up_waits_for_the_end_of_speech():
    async with scene() as (made, _):
        made.read("hang_up")
        made.hear()
        made.tick(0.5)
        assert made.call.state is State.BRIDGED
        made.hear()
        made.read("speech_ended")
        assert made.call.state is State.PLAYING_OUT
        assert [entry[0] for entry in made.script.sent_to("caller")].count("audio") == 2


async def test_hang_up_without_an_end_of_speech_waits_for_a_silence():
    async with scene() as (made, _):
        made.read("hang_up")
        made.tick(BEGINS_S - 0.1)
        made.hear()
        made.tick(BEGINS_S)
        made.tick(BEGINS_S + QUIET_S - 0.1)
        assert made.call.state is State.BRIDGED
        made.tick(BEGINS_S + QUIET_S)
        assert made.call.state is State.PLAYING_OUT


@pytest.mark.parametrize("end", ["failed", "troubled then closed", "closed", "violation"])
async def test_agent_that_leaves_after_its_request_is_not_replaced(end):
    async with scene() as (made, _):
        made.read("transfer", "transfer", "hang_up")
        match end:
            case "failed":
                made.read("failed")
            case "troubled then closed":
                made.read("troubled")
                made.leg.on_peer_closed(1000, "")
            case "closed":
                made.leg.on_peer_closed(1006, "")
            case "violation":
                made.leg.on_violation(1002, "")
        assert made.chain.asked == []
        assert made.call.transfer_to == "+4930123456"
        assert made.call.state is State.PLAYING_OUT


async def test_speech_that_ends_without_a_request_changes_nothing():
    async with scene() as (made, _):
        made.read("speech_ended")
        made.tick(100.0)
        assert made.call.state is State.BRIDGED


async def test_accepted_transfer_is_answered():
    async with scene() as (made, socket):
        made.read("transfer")
        assert await socket.read_frame() == (1, b"yes")


async def test_reply_waits_as_long_as_the_agent_asks():
    async with scene() as (made, socket):
        made.read("later")
        made.tick(1.4)
        made.leg.wire.send_text(b"first")
        made.tick(1.5)
        assert [await socket.read_frame() for _ in range(2)] == [(1, b"first"), (1, b"later")]


# While the agent does well, it is looked at without Python: what makes something due puts an end to that.

PONG = b"\x8a\x00"


def tick_well(made: Scene, now: float) -> None:
    """A tick behind a frame of the agent."""
    made.leg.wire.feed(PONG)
    made.tick(now)


@contextlib.asynccontextmanager
async def settled(dialogue: Dialogue | None = None) -> AsyncIterator[tuple[Scene, RawSocket]]:
    """An agent that does well, and that nothing is due for until something happens."""
    async with scene(dialogue) as (made, socket):
        tick_well(made, 0.0)
        assert made.leg.wire.settled_until == SETTLED_S
        made.leg.wire.settled_until = 1e9
        yield made, socket


@pytest.mark.parametrize(
    ("event", "due_s", "state"),
    [("troubled", 5.0, State.CLOSED), ("hang_up", BEGINS_S, State.PLAYING_OUT)],
)
async def test_agent_that_does_well_is_held_to_what_it_has_said(event, due_s, state):
    async with settled() as (made, _):
        made.read(event)
        for now in (1.0, due_s - 0.1):
            tick_well(made, now)
            assert made.call.state is State.BRIDGED
        tick_well(made, due_s)
        assert made.call.state is state


async def test_agent_that_does_well_gets_replies_and_keys_in_time():
    async with settled() as (made, socket):
        made.read("later")
        tick_well(made, 0.5)
        tick_well(made, 1.5)
        assert await socket.read_frame() == (1, b"later")
        tick_well(made, 2.0)
        made.leg.wire.settled_until = 1e9
        made.leg.send_dtmf("7")
        tick_well(made, 3.0)
        tick_well(made, 2.0 + PAUSE_S)
        assert await socket.read_frame() == (1, b"keys 7")


async def test_agent_that_does_well_is_closed_in_time():
    async with settled() as (made, socket):
        made.leg.close(1000)
        tick_well(made, LIMITS["close_s"])
        assert made.leg.wire.settled_until == 0.0
        assert await socket.close_code() == 1000
        await until(lambda: made.leg._has_left)


async def test_agent_that_is_not_ready_is_never_settled():
    made = Scene(Slow())
    async with serving_leg(made.leg, ticks=False):
        await until(lambda: made.leg._transport is not None)
        tick_well(made, 0.0)
        assert made.leg.wire.settled_until == 0.0


@pytest.mark.parametrize("name", ["keepalive", "frame_ms"])
async def test_agent_with_messages_due_at_any_time_is_never_settled(name):
    dialogue = Chunky() if name == "frame_ms" else Scripted()
    if name == "keepalive":
        dialogue.keepalive = b"alive"
    async with scene(dialogue) as (made, _):
        tick_well(made, 0.0)
        assert made.leg.wire.settled_until == 0.0


class Chunky(Scripted):
    frame_ms = 100
    to_agent = Envelope(b"<", b">")


AUDIO = base64.b64encode(bytes(range(160)))


def audio_of(frame: tuple[int, bytes] | None) -> bytes:
    assert frame is not None
    return base64.b64decode(frame[1][1:-1], validate=True)


async def test_agent_that_wants_larger_frames_gets_them():
    async with scene(Chunky()) as (made, socket):
        assert made.script.caller.relays_to == [made.leg]
        assert not made.leg.takes_wire
        for _ in range(6):
            made.script.caller_audio(0.0, AUDIO)
        assert audio_of(await socket.read_frame()) == 5 * bytes(range(160))
        # The rest follows once the caller's audio pauses, and before a key.
        made.tick(0.5)
        made.tick(1.0)
        assert audio_of(await socket.read_frame()) == bytes(range(160))
        made.script.caller_audio(1.0, AUDIO)
        for key in "1#":
            made.leg.send_dtmf(key)
        assert audio_of(await socket.read_frame()) == bytes(range(160))
        assert await socket.read_frame() == (1, b"keys 1#")


async def test_rest_of_a_lost_agents_frame_goes_to_the_next_one():
    async with scene(Chunky()) as (made, _):
        made.script.caller_audio(0.0, AUDIO)
        async with scene(Chunky()) as (other, socket):
            other.leg.take_over(made.leg)
            for _ in range(4):
                other.script.caller_audio(0.0, AUDIO)
            assert audio_of(await socket.read_frame()) == 5 * bytes(range(160))


async def test_samples_that_python_reads_are_one_stream_of_each_format(monkeypatch):
    pcm = bytes(range(256)) * 10
    cuts = (0, 1, 4, 321, 1282, 1283, 2560)
    whole = b""
    async with scene() as (made, _):
        for rate_hz in (16000, 8000):
            for begin, end in itertools.pairwise(cuts):
                part = Audio(base64.b64encode(pcm[begin:end]), AudioFormat("pcm16", rate_hz))
                monkeypatch.setitem(EVENTS, "part", part)
                made.read("part")
            whole += ToMulaw(rate_hz)(pcm)
        heard = [
            base64.b64decode(payload) for name, payload in made.script.sent_to("caller") if name == "audio"
        ]
        assert b"".join(heard) == whole


async def test_audio_that_is_no_base64_is_dropped():
    async with scene(Chunky()) as (made, socket):
        made.script.caller_audio(0.0, b"a===")
        for _ in range(5):
            made.script.caller_audio(0.0, AUDIO)
        assert audio_of(await socket.read_frame()) == 5 * bytes(range(160))


async def test_gathered_keys_come_with_the_hash_or_after_a_pause():
    async with scene() as (made, socket):
        for key in "12#":
            made.leg.send_dtmf(key)
        assert await socket.read_frame() == (1, b"keys 12#")
        made.leg.send_dtmf("9")
        made.tick(PAUSE_S)
        assert await socket.read_frame() == (1, b"keys 9")


class Aging(Scripted):
    session_limit_s = 600.0


async def test_keys_that_the_queue_has_no_room_for_are_counted():
    async with scene() as (made, _):
        made.leg.wire.pause_writing()
        for _ in range(8192 + 2):
            made.leg.send_dtmf("1")
        assert made.call.stats.ignored == {"agent": {"too_many_keys": 2}}


@pytest.mark.parametrize(("dialogue", "limit_s"), [(Scripted(), CALL_LIMITS.duration_s), (Aging(), 600.0)])
async def test_agent_learns_once_that_its_end_is_near(dialogue, limit_s):
    async with scene(dialogue) as (made, socket):
        made.tick(limit_s - 61.0)
        made.tick(limit_s - 60.0)
        made.tick(limit_s - 59.0)
        made.leg.wire.send_text(b"last")
        assert [await socket.read_frame() for _ in range(2)] == [(1, b"60 s left"), (1, b"last")]


async def test_messages_that_were_not_understood_are_summed_up_at_the_end(logs):
    async with scene() as (made, _):
        made.read("{}", "odd", "odd")
    await until(lambda: [line for line in logs.lines if "were not understood" in line])
    (line,) = [line for line in logs.lines if "were not understood" in line]
    assert json.dumps("keys:")[1:-1] in line
    assert "messages=3" in line
