"""
Carries audio between two WebSockets that are joined: finds, wraps, holds, marks, numbers and transcodes it.

A media message goes from one socket's read buffer to the other's send buffer in one call stack: unmasked in place,
found (`SpanFinder`), copied once between the other side's prefix and suffix, masked, sent. No Python object is
made for it, nor for the binary frames of an agent whose audio is mu-law. All other messages go to the owner.

Failures are those of `WebSocket`. The tests hold this half equal to a twin in plain Python.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdio cimport snprintf

from _codec.base64_text cimport decode_c, decoded_bytes_c, encode_c, encoded_bytes
from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport Envelope, SpanFinder
from _codec.rfc6455 cimport BINARY, TEXT
from _codec.websocket cimport SCRATCH_BYTES, WebSocket

import re
from binascii import a2b_base64, b2a_base64

cdef enum:
    MAX_AFTER_HELD = 1024
    # "g", a 32-bit number, "-", a 64-bit number, and the end.
    MARK_NAME_BYTES = 40

# A mark's name: its generation, and the bytes of audio that went out before it.
cdef const char* MARK_NAME_FORMAT = b"g%u-%llu"
MARK_NAME = re.compile(r"g([0-9]{1,10})-([0-9]{1,20})")

# Shared by all wires of the process, which has one event loop: it holds nothing between two callbacks.
cdef char audio_scratch[SCRATCH_BYTES]


@cython.auto_pickle(False)
@cython.final
cdef class Wire(WebSocket):
    """
    A WebSocket that carries audio.

    Args:
        owner: As `WebSocket` has it; receives ``on_audio(payload)`` too while no partner is joined.
        is_client: As `WebSocket` has it.
        max_message_bytes: As `WebSocket` has it.
        hold_ms: Bound on the audio held while the peer is not ready or does not read; beyond it the oldest is dropped.

    A *frame* in the counters ``audio_*``, ``dropped_frames`` and ``cleared_frames`` is one media message.
    """

    def __cinit__(self, owner, *, bint is_client, Py_ssize_t max_message_bytes, int hold_ms):
        self.held = FrameRing(hold_ms)
        self.after_held = []
        self.prefix = b""
        self.suffix = b""

    # Set-up

    def set_format(
        self,
        SpanFinder finder,
        Envelope envelope not None,
        *,
        bint is_binary=False,
        numbered=None,
        decode=None,
        encode=None,
    ):
        """
        Set how audio is found in incoming messages (None: not at all) and wrapped in outgoing ones.

        Args:
            is_binary: Audio travels as bare binary messages in both directions.
            numbered: Three texts. After the envelope's prefix come the message's number, the first text, the
                frame's number, the second, the ms of audio before it, the third; the wire counts all three.
            decode: Converts incoming audio to mu-law of 8 kHz; None if it is mu-law already.
            encode: Converts mu-law of 8 kHz to outgoing audio. Both take and return bytes of any length, and do
                not raise.
        """
        self.finder = finder
        self.prefix = envelope.prefix
        self.suffix = envelope.suffix
        self.is_binary = is_binary
        self.numbered = numbered
        self.decode = decode
        self.encode = encode

    def set_marks(self, bytes prefix not None, bytes suffix not None, Py_ssize_t every_bytes):
        """
        Send a mark, ``prefix``, name, ``suffix``, after every ``every_bytes`` of audio sent.

        The name is ``g<generation>-<bytes>``, which `MARK_NAME` matches: the number of calls of `new_generation`, and
        the bytes of audio sent. A payload longer than ``every_bytes`` is sent in pieces of about that length.

        Raises:
            ValueError: If ``every_bytes`` is below 3, a group of base64.
        """
        if every_bytes < 3:
            raise ValueError(f"every_bytes must be at least 3, got {every_bytes}")
        self.mark_prefix = prefix
        self.mark_suffix = suffix
        self.mark_every_bytes = every_bytes
        self.bytes_since_mark = 0
        self.generation = 0

    cpdef unsigned long long next_number(self):
        """Take the number of the next message sent, from 1."""
        self.messages_numbered += 1
        return self.messages_numbered

    def new_generation(self):
        """Name later marks by the next generation, because the peer has cleared the audio sent so far."""
        self.generation += 1
        self.bytes_since_mark = 0

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
        self.partner = partner

    # Sending

    def send_audio(self, bytes payload not None):
        """Send one frame, base64 text, or hold it while the peer is not ready or does not read."""
        self.send_audio_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def send_text_before_audio(self, bytes message not None):
        """Send a text message at once; while the peer does not read, only the last one waits, before held audio."""
        if self.is_congested and not self.is_closing:
            self.before_held = message
        else:
            self.send_text(message)

    def send_text_after_audio(self, bytes message not None):
        """Send a text message after the audio held; at most 1024 messages wait, later ones are discarded."""
        if not self.is_ready or self.is_congested or self.held.entries > 0:
            if len(self.after_held) < MAX_AFTER_HELD:
                self.after_held.append(message)
        else:
            self.send_text(message)

    cdef int before_close(self) except -1:
        # While the peer was never ready, the audio stays: `hand_held_to` may pass it to another wire.
        if self.is_ready:
            self.lose_held()
        self.partner = None
        return 0

    def drop_held(self):
        """Discard unsent audio and the messages queued behind it (barge-in)."""
        self.cleared_frames += self.held.entries
        self.discard_held()

    def hand_held_to(self, Wire other not None):
        """Move the audio held to another wire, behind what that one holds."""
        payload = self.held.pop()
        while payload is not None:
            other.dropped_frames += other.held.push(payload)
            payload = self.held.pop()

    def lose_held(self):
        """Discard the audio held, as dropped, and the messages queued behind it, because the socket ends."""
        self.dropped_frames += self.held.entries
        self.discard_held()

    cdef int discard_held(self) except -1:
        self.held.clear()
        self.before_held = None
        self.after_held.clear()
        return self.resume_source()

    cdef int send_audio_c(self, const char* payload, Py_ssize_t n) except -1:
        if self.is_closing:
            return 0
        if not self.is_ready or self.is_congested or self.held.entries > 0:
            self.dropped_frames += self.held.push_c(payload, n)
            return 0
        return self.write_audio(payload, n)

    cdef int write_audio(self, const char* payload, Py_ssize_t n) except -1:
        self.audio_out_frames += 1
        if self.is_binary or self.encode is not None:
            return self.write_other_audio(payload, n)
        if self.mark_every_bytes > 0:
            return self.write_marked_audio(payload, n)
        if self.numbered is not None:
            return self.write_numbered_audio(payload, n)
        return self.write_text_audio(payload, n)

    cdef int write_text_audio(self, const char* payload, Py_ssize_t n) except -1:
        return self.write_frame(
            TEXT,
            PyBytes_AS_STRING(self.prefix), PyBytes_GET_SIZE(self.prefix),
            payload, n,
            PyBytes_AS_STRING(self.suffix), PyBytes_GET_SIZE(self.suffix),
        )

    cdef int write_numbered_audio(self, const char* payload, Py_ssize_t n) except -1:
        cdef bytes head = b"%b%d%b%d%b%d%b" % (
            self.prefix,
            self.next_number(),
            self.numbered[0],
            self.audio_out_frames,
            self.numbered[1],
            self.audio_out_bytes // 8,
            self.numbered[2],
        )
        self.audio_out_bytes += <unsigned long long>decoded_bytes_c(payload, n)
        return self.write_frame(
            TEXT,
            PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head),
            payload, n,
            PyBytes_AS_STRING(self.suffix), PyBytes_GET_SIZE(self.suffix),
        )

    cdef int write_marked_audio(self, const char* payload, Py_ssize_t n) except -1:
        cdef Py_ssize_t piece, audio_bytes
        cdef Py_ssize_t most = self.mark_every_bytes // 3 * 4
        cdef char name[MARK_NAME_BYTES]
        while True:
            piece = n if decoded_bytes_c(payload, n) <= self.mark_every_bytes else most
            audio_bytes = decoded_bytes_c(payload, piece)
            self.write_text_audio(payload, piece)
            self.audio_out_bytes += <unsigned long long>audio_bytes
            self.bytes_since_mark += audio_bytes
            payload += piece
            n -= piece
            # A piece in whole groups may be two bytes short of the interval.
            if self.bytes_since_mark + 2 >= self.mark_every_bytes:
                self.bytes_since_mark = 0
                audio_bytes = snprintf(
                    name, MARK_NAME_BYTES, MARK_NAME_FORMAT, self.generation, self.audio_out_bytes
                )
                self.write_frame(
                    TEXT,
                    PyBytes_AS_STRING(self.mark_prefix), PyBytes_GET_SIZE(self.mark_prefix),
                    name, audio_bytes,
                    PyBytes_AS_STRING(self.mark_suffix), PyBytes_GET_SIZE(self.mark_suffix),
                )
            if n == 0:
                return 0

    cdef int write_other_audio(self, const char* payload, Py_ssize_t n) except -1:
        """Write audio to an agent whose format is not the base64 text of mu-law."""
        cdef bytes audio, text
        if n == 0:
            return 0
        if self.encode is None and n <= SCRATCH_BYTES:
            n = decode_c(payload, n, audio_scratch)
            return self.write_frame(BINARY, audio_scratch, n, NULL, 0, NULL, 0)
        audio = a2b_base64(PyBytes_FromStringAndSize(payload, n))
        if self.encode is not None:
            audio = self.encode(audio)
            if not audio:
                return 0
        if self.is_binary:
            return self.write_frame(BINARY, PyBytes_AS_STRING(audio), PyBytes_GET_SIZE(audio), NULL, 0, NULL, 0)
        text = b2a_base64(audio, newline=False)
        return self.write_text_audio(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))

    cdef int flush(self) except -1:
        cdef Py_ssize_t n
        cdef bytes payload
        if self.before_held is not None and not self.is_congested:
            message = self.before_held
            self.before_held = None
            self.send_text(message)
        while self.is_ready and not self.is_congested and not self.is_closing:
            n = self.held.peek_c()
            if n < 0:
                break
            payload = PyBytes_FromStringAndSize(NULL, n)
            self.held.pop_c(PyBytes_AS_STRING(payload))
            self.write_audio(PyBytes_AS_STRING(payload), n)
        if self.after_held and self.is_ready and not self.is_congested and self.held.entries == 0:
            messages = self.after_held
            self.after_held = []
            for message in messages:
                self.send_text(message)
        self.resume_source()
        return 0

    cdef int pause_source(self, Wire source) except -1:
        """Stop reading a source whose audio fills half the ring; only an agent can wait, a caller cannot."""
        if source.is_client and source.transport is not None and not source.is_paused:
            source.is_paused = True
            self.paused_source = source
            source.transport.pause_reading()
        return 0

    cdef int resume_source(self) except -1:
        cdef Wire source = self.paused_source
        if source is None or self.held.samples // 8 * 4 > self.held.capacity_ms:
            return 0
        self.paused_source = None
        source.is_paused = False
        if source.transport is not None:
            source.transport.resume_reading()
        return 0

    cdef int on_message(self, int opcode, char* text, Py_ssize_t n) except -1:
        """``text`` is borrowed: valid until return."""
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t end = 0
        if opcode == BINARY:
            if not self.is_binary:
                return WebSocket.on_message(self, opcode, text, n)
            self.messages_in += 1
            self.media_in += 1
            return self.on_other_audio(text, n)
        self.messages_in += 1
        if self.finder is not None and self.finder.find_c(text, n, &start, &end):
            self.media_in += 1
            if self.decode is not None:
                audio = a2b_base64(PyBytes_FromStringAndSize(text + start, end - start))
                return self.on_other_audio(PyBytes_AS_STRING(audio), PyBytes_GET_SIZE(audio))
            self.audio_in_bytes += <unsigned long long>decoded_bytes_c(text + start, end - start)
            return self.pass_on(text + start, end - start)
        return self.take_text(text, n)

    cdef int on_other_audio(self, const char* audio, Py_ssize_t n) except -1:
        """Take audio of an agent whose format is not the base64 text of mu-law."""
        cdef bytes mulaw, text
        if self.decode is not None:
            self.decoded_frames += 1
            mulaw = self.decode(PyBytes_FromStringAndSize(audio, n))
            audio = PyBytes_AS_STRING(mulaw)
            n = PyBytes_GET_SIZE(mulaw)
        if n == 0:
            return 0
        self.audio_in_bytes += <unsigned long long>n
        if encoded_bytes(n) <= SCRATCH_BYTES:
            n = encode_c(audio, n, audio_scratch)
            return self.pass_on(audio_scratch, n)
        text = PyBytes_FromStringAndSize(NULL, encoded_bytes(n))
        n = encode_c(audio, n, PyBytes_AS_STRING(text))
        return self.pass_on(PyBytes_AS_STRING(text), n)

    cdef int pass_on(self, const char* payload, Py_ssize_t n) except -1:
        """Hand one frame, base64 text of mu-law, to the partner or the owner."""
        if self.partner is None:
            self.owner.on_audio(PyBytes_FromStringAndSize(payload, n))
            return 0
        self.partner.send_audio_c(payload, n)
        if self.partner.held.samples // 8 * 2 > self.partner.held.capacity_ms:
            self.partner.pause_source(self)
        return 0

    def connection_lost(self, exc):
        """Clear all that leads to the connection and the partner, and report its end; held audio counts as dropped."""
        self.partner = None
        WebSocket.connection_lost(self, exc)
        self.lose_held()

    def resume_writing(self):
        """Clear the flag, report, and write what is held."""
        WebSocket.resume_writing(self)
        self.flush()
