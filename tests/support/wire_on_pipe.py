"""Wires on transports in memory."""

from __future__ import annotations

import base64
from typing import Any

from server_frames import from_server

from _codec import Envelope, HeldBudget, SpanFinder, Wire


class Pipe:
    """A transport in memory that never fills."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_read = True
        self.is_closed = False
        self.is_aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


class Owner:
    """Notes the wire's calls; answers an item with its own text."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.wire: Wire | None = None

    def on_due(self, item: str) -> None:
        assert self.wire is not None
        self.wire.send_text(item.encode())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


def make_wire(
    is_client: bool = False,
    budget: HeldBudget | None = None,
    messages_per_s: int = 1000,
    hold_ms: int = 600_000,
    owner: Owner | None = None,
) -> tuple[Wire, Pipe, Owner]:
    owner, pipe = owner or Owner(), Pipe()
    wire = Wire(
        owner,
        is_client=is_client,
        max_message_bytes=1 << 20,
        budget=budget or HeldBudget(64 << 20),
        messages_per_s=messages_per_s,
        hold_ms=hold_ms,
    )
    owner.wire = wire
    wire.set_format(SpanFinder("data", {"type": "audio"}), Envelope(b"<", b">"))
    wire.open(pipe)
    return wire, pipe, owner


def texts(pipe: Pipe) -> list[bytes]:
    """The unmasked text frames that went out."""
    stream, found = b"".join(pipe.writes), []
    while stream:
        n, head = stream[1] & 0x7F, 2
        if n == 126:
            n, head = int.from_bytes(stream[2:4]), 4
        found.append(stream[head : head + n])
        stream = stream[head + n :]
    return found


FRAME_BYTES = 160


class Sides:
    """The two wires of a call, joined, and what the call has counted of the agent's audio."""

    def __init__(self, is_ready: bool = True) -> None:
        self.caller, _, _ = make_wire(is_client=True)
        self.agent, _, _ = make_wire(is_client=True)
        self.agent.join(self.caller)
        self.caller.join(self.agent)
        if is_ready:
            self.caller.set_ready()
        self._counted_bytes = 0

    def send(self, wire: Wire, frames: int) -> None:
        audio = base64.b64encode(bytes(FRAME_BYTES))
        for _ in range(frames):
            wire.feed(from_server(b'{"type":"audio","data":"%b"}' % audio))

    def relayed_bytes(self) -> int:
        """The agent's audio since the last question."""
        before, self._counted_bytes = self._counted_bytes, self.agent.audio_in_bytes
        return self._counted_bytes - before
