"""
RFC 6455 on an aiofastnet transport, after the handshake: framing, masks, fragments, control frames, close codes, UTF-8.

Reads are parsed in place, without an object per frame; a subclass takes whole messages as borrowed memory. A breach
of the protocol sends a close frame, stops the reading and is reported to the owner; lack of memory raises MemoryError
into the transport, which drops the connection. The tests compare all this with the websockets package's protocol.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from aiofastnet.transport cimport Protocol, Transport
from aiofastnet.utils cimport NoResult

from _codec.rfc6455 cimport BINARY, CLOSE, CONTINUATION, HEADER_MAX_BYTES, NO_STATUS, PING, PONG, TEXT, UNKNOWN_LENGTH
from _codec.rfc6455 cimport WRONG_LENGTH, apply_mask, fault_in, may_close_with, payload_bytes, put_header

import os

cdef enum:
    SHARED_BYTES = 65536
    FIRST_PARTIAL_BYTES = 2048
    # A message in more fragments is an attack: each may be empty and costs time.
    MAX_FRAGMENTS = 1024
    MASKS_BYTES = 4096

# Shared by all sockets of the process, which has one event loop: neither holds anything between two callbacks.
cdef char shared[SHARED_BYTES]
cdef char scratch[SCRATCH_BYTES]

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


@cython.auto_pickle(False)
cdef class WebSocket(Protocol):
    """
    One side's WebSocket after its handshake.

    Args:
        owner: Receives ``on_text(message)``, ``on_binary(message)``, ``on_peer_closed(code)`` (1005 for a close
            without a code), ``on_violation(code, detail)``, ``on_congestion(is_congested)`` and ``on_gone()``; all
            within this object's own callbacks.
        is_client: This side opened the connection: it masks, and the peer must not.
        max_message_bytes: A longer message, in one frame or in many, closes with 1009.
    """

    # Cython passes a subclass's arguments too: ``**_`` takes those.
    def __cinit__(self, owner, *, bint is_client, Py_ssize_t max_message_bytes, **_):
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, got {max_message_bytes}")
        self.owner = owner
        self.is_client = is_client
        self.max_message_bytes = max_message_bytes
        self.message_opcode = -1

    def __dealloc__(self):
        PyMem_Free(self.partial)
        PyMem_Free(self.message)

    def open(self, transport):
        """Take over a transport whose handshake is done; then `feed` the bytes read beyond the handshake."""
        self.transport = transport
        if isinstance(transport, Transport):
            self.native_transport = transport

    # Sending

    def send_text(self, bytes message not None):
        """Send a text message at once; after the close frame, nothing."""
        if not self.is_closing:
            self.write_frame(TEXT, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), NULL, 0, NULL, 0)

    def send_ping(self):
        """Send an empty ping, unless the peer does not read anyway."""
        if not self.is_closing and not self.is_congested:
            self.write_frame(PING, NULL, 0, NULL, 0, NULL, 0)

    cpdef send_close(self, int code):
        """
        Send a close frame and nothing after it; a second call changes nothing.

        The connection stays open for the peer's close frame: the caller bounds the wait and closes the transport.
        """
        cdef char payload[2]
        if self.is_closing:
            return
        self.before_close()
        payload[0] = <char>((code >> 8) & 0xFF)
        payload[1] = <char>(code & 0xFF)
        self.write_frame(CLOSE, payload, 0 if code == NO_STATUS else 2, NULL, 0, NULL, 0)
        self.is_closing = True

    cdef int before_close(self) except -1:
        return 0

    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1:
        cdef Py_ssize_t n = na + nb + nc
        cdef char* out = scratch
        cdef char* own = NULL
        cdef Py_ssize_t i
        cdef uint32_t mask = 0
        if self.transport is None:
            return 0
        if n + HEADER_MAX_BYTES > SCRATCH_BYTES:
            own = <char*>PyMem_Malloc(<size_t>(n + HEADER_MAX_BYTES))
            if own == NULL:
                raise MemoryError(f"no memory for a frame of {n} bytes")
            out = own
        try:
            i = put_header(out, opcode, n)
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
        cdef Py_ssize_t total, used = 0
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

    @cython.final
    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1:
        """Keep the beginning of a frame until the rest is there, with room for at least one more byte."""
        cdef Py_ssize_t wanted
        cdef char* grown
        if n == 0 or self.is_failed:
            PyMem_Free(self.partial)
            self.partial = NULL
            self.partial_used = self.partial_room = 0
            return 0
        wanted = max(self.frame_bytes, <Py_ssize_t>FIRST_PARTIAL_BYTES)
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

    @cython.final
    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1:
        """Take all whole frames in data, which is unmasked in place; ``used`` is their length."""
        cdef Py_ssize_t i = 0
        cdef Py_ssize_t header, length
        cdef int64_t length64
        cdef int opcode
        cdef uint32_t mask = 0
        cdef const uint8_t* p
        cdef const char* fault
        self.frame_bytes = 0
        while not self.is_failed and n - i >= 2:
            p = <const uint8_t*>data + i
            opcode = p[0] & 0x0F
            fault = fault_in(p, not self.is_client)
            if fault != NULL:
                self.violate(1002, fault.decode("ascii"))
                break
            length64 = payload_bytes(p, n - i, &header)
            if length64 == UNKNOWN_LENGTH:
                break
            if length64 == WRONG_LENGTH:
                self.violate(1002, f"length not in its shortest form{', or negative' if header == 10 else ''}")
                break
            if opcode < CLOSE and length64 > self.max_message_bytes - self.message_used:
                self.violate(1009, "message too big")
                break
            length = <Py_ssize_t>length64
            if not self.is_client:
                header += 4
            if n - i < header + length:
                self.frame_bytes = header + length
                break
            if not self.is_client:
                memcpy(&mask, data + i + header - 4, 4)
                apply_mask(data + i + header, length, mask)
            i += header + length
            self.on_frame(opcode, p[0] & 0x80 != 0, data + i - length, length)
        used[0] = i
        return 0

    @cython.final
    cdef int on_frame(self, int opcode, bint fin, char* payload, Py_ssize_t n) except -1:
        """``payload`` is borrowed: valid until return."""
        self.ws_frames_in += 1
        if opcode == CLOSE:
            return self.on_close(payload, n)
        if self.is_closing:
            return 0
        if opcode == PING or opcode == PONG:
            # No pongs pile up for a peer that does not read.
            if opcode == PING and not self.is_congested:
                self.write_frame(PONG, payload, n, NULL, 0, NULL, 0)
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
            # Taken from the object first, so that the owner's actions cannot touch it.
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

    @cython.final
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

    cdef int on_message(self, int opcode, char* data, Py_ssize_t n) except -1:
        self.messages_in += 1
        if opcode == TEXT:
            return self.take_text(data, n)
        self.owner.on_binary(PyBytes_FromStringAndSize(data, n))
        return 0

    @cython.final
    cdef int take_text(self, const char* text, Py_ssize_t n) except -1:
        """Hand a text message to the owner, once it is known to be UTF-8."""
        cdef bytes message = PyBytes_FromStringAndSize(text, n)
        if not message.isascii():
            try:
                PyUnicode_DecodeUTF8(text, n, NULL)
            except UnicodeDecodeError:
                return self.violate(1007, "text is not UTF-8")
        self.owner.on_text(message)
        return 0

    @cython.final
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
        # Bytes after a close frame are ignored.
        self.is_failed = True
        self.transport.close()
        if not is_answer:
            self.owner.on_peer_closed(code)
        return 0

    @cython.final
    cdef int violate(self, int code, str detail) except -1:
        was_closing = self.is_closing
        self.send_close(code)
        # The stream can no longer be understood: later bytes are discarded.
        self.is_failed = True
        if not was_closing:
            self.owner.on_violation(code, detail)
        return 0

    def on_broken(self, int code):
        """Report that the handshake's reader closed with ``code``, because the peer broke the protocol."""
        if not self.is_closing:
            self.is_closing = self.is_failed = True
            self.owner.on_violation(code, "broke the protocol")

    def eof_received(self):
        """Let the transport close, since the peer sends no more; `connection_lost` follows."""
        return False

    def connection_lost(self, exc):
        """Clear all that leads to the connection, and report its end."""
        self.is_closing = self.is_failed = True
        # Both ends of the cycle are cleared: memory is freed without the garbage collector.
        owner = self.owner
        self.owner = None
        self.transport = None
        self.native_transport = None
        owner.on_gone()

    def pause_writing(self):
        """Set the flag and report; called from within our own write, so nothing is written here."""
        self.is_congested = True
        self.owner.on_congestion(True)

    def resume_writing(self):
        """Clear the flag and report."""
        self.is_congested = False
        self.owner.on_congestion(False)
