"""
The native `Wire` held equal to a twin over seeded interleavings.

The twin's relay half is plain Python; its RFC 6455 half is the protocol of the websockets package.
"""

from __future__ import annotations

import base64
import random
import struct
from typing import Any

import orjson
import pytest
from reference_wire import Wire as ReferenceWire
from websockets.utils import apply_mask

import _codec
from _codec import reference, transcode
from _codec.wire import Wire as NativeWire

STREAM = "MZ00000000000000000000000000000001"
TO_CALLER = (b'{"event":"media","streamSid":"' + STREAM.encode() + b'","media":{"payload":"', b'"}}')
TO_AGENT = (b'{"type":"audio","data":"', b'"}')
FROM_CALLER = ("media.payload", {"event": "media", "streamSid": STREAM}, {"media.track": "inbound"})
FROM_AGENT = ("data", {"type": "audio"}, {"audio_encoding": "mulaw", "sample_rate": 8000})
MARK_AROUND = (b'{"event":"mark","streamSid":"' + STREAM.encode() + b'","mark":{"name":"', b'"}}')
HIGH_BYTES = 6000
MESSAGES = 60


# What the agent's socket carries, as it is set there.
FORMATS: dict[str, dict[str, Any]] = {
    "text": {},
    "binary": {"is_binary_in": True, "is_binary_out": True},
    "binary in": {"is_binary_in": True},
    "binary out": {"is_binary_out": True},
    "numbered": {"numbered": (b'","chunk":"', b'","timestamp":"', b'","data":"')},
    # The converters keep the state of a stream, so that each rig makes its own.
    "text of samples": {"decode": 16000, "encode": 24000},
    "binary samples": {"is_binary_in": True, "is_binary_out": True, "decode": 24000, "encode": 8000},
    "wide text of samples": {"decode": 48000, "encode": 48000},
}


class Pipe:
    """A transport in memory whose peer reads while ``is_reading``; `write` itself pauses the writer."""

    def __init__(self) -> None:
        self.wire: Any = None
        self.written = b""
        self.unread_bytes = 0
        self.is_reading = True
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data
        if not self.is_reading:
            self.unread_bytes += len(data)
            if self.unread_bytes > HIGH_BYTES and not self.wire.is_congested:
                self.wire.pause_writing()

    def resume(self) -> None:
        self.is_reading = True
        self.unread_bytes = 0
        if self.wire.is_congested:
            self.wire.resume_writing()

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        """The script goes on: what it delivers had been read."""

    def resume_reading(self) -> None:
        """Nothing waits here."""


class Owner:
    """Records the calls of a wire, and sends an item when its turn has come."""

    wire: Any

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_due(self, item: str) -> None:
        self.wire.send_text(item.encode())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))


