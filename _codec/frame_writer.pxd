from aiofastnet.transport cimport Protocol, Transport

cdef enum:
    # Some two hundred frames of 20 ms.
    SCRATCH_BYTES = 65536
    # What a frame reads of a transport: all but its room for gathered writes, which is behind it.
    TRANSPORT_BYTES = 192

# Between the two, frames wait; a callback that writes much calls both.
cdef void begin_gathering() noexcept
cdef int end_gathering() except -1
# Write what waits, before a socket closes or does anything else to its transport.
cdef int write_pending() except -1


cdef class FrameWriter(Protocol):
    cdef:
        object __weakref__
        # Receives the events; set once, cleared at the end of the connection, so that no cycle is left.
        object owner
        # The connection; set by `open`, None before it and after `connection_lost`.
        object transport
        # The same, where it is aiofastnet's and takes bytes without an object; set and cleared with `transport`.
        Transport native_transport
        # Of a TLS connection, while a set reads the socket: how it lets the transport do that. Otherwise None.
        object read_ready
        # The peer is a server: frames sent are masked, frames received are not; set once.
        readonly bint is_client
        # The transport's buffer or the kernel's queue is full.
        readonly bint is_congested
        # Set by `pause_writing`, cleared by `resume_writing`.
        bint is_transport_full
        # The peer has too much to acknowledge; set by `count_written`, cleared by `look_at_queue`.
        bint is_queue_full
        # The socket whose queue in the kernel is bounded, and the bound, which is 0 where there is none.
        int queue_fd
        Py_ssize_t most_queued_bytes
        # Bytes written since the last look at the queue.
        Py_ssize_t unlooked_bytes
        # A close frame has gone out, or the connection is lost: nothing more is sent; never cleared.
        readonly bint is_closing

    # For subclasses. Bring what the next frame received needs into the caches: at hop 1 what this object points to, at
    # hop 2 what that points to, at hop 3 what that does. It reads only what the hop before has brought.
    cdef void fetch_ahead(self, int hop) noexcept
    # For subclasses. Whether bytes may be read to any place, for `take_read`; else only to where `get_buffer_c` says.
    cdef bint may_read_anywhere(self) noexcept
    # For subclasses. Take n bytes that were read; ``data`` is borrowed, and changed.
    cdef int take_read(self, char* data, Py_ssize_t n) except -1
    # For subclasses. Called once, before the close frame goes out.
    cdef int before_close(self) except -1

    cdef int count_written(self, Py_ssize_t n) except -1
    cdef int queued_bytes(self) noexcept
    cdef int look_later(self, double delay_s) except -1
    cdef int report_congestion(self) except -1

    # Write one frame whose payload is a, b and c in a row; does nothing without a transport.
    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1
    cdef Py_ssize_t put_frame(
        self,
        char* out,
        int opcode,
        const char* a, Py_ssize_t na,
        const char* b, Py_ssize_t nb,
        const char* c, Py_ssize_t nc,
    ) except -1
    cpdef send_close(self, int code)
