"""Which close codes and which UTF-8 a peer may send, by RFC 6455 7.4 and 8.1, in either role."""

from __future__ import annotations

import pytest
from server_frames import from_server
from wire_on_pipe import Owner, Pipe, make_wire

CLOSE = 0x88
TEXT, BEGINNING, END = 0x81, 0x01, 0x80
# RFC 6455 7.4.1, without the codes that no frame may carry, and IANA's register: 1012 to 1014.
REGISTERED = {*range(1000, 1004), *range(1007, 1015)}
# RFC 6455 7.4.2: for libraries and applications.
FREE = range(3000, 5000)

pytestmark = pytest.mark.parametrize("is_client", [False, True], ids=["server", "client"])


def from_peer(payload: bytes, first: int, is_client: bool) -> bytes:
    """A short frame; a server's peer masks, here with zeros."""
    frame = from_server(payload, first)
    return frame if is_client else bytes((first, 0x80 | frame[1])) + bytes(4) + payload


def answered(data: bytes, is_client: bool) -> tuple[Owner, Pipe, bytes]:
    """Read the bytes; return the owner, the transport and the payload of the one frame that went out."""
    wire, pipe, owner = make_wire(is_client=is_client)
    wire.feed(data)
    [frame] = pipe.writes
    assert frame[0] == CLOSE
    if not is_client:
        return owner, pipe, frame[2:]
    return owner, pipe, bytes(byte ^ frame[2 + n % 4] for n, byte in enumerate(frame[6:]))


def test_close_is_answered_with_a_code_that_a_peer_may_send_and_1002_for_every_other(is_client):
    for code in (*range(5100), 0x7FFF, 0x8000, 0xFFFF):
        owner, pipe, answer = answered(from_peer(code.to_bytes(2), CLOSE, is_client), is_client)
        if code in REGISTERED or code in FREE:
            assert (owner.calls, int.from_bytes(answer)) == ([("on_peer_closed", code, "")], code)
            assert pipe.is_closed
        else:
            assert owner.calls == [("on_violation", 1002, "close code must not be sent")], code
            assert int.from_bytes(answer) == 1002


def test_close_without_a_code_is_answered_without_one(is_client):
    owner, pipe, answer = answered(from_peer(b"", CLOSE, is_client), is_client)
    assert (owner.calls, answer, pipe.is_closed) == ([("on_peer_closed", 1005, "")], b"", True)


def test_longest_reason_of_a_close_is_read_whole(is_client):
    reason = 61 * "ü" + "x"
    owner, _, answer = answered(from_peer(b"\x03\xe8" + reason.encode(), CLOSE, is_client), is_client)
    assert (owner.calls, answer) == ([("on_peer_closed", 1000, reason)], b"\x03\xe8")


@pytest.mark.parametrize("behind", [from_server(b"late"), from_server(b"\x03\xe9", CLOSE), b"\xff\xff"])
def test_nothing_behind_a_close_is_read(is_client, behind):
    owner, _, answer = answered(from_peer(b"\x03\xe8", CLOSE, is_client) + behind, is_client)
    assert (owner.calls, answer) == ([("on_peer_closed", 1000, "")], b"\x03\xe8")


# The first and the last character of each length, and both neighbours of the surrogates.
CHARACTERS = "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffe\uffff\U00010000\U0010ffff"
NOT_UTF8 = {
    "continuation alone": b"\x80",
    "byte that none begins with": b"\xfe",
    "end in a character": b"\xf0\x9f\x8e",
    "two bytes for one": b"\xc1\xbf",
    "three bytes for two": b"\xe0\x9f\xbf",
    "four bytes for three": b"\xf0\x8f\xbf\xbf",
    "first surrogate": b"\xed\xa0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
}


def in_fragments(text: bytes, is_client: bool) -> bytes:
    """The text as one message, with a byte in each fragment."""
    pieces = [text[n : n + 1] for n in range(len(text))]
    return (
        from_peer(b"", BEGINNING, is_client)
        + b"".join(from_peer(piece, 0, is_client) for piece in pieces)
        + from_peer(b"", END, is_client)
    )


def test_every_kind_of_character_is_text(is_client):
    wire, pipe, owner = make_wire(is_client=is_client)
    text = CHARACTERS.encode()
    wire.feed(from_peer(text, TEXT, is_client) + in_fragments(text, is_client))
    assert owner.calls == [("on_text", text)] * 2
    assert pipe.writes == []


@pytest.mark.parametrize("wrong", NOT_UTF8.values(), ids=NOT_UTF8)
@pytest.mark.parametrize("before", [b"", b"plain ", "übel ".encode()])
def test_what_is_not_utf8_is_1007(is_client, before, wrong):
    text = before + wrong
    for data, problem in (
        (from_peer(text, TEXT, is_client), "text is not UTF-8"),
        (in_fragments(text, is_client), "text is not UTF-8"),
        (from_peer(b"\x03\xe8" + text, CLOSE, is_client), "close reason is not UTF-8"),
    ):
        owner, _, answer = answered(data, is_client)
        assert owner.calls == [("on_violation", 1007, problem)]
        assert int.from_bytes(answer) == 1007


def test_what_waits_is_written_before_the_peers_end(is_client):
    # With TLS, the end can come within the read that caused the writes, and closes the transport.
    wire, pipe, owner = make_wire(is_client=is_client)
    written: list[int] = []

    def on_text(message: bytes) -> None:
        wire.send_text(b"answer")
        written.append(len(pipe.writes))
        wire.eof_received()
        written.append(len(pipe.writes))

    owner.on_text = on_text
    wire.feed(from_peer(b"question", TEXT, is_client))
    assert written == [0, 1]
    assert len(pipe.writes) == 1
