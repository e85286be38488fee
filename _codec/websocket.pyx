"""
RFC 6455 on an aiofastnet transport, after the handshake: framing, masks, fragments, control frames, close codes, UTF-8.

Reads are parsed in place, without an object per frame; a subclass takes whole messages as borrowed memory. What a
read causes to be written, to this peer and to others, goes out at its end.

A breach of the protocol sends a close frame, stops the reading and is reported to the owner; lack of memory raises
MemoryError into whoever reads, which drops the connection. The tests compare all this with the websockets package.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy, memmove

from aiofastnet.utils cimport NoResult

from _codec.frame_writer cimport begin_gathering, end_gathering, write_pending
from _codec.held_budget cimport HeldBudget
from _codec.rfc6455 cimport CLOSE, CONTINUATION, NO_STATUS, PING, PONG, TEXT, UNKNOWN_LENGTH, WRONG_LENGTH, apply_mask
from _codec.rfc6455 cimport fault_in, may_close_with, payload_bytes
from _codec.peer cimport Peer
from _codec.socket_reader cimport PAUSED_FOR_A_TURN, PAUSED_FOR_GOOD

import asyncio

cdef enum:
    SHARED_BYTES = 65536
    # Work of one turn of the loop: this many messages that are not plain audio, each of which costs some 30 us.
    MESSAGES_A_TURN = 64
    # A shorter message that is incomplete is no matter for the budget: each socket may hold that much.
    FREE_PARTIAL_BYTES = 65536
    FIRST_PARTIAL_BYTES = 2048
    # A message in more fragments is an attack: each may be empty and costs time.
    MAX_FRAGMENTS = 1024

# Shared by all sockets of the process, which has one event loop: it holds nothing between two callbacks.
cdef char shared[SHARED_BYTES]


@cython.auto_pickle(False)
cdef class WebSocket(Peer):
    """
    One side's WebSocket after its handshake; after `open`, `feed` takes the bytes read beyond the handshake.

    Args:
        owner: Receives ``on_text(message)``, ``on_binary(message)``, ``on_peer_closed(code, reason)`` (1005 for a
            close without a code), ``on_violation(code, detail)``, ``on_congestion(is_congested)`` and ``on_gone()``;
            all within this object's own callbacks.
        is_client: This side opened the connection: it masks, and the peer must not.
        max_message_bytes: A longer message, in one frame or in many, closes with 1009.
        budget: Counts incomplete messages beyond 64 KiB; one that does not fit closes with 1009.
        messages_per_s, now: As `Peer` has them; one message more closes with 1008.
    """

    # Cython passes a subclass's arguments too: ``**_`` takes those.
    def __cinit__(self, owner, *, Py_ssize_t max_message_bytes, HeldBudget budget not None, **_):
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes must be at least 1, got {max_message_bytes}")
        self.max_message_bytes = max_message_bytes
        self.budget = budget
        self.message_opcode = -1

    def __dealloc__(self):
        PyMem_Free(self.partial)
        PyMem_Free(self.message)
        # The garbage collector may have taken the budget.
        if self.budget is not None:
            self.budget.used_bytes -= self.charged_bytes

    # Reading: the callbacks of the transport, or of what reads in its place

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
        if self.reads_shared:
            self.take_read(shared, n)
        else:
            self.read(self.partial, self.partial_used + n)

    cdef bint may_read_anywhere(self) noexcept:
        return self.partial_used == 0

    cdef int take_read(self, char* data, Py_ssize_t n) except -1:
        self.reads_shared = True
        return self.read(data, n)

    @cython.final
    cdef int read(self, char* data, Py_ssize_t n) except -1:
        """Take of n bytes what a turn of the loop may take, and keep the rest."""
        cdef Py_ssize_t used = 0
        self.turn_left = MESSAGES_A_TURN
        begin_gathering()
        try:
            self.parse(data, n, &used)
        finally:
            end_gathering()
        self.keep_partial(data + used, n - used)
        self.discarded_bytes += n if self.is_failed else 0
        if self.discarded_bytes > MOST_DISCARDED_BYTES:
            self.pause(PAUSED_FOR_GOOD)
        if self.turn_left <= 0 and not self.is_failed:
            self.pause(PAUSED_FOR_A_TURN)
            asyncio.get_running_loop().call_soon(self.read_on)
        else:
            self.resume(PAUSED_FOR_A_TURN)
        return 0

    def read_on(self):
        """Take what the last turn has left; the transport is read again when all of it is done."""
        try:
            self.read_kept()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:
            # The loop calls this, and would leave the peer paused.
            self.pauses &= ~PAUSED_FOR_A_TURN
            self.drop(fault)
        if self.is_lost and not self.pauses & PAUSED_FOR_A_TURN:
            self.end()

    @cython.final
    cdef int read_kept(self) except -1:
        self.reads_shared = False
        return self.read(self.partial, self.partial_used)

    def feed(self, bytes data not None):
        """Read bytes that came with the handshake, as if the transport delivered them now."""
        # All of them at once: reads of a part each would each be a turn of the loop's work.
        data = self.partial[: self.partial_used] + data
        self.reads_shared = True
        self.keep_partial(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        self.read_kept()

    @cython.final
    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1:
        """Keep the beginning of a frame until the rest is there, with room for at least one more byte."""
        cdef Py_ssize_t wanted
        cdef char* grown
        if self.partial == NULL and n == 0:
            return 0
        if n == 0 or self.is_failed:
            PyMem_Free(self.partial)
            self.partial = NULL
            self.partial_used = self.partial_room = 0
            self.charge()
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
            self.charge()
        else:
            memmove(self.partial, data, <size_t>n)
        self.partial_used = n
        return 0

    @cython.final
    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1:
        """Take all whole frames in data, which is unmasked in place; ``used`` is their length."""
        cdef Py_ssize_t header, length, i = 0
        cdef int64_t length64
        cdef int opcode
        cdef uint32_t mask = 0
        cdef const uint8_t* p
        cdef const char* fault
        self.frame_bytes = 0
        while not self.is_failed and self.turn_left > 0 and n - i >= 2:
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
            if opcode < CLOSE and not self.fits(self.message_used + <Py_ssize_t>length64):
                self.violate(1009, "no room is left for a message of this length")
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
            self.spend()
            # No pongs pile up for a peer that does not read.
            if opcode == PING and not self.is_congested and not self.is_closing:
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
            self.charge()
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
            self.charge()
        if n:
            memcpy(self.message + self.message_used, payload, <size_t>n)
        self.message_used += n
        return 0

    @cython.final
    cdef bint fits(self, Py_ssize_t n) noexcept:
        """Whether there is room for a message of n bytes, of which some may be here."""
        return n <= FREE_PARTIAL_BYTES or self.budget.used_bytes - self.charged_bytes + n <= self.budget.limit_bytes

    @cython.final
    cdef void charge(self) noexcept:
        """Count what incomplete messages take beyond the free bytes."""
        cdef Py_ssize_t n = max(<Py_ssize_t>0, self.partial_room + self.message_room - FREE_PARTIAL_BYTES)
        self.budget.used_bytes += n - self.charged_bytes
        self.charged_bytes = n

    @cython.final
    cdef int spend(self) except -1:
        """Count a message that is not plain audio."""
        self.turn_left -= 1
        self.messages_left -= 1
        if self.messages_left < 0:
            self.violate(1008, "too many messages that are not plain audio")
        return 0

    cdef int on_message(self, int opcode, char* data, Py_ssize_t n) except -1:
        self.messages_in += 1
        self.spend()
        if self.is_closing:
            return 0
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
        reason = ""
        if n == 1:
            return self.violate(1002, "close frame of one byte")
        if n >= 2:
            code = (<int>(<uint8_t>payload[0]) << 8) | <uint8_t>payload[1]
            if not may_close_with(code):
                return self.violate(1002, "close code must not be sent")
            try:
                reason = PyUnicode_DecodeUTF8(payload + 2, n - 2, NULL)
            except UnicodeDecodeError:
                return self.violate(1007, "close reason is not UTF-8")
        is_answer = self.is_closing
        self.send_close(code)
        # Bytes after a close frame are ignored.
        self.is_failed = True
        # The transport writes nothing that comes after its close.
        write_pending()
        if self.transport is not None:
            if self.pauses:
                # Of TLS, what is closed while it is paused does not read the peer's end either.
                self.transport.resume_reading()
            self.transport.close()
        if not is_answer:
            self.owner.on_peer_closed(code, reason)
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
        write_pending()
        self.has_eof = True
        return False

    def connection_lost(self, exc):
        """Clear all that leads to the connection, and report its end when all that has been read is taken."""
        self.leave_set()
        self.transport = None
        self.native_transport = None
        if self.has_eof and self.pauses & PAUSED_FOR_A_TURN and not self.is_failed:
            # The end of TLS comes with the last bytes, whose rest waits for `read_on`.
            self.is_lost = True
        else:
            self.end()

    cdef int end(self) except -1:
        self.is_closing = self.is_failed = True
        # Both ends of the cycle are cleared: memory is freed without the garbage collector.
        owner = self.owner
        self.owner = None
        self.is_lost = False
        owner.on_gone()
        return 0