class Rig:
    """A caller's and an agent's wire of one implementation, with all that can be done to them."""

    def __init__(self, wire: Any, codec: Any, format: dict[str, Any]) -> None:
        self.pipes = {"caller": Pipe(), "agent": Pipe()}
        self.owners = {"caller": Owner(), "agent": Owner()}
        self.wires: dict[str, Any] = {}
        self.looks = dict.fromkeys(self.pipes, 0)
        for side in self.pipes:
            self.wires[side] = wire(
                self.owners[side],
                is_client=side == "agent",
                max_message_bytes=4000,
                budget=_codec.HeldBudget(1 << 20),
                messages_per_s=MESSAGES,
                hold_ms=400,
            )
            self.pipes[side].wire = self.owners[side].wire = self.wires[side]
        finders = {"caller": FROM_CALLER, "agent": FROM_AGENT}
        envelopes = {"caller": TO_CALLER, "agent": TO_AGENT}
        self.formats = {
            side: (codec.SpanFinder(*finders[side]), codec.Envelope(*envelopes[side])) for side in self.pipes
        }
        converters = {"decode": transcode.ToMulaw, "encode": transcode.FromMulaw}
        self.format = {
            name: converters[name](value) if name in converters else value for name, value in format.items()
        }
        self.wires["caller"].set_format(*self.formats["caller"])
        self.wires["agent"].set_format(*self.formats["agent"], **self.format)

    def do(self, step: tuple[Any, ...]) -> None:
        action, side, *rest = step
        wire = self.wires[side]
        other = self.wires["agent" if side == "caller" else "caller"]
        match action:
            case "open":
                wire.open(self.pipes[side])
            case "ready":
                wire.set_ready()
            case "bytes":
                wire.feed(rest[0])
            case "join":
                wire.join(other)
            case "part":
                wire.join(None)
            case "stall":
                self.pipes[side].is_reading = False
            case "read":
                self.pipes[side].resume()
            case "judge":
                self.wires["agent"].set_format(None, self.formats["agent"][1], **self.format)
            case "trust":
                self.wires["agent"].set_format(*self.formats["agent"], **self.format)
            case "number":
                wire.send_text(b"%d" % wire.next_number())
            case "marks":
                self.wires["caller"].set_marks(*MARK_AROUND, rest[0])
            case "clear":
                wire.clear_audio(b'{"event":"clear"}')
            case "mark":
                wire.send_in_order("mark")
            case "most":
                wire.set_most_ahead(rest[0])
            case "ahead":
                wire.set_ahead(rest[0])
            case "look":
                self.looks[side] += 1
                wire.look(self.looks[side] / 2, _codec.SocketSet())
            case "audio":
                wire.send_audio(rest[0])
            case "ping":
                wire.send_ping()
            case "close":
                wire.send_close(rest[0])
            case "lost":
                wire.connection_lost(None)

    def outcome(self) -> dict[str, Any]:
        return {
            side: (
                unmasked(self.pipes[side].written),
                self.pipes[side].is_closed,
                # The details of a violation are each side's own words.
                [event[:2] if event[0] == "on_violation" else event for event in self.owners[side].calls],
                [getattr(self.wires[side], name) for name in COUNTERS],
            )
            for side in self.pipes
        }


COUNTERS = (
    "ws_frames_in",
    "messages_in",
    "media_in",
    "audio_in_bytes",
    "audio_out_frames",
    "audio_out_bytes",
    "held_bytes",
    "dropped_frames",
    "overflowed_frames",
    "cleared_frames",
    "is_ready",
    "is_congested",
    "is_closing",
    "messages_left",
)


def unmasked(stream: bytes) -> list[tuple[int, bytes]]:
    """The frames of a stream: first byte and payload without its mask, which is random."""
    frames = []
    while stream:
        first, length, i = stream[0], stream[1] & 0x7F, 2
        if length == 126:
            length, i = struct.unpack(">H", stream[2:4])[0], 4
        elif length == 127:
            length, i = struct.unpack(">Q", stream[2:10])[0], 10
        masked = stream[1] & 0x80
        i += 4 if masked else 0
        payload = stream[i : i + length]
        assert len(payload) == length
        frames.append((first, apply_mask(payload, stream[i - 4 : i]) if masked else payload))
        stream = stream[i + length :]
    return frames


def frame(dice: random.Random, side: str, first: int, payload: bytes) -> bytes:
    """One frame as this side's peer sends it; a caller's peer is a client and masks."""
    mask_bit = 0x80 if side == "caller" else 0
    if dice.random() < 0.002:
        mask_bit ^= 0x80
    n = len(payload)
    if n < 126:
        head = bytes((first, mask_bit | n))
    elif n < 65536:
        head = bytes((first, mask_bit | 126)) + n.to_bytes(2)
    else:
        head = bytes((first, mask_bit | 127)) + n.to_bytes(8)
    if not mask_bit:
        return head + payload
    mask = dice.randbytes(4)
    return head + mask + apply_mask(payload, mask)


