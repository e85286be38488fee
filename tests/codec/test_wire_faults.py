"""A fault of this program, or a lack of memory, in a turn of the loop that is the wire's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from server_frames import from_server
from wire_on_pipe import Owner, Pipe, make_wire


class Faulty(Owner):
    """Fails at one message."""

    def __init__(self, fault_type: type[BaseException]) -> None:
        super().__init__()
        self.fault_type = fault_type

    def on_text(self, message: bytes) -> None:
        if message == b"fails":
            raise self.fault_type("as the test wants it")


@pytest.mark.parametrize("fault_type", [MemoryError, asyncio.CancelledError])
async def test_fault_in_the_second_turn_ends_the_connection(fault_type):
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    wire, pipe, owner = make_wire(is_client=True, owner=Faulty(fault_type))
    wire.feed(from_server(b"text") * 64 + from_server(b"fails"))
    assert not pipe.is_aborted
    await asyncio.sleep(0)
    assert pipe.is_aborted
    assert [type(fault["exception"]) for fault in faults] == [fault_type]
    # The end that follows an abort.
    wire.connection_lost(None)
    assert owner.calls[-1] == ("on_gone",)
    asyncio.get_running_loop().set_exception_handler(None)


class Broken(Pipe):
    """Has no memory for what it is to write."""

    def write(self, data: bytes) -> None:
        raise MemoryError("as the test wants it")


async def test_fault_of_a_transport_ends_its_own_connection_and_the_frames_of_others_go_out():
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    agent, agent_pipe, _ = make_wire(is_client=True)
    caller, _, _ = make_wire()
    broken = Broken()
    caller.open(broken)
    caller.set_ready()
    agent.join(caller)
    agent.feed(from_server(b'{"type":"audio","data":"AAAA"}') + from_server(b"", 0x89))
    assert broken.is_aborted
    assert [type(fault["exception"]) for fault in faults] == [MemoryError]
    assert not agent_pipe.is_aborted
    # The pong, behind the audio.
    assert [write[0] for write in agent_pipe.writes] == [0x8A]
    asyncio.get_running_loop().set_exception_handler(None)


class Answering(Owner):
    """Answers congestion with a text, which an owner may not do."""

    def on_congestion(self, is_congested: bool) -> None:
        assert self.wire is not None
        self.wire.send_text(b"answer")


class Filling(Pipe):
    """Fills with the first write."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.writes) == 1:
            self.wire.pause_writing()


async def test_text_that_is_sent_from_within_a_write_follows_it():
    wire, _, owner = make_wire(owner=Answering())
    owner.wire, pipe = wire, Filling()
    pipe.wire = wire
    wire.open(pipe)
    wire.send_text(b"question")
    assert [write[2:] for write in pipe.writes] == [b"question", b"answer"]
