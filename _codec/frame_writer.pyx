"""
The sending half of a WebSocket (RFC 6455) on an aiofastnet transport: frames, masks, and few writes for many frames.

Frames that are written between `begin_gathering` and `end_gathering` wait, so that those of many sockets go out in a
row, and those of one socket in one write. Each socket's frames keep their order. Lack of memory raises MemoryError; a
fault of a transport ends its connection; what a lost connection is given is discarded.

The kernel takes more than any socket option allows: it lets the last packet of its queue grow to 64 KB. Where that
matters, the queue itself is looked at.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from aiofastnet.transport cimport Protocol, Transport

from _codec.rfc6455 cimport CLOSE, HEADER_MAX_BYTES, NO_STATUS, PING, TEXT, apply_mask, put_header

import asyncio
import os

cdef extern from "<sys/ioctl.h>":
    int ioctl(int fd, unsigned long request, ...)
    # Bytes that were written to a socket and not yet acknowledged by its peer; an error outside Linux.
    unsigned long TIOCOUTQ

cdef enum:
    # Frames that wait are written once those of one socket are this long. More would save little, and an interrupt
    # stands behind what a slow peer's transport has taken.
    WRITE_BYTES = 4096
    # A look at the queue for so many bytes costs little.
    LOOK_BYTES = 4096
    MASKS_BYTES = 4096
    # More than there are frames of 20 ms that fit.
    MOST_WRITERS = 256

# A full queue does not report that it has room. It is looked at in turns that double, because a peer is near or far: on
# 1 Mbit/s the longest turn takes 2.5 KB.
cdef double FIRST_LOOK_S = 0.001
cdef double LAST_LOOK_S = 0.02

# Frames that wait, those of one socket after those of another. Shared by all sockets of the process, which has one
# event loop.
cdef char pending[SCRATCH_BYTES]
cdef Py_ssize_t pending_bytes = 0
# The sockets that they are for, the first ``writer_count`` of these, and where those of each end. A socket is here
# again if another one's follow its own.
cdef list writers = [None] * MOST_WRITERS
cdef Py_ssize_t ends[MOST_WRITERS]
cdef Py_ssize_t writer_count = 0
# Where those of the last one begin.
cdef Py_ssize_t start_of_last = 0
# `write_pending` is on the stack.
cdef bint is_writing = False
# How many callbacks are on the stack that write at their end.
cdef int gathering = 0

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


cdef bint has_room(Py_ssize_t n) noexcept:
    return pending_bytes + n + HEADER_MAX_BYTES <= SCRATCH_BYTES and writer_count < MOST_WRITERS


cdef int write_pending() except -1:
    """Give the pending frames to their sockets' transports, which copy what they cannot send."""
    global pending_bytes, writer_count, is_writing
    cdef FrameWriter socket
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t i = 0
    if is_writing:
        # A transport that becomes full calls its owner: what that writes, if anything, is written below.
        return 0
    is_writing = True
    try:
        while i < writer_count:
            socket = <FrameWriter>writers[i]
            writers[i] = None
            write_piece(socket, pending + start, ends[i] - start)
            start = ends[i]
            i += 1
    finally:
        is_writing = False
        writer_count = pending_bytes = 0
    return 0


cdef int write_piece(FrameWriter socket, char* frames, Py_ssize_t n) except -1:
    try:
        if socket.native_transport is not None:
            socket.native_transport.write_c(frames, n)
        elif socket.transport is not None:
            socket.transport.write(PyBytes_FromStringAndSize(frames, n))
        socket.count_written(n)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:
        # The others' frames go out.
        socket.drop(fault)
    return 0


cdef void begin_gathering() noexcept:
    """Let frames wait for `end_gathering`, which must follow."""
    global gathering
    gathering += 1


cdef int end_gathering() except -1:
    """Write what has waited, if this is the outermost callback."""
    global gathering
    gathering -= 1
    if gathering == 0:
        write_pending()
    return 0