def message(dice: random.Random, side: str) -> bytes:
    payload = base64.b64encode(dice.randbytes(dice.choice((0, 1, 20, 133, 160, 320, 800))))
    if dice.random() < 0.05:
        payload = payload[:-1] + b"!"
    stream = STREAM if dice.random() < 0.95 else "MZother"
    texts = (
        (
            b'{"event":"media","sequenceNumber":"3","media":{"track":"inbound","payload":"%b"},"streamSid":"%b"}'
            % (payload, stream.encode()),
            b'{"event":"mark","streamSid":"MZ","mark":{"name":"m"}}',
            b'{"event":"media","media":{"payload":"%b","payload":""},"streamSid":"%b"}'
            % (payload, stream.encode()),
        )
        if side == "caller"
        else (
            b'{"type":"audio","data":"%b"}' % payload,
            b'{"type":"interrupt"}',
            b'{"type":"audio","sample_rate":16000,"data":"%b"}' % payload,
        )
    )
    return dice.choices((*texts, "überall".encode(), b"", b"\xff\xfe"), (70, 6, 6, 3, 2, 0.2))[0]


def arriving(dice: random.Random, side: str) -> bytes:
    """One read of a socket: whole messages, fragments with control frames between them, sometimes an error."""
    out = b""
    for _ in range(dice.randint(1, 4)):
        kind = dice.random()
        text = message(dice, side)
        if kind < 0.75:
            out += frame(dice, side, 0x81, text)
        elif kind < 0.88:
            cuts = sorted(dice.randint(0, len(text)) for _ in range(dice.randint(1, 3)))
            pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
            for n, piece in enumerate(pieces):
                first = (0x80 if n == len(pieces) - 1 else 0) | (0x01 if n == 0 else 0)
                out += frame(dice, side, first, piece)
                if dice.random() < 0.3:
                    out += frame(dice, side, 0x89, b"between")
        elif kind < 0.96:
            out += frame(dice, side, dice.choice((0x89, 0x8A, 0x82)), dice.randbytes(dice.randint(0, 125)))
        elif kind < 0.98:
            out += frame(
                dice, side, 0x88, dice.choice((b"", b"\x03\xe8", b"\x0f\xa0later", b"\x03\xed", b"\x01"))
            )
        else:
            out += frame(dice, side, dice.choice((0xC1, 0x83, 0x80, 0x09)), text[:100])
    return out


def script(seed: int) -> list[tuple[Any, ...]]:
    dice = random.Random(seed)
    steps: list[tuple[Any, ...]] = [("open", "caller")]
    is_open = {"caller": True, "agent": False}
    # What has not been delivered yet of each side's stream: cut anywhere, as TCP does.
    pending = {"caller": b"", "agent": b""}
    for _ in range(dice.randint(20, 120)):
        side = dice.choice(("caller", "agent"))
        action = dice.choices(
            (
                "open",
                "ready",
                "bytes",
                "join",
                "part",
                "stall",
                "read",
                "clear",
                "mark",
                "audio",
                "ping",
                "close",
                "lost",
                "judge",
                "trust",
                "marks",
                "number",
                "most",
                "ahead",
                "look",
            ),
            (5, 5, 60, 6, 2, 4, 5, 3, 3, 6, 2, 0.4, 0.2, 1, 2, 1, 1, 1, 2, 3),
        )[0]
        if (action == "open") == is_open[side] and action in ("open", "bytes", "lost", "close"):
            continue
        if action == "open":
            is_open[side] = True
        if action == "bytes":
            pending[side] += arriving(dice, side)
            cut = dice.choice((len(pending[side]), dice.randint(0, len(pending[side]))))
            steps.append((action, side, pending[side][:cut]))
            pending[side] = pending[side][cut:]
        elif action == "audio":
            steps.append((action, side, base64.b64encode(dice.randbytes(dice.randint(0, 400)))))
        elif action == "marks":
            steps.append((action, side, dice.choice((3, 160, 400, 1600))))
        elif action == "most":
            steps.append((action, side, dice.choice((0, 400, 2000))))
        elif action == "ahead":
            steps.append((action, side, dice.choice((0, 160, 800))))
        elif action == "close":
            steps.append((action, side, dice.choice((1000, 1008, 1011))))
        else:
            steps.append((action, side))
        if action == "lost":
            break
    return steps


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("block", range(10))
def test_native_wire_and_twin_write_the_same_bytes(format: str, block: int) -> None:
    """Invariant: the same events give the same bytes, the same calls to the owner, the same counters."""
    first_seed = 10_000 * list(FORMATS).index(format) + 60 * block
    for seed in range(first_seed, first_seed + 60):
        steps = script(seed)
        native = Rig(NativeWire, _codec, FORMATS[format])
        plain = Rig(ReferenceWire, reference, FORMATS[format])
        for number, step in enumerate(steps):
            native.do(step)
            plain.do(step)
            assert native.outcome() == plain.outcome(), f"seed {seed}, step {number}: {step[:2]}"


