"""
Who reads a socket: its transport, a `SocketSet` in its place, or nobody while the peer is paused.

Of TLS, a set only says when: the transport reads, at the set's looks and no more at the loop's events.

A transport that does not read is paused. Failures are those of the transport's pause and resumption.
"""

cimport cython

from _codec.frame_writer cimport FrameWriter
from _codec.socket_set cimport SocketSet

import asyncio

from aiofastnet.selector_transport import SelectorSocketTransport
from aiofastnet.ssl_transport import SSLTransport_Socket

from _codec.resume import resume_reading


@cython.auto_pickle(False)
cdef class SocketReader(FrameWriter):
    """Reads one side's socket, by its transport or by a set; subclasses know what the bytes mean."""

    @property
    def is_paused(self):
        """The peer's messages are not read at present."""
        return self.pauses != 0

    cdef int pause(self, int reason) except -1:
        """Stop reading until `resume` is called with each reason of a pause."""
        # A plain transport is paused while a set reads: this leaves it so.
        self.leave_set()
        if self.pauses == 0 and self.transport is not None:
            self.transport.pause_reading()
        self.pauses |= reason
        return 0

    cdef int resume(self, int reason) except -1:
        if self.pauses & reason:
            self.pauses &= ~reason
            if self.pauses == 0 and self.transport is not None:
                resume_reading(self.transport, self.is_wanted)
        return 0

    cpdef read_by(self, SocketSet socket_set):
        """
        Let ``socket_set`` read from now on if it is on and may read this socket.

        A pause gives the socket back to the transport: the caller asks again at intervals.
        """
        if self.socket_set is not None or not socket_set.is_on or not self.may_leave_transport():
            return
        fd = self.transport.get_extra_info("socket").fileno()
        if isinstance(self.transport, SSLTransport_Socket):
            self.read_ready = self.transport._read_ready
        try:
            socket_set.add(self, fd)
        except OSError:
            # The transport reads on.
            self.read_ready = None
            return
        self.socket_set = socket_set
        self.fd = fd
        if self.read_ready is None:
            self.transport.pause_reading()
        else:
            asyncio.get_running_loop().remove_reader(fd)

    cdef bint may_leave_transport(self) except -1:
        # The first frame may be picows', and what ends needs the transport.
        return (
            self.has_begun()
            and self.pauses == 0
            and not self.is_closing
            and isinstance(self.transport, (SelectorSocketTransport, SSLTransport_Socket))
            # TLS resumes a turn after the last pause ends.
            and self.transport.is_reading()
        )

    cdef bint has_begun(self) noexcept:
        return False

    def read_by_transport(self):
        """Let the transport read again."""
        if self.leave_set() and self.transport is not None:
            # Of TLS, `leave_set` has done that.
            self.transport.resume_reading()

    def drop(self, fault):
        """End the connection after a fault in a turn that is not the transport's, as that does after one in its own."""
        asyncio.get_running_loop().call_exception_handler({"message": "fault on a socket", "exception": fault})
        self.leave_set()
        if self.transport is not None:
            self.transport.abort()

    cdef bint leave_set(self) except -1:
        """
        Stop the reading by a set; False if none reads.

        The loop reads a socket of TLS again; nobody reads a plain one until its transport is resumed.
        """
        if self.socket_set is None:
            return False
        self.socket_set.discard(self.fd)
        self.socket_set = None
        if self.read_ready is not None:
            # A transport that has begun its end does not take the loop's reader away any more.
            read_ready, self.read_ready = self.read_ready, None
            if not self.native_transport._finalizing_close:
                asyncio.get_running_loop().add_reader(self.fd, read_ready)
        return True

    def is_wanted(self):
        """Whether the peer's messages are to be read."""
        return self.pauses == 0
