"""What a flooding agent or caller sends, and the frames that it reads."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import NamedTuple

from bridge.standins.twilio.messages import ToServer

# The shortest audio that the bridge does not bound by its number.
SHORT_AUDIO_BYTES = 40
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


def _audio(n: int) -> str:
    return json.dumps({"type": "audio", "data": base64.b64encode(bytes(n)).decode()}, separators=(",", ":"))


INTERRUPT = '{"type":"interrupt"}'
CALLERS_MESSAGES = 100


class AgentFlood(NamedTuple):
    """
    What a flooding agent sends.

    Attributes:
        once: Another text in each chunk.
        messages: Those of a chunk, the last of which is a ping with this number: its pong says that they were read.
    """

    opcode: int
    text: str
    once: str = ""
    messages: int = 100

    def chunk(self) -> bytes:
        """Return a chunk."""
        last = [frame(TEXT, self.once.encode(), is_masked=False)] if self.once else []
        last.append(frame(PING, str(self.messages).encode(), is_masked=False))
        again = frame(self.opcode, self.text.encode(), is_masked=False)
        return again * (self.messages - len(last)) + b"".join(last)


OF_AGENT: Mapping[str, AgentFlood] = {
    "tiny audio": AgentFlood(TEXT, _audio(1)),
    "empty audio": AgentFlood(TEXT, _audio(0)),
    "empty texts": AgentFlood(TEXT, ""),
    "interrupts": AgentFlood(TEXT, INTERRUPT),
    "pings": AgentFlood(PING, ""),
    # The interrupt discards what the caller has not heard; else the bridge would read no more after some minutes of it.
    "short audio": AgentFlood(TEXT, _audio(SHORT_AUDIO_BYTES), once=INTERRUPT, messages=1000),
}
# The caller sends tiny audio.
OF_CALLER = "a caller's tiny audio"
# An ordinary call, to compare with.
NO_FLOOD = "no flood"


def frame(opcode: int, payload: bytes, *, is_masked: bool) -> bytes:
    """Return a frame of at most 65 535 bytes; its mask is zero, which leaves the payload as it is."""
    n, mask_bit = len(payload), 0x80 if is_masked else 0
    length = bytes([mask_bit | n]) if n < 126 else bytes([mask_bit | 126]) + n.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4 if is_masked else 0) + payload


def take_control_frames(data: bytearray) -> list[tuple[int, bytes]]:
    """Take all whole frames out of ``data``; returns opcode and payload of the control frames among them."""
    found, i = [], 0
    while len(data) - i >= 2:
        opcode, n, head = data[i] & 0x0F, data[i + 1] & 0x7F, 2
        if n >= 126:
            head = 4 if n == 126 else 10
            n = int.from_bytes(data[i + 2 : i + head], "big")
        is_masked = data[i + 1] & 0x80
        head += 4 if is_masked else 0
        if len(data) - i < head + n:
            break
        if opcode >= CLOSE:
            payload = bytes(data[i + head : i + head + n])
            if is_masked:
                mask = data[i + head - 4 : i + head]
                payload = bytes(byte ^ mask[k % 4] for k, byte in enumerate(payload))
            found.append((opcode, payload))
        i += head + n
    del data[:i]
    return found


def chunk_of_caller(stream: ToServer) -> bytes:
    """Return a chunk of a flooding caller, as an `AgentFlood` has it."""
    messages = (stream.media(b"\xff", 0).encode() for _ in range(CALLERS_MESSAGES - 1))
    flood = b"".join(frame(TEXT, message, is_masked=True) for message in messages)
    return flood + frame(PING, str(CALLERS_MESSAGES).encode(), is_masked=True)
