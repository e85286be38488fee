from _codec.frame_writer cimport FrameWriter
from _codec.socket_set cimport SocketSet

cdef enum:
    # Why a peer is not read, as bits: a turn of the loop has done enough for it; the process holds too much audio; it
    # sends on after it has broken the protocol.
    PAUSED_FOR_A_TURN = 1
    PAUSED_FOR_ROOM = 2
    PAUSED_FOR_GOOD = 4


cdef class SocketReader(FrameWriter):
    cdef:
        # Why the peer is not read, PAUSED_FOR_... bits; changed by `pause` and `resume`.
        int pauses
        # What reads the socket in place of the transport, which is paused meanwhile; None: the transport does. Set by
        # `read_by`, cleared by `leave_set`.
        SocketSet socket_set
        int fd

    # For subclasses. Whether frames have come, so that this object has the transport's bytes to itself.
    cdef bint has_begun(self) noexcept

    cpdef read_by(self, SocketSet socket_set)
    cdef int pause(self, int reason) except -1
    cdef int resume(self, int reason) except -1
    cdef bint may_leave_transport(self) except -1
    cdef bint leave_set(self) except -1
