"""
Carries audio between two WebSockets that are joined: finds it, holds it, passes it on.

A media message goes from one socket's read buffer to the other's send buffer in one call stack: unmasked in place,
found (`SpanFinder`), copied once between the other side's prefix and suffix (`AudioWriter`), masked, sent. No Python
object is made for it, nor for the binary frames of an agent whose audio is mu-law. All other messages go to the owner.

Audio that cannot go out is held in order with what belongs between it: marks asked for by the agent, keys pressed by
the caller. An agent whose audio is held is read on, because an interrupt comes the same way. Only when its queue is
full is it paused, before audio is lost, and when the process holds more than its budget, the one furthest ahead.

Failures are those of `WebSocket`. The tests hold this half equal to a twin in plain Python.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from _codec.audio_writer cimport AudioWriter
from _codec.base64_text cimport decode_c, decoded_bytes_c, encode_c, encoded_bytes
from _codec.call_audio cimport CallAudio
from _codec.fetch cimport fetch
from _codec.frame_ring cimport FrameRing
from _codec.frame_writer cimport TRANSPORT_BYTES, begin_gathering, end_gathering
from _codec.held_budget cimport HeldBudget
from _codec.media_json cimport Envelope, SpanFinder
from _codec.rfc6455 cimport BINARY, TEXT
from _codec.scratch cimport Scratch
from _codec.socket_reader cimport PAUSED_FOR_ROOM
from _codec.speech_meter cimport SpeechMeter
from _codec.transcode cimport FromMulaw, ToMulaw
from _codec.websocket cimport WebSocket

import asyncio

cdef enum:
    # Audio below 5 ms costs as much as any message, and nobody needs much of it: it is not counted as plain audio.
    SHORT_AUDIO_BYTES = 40
    # Held audio that goes out in one turn of the loop.
    FLUSH_BYTES = 65536
    # The audio of a message of 16 MiB.
    LONGEST_MESSAGE_MS = 1600000
    # The value that a call's own finder requires, Twilio's id of the stream.
    VALUE_BYTES = 40

cdef size_t WIRE_BYTES = Wire.__basicsize__
cdef size_t FINDER_BYTES = SpanFinder.__basicsize__
cdef size_t AUDIO_BYTES = CallAudio.__basicsize__
cdef size_t METER_BYTES = SpeechMeter.__basicsize__

cdef unsigned long long NEVER = 0xFFFF_FFFF_FFFF_FFFF

# Shared by all wires of the process, which has one event loop: they hold nothing between two callbacks. A frame passes
# through those of its sender and then through those of its receiver, each once.
cdef Scratch samples_in = Scratch()
cdef Scratch mulaw_in = Scratch()
cdef Scratch text_in = Scratch()
cdef Scratch held_out = Scratch()


@cython.auto_pickle(False)
@cython.final
cdef class Wire(AudioWriter):
    """
    A WebSocket that carries audio.

    Args:
        owner: As `WebSocket` has it; receives ``on_audio(payload)`` too while no partner is joined, ``on_due(item)``
            for each item of `send_in_order` when its turn has come, and ``on_ignored(reason)``.
        is_client: As `WebSocket` has it.
        max_message_bytes: As `WebSocket` has it.
        budget: As `WebSocket` has it; counts held audio too.
        messages_per_s: As `Peer` has it; audio of less than 5 ms is not plain audio.
        hold_ms: Bound on the audio held while the peer is not ready or does not read. An agent takes the newest: the
            oldest is dropped. A caller takes all: a joined agent is not read, and may end its message.

    A *frame* in the counters is one media message.
    """

    def __cinit__(self, owner, *, HeldBudget budget not None, int hold_ms, **_):
        # An agent is paused at the bound, and may be in the middle of its longest message.
        self.held = FrameRing(hold_ms if self.is_client else hold_ms + LONGEST_MESSAGE_MS, budget)
        self.hold_bytes = <Py_ssize_t>hold_ms * 8
        self.frames_at_clear = NEVER

    # Set-up

    def set_format(
        self,
        SpanFinder finder,
        Envelope envelope not None,
        *,
        bint is_binary_in=False,
        bint is_binary_out=False,
        numbered=None,
        ToMulaw decode=None,
        FromMulaw encode=None,
    ):
        """
        Set how audio is found in incoming messages (None: not at all) and wrapped in outgoing ones.

        Args:
            is_binary_in, is_binary_out: Audio travels as bare binary messages in this direction.
            numbered: Three texts. After the envelope's prefix come the message's number, the first text, the
                frame's number, the second, the ms of audio before it, the third; the wire counts all three.
                The prefix and the texts have at most 452 bytes together.
            decode: Converts incoming audio to mu-law of 8 kHz; None if it is mu-law already.
            encode: Converts mu-law of 8 kHz to outgoing audio.

        Raises:
            ValueError: If the prefix and the texts of ``numbered`` are too long.
        """
        self.set_format_out(envelope, is_binary_out, numbered, encode)
        self.finder = finder
        self.is_binary_in = is_binary_in
        self.decode = decode

    def set_most_ahead(self, Py_ssize_t most_bytes):
        """Hold audio while the peer has this much that it has not played; `set_ahead` and `clear_audio` say less."""
        self.most_ahead_bytes = most_bytes

    def set_ahead(self, Py_ssize_t ahead_bytes):
        """Correct how much audio the peer has that it has not played, and send what may now go."""
        self.ahead_bytes = ahead_bytes
        if self.held.entries > 0:
            self.flush()

    @property
    def held_bytes(self):
        """Audio held, in bytes of mu-law."""
        return self.held.samples

    def set_ready(self):
        """Let audio go out from now on; held audio goes first, in order."""
        self.is_ready = True
        self.flush()

    def join(self, Wire partner):
        """Pass incoming audio to ``partner`` natively; None: to the owner."""
        self.leave()
        self.partner = partner
        if partner is not None:
            partner.source = self

    def set_call_audio(self, CallAudio call_audio not None):
        """Let ``call_audio`` see all audio of the caller's that comes here, and all of the agent's that goes out."""
        self.call_audio = call_audio

    cdef int leave(self) except -1:
        if self.partner is not None:
            if self.partner.source is self:
                self.partner.source = None
            self.partner = None
            # Nobody else resumes it.
            self.resume(PAUSED_FOR_ROOM)
        return 0

    # Sending

    def send_audio(self, bytes payload not None):
        """Send one frame, base64 text, or hold it while the peer is not ready or does not read."""
        self.send_audio_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def send_in_order(self, str item not None):
        """
        Give an item to the owner's ``on_due`` when all audio before it has gone out, at once if none is held.

        Returns:
            False if too many items wait, so that this one is lost.
        """
        if not self.must_wait():
            if not self.is_closing:
                self.owner.on_due(item)
            return True
        self.is_holding = True
        return self.held.push_item(item)

    def clear_audio(self, bytes message):
        """
        Discard the audio held and send ``message`` at once (barge-in); the items that waited follow.

        While the peer does not read and nothing has gone out since the last such message, it is not sent again.
        """
        self.cleared_frames += self.held.entries
        self.held.clear()
        if self.call_audio is not None:
            self.call_audio.cut_c()
        self.generation += 1
        self.bytes_since_mark = 0
        self.ahead_bytes = 0
        if message is not None and not (self.is_congested and self.frames_at_clear == self.audio_out_frames):
            self.frames_at_clear = self.audio_out_frames
            self.send_text(message)
        self.flush()

    cdef void fetch_ahead(self, int hop) noexcept:
        if hop == 1:
            fetch(<void*>self.native_transport, TRANSPORT_BYTES)
            fetch(<void*>self.finder, FINDER_BYTES)
            fetch(<void*>self.partner, WIRE_BYTES)
            if self.call_audio is not None:
                fetch(<void*>self.call_audio, AUDIO_BYTES)
            return
        if hop == 2 and self.finder is not None:
            fetch(self.finder.own_value, VALUE_BYTES)
        if hop == 2 and self.call_audio is not None:
            fetch(<void*>self.call_audio.caller, METER_BYTES)
        if self.partner is not None:
            self.partner.fetch_for_writing(hop)

    cdef int before_close(self) except -1:
        # The audio stays until the owner knows: `hand_held_to` may pass it to another wire.
        return self.leave()

    def hand_held_to(self, Wire other not None):
        """Move the audio and the items held to another wire, behind what that one holds."""
        cdef bytes payload
        while self.held.item_count > 0 or self.held.entries > 0:
            if self.held.is_item_next():
                other.send_in_order(self.held.pop_item())
            else:
                payload = self.held.pop()
                other.hold(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))
        self.make_room()

    def lose_held(self):
        """Discard the audio held, as dropped, and the items between it, because the socket ends."""
        self.dropped_frames += self.held.entries
        self.held.clear()
        self.held.clear_items()
        self.make_room()

    cdef int send_audio_c(self, const char* payload, Py_ssize_t n) except -1:
        """Send or hold one frame: the one place where audio to a peer may be held or replaced before it goes out."""
        if self.is_closing:
            return 0
        if self.must_wait() or self.is_far_ahead():
            return self.hold(payload, n)
        return self.write_audio(payload, n)

    cdef bint is_far_ahead(self) noexcept:
        return self.most_ahead_bytes > 0 and self.ahead_bytes >= self.most_ahead_bytes

    cdef int hold(self, const char* payload, Py_ssize_t n) except -1:
        cdef int overflowed
        if self.held.entries == 0:
            self.budget.behind.add(self)
        overflowed = self.held.push_c(payload, n)
        self.note_held()
        self.dropped_frames += overflowed
        self.overflowed_frames += overflowed
        if self.source is None or not self.source.is_client or self.source.pauses & PAUSED_FOR_ROOM:
            return 0
        if self.held.samples >= self.hold_bytes:
            self.source.pause(PAUSED_FOR_ROOM)
        elif self.budget.used_bytes > self.budget.limit_bytes:
            self.pause_furthest()
        return 0

    cdef int pause_furthest(self) except -1:
        """Stop reading the agent whose audio takes the most room; a caller speaks on and cannot be paused."""
        cdef Wire wire
        cdef Wire furthest = None
        for wire in self.budget.behind:
            if wire.source is None or not wire.source.is_client or wire.source.pauses & PAUSED_FOR_ROOM:
                continue
            if furthest is None or wire.held.used > furthest.held.used:
                furthest = wire
        if furthest is not None:
            furthest.source.pause(PAUSED_FOR_ROOM)
        return 0

    cdef int make_room(self) except -1:
        """Note that less is held, and read the source again if there is room."""
        self.note_held()
        if self.held.entries == 0:
            self.budget.behind.discard(self)
        if self.source is not None and self.source.pauses & PAUSED_FOR_ROOM:
            if self.held.entries == 0 or (
                self.budget.used_bytes <= self.budget.limit_bytes // 4 * 3
                and self.held.samples <= self.hold_bytes // 2
            ):
                self.source.resume(PAUSED_FOR_ROOM)
        return 0

    cdef int flush(self) except -1:
        """Send what is held and may go, in order; beyond a turn's work the rest follows in the next turn."""
        cdef Py_ssize_t n
        cdef Py_ssize_t left = FLUSH_BYTES
        begin_gathering()
        try:
            while self.is_ready and not self.is_congested and not self.is_closing:
                if self.held.is_item_next():
                    self.owner.on_due(self.held.pop_item())
                    continue
                n = self.held.peek_c()
                if n < 0 or self.is_far_ahead():
                    break
                if left <= 0:
                    self.flush_in_next_turn()
                    break
                left -= n
                self.flush_frame(n)
        finally:
            end_gathering()
        return self.make_room()

    cdef int flush_frame(self, Py_ssize_t n) except -1:
        """Send the oldest frame held, n bytes of base64 text."""
        cdef char* payload = held_out.room(n)
        self.held.pop_c(payload)
        return self.write_audio(payload, n)

    cdef int flush_in_next_turn(self) except -1:
        if not self.is_flush_due:
            self.is_flush_due = True
            asyncio.get_running_loop().call_soon(self.flush_on)
        return 0

    def flush_on(self):
        """Send what the last turn has left."""
        self.is_flush_due = False
        self.flush()

    cdef int on_message(self, int opcode, char* text, Py_ssize_t n) except -1:
        """``text`` is borrowed: valid until return."""
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t end = 0
        cdef char* audio
        if opcode == BINARY:
            if not self.is_binary_in:
                return WebSocket.on_message(self, opcode, text, n)
            self.messages_in += 1
            return self.on_other_audio(text, n)
        if self.finder is not None and self.finder.find_c(text, n, &start, &end):
            self.messages_in += 1
            if self.decode is not None:
                audio = samples_in.room(end - start)
                return self.on_other_audio(audio, decode_c(text + start, end - start, audio))
            if not self.takes_audio(decoded_bytes_c(text + start, end - start)):
                return 0
            self.audio_in_bytes += <unsigned long long>decoded_bytes_c(text + start, end - start)
            return self.pass_on(text + start, end - start)
        return WebSocket.on_message(self, opcode, text, n)

    def count_as_audio(self, bytes payload not None):
        """Take the message that is being read for plain audio, unless it is shorter than 5 ms."""
        if decoded_bytes_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)) >= SHORT_AUDIO_BYTES:
            self.messages_left += 1

    cdef bint takes_audio(self, Py_ssize_t audio_bytes) except -1:
        """Count a media message by the length of its audio; False if it must not go on."""
        if audio_bytes < SHORT_AUDIO_BYTES:
            self.spend()
            if self.is_closing:
                return False
            if audio_bytes == 0:
                self.owner.on_ignored("empty_audio")
                return False
        self.media_in += 1
        return True

    cdef int on_other_audio(self, const char* audio, Py_ssize_t n) except -1:
        """Take audio of an agent whose format is not the base64 text of mu-law."""
        cdef char* converted
        if not self.takes_audio(n):
            return 0
        if self.decode is not None:
            converted = mulaw_in.room(self.decode.out_bytes(n))
            n = self.decode.convert_c(audio, n, converted)
            audio = converted
        if n == 0:
            return 0
        self.audio_in_bytes += <unsigned long long>n
        converted = text_in.room(encoded_bytes(n))
        return self.pass_on(converted, encode_c(audio, n, converted))

    cdef int pass_on(self, const char* payload, Py_ssize_t n) except -1:
        """Hand one frame, base64 text of mu-law, to the partner or the owner."""
        if self.call_audio is not None:
            self.call_audio.add_caller_c(payload, n)
        if self.partner is None:
            self.owner.on_audio(PyBytes_FromStringAndSize(payload, n))
            return 0
        return self.partner.send_audio_c(payload, n)

    cdef int end(self) except -1:
        # Clears all that leads to the partner too; held audio counts as dropped.
        self.leave()
        WebSocket.end(self)
        self.lose_held()
        self.source = None
        return 0

    def resume_writing(self):
        """Clear the flag, report, and write what is held."""
        WebSocket.resume_writing(self)
        self.flush()
