"""What a wire holds, pauses and refuses: one budget, the work of a turn, and messages that are not plain audio."""

from __future__ import annotations

import asyncio
import base64
import os
import weakref

import pytest
from server_frames import from_server
from wire_on_pipe import Pipe, make_wire, texts

from _codec import Envelope, HeldBudget, SocketSet, Wire

KIB = 1024
AUDIO_1S = base64.b64encode(bytes(8000))
AUDIO_20MS = base64.b64encode(bytes(160))


def masks(pipe: Pipe) -> list[bytes]:
    """The masks of the frames that went out."""
    stream, found = b"".join(pipe.writes), []
    while stream:
        assert stream[1] & 0x80
        n, head = stream[1] & 0x7F, 2
        if n >= 126:
            head = 4 if n == 126 else 10
            n = int.from_bytes(stream[2:head])
        found.append(stream[head : head + 4])
        stream = stream[head + 4 + n :]
    return found


# The budget


async def test_reader_that_is_furthest_ahead_pauses_and_reads_on_when_its_audio_is_out():
    budget = HeldBudget(256 * KIB)
    callers, agents = [], []
    for _ in range(3):
        caller, _, _ = make_wire(budget=budget)
        agent, pipe, _ = make_wire(is_client=True, budget=budget)
        agent.join(caller)
        callers.append(caller)
        agents.append((agent, pipe))
    callers[0].send_audio(AUDIO_1S)
    for _ in range(3):
        callers[1].send_audio(AUDIO_1S)
    assert [agent.is_paused for agent, _ in agents] == [False, False, False]
    while not any(agent.is_paused for agent, _ in agents):
        callers[2].send_audio(AUDIO_1S)
    # The block of the third has grown beyond that of the second.
    assert [agent.is_paused for agent, _ in agents] == [False, False, True]
    assert [pipe.is_read for _, pipe in agents] == [True, True, False]
    callers[2].set_ready()
    # Several turns of the loop: a turn sends 64 KiB.
    for _ in range(10):
        await asyncio.sleep(0)
    assert agents[2][1].is_read
    assert not agents[2][0].is_paused
    for caller in callers:
        caller.lose_held()
    assert budget.used_bytes == 0


async def test_agent_is_paused_before_its_queue_overflows_and_reads_on_at_half():
    caller, _, _ = make_wire()
    agent, pipe, _ = make_wire(is_client=True)
    agent.join(caller)
    sent = 0
    while pipe.is_read:
        caller.send_audio(AUDIO_1S)
        sent += 1
    assert sent == 600
    # The rest of the message that has arrived.
    for _ in range(1500):
        caller.send_audio(AUDIO_1S)
    assert caller.dropped_frames == 0
    caller.set_most_ahead(1790 * 8000)
    caller.set_ready()
    # A turn of the loop sends 64 KiB.
    for _ in range(500):
        await asyncio.sleep(0)
    assert caller.audio_out_frames == 1790
    assert not pipe.is_read
    caller.set_ahead(1780 * 8000)
    for _ in range(10):
        await asyncio.sleep(0)
    assert caller.audio_out_frames == 1800
    assert pipe.is_read


def test_callers_reader_is_never_paused():
    budget = HeldBudget(64 * KIB)
    agent, _, _ = make_wire(is_client=True, budget=budget)
    caller, pipe, _ = make_wire(budget=budget)
    caller.join(agent)
    for _ in range(20):
        agent.send_audio(AUDIO_1S)
    assert budget.used_bytes > budget.limit_bytes
    assert pipe.is_read


def test_paused_reader_whose_partner_ends_reads_on():
    budget = HeldBudget(16 * KIB)
    caller, _, _ = make_wire(budget=budget)
    agent, pipe, _ = make_wire(is_client=True, budget=budget)
    agent.join(caller)
    for _ in range(4):
        caller.send_audio(AUDIO_1S)
    assert not pipe.is_read
    caller.connection_lost(None)
    assert pipe.is_read
    assert budget.used_bytes == 0