@cython.auto_pickle(False)
cdef class FrameWriter(Protocol):
    """
    Sends one side's frames; `WebSocket` reads.

    Args:
        owner: Receives ``on_congestion(is_congested)``, when the transport's buffer or the bounded queue fills, and
            when neither is full any more.
        is_client: This side opened the connection: it masks.
    """

    # Cython passes a subclass's arguments too: ``**_`` takes those.
    def __cinit__(self, owner, *, bint is_client, **_):
        self.owner = owner
        self.is_client = is_client

    def open(self, transport):
        """Take over a transport whose handshake is done."""
        self.transport = transport
        if isinstance(transport, Transport):
            self.native_transport = transport

    def bound_queue(self, int fd, Py_ssize_t most_bytes):
        """
        Count the peer as congested while it has more than this to acknowledge, and until it has half of that.

        Args:
            fd: The open socket.
            most_bytes: The bound, which a write may exceed by its own length.
        """
        self.queue_fd = fd
        self.most_queued_bytes = most_bytes

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

    cdef void fetch_ahead(self, int hop) noexcept:
        pass

    cdef bint may_read_anywhere(self) noexcept:
        return False

    cdef int take_read(self, char* data, Py_ssize_t n) except -1:
        return 0

    cdef int before_close(self) except -1:
        return 0

    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1:
        global pending_bytes, writer_count, start_of_last
        cdef Py_ssize_t n = na + nb + nc
        cdef Py_ssize_t i
        cdef char* own = NULL
        if self.transport is None:
            return 0
        if not has_room(n):
            write_pending()
        if not has_room(n):
            own = <char*>PyMem_Malloc(<size_t>(n + HEADER_MAX_BYTES))
            if own == NULL:
                raise MemoryError(f"no memory for a frame of {n} bytes")
            try:
                write_piece(self, own, self.put_frame(own, opcode, a, na, b, nb, c, nc))
            finally:
                PyMem_Free(own)
            return 0
        i = self.put_frame(pending + pending_bytes, opcode, a, na, b, nb, c, nc)
        if writer_count == 0 or writers[writer_count - 1] is not self:
            writers[writer_count] = self
            writer_count += 1
            start_of_last = pending_bytes
        pending_bytes += i
        ends[writer_count - 1] = pending_bytes
        if gathering == 0 or pending_bytes - start_of_last >= WRITE_BYTES:
            write_pending()
        return 0

    @cython.final
    cdef Py_ssize_t put_frame(
        self,
        char* out,
        int opcode,
        const char* a, Py_ssize_t na,
        const char* b, Py_ssize_t nb,
        const char* c, Py_ssize_t nc,
    ) except -1:
        """Put a frame together in ``out``, which has room for HEADER_MAX_BYTES and the payload; return its length."""
        cdef Py_ssize_t n = na + nb + nc
        cdef Py_ssize_t i = put_header(out, opcode, n)
        cdef uint32_t mask = 0
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
        return i + n

    cdef int count_written(self, Py_ssize_t n) except -1:
        """Look at the queue, if there is a bound and enough has been written."""
        self.unlooked_bytes += n
        if self.unlooked_bytes < LOOK_BYTES or self.most_queued_bytes == 0 or self.transport is None:
            return 0
        self.unlooked_bytes = 0
        if not self.is_queue_full and self.queued_bytes() > self.most_queued_bytes:
            self.is_queue_full = True
            self.look_later(FIRST_LOOK_S)
            self.report_congestion()
        return 0

    @cython.final
    cdef int queued_bytes(self) noexcept:
        cdef int queued = 0
        return queued if ioctl(self.queue_fd, TIOCOUTQ, &queued) == 0 else 0

    cdef int look_later(self, double delay_s) except -1:
        asyncio.get_running_loop().call_later(delay_s, self.look_at_queue, delay_s)
        return 0

    def look_at_queue(self, double waited_s):
        """Clear the flag and report if the full queue has emptied by half; otherwise look again later."""
        if self.transport is None:
            return
        if self.queued_bytes() > self.most_queued_bytes // 2:
            self.look_later(min(2 * waited_s, LAST_LOOK_S))
            return
        self.is_queue_full = False
        if not self.is_transport_full:
            self.resume_writing()

    cdef int report_congestion(self) except -1:
        cdef bint is_congested = self.is_transport_full or self.is_queue_full
        if is_congested != self.is_congested:
            self.is_congested = is_congested
            self.owner.on_congestion(is_congested)
        return 0

    def pause_writing(self):
        """Set the flag and report; called from within our own write, so nothing is written here."""
        self.is_transport_full = True
        self.report_congestion()

    def resume_writing(self):
        """Clear the flag and report."""
        self.is_transport_full = False
        self.report_congestion()
