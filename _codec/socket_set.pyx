"""
Reads the sockets of many calls past the event loop, in batches.

The loop's way from a readable socket to its protocol touches as much memory as all work on the frame. A set has an epoll
instance of its own, edge-triggered except for TLS. A look at it reads each socket that has data once and leaves what is
more for the next look. A socket at its end, or with an error, goes back to its transport. Of TLS, the transport reads
all this itself, at the looks.

With hundreds of calls, neither the code of one step nor the memory of one socket stays in the processor's caches until
it is needed again. So a look reads many sockets, then takes all that was read, then writes all that came of it, and the
memory of the next sockets comes while one is read.

Nothing here blocks. Memory is the batch, or that of the protocol for as many bytes as it says. A fault of a protocol
ends its connection; the others are read on.
"""

cimport cython
from cpython.list cimport PyList_GET_ITEM
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t

from _codec.fetch cimport fetch
from _codec.frame_writer cimport FrameWriter, begin_gathering, end_gathering

import select

cdef extern from "<sys/socket.h>":
    Py_ssize_t recv(int fd, void* data, size_t n, int flags) nogil
    int MSG_DONTWAIT

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    #else
    /* A set that is never on. */
    enum { EPOLLPRI = 2, EPOLLERR = 8, EPOLLHUP = 16, EPOLLRDHUP = 32 };
    struct epoll_event { unsigned int events; union { int fd; } data; };
    static int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms) { return 0; }
    #endif
    """
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms) nogil
    enum:
        EPOLLERR
        EPOLLHUP
        EPOLLPRI
        EPOLLRDHUP

cdef enum:
    MOST_EVENTS = 1024
    # After the protocol itself: each while one other socket is read, which takes several times as long as memory.
    HOPS = 3
    # As much as one read takes of a socket; a batch has room for four such reads, or for some 800 frames of 20 ms.
    READ_BYTES = 65536
    BATCH_BYTES = 262144
    LINE_BYTES = 64
    # After these a short read has not read all: before an end or an error, and up to a byte of urgent data.
    MAY_HOLD_MORE = EPOLLERR | EPOLLHUP | EPOLLPRI | EPOLLRDHUP

cdef object WANTED = 0
cdef object EDGE_TRIGGERED = 0
if hasattr(select, "epoll"):
    EDGE_TRIGGERED = select.EPOLLET
    WANTED = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | EDGE_TRIGGERED

# What was read and is not taken yet, each in lines of its own: of whom it is, where it begins, and its length. Shared
# by all sets of the process, which has one event loop: it is empty between two looks.
cdef char batch[BATCH_BYTES]
cdef Py_ssize_t batch_bytes = 0
cdef list readers = [None] * MOST_EVENTS
cdef Py_ssize_t reader_count = 0
cdef Py_ssize_t starts[MOST_EVENTS]
cdef Py_ssize_t lengths[MOST_EVENTS]


cdef bint closes(FrameWriter protocol) noexcept:
    """Whether the transport closes: it reads no more either."""
    # Its method looks for an override in the transport's dict, which is one more line of memory.
    return protocol.native_transport is None or protocol.native_transport._closing


cdef int take_batch() except -1:
    """Let all sockets of the batch take what was read of them, also those that have been paused or discarded since."""
    global reader_count, batch_bytes
    cdef FrameWriter protocol
    cdef Py_ssize_t i
    try:
        for i in range(reader_count):
            protocol = <FrameWriter>readers[i]
            readers[i] = None
            take(protocol, batch + starts[i], lengths[i])
    finally:
        reader_count = batch_bytes = 0
    return 0


cdef int take(FrameWriter protocol, char* data, Py_ssize_t n) except -1:
    try:
        if closes(protocol):
            protocol.read_by_transport()
        else:
            protocol.take_read(data, n)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:
        protocol.drop(fault)
    return 0


@cython.auto_pickle(False)
@cython.final
cdef class SocketSet:
    """
    The sockets that are read by `look`.

    Attributes:
        is_on: Whether sockets may be added: from `start` to `stop`, on Linux, if `start` has found room.
    """

    def __cinit__(self):
        self.by_fd = []

    def start(self):
        """Let sockets be added, if the system has room; whoever calls this calls `look` from now on."""
        if self.is_on or not hasattr(select, "epoll"):
            return
        try:
            self.epoll = select.epoll()
        except OSError:
            # The transports read on.
            return
        self.epoll_fd = self.epoll.fileno()
        self.is_on = True

    def stop(self):
        """Give all sockets back to their transports."""
        if not self.is_on:
            return
        self.is_on = False
        for protocol in self.by_fd:
            if protocol is None:
                continue
            try:
                protocol.read_by_transport()
            except Exception as fault:
                protocol.drop(fault)
        self.epoll.close()
        self.epoll = None

    def add(self, FrameWriter protocol not None, int fd):
        """
        Read a socket for its protocol, of which the loop must not tell the transport from now on that there is data.

        The protocol calls `discard` before the socket is closed. ``read_by_transport()`` is called at `stop`, and of a
        plain socket at an end or an error and once its transport closes; ``drop(fault)`` after a fault of the protocol.

        Raises:
            OSError: The system has no room for one more.
        """
        # A transport does not say whether it has read all.
        self.epoll.register(fd, WANTED if protocol.read_ready is None else WANTED & ~EDGE_TRIGGERED)
        if fd >= len(self.by_fd):
            self.by_fd += [None] * (fd + 1 - len(self.by_fd))
        self.by_fd[fd] = protocol
        self.protocol_bytes = max(self.protocol_bytes, <size_t>type(protocol).__basicsize__)

    def discard(self, int fd):
        """Stop reading a socket; one that is not read here stays as it is."""
        if not 0 <= fd < len(self.by_fd) or self.by_fd[fd] is None:
            return
        self.by_fd[fd] = None
        if self.is_on:
            self.epoll.unregister(fd)

    def look(self):
        """Read each socket that has data, once; with more sockets than fit, the rest are first at the next look."""
        cdef epoll_event events[MOST_EVENTS]
        cdef int n, i, ahead
        if not self.is_on:
            return
        # Asked again, the system would report those that have been read meanwhile and hold more.
        n = epoll_wait(self.epoll_fd, events, MOST_EVENTS, 0)
        begin_gathering()
        try:
            # What a look that was interrupted has left.
            take_batch()
            for i in range(n):
                for ahead in range(1, min(HOPS + 2, n - i)):
                    self.fetch_ahead(events[i + ahead].data.fd, HOPS + 1 - ahead)
                if BATCH_BYTES - batch_bytes < READ_BYTES:
                    # Before the next socket is looked up: what is taken may discard it.
                    take_batch()
                self.read(events[i].data.fd, events[i].events & <uint32_t>MAY_HOLD_MORE != 0)
            take_batch()
        finally:
            end_gathering()

    cdef void fetch_ahead(self, int fd, int hop) noexcept:
        if not 0 <= fd < len(self.by_fd):
            return
        if hop == 0:
            # Not touched before it is there, not even to count a reference.
            fetch(<void*>PyList_GET_ITEM(self.by_fd, fd), self.protocol_bytes)
        elif self.by_fd[fd] is not None:
            (<FrameWriter>self.by_fd[fd]).fetch_ahead(hop)

    cdef int read(self, int fd, bint may_hold_more) except -1:
        if not 0 <= fd < len(self.by_fd):
            return 0
        # The turn of another socket may have discarded it.
        protocol = self.by_fd[fd]
        if protocol is None:
            return 0
        try:
            self.read_once(<FrameWriter>protocol, fd, may_hold_more)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:
            protocol.drop(fault)
        return 0

    cdef int read_once(self, FrameWriter protocol, int fd, bint may_hold_more) except -1:
        global reader_count, batch_bytes
        cdef char* data
        cdef Py_ssize_t room
        cdef Py_ssize_t n
        cdef bint is_batched
        if protocol.read_ready is not None:
            protocol.read_ready()
            return 0
        if closes(protocol):
            protocol.read_by_transport()
            return 0
        is_batched = protocol.may_read_anywhere()
        if is_batched:
            # `look` has made room.
            data = batch + batch_bytes
            room = READ_BYTES
        else:
            protocol.get_buffer_c(-1, &data, &room)
        n = recv(fd, data, <size_t>room, MSG_DONTWAIT)
        if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
            protocol.read_by_transport()
            return 0
        if n == room or may_hold_more or (n < 0 and errno == EINTR):
            # There may be more: the socket is reported again.
            self.epoll.modify(fd, WANTED)
        if n <= 0:
            return 0
        if is_batched:
            # No more than there are events at a look.
            starts[reader_count] = batch_bytes
            lengths[reader_count] = n
            readers[reader_count] = protocol
            reader_count += 1
            batch_bytes += (n + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
        else:
            protocol.buffer_updated(n)
        return 0