@pytest.mark.parametrize(("wire", "codec"), [(NativeWire, _codec), (ReferenceWire, reference)])
def test_another_wire_takes_over_what_waits_in_order(wire: Any, codec: Any) -> None:
    first, second = Rig(wire, codec, {}), Rig(wire, codec, FORMATS["binary"])
    frames = [bytes([n]) * 160 for n in range(4)]
    for audio in frames[:3]:
        first.wires["agent"].send_audio(base64.b64encode(audio))
    second.wires["agent"].send_audio(base64.b64encode(b"before"))
    first.wires["agent"].hand_held_to(second.wires["agent"])
    second.wires["agent"].send_audio(base64.b64encode(frames[3]))
    assert (first.wires["agent"].held_bytes, second.wires["agent"].held_bytes) == (0, 4 * 160 + 6)
    second.wires["agent"].open(second.pipes["agent"])
    second.wires["agent"].set_ready()
    written = unmasked(second.pipes["agent"].written)
    assert written == [(0x82, audio) for audio in (b"before", *frames)]
    assert first.wires["agent"].dropped_frames == 0


@pytest.mark.parametrize(("wire", "codec"), [(NativeWire, _codec), (ReferenceWire, reference)])
def test_mark_follows_every_so_many_bytes_and_names_its_generation(wire: Any, codec: Any) -> None:
    rig = Rig(wire, codec, {})
    rig.do(("open", "caller"))
    rig.do(("ready", "caller"))
    rig.do(("marks", "caller", 1600))
    audio = bytes(range(250)) * 16
    for _ in range(9):
        rig.do(("audio", "caller", base64.b64encode(audio[:160])))
    assert len(unmasked(rig.pipes["caller"].written)) == 9
    rig.do(("audio", "caller", base64.b64encode(audio[:160])))
    rig.do(("clear", "caller"))
    rig.do(("audio", "caller", base64.b64encode(audio)))
    sent = [orjson.loads(text) for _, text in unmasked(rig.pipes["caller"].written)[9:]]
    calls = [
        message["mark"]["name"]
        if message["event"] == "mark"
        else base64.b64decode(message["media"]["payload"])
        if message["event"] == "media"
        else message["event"]
        for message in sent
    ]
    assert calls == [
        audio[:160],
        "g0-1600",
        "clear",
        audio[:1599],
        "g1-3199",
        audio[1599:3198],
        "g1-4798",
        audio[3198:],
    ]
    assert rig.wires["caller"].audio_out_bytes == 1600 + 4000
    found = _codec.MARK_NAME.fullmatch("g1-3199")
    assert found is not None
    assert found.groups() == ("1", "3199")