async def test_paused_reader_waits_until_the_process_has_room():
    budget = HeldBudget(256 * KIB)
    caller, _, _ = make_wire(budget=budget, hold_ms=2000)
    other, _, _ = make_wire(budget=budget)
    agent, pipe, _ = make_wire(is_client=True, budget=budget)
    agent.join(caller)
    for _ in range(2):
        caller.send_audio(AUDIO_1S)
    assert not pipe.is_read
    while budget.used_bytes <= budget.limit_bytes:
        other.send_audio(AUDIO_1S)
    caller.set_most_ahead(8000)
    caller.set_ready()
    assert caller.held_bytes == 8000
    # Its own queue would have room.
    assert not pipe.is_read
    caller.set_ahead(0)
    assert caller.held_bytes == 0
    assert pipe.is_read


@pytest.mark.parametrize("is_ready", [True, False])
async def test_paused_reader_reads_on_at_an_interrupt(is_ready):
    caller, caller_pipe, _ = make_wire(hold_ms=2000)
    agent, pipe, _ = make_wire(is_client=True)
    agent.join(caller)
    caller.set_most_ahead(8000)
    for _ in range(3):
        caller.send_audio(AUDIO_1S)
    caller.send_in_order("mark")
    if is_ready:
        caller.set_ready()
    assert not pipe.is_read
    caller.clear_audio(b"clear")
    assert pipe.is_read
    caller.set_ready()
    assert texts(caller_pipe)[-2:] == [b"clear", b"mark"]


async def test_reader_that_is_paused_for_two_reasons_waits_for_both():
    caller, _, _ = make_wire(hold_ms=1000)
    agent, pipe, owner = make_wire(is_client=True)
    agent.join(caller)
    caller.send_audio(AUDIO_1S)
    # More than a turn takes.
    agent.feed(b"".join(from_server(b"%d" % n) for n in range(70)))
    await asyncio.sleep(0)
    assert len(owner.calls) == 70
    assert not pipe.is_read
    caller.lose_held()
    assert pipe.is_read


def test_paused_reader_that_gets_another_partner_reads_on():
    caller, _, _ = make_wire(hold_ms=1000)
    other, _, _ = make_wire(hold_ms=1000)
    agent, pipe, _ = make_wire(is_client=True)
    agent.join(caller)
    caller.send_audio(AUDIO_1S)
    assert not pipe.is_read
    agent.join(other)
    assert pipe.is_read


def test_wire_that_has_handed_over_what_it_held_is_let_go():
    budget = HeldBudget(16 * KIB)
    first, _, owner = make_wire(budget=budget)
    second, _, _ = make_wire(budget=HeldBudget(1 << 20))
    agent, pipe, _ = make_wire(is_client=True, budget=budget)
    agent.join(first)
    for _ in range(4):
        first.send_audio(AUDIO_1S)
    assert not pipe.is_read
    first.hand_held_to(second)
    assert pipe.is_read
    agent.join(None)
    # The budget names the wires that hold audio.
    is_there = weakref.ref(owner)
    owner.wire = None
    del first, owner
    assert is_there() is None


def test_message_that_does_not_fit_the_budget_is_1009_and_small_ones_are_free():
    budget = HeldBudget(128 * KIB)
    agent, _, owner = make_wire(is_client=True, budget=budget)
    agent.feed(from_server(bytes(60 * KIB), 0x82)[: 50 * KIB])
    assert budget.used_bytes == 0
    agent, _, owner = make_wire(is_client=True, budget=budget)
    agent.feed(from_server(bytes(100 * KIB), 0x82)[: 90 * KIB])
    assert 32 * KIB < budget.used_bytes < 64 * KIB
    other, _, other_owner = make_wire(is_client=True, budget=budget)
    other.feed(from_server(bytes(100 * KIB), 0x82)[:100])
    assert other_owner.calls == [("on_violation", 1009, "no room is left for a message of this length")]
    agent.feed(from_server(bytes(100 * KIB), 0x82)[90 * KIB :])
    assert owner.calls == [("on_binary", bytes(100 * KIB))]
    assert budget.used_bytes == 0


