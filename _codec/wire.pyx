"""
The frames of one WebSocket on an aiofastnet transport, and two of them joined so that audio passes natively.

A media message goes from one socket's read buffer to the other's send buffer in one stack: unmasked in place,
found (`SpanFinder`), copied once between the other side's prefix and suffix, masked, sent. No Python object is
made for it, nor for the binary frames of an agent that takes and gives mu-law so. All else goes up to the owner.

RFC 6455 as a whole is here: framing, masks, fragments, control frames, close codes, UTF-8; so is what happens when
a peer does not read. The tests hold the relay's half equal to a twin in plain Python, and RFC 6455 to the
protocol of the websockets package.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove

from aiofastnet.transport cimport Protocol, Transport
from aiofastnet.utils cimport NoResult

from _codec.base64_text cimport decode_c, decoded_bytes_c, encode_c, encoded_bytes
from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport Envelope, SpanFinder

import os
import re
from binascii import a2b_base64, b2a_base64

cdef enum:
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

cdef enum:
    # Two bytes, a 64-bit length, a mask.
    HEADER_MAX_BYTES = 14
    SHARED_BYTES = 65536
    SCRATCH_BYTES = 16384
    FIRST_PARTIAL_BYTES = 2048
    # More pieces than this for one message is an attack: each may be empty and costs us time.
    MAX_FRAGMENTS = 1024
    MASKS_BYTES = 4096
    NO_STATUS = 1005
    MAX_AFTER_HELD = 1024
    # "g", a 32-bit number, "-", a 64-bit number, and the end.
    MARK_NAME_BYTES = 40

# Shared by all wires: between two callbacks nothing is left in either. One event loop runs them all.
cdef char shared[SHARED_BYTES]
cdef char scratch[SCRATCH_BYTES]
cdef char audio_scratch[SCRATCH_BYTES]

# A mark's name: its generation, and the bytes of audio that went out before it.
cdef const char* MARK_NAME_FORMAT = b"g%u-%llu"
MARK_NAME = re.compile(r"g([0-9]{1,10})-([0-9]{1,20})")

# RFC 6455 5.3 wants masks from a strong source of entropy; the kernel's, taken a page at a time.
cdef bytes masks = b""
cdef Py_ssize_t masks_used = MASKS_BYTES


cdef int next_mask(uint32_t* mask) except -1:
    global masks, masks_used
    if masks_used + 4 > MASKS_BYTES:
        masks = os.urandom(MASKS_BYTES)
        masks_used = 0
    memcpy(mask, PyBytes_AS_STRING(masks) + masks_used, 4)
    masks_used += 4
    return 0


cdef void apply_mask(char* data, Py_ssize_t n, uint32_t mask) noexcept nogil:
    """XOR n bytes with the mask, its first byte first, in place."""
    cdef uint64_t wide = (<uint64_t>mask << 32) | mask
    cdef uint64_t word
    cdef Py_ssize_t i = 0
    cdef const uint8_t* m = <const uint8_t*>&mask
    while i + 8 <= n:
        memcpy(&word, data + i, 8)
        word ^= wide
        memcpy(data + i, &word, 8)
        i += 8
    while i < n:
        data[i] = <char>(<uint8_t>data[i] ^ m[i & 3])
        i += 1


cdef inline bint may_close_with(int code) noexcept nogil:
    """Whether a peer may send this code (RFC 6455 7.4, and IANA's register for 1012 to 1014)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


@cython.auto_pickle(False)
@cython.final
cdef class Wire(Protocol):
    """
    One side's WebSocket after its handshake.

    Args:
        owner: Gets ``on_text(message)``, ``on_audio(payload)``, ``on_binary(message)``, ``on_peer_closed(code)``
            (1005 for a close without a code), ``on_violation(code, detail)``, ``on_congestion(is_congested)`` and
            ``on_gone()``; all within this object's own callbacks.
        is_client: We opened the connection: what we send is masked and what we get must not be.
        max_message_bytes: A longer message, in one frame or in many, closes with 1009.
        hold_ms: How much audio waits while the peer is not ready or does not read; beyond, the oldest is dropped.

    A *frame* in the counters ``audio_*``, ``dropped_frames`` and ``cleared_frames`` is one media message.
    """

    def __cinit__(self, owner, *, bint is_client, Py_ssize_t max_message_bytes, int hold_ms):
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, got {max_message_bytes}")
        self.owner = owner
        self.is_client = is_client
        self.max_message_bytes = max_message_bytes
        self.held = FrameRing(hold_ms)
        self.after_held = []
        self.prefix = b""
        self.suffix = b""
        self.message_opcode = -1

    def __dealloc__(self):
        PyMem_Free(self.partial)
        PyMem_Free(self.message)

    # Set-up

    def open(self, transport):
        """Take over a transport whose handshake is done; `feed` what was read beyond it."""
        self.transport = transport
        if isinstance(transport, Transport):
            self.native_transport = transport

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
        Say how audio is found in what comes (None: nowhere) and wrapped in what goes.

        Args:
            is_binary: Audio comes and goes as binary messages, nothing around it.
            numbered: Three texts. After the envelope's prefix come the message's number, the first text, the
                frame's number, the second, the ms of audio before it, the third, all counted here.
            decode: Makes mu-law, 8 kHz, of the audio that comes; None: it is that.
            encode: Makes what goes of mu-law, 8 kHz. Both take and return bytes of any length, and do not raise.
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
        Send a message ``prefix``, name, ``suffix`` after every so many bytes of audio that went out.

        The name is ``g<generation>-<bytes>``, which `MARK_NAME` matches: how often `new_generation` was called, and all audio that has gone
        out. A payload that is longer than ``every_bytes`` goes out in pieces of about that length.

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
        """The number of the next message that goes out, from 1."""
        self.messages_numbered += 1
        return self.messages_numbered

    def new_generation(self):
        """What went out so far was cleared: marks from now on are of the next generation."""
        self.generation += 1
        self.bytes_since_mark = 0

    @property
    def held_bytes(self):
        """How much audio waits here, in bytes of mu-law."""
        return self.held.samples

    def set_ready(self):
        """Audio may go out from now on; what was held goes first, in order."""
        self.is_ready = True
        self.flush()

    def join(self, Wire partner):
        """Pass the audio that is found here to ``partner`` natively; None: up to the owner."""
        self.partner = partner

    # Sending

    def send_audio(self, bytes payload not None):
        """Send one frame, base64 text, or hold it while the peer is not ready or does not read."""
        self.send_audio_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def send_text(self, bytes message not None):
        """Send a text message at once, past audio that is held."""
        if not self.is_closing:
            self.write_frame(TEXT, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), NULL, 0, NULL, 0)

    def send_text_before_audio(self, bytes message not None):
        """
        Send a text message at once; while the peer does not read, only the last of them waits, before held audio.
        """
        if self.is_congested and not self.is_closing:
            self.before_held = message
        else:
            self.send_text(message)

    def send_text_after_audio(self, bytes message not None):
        """Send a text message once the audio before it has gone out; at most 1024 of them wait."""
        if not self.is_ready or self.is_congested or self.held.entries > 0:
            if len(self.after_held) < MAX_AFTER_HELD:
                self.after_held.append(message)
        else:
            self.send_text(message)

    def send_ping(self):
        """Send an empty ping, unless the peer does not read anyway."""
        if not self.is_closing and not self.is_congested:
            self.write_frame(PING, NULL, 0, NULL, 0, NULL, 0)

    def send_close(self, int code):
        """
        Send a close frame and nothing after it; what is held is forgotten, but not that for a peer which never was
        ready: see `hand_held_to`. A second close changes nothing.
        """
        cdef char payload[2]
        if self.is_closing:
            return
        # Of a peer that never was ready, somebody else may take it over.
        if self.is_ready:
            self.lose_held()
        payload[0] = <char>((code >> 8) & 0xFF)
        payload[1] = <char>(code & 0xFF)
        self.write_frame(CLOSE, payload, 0 if code == NO_STATUS else 2, NULL, 0, NULL, 0)
        self.is_closing = True
        self.partner = None

    def drop_held(self):
        """Forget, at an interrupt, the audio, and what was to follow it, that has not gone out yet."""
        self.cleared_frames += self.held.entries
        self.forget_held()

    def hand_held_to(self, Wire other not None):
        """Let another wire of the same kind have the audio that waits here."""
        payload = self.held.pop()
        while payload is not None:
            other.dropped_frames += other.held.push(payload)
            payload = self.held.pop()

    def lose_held(self):
        """Forget it because the socket is at its end; it counts as dropped."""
        self.dropped_frames += self.held.entries
        self.forget_held()

    cdef int forget_held(self) except -1:
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
        """Write audio to an agent that does not take the base64 text of mu-law."""
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

    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1:
        """Write one whole frame whose payload is a, b and c in a row."""
        cdef Py_ssize_t n = na + nb + nc
        cdef char* out = scratch
        cdef char* own = NULL
        cdef Py_ssize_t i = 2
        cdef int shift
        cdef uint32_t mask = 0
        if self.transport is None:
            return 0
        if n + HEADER_MAX_BYTES > SCRATCH_BYTES:
            own = <char*>PyMem_Malloc(<size_t>(n + HEADER_MAX_BYTES))
            if own == NULL:
                raise MemoryError(f"no memory for a frame of {n} bytes")
            out = own
        try:
            out[0] = <char>(0x80 | opcode)
            if n < 126:
                out[1] = <char>n
            elif n < 65536:
                out[1] = 126
                out[2] = <char>(n >> 8)
                out[3] = <char>(n & 0xFF)
                i = 4
            else:
                out[1] = 127
                for shift in range(8):
                    out[2 + shift] = <char>((<uint64_t>n >> (56 - 8 * shift)) & 0xFF)
                i = 10
            if self.is_client:
                out[1] |= <char>0x80
                next_mask(&mask)
                memcpy(out + i, &mask, 4)
                i += 4
            if na:
                memcpy(out + i, a, <size_t>na)
            if nb:
                memcpy(out + i + na, b, <size_t>nb)
            if nc:
                memcpy(out + i + na + nb, c, <size_t>nc)
            if self.is_client:
                apply_mask(out + i, n, mask)
            if self.native_transport is not None:
                self.native_transport.write_c(out, i + n)
            else:
                self.transport.write(PyBytes_FromStringAndSize(out, i + n))
        finally:
            PyMem_Free(own)
        return 0

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
        """Stop reading a source whose audio we hold half a ring of; it may wait, as an agent's may."""
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

    # Reading: the transport's callbacks

    cpdef is_buffered_protocol(self):
        return True

    cpdef get_buffer(self, Py_ssize_t hint):
        # Only for transports that are not native; aiofastnet's call get_buffer_c.
        cdef char* data
        cdef Py_ssize_t n
        self.get_buffer_c(hint, &data, &n)
        return PyMemoryView_FromMemory(data, n, PyBUF_WRITE)

    cdef NoResult get_buffer_c(self, Py_ssize_t hint, char** data, Py_ssize_t* n) except NoResult.EXC:
        self.reads_shared = self.partial_used == 0
        if self.reads_shared:
            data[0] = shared
            n[0] = SHARED_BYTES
        else:
            data[0] = self.partial + self.partial_used
            n[0] = self.partial_room - self.partial_used
        return NoResult.OK

    cpdef buffer_updated(self, Py_ssize_t n):
        cdef Py_ssize_t used = 0
        cdef Py_ssize_t total
        cdef char* data
        if self.reads_shared:
            data = shared
            total = n
        else:
            data = self.partial
            total = self.partial_used + n
        self.parse(data, total, &used)
        self.keep_partial(data + used, total - used)

    def feed(self, bytes data not None):
        """Read bytes that came with the handshake, as if the transport had just delivered them."""
        cdef Py_ssize_t offset = 0
        cdef Py_ssize_t room, n
        cdef char* out
        while offset < PyBytes_GET_SIZE(data):
            self.get_buffer_c(-1, &out, &room)
            n = min(room, PyBytes_GET_SIZE(data) - offset)
            memcpy(out, PyBytes_AS_STRING(data) + offset, <size_t>n)
            offset += n
            self.buffer_updated(n)

    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1:
        """Keep the beginning of a frame until the rest is there, with room for at least one more byte."""
        cdef Py_ssize_t wanted, length
        cdef char* grown
        if n == 0 or self.is_failed:
            PyMem_Free(self.partial)
            self.partial = NULL
            self.partial_used = 0
            self.partial_room = 0
            return 0
        wanted = FIRST_PARTIAL_BYTES
        length = frame_bytes(<const uint8_t*>data, n)
        if length > wanted:
            wanted = length
        if wanted <= n:
            wanted = n + FIRST_PARTIAL_BYTES
        if self.reads_shared or wanted > self.partial_room:
            grown = <char*>PyMem_Malloc(<size_t>wanted)
            if grown == NULL:
                raise MemoryError(f"no memory for a frame of {wanted} bytes")
            memcpy(grown, data, <size_t>n)
            PyMem_Free(self.partial)
            self.partial = grown
            self.partial_room = wanted
        else:
            memmove(self.partial, data, <size_t>n)
        self.partial_used = n
        return 0

    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1:
        """Take all whole frames in data; ``used`` is how many bytes they were."""
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t header, length
        cdef int opcode, shift
        cdef bint fin, masked
        cdef uint32_t mask = 0
        cdef uint64_t length64
        cdef const uint8_t* p
        while not self.is_failed and n - i >= 2:
            p = <const uint8_t*>data + i
            fin = p[0] & 0x80 != 0
            opcode = p[0] & 0x0F
            masked = p[1] & 0x80 != 0
            length = p[1] & 0x7F
            header = 2
            if p[0] & 0x70:
                self.violate(1002, "reserved bits set")
                break
            if (CONTINUATION <= opcode <= BINARY) == (CLOSE <= opcode <= PONG):
                self.violate(1002, "reserved opcode")
                break
            if masked == self.is_client:
                self.violate(1002, "masked frame from a server" if masked else "unmasked frame from a client")
                break
            if opcode >= CLOSE and (length > 125 or not fin):
                self.violate(1002, "control frame too long or in fragments")
                break
            if length == 126:
                if n - i < 4:
                    break
                length = (<Py_ssize_t>p[2] << 8) | p[3]
                header = 4
                if length < 126:
                    self.violate(1002, "length not in its shortest form")
                    break
            elif length == 127:
                if n - i < 10:
                    break
                length64 = 0
                for shift in range(8):
                    length64 = (length64 << 8) | p[2 + shift]
                header = 10
                if length64 < 65536 or length64 >> 63:
                    self.violate(1002, "length not in its shortest form, or negative")
                    break
                if length64 > <uint64_t>self.max_message_bytes:
                    self.violate(1009, "message too big")
                    break
                length = <Py_ssize_t>length64
            if opcode < CLOSE and self.message_used + length > self.max_message_bytes:
                self.violate(1009, "message too big")
                break
            if masked:
                header += 4
            if n - i < header + length:
                break
            if masked:
                memcpy(&mask, data + i + header - 4, 4)
                apply_mask(data + i + header, length, mask)
            i += header + length
            self.on_frame(opcode, fin, data + i - length, length)
        used[0] = i
        return 0

    cdef int on_frame(self, int opcode, bint fin, char* payload, Py_ssize_t n) except -1:
        """``payload`` is borrowed: valid until return."""
        self.ws_frames_in += 1
        if opcode == CLOSE:
            return self.on_close(payload, n)
        if self.is_closing:
            return 0
        if opcode == PING:
            # A peer that does not read gets no pongs to pile up.
            if not self.is_congested:
                self.write_frame(PONG, payload, n, NULL, 0, NULL, 0)
            return 0
        if opcode == PONG:
            return 0
        if opcode != CONTINUATION and self.message_opcode < 0:
            if fin:
                return self.on_message(opcode, payload, n)
            self.message_opcode = opcode
        elif opcode != CONTINUATION or self.message_opcode < 0:
            return self.violate(1002, "fragments out of order")
        self.fragments += 1
        if self.fragments > MAX_FRAGMENTS:
            return self.violate(1009, "message in too many fragments")
        self.add_fragment(payload, n)
        if fin:
            # Taken from the object first: what the owner does meanwhile must not reach it.
            message = self.message
            used = self.message_used
            opcode = self.message_opcode
            self.message = NULL
            self.message_used = self.message_room = 0
            self.fragments = 0
            self.message_opcode = -1
            try:
                self.on_message(opcode, message, used)
            finally:
                PyMem_Free(message)
        return 0

    cdef int add_fragment(self, const char* payload, Py_ssize_t n) except -1:
        cdef Py_ssize_t wanted = self.message_used + n
        cdef char* grown
        if wanted > self.message_room or self.message == NULL:
            wanted = max(wanted, 2 * self.message_room, <Py_ssize_t>512)
            grown = <char*>PyMem_Realloc(self.message, <size_t>wanted)
            if grown == NULL:
                raise MemoryError(f"no memory for a message of {wanted} bytes")
            self.message = grown
            self.message_room = wanted
        if n:
            memcpy(self.message + self.message_used, payload, <size_t>n)
        self.message_used += n
        return 0

    cdef int on_message(self, int opcode, char* text, Py_ssize_t n) except -1:
        """``text`` is borrowed: valid until return."""
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t end = 0
        self.messages_in += 1
        if opcode == BINARY:
            if self.is_binary:
                self.media_in += 1
                return self.on_other_audio(text, n)
            self.owner.on_binary(PyBytes_FromStringAndSize(text, n))
            return 0
        if self.finder is not None and self.finder.find_c(text, n, &start, &end):
            self.media_in += 1
            if self.decode is not None:
                audio = a2b_base64(PyBytes_FromStringAndSize(text + start, end - start))
                return self.on_other_audio(PyBytes_AS_STRING(audio), PyBytes_GET_SIZE(audio))
            self.audio_in_bytes += <unsigned long long>decoded_bytes_c(text + start, end - start)
            return self.pass_on(text + start, end - start)
        message = PyBytes_FromStringAndSize(text, n)
        if not message.isascii():
            try:
                PyUnicode_DecodeUTF8(text, n, NULL)
            except UnicodeDecodeError:
                return self.violate(1007, "text is not UTF-8")
        self.owner.on_text(message)
        return 0

    cdef int on_other_audio(self, const char* audio, Py_ssize_t n) except -1:
        """Take audio of an agent that does not give the base64 text of mu-law."""
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
        """Hand one frame, base64 text of mu-law, to the partner or up."""
        if self.partner is None:
            self.owner.on_audio(PyBytes_FromStringAndSize(payload, n))
            return 0
        self.partner.send_audio_c(payload, n)
        if self.partner.held.samples // 8 * 2 > self.partner.held.capacity_ms:
            self.partner.pause_source(self)
        return 0

    cdef int on_close(self, const char* payload, Py_ssize_t n) except -1:
        cdef int code = NO_STATUS
        if n == 1:
            return self.violate(1002, "close frame of one byte")
        if n >= 2:
            code = (<int>(<uint8_t>payload[0]) << 8) | <uint8_t>payload[1]
            if not may_close_with(code):
                return self.violate(1002, "close code must not be sent")
            try:
                PyUnicode_DecodeUTF8(payload + 2, n - 2, NULL)
            except UnicodeDecodeError:
                return self.violate(1007, "close reason is not UTF-8")
        is_answer = self.is_closing
        self.send_close(code)
        # What comes after a close frame counts for nothing.
        self.is_failed = True
        self.transport.close()
        if not is_answer:
            self.owner.on_peer_closed(code)
        return 0

    cdef int violate(self, int code, str detail) except -1:
        was_closing = self.is_closing
        self.send_close(code)
        # The stream cannot be understood any more: what still comes is thrown away.
        self.is_failed = True
        if not was_closing:
            self.owner.on_violation(code, detail)
        return 0

    def on_broken(self, int code):
        """Whoever read before this wire closed with ``code``, for the peer broke the protocol."""
        if not self.is_closing:
            self.is_closing = True
            self.is_failed = True
            self.owner.on_violation(code, "broke the protocol")

    def eof_received(self):
        """The peer will send no more: the transport closes, and `connection_lost` follows."""
        return False

    def connection_lost(self, exc):
        """The transport is gone."""
        self.is_closing = True
        self.is_failed = True
        self.partner = None
        # Both ends of the cycle go: memory comes back without waiting for the garbage collector.
        owner = self.owner
        self.owner = None
        self.transport = None
        self.native_transport = None
        owner.on_gone()
        self.lose_held()

    def pause_writing(self):
        """Called from within our own write: only a flag."""
        self.is_congested = True
        self.owner.on_congestion(True)

    def resume_writing(self):
        self.is_congested = False
        self.owner.on_congestion(False)
        self.flush()


cdef Py_ssize_t frame_bytes(const uint8_t* p, Py_ssize_t n) noexcept nogil:
    """The length of the frame that begins at p, header and all, as far as n bytes tell; 0 while they do not."""
    cdef Py_ssize_t length, header
    cdef uint64_t length64 = 0
    cdef int i
    if n < 2:
        return 0
    header = 6 if p[1] & 0x80 else 2
    length = p[1] & 0x7F
    if length == 126:
        if n < 4:
            return 0
        return header + 2 + ((<Py_ssize_t>p[2] << 8) | p[3])
    if length == 127:
        if n < 10:
            return 0
        for i in range(8):
            length64 = (length64 << 8) | p[2 + i]
        # `parse` has refused a frame beyond the bound before it is kept.
        return header + 8 + <Py_ssize_t>length64
    return header + length
