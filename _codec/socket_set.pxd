from _codec.frame_writer cimport FrameWriter


cdef class SocketSet:
    cdef:
        # Set by `start`, cleared by `stop`.
        readonly bint is_on
        object epoll
        int epoll_fd
        # The protocol whose socket has this descriptor; None where there is none. Grows by `add`.
        list by_fd
        # The length of the longest protocol that was added; raised by `add`.
        size_t protocol_bytes

    cdef void fetch_ahead(self, int fd, int hop) noexcept
    cdef int read(self, int fd, bint may_hold_more) except -1
    cdef int read_once(self, FrameWriter protocol, int fd, bint may_hold_more) except -1