def test_budget_is_given_back_with_the_wire():
    budget = HeldBudget(1 << 20)
    agent, _, owner = make_wire(is_client=True, budget=budget)
    agent.feed(from_server(bytes(200 * KIB), 0x82)[:-1])
    agent.send_audio(AUDIO_1S)
    assert budget.used_bytes > 0
    agent.connection_lost(None)
    owner.wire = None
    del agent
    assert budget.used_bytes == 0


@pytest.mark.parametrize("limit_bytes", [0, -1])
def test_budget_of_nothing_is_refused(limit_bytes):
    with pytest.raises(ValueError, match=f"limit_bytes must be at least 1, got {limit_bytes}"):
        HeldBudget(limit_bytes)


# The work of a turn


async def test_messages_beyond_a_turn_wait_for_the_next_in_order():
    agent, pipe, owner = make_wire(is_client=True)
    agent.feed(b"".join(from_server(b"%d" % n) for n in range(150)))
    assert len(owner.calls) == 64
    assert not pipe.is_read
    await asyncio.sleep(0)
    assert len(owner.calls) == 128
    assert not pipe.is_read
    await asyncio.sleep(0)
    assert owner.calls == [("on_text", b"%d" % n) for n in range(150)]
    assert pipe.is_read


async def test_plain_audio_is_no_work_that_counts():
    agent, pipe, _ = make_wire(is_client=True)
    caller, caller_pipe, _ = make_wire()
    caller.set_ready()
    agent.join(caller)
    agent.feed(b"".join(from_server(b'{"type":"audio","data":"%b"}' % AUDIO_20MS) for _ in range(500)))
    assert texts(caller_pipe) == [b"<%b>" % AUDIO_20MS] * 500
    # One write for some 4 KiB of frames.
    assert len(caller_pipe.writes) < 40
    assert pipe.is_read


async def test_short_and_empty_audio_counts_as_a_message():
    agent, _, owner = make_wire(is_client=True, messages_per_s=10)
    caller, caller_pipe, _ = make_wire()
    caller.set_ready()
    agent.join(caller)
    short = base64.b64encode(bytes(39))
    for _ in range(5):
        agent.feed(from_server(b'{"type":"audio","data":"%b"}' % short))
        agent.feed(from_server(b'{"type":"audio","data":""}'))
    assert texts(caller_pipe) == [b"<%b>" % short] * 5
    assert owner.calls == [("on_ignored", "empty_audio")] * 5
    assert agent.media_in == 5
    agent.feed(from_server(b'{"type":"audio","data":"%b"}' % short))
    assert owner.calls[5:] == [("on_violation", 1008, "too many messages that are not plain audio")]
    assert len(texts(caller_pipe)) == 5


async def test_allowance_is_renewed_by_the_time_up_to_its_bound():
    agent, _, owner = make_wire(is_client=True, messages_per_s=4)
    agent.feed(from_server(b"a") * 3 + from_server(b"", 0x89))
    assert agent.messages_left == 0
    agent.look(0.5, SocketSet())
    assert agent.messages_left == 2
    agent.look(60.0, SocketSet())
    assert agent.messages_left == 4
    agent.feed(from_server(b"b") * 5)
    assert [call[0] for call in owner.calls] == ["on_text"] * 7 + ["on_violation"]


def test_audio_that_python_reads_gives_its_message_back_unless_it_is_short():
    agent, _, _ = make_wire(is_client=True, messages_per_s=5)
    agent.count_as_audio(base64.b64encode(bytes(40)))
    agent.count_as_audio(base64.b64encode(bytes(39)))
    assert agent.messages_left == 6


async def test_long_queue_goes_out_in_several_turns():
    caller, pipe, _ = make_wire()
    for _ in range(1000):
        caller.send_audio(AUDIO_20MS)
    caller.set_ready()
    first = len(texts(pipe))
    assert 200 < first < 400
    await asyncio.sleep(0)
    assert first < len(texts(pipe)) < 1000
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(texts(pipe)) == 1000


