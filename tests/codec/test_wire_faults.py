"""A fault of this program, or a lack of memory, in a turn of the loop that is the wire's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from server_frames import from_server
from wire_on_pipe import Owner, make_wire


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
