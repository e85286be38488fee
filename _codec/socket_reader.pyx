"""
Whether a socket is read: nobody does while its peer is paused.

Failures are those of the transport's pause and resumption.
"""

cimport cython

from _codec.frame_writer cimport FrameWriter

from _codec.resume import resume_reading


@cython.auto_pickle(False)
cdef class SocketReader(FrameWriter):
    """The reading of one side's socket, without a word about what is read."""

    @property
    def is_paused(self):
        """The peer's messages are not read at present."""
        return self.pauses != 0

    cdef int pause(self, int reason) except -1:
        """Stop reading until `resume` is called with each reason of a pause."""
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

    def is_wanted(self):
        """Whether the peer's messages are to be read."""
        return self.pauses == 0