# What waits, in its order


async def test_items_keep_their_place_among_audio_and_survive_a_clear():
    caller, pipe, _ = make_wire()
    caller.send_audio(AUDIO_20MS)
    assert caller.send_in_order("first")
    caller.send_audio(AUDIO_20MS)
    assert caller.send_in_order("second")
    caller.set_ready()
    assert texts(pipe) == [b"<%b>" % AUDIO_20MS, b"first", b"<%b>" % AUDIO_20MS, b"second"]
    caller.pause_writing()
    caller.send_audio(AUDIO_20MS)
    caller.send_in_order("third")
    caller.clear_audio(b"clear")
    caller.clear_audio(b"clear")
    # At once, though the peer does not read, and once.
    assert texts(pipe)[4:] == [b"clear"]
    caller.resume_writing()
    assert texts(pipe)[4:] == [b"clear", b"third"]
    assert (caller.cleared_frames, caller.dropped_frames) == (1, 0)


async def test_items_without_audio_before_them_go_at_once_and_too_many_are_refused():
    caller, pipe, _ = make_wire()
    for n in range(8192):
        assert caller.send_in_order(f"{n}")
    assert not caller.send_in_order("one more")
    caller.set_ready()
    assert texts(pipe) == [b"%d" % n for n in range(8192)]
    caller.send_in_order("now")
    assert texts(pipe)[-1] == b"now"


async def test_items_are_kept_when_the_oldest_audio_is_dropped_and_go_to_another_wire():
    first, _, _ = make_wire(is_client=True)
    second, pipe, owner = make_wire()
    frames = [base64.b64encode(os.urandom(160)) for _ in range(4)]
    for n, frame in enumerate(frames):
        first.send_audio(frame)
        first.send_in_order(f"key {n}")
    first.hand_held_to(second)
    second.set_ready()
    assert texts(pipe) == [text for n in range(4) for text in (b"<%b>" % frames[n], b"key %d" % n)]
    assert first.held_bytes == 0
    assert owner.calls == []


async def test_audio_held_for_a_peer_that_closes_goes_to_another_wire():
    first, _, owner = make_wire()
    second, pipe, _ = make_wire()
    first.set_ready()
    first.pause_writing()
    first.send_audio(AUDIO_20MS)
    first.send_in_order("mark")
    # A client's close frame, with the code 1001 and a mask of zeros.
    first.feed(b"\x88\x82\0\0\0\0\x03\xe9")
    assert owner.calls[-1] == ("on_peer_closed", 1001, "")
    first.hand_held_to(second)
    second.set_ready()
    assert texts(pipe) == [b"<%b>" % AUDIO_20MS, b"mark"]
    assert first.dropped_frames == 0


async def test_audio_that_another_wire_has_no_room_for_counts_as_dropped_there():
    first, _, _ = make_wire(is_client=True)
    second, _, _ = make_wire(is_client=True, hold_ms=500)
    for _ in range(40):
        first.send_audio(AUDIO_20MS)
    first.hand_held_to(second)
    assert (first.held_bytes, second.held_bytes) == (0, 25 * 160)
    assert (first.dropped_frames, second.dropped_frames) == (0, 15)
    assert second.overflowed_frames == 15
    second.lose_held()
    assert (second.dropped_frames, second.overflowed_frames) == (40, 15)


async def test_audio_beyond_what_the_peer_may_have_waits_for_it_to_play():
    caller, pipe, _ = make_wire()
    caller.set_ready()
    caller.set_most_ahead(480)
    for _ in range(5):
        caller.send_audio(AUDIO_20MS)
    assert len(texts(pipe)) == 3
    caller.set_ahead(320)
    assert len(texts(pipe)) == 4
    caller.clear_audio(b"clear")
    assert caller.cleared_frames == 1
    caller.send_audio(AUDIO_20MS)
    assert texts(pipe)[4:] == [b"clear", b"<%b>" % AUDIO_20MS]