VIOLATIONS = [
    (b"\xc1\x80", 1002, "reserved bits set"),
    (b"\x83\x80", 1002, "reserved opcode"),
    (b"\x8b\x80", 1002, "reserved opcode"),
    (b"\x81\x00", 1002, "unmasked frame from a client"),
    (b"\x89\xfe", 1002, "control frame too long or in fragments"),
    (b"\x88\xff", 1002, "control frame too long or in fragments"),
    (b"\x09\x80", 1002, "control frame too long or in fragments"),
    (b"\x81\xfe\x00\x7d", 1002, "length not in its shortest form"),
    (b"\x81\xff" + (65535).to_bytes(8), 1002, "length not in its shortest form, or negative"),
    (b"\x81\xff" + (1 << 63).to_bytes(8), 1002, "length not in its shortest form, or negative"),
    (b"\x81\xff" + (65536).to_bytes(8), 1009, "message too big"),
    (b"\x81\xfe" + (4001).to_bytes(2), 1009, "message too big"),
    (b"\x80\x80" + bytes(4), 1002, "fragments out of order"),
    (b"\x01\x80" + bytes(4) + b"\x81\x80" + bytes(4), 1002, "fragments out of order"),
    (b"\x01\x80" + bytes(4) + 1024 * (b"\x00\x80" + bytes(4)), 1009, "message in too many fragments"),
    (b"\x81\x81" + bytes(4) + b"\xff", 1007, "text is not UTF-8"),
    (b"\x88\x81" + bytes(4) + b"\x03", 1002, "close frame of one byte"),
    (b"\x88\x82" + bytes(4) + b"\x03\xed", 1002, "close code must not be sent"),
    (b"\x88\x83" + bytes(4) + b"\x03\xe8\xff", 1007, "close reason is not UTF-8"),
]
# The RFC asks for the shortest form and forbids the highest bit; websockets does not look at either.
NATIVE_ONLY = ("length not in its shortest form", "length not in its shortest form, or negative")


@pytest.mark.parametrize(("data", "code", "detail"), VIOLATIONS)
@pytest.mark.parametrize("is_whole", [True, False], ids=["at once", "byte by byte"])
def test_violation_is_refused_as_soon_as_it_shows(
    data: bytes, code: int, detail: str, is_whole: bool
) -> None:
    native = Rig(NativeWire, _codec, {})
    twin = Rig(ReferenceWire, reference, {})
    rigs = [native] if detail in NATIVE_ONLY else [native, twin]
    pieces = [data] if is_whole else [data[n : n + 1] for n in range(len(data))]
    for rig in rigs:
        rig.do(("open", "caller"))
        for piece in pieces:
            assert rig.owners["caller"].calls == []
            rig.do(("bytes", "caller", piece))
        assert rig.outcome()["caller"][2] == [("on_violation", code)]
        assert unmasked(rig.pipes["caller"].written) == [(0x88, code.to_bytes(2))]
    assert native.owners["caller"].calls == [("on_violation", code, detail)]
    assert rigs[-1].outcome() == native.outcome()


def test_long_messages_and_bounds_are_judged_as_websockets_judges_them() -> None:
    """Messages in 0 to 3 fragments around the bound of 4000 bytes, delivered in pieces of any length."""
    for seed in range(200):
        dice = random.Random(seed)
        stream = b""
        for _ in range(4):
            sizes = [dice.choice((0, 1, 125, 126, 127, 1300, 1999, 2000, 2001, 3999, 4000, 4001))]
            sizes += [dice.choice((0, 1, 1300, 2000)) for _ in range(dice.choice((0, 0, 1, 2)))]
            for n, size in enumerate(sizes):
                first = (0x80 if n == len(sizes) - 1 else 0) | (0x02 if n == 0 else 0)
                stream += frame(dice, "caller", first, dice.randbytes(size))
        native, twin = Rig(NativeWire, _codec, {}), Rig(ReferenceWire, reference, {})
        for rig in (native, twin):
            rig.do(("open", "caller"))
        while stream:
            piece, stream = stream[: (cut := dice.randint(1, 3000))], stream[cut:]
            for rig in (native, twin):
                rig.do(("bytes", "caller", piece))
            assert native.outcome() == twin.outcome(), f"seed {seed}"
