"""What floods, and what is read of it: the websockets package judges all frames."""

from __future__ import annotations

import json

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from benchmarks.floods_messages import (
    CALLERS_MESSAGES,
    CLOSE,
    OF_AGENT,
    PING,
    PONG,
    chunk_of_caller,
    frame,
    take_control_frames,
)
from bridge.standins.twilio.messages import ToServer


def frames_in(data: bytes, side: Side) -> list[Frame]:
    """What a peer of this side reads; it takes nothing that is against the RFC."""
    protocol = Protocol(side, state=State.OPEN)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("kind", OF_AGENT)
def test_chunk_of_an_agent_ends_with_a_ping_that_names_its_length(kind: str) -> None:
    flood = OF_AGENT[kind]
    found = frames_in(flood.chunk(), Side.CLIENT)
    assert len(found) == flood.messages
    assert (found[-1].opcode, found[-1].data) == (Opcode.PING, str(flood.messages).encode())
    assert {bytes(each.data) for each in found[:-1]} == {flood.text.encode()} | (
        {flood.once.encode()} if flood.once else set()
    )


def test_chunk_of_a_caller_is_audio_of_one_byte_and_a_ping() -> None:
    stream = ToServer(account_sid="AC1", call_sid="CA1", stream_sid="MZ1")
    *audio, ping = frames_in(chunk_of_caller(stream), Side.SERVER)
    assert len(audio) + 1 == CALLERS_MESSAGES
    assert {json.loads(each.data)["media"]["payload"] for each in audio} == {"/w=="}
    assert (ping.opcode, ping.data) == (Opcode.PING, b"%d" % CALLERS_MESSAGES)


@pytest.mark.parametrize("n", [0, 125, 126, 65535])
@pytest.mark.parametrize("is_masked", [True, False])
def test_frame_is_read_as_it_was_meant(n: int, is_masked: bool) -> None:
    data = frame(1, b"x" * n, is_masked=is_masked)
    (found,) = frames_in(data, Side.SERVER if is_masked else Side.CLIENT)
    assert (found.opcode, found.data, found.fin) == (Opcode.TEXT, b"x" * n, True)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_control_frames_are_found_among_others_wherever_reads_end(mask: bool, step: int) -> None:
    audio = [Frame(Opcode.TEXT, b"x" * n).serialize(mask=mask) for n in (5, 126, 65536)]
    pong = Frame(Opcode.PONG, b"100").serialize(mask=mask)
    ping = Frame(Opcode.PING, b"").serialize(mask=mask)
    close = Frame(Opcode.CLOSE, b"\x03\xf0too much").serialize(mask=mask)
    stream = audio[0] + pong + audio[1] + ping + audio[2] + pong + close
    found, data = [], bytearray()
    for i in range(0, len(stream), step):
        data += stream[i : i + step]
        found += take_control_frames(data)
    assert found == [(PONG, b"100"), (PING, b""), (PONG, b"100"), (CLOSE, b"\x03\xf0too much")]
    assert not data