def test_marks_in_less_than_a_group_of_base64_are_refused():
    caller, pipe, _ = make_wire()
    with pytest.raises(ValueError, match="every_bytes must be at least 3, got 2"):
        caller.set_marks(b"[", b"]", 2)
    caller.set_marks(b"[", b"]", 3)
    caller.set_ready()
    caller.send_audio(b"AAAAAAAA")
    assert texts(pipe) == [b"<AAAA>", b"[g0-3]", b"<AAAA>", b"[g0-6]"]


async def test_bytes_that_came_with_the_handshake_are_read_in_turns_too():
    agent, pipe, owner = make_wire(is_client=True, messages_per_s=100_000)
    beginning = from_server(b"text")[:3]
    agent.feed(beginning)
    agent.feed((from_server(b"text") * 50_000)[3:])
    assert (len(owner.calls), pipe.is_read) == (64, False)
    await asyncio.sleep(0)
    assert len(owner.calls) == 128
    assert set(owner.calls) == {("on_text", b"text")}


# After a violation


async def test_peer_that_sends_on_after_a_violation_is_read_for_a_mebibyte_and_no_longer():
    agent, pipe, owner = make_wire(is_client=True)
    agent.feed(from_server(b"", first=0x91))
    assert [name for name, *_ in owner.calls] == ["on_violation"]
    for _ in range(16):
        assert pipe.is_read
        agent.get_buffer(-1)
        agent.buffer_updated(64 * KIB)
    assert not pipe.is_read
    agent.set_ready()
    assert not pipe.is_read
    agent.connection_lost(None)


# Who reads


def test_set_reads_no_transport_but_that_of_a_plain_socket():
    sockets = SocketSet()
    sockets.start()
    agent, pipe, _ = make_wire(is_client=True)
    agent.feed(from_server(b"text"))
    # The bytes of a TLS connection's socket mean nothing to the wire.
    agent.read_by(sockets)
    assert pipe.is_read
    sockets.stop()


# The masks


def of_messages(agent: Wire) -> None:
    agent.send_text(b"text")
    agent.send_ping()
    agent.send_text(bytes(300))
    # Does not fit the memory in which frames are gathered.
    agent.send_text(bytes(100 * KIB))


def of_audio(agent: Wire) -> None:
    caller, _, _ = make_wire()
    caller.join(agent)
    audio = b'{"type":"audio","data":"%b"}' % AUDIO_20MS
    for _ in range(3):
        # Held at first, then written together, then each read's frames together.
        caller.feed(b"".join(to_server(audio) for _ in range(20)))
        agent.set_ready()
    caller.join(None)


def to_server(text: bytes) -> bytes:
    """A client's frame of 126 to 65535 bytes with a mask of zeros."""
    return b"\x81\xfe" + len(text).to_bytes(2) + bytes(4) + text


def of_binary_audio(agent: Wire) -> None:
    agent.set_format(None, Envelope(b"", b""), is_binary_out=True)
    agent.set_ready()
    agent.send_audio(AUDIO_20MS)


def of_a_close(agent: Wire) -> None:
    agent.send_close(1000)


@pytest.mark.parametrize("send", [of_messages, of_audio, of_binary_audio, of_a_close])
async def test_each_kind_of_frame_to_a_server_has_a_mask(send):
    agent, pipe, _ = make_wire(is_client=True)
    send(agent)
    found = masks(pipe)
    # Of so few random masks, two are alike in one run of a million.
    assert len(set(found)) == len(found) > 0
    assert bytes(4) not in found


async def test_frames_to_a_server_have_masks_that_differ():
    agent, pipe, _ = make_wire(is_client=True)
    # More than come from the kernel at once.
    count = 3000
    for _ in range(count):
        agent.send_text(b"text")
    masks = [frame[2:6] for frame in pipe.writes]
    # Of so many random masks, two are alike in one run of a thousand.
    assert len(set(masks)) >= count - 1
    for frame, mask in zip(pipe.writes, masks, strict=True):
        assert frame[6:] == bytes(a ^ b for a, b in zip(b"text", mask, strict=True))
