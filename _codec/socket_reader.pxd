from _codec.frame_writer cimport FrameWriter

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

    cdef int pause(self, int reason) except -1
    cdef int resume(self, int reason) except -1
