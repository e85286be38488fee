from aiofastnet.transport cimport Protocol, Transport

cdef enum:
    SCRATCH_BYTES = 16384


cdef class WebSocket(Protocol):
    cdef:
        object __weakref__
        # Receives the events; set once, cleared by `connection_lost`, so that no cycle is left.
        object owner
        # The connection; set by `open`, None before it and after `connection_lost`.
        object transport
        # The same, where it is aiofastnet's and takes bytes without an object; set and cleared with `transport`.
        Transport native_transport
        # The peer is a server: frames sent are masked, frames received are not; set once.
        readonly bint is_client
        # The transport's send buffer is full; set by `pause_writing`, cleared by `resume_writing`.
        readonly bint is_congested
        # A close frame has gone out, or the connection is lost: nothing more is sent; never cleared.
        readonly bint is_closing
        # The stream is at its end or broken: nothing more is read; set by `on_close`, `violate`, `on_broken` and
        # `connection_lost`, never cleared.
        bint is_failed
        # Bound on a message, in one frame or in many; set once.
        Py_ssize_t max_message_bytes

        # The beginning of a frame whose rest is still to come; NULL while there is none. Kept and freed by
        # `keep_partial`.
        char* partial
        # Bytes of it that are there, and bytes that fit; set and cleared with it.
        Py_ssize_t partial_used
        Py_ssize_t partial_room
        # Length of that frame, header and all; 0 while unknown. Set by `parse`, read by `keep_partial`.
        Py_ssize_t frame_bytes
        # The transport reads into the shared buffer, not behind `partial`; set by every `get_buffer_c`.
        bint reads_shared

        # The fragments of an unfinished message in a row; NULL while there is none. Grown by `add_fragment`, taken
        # and freed by `on_frame` with the last fragment.
        char* message
        # Bytes of it that are there, and bytes that fit; set and cleared with it.
        Py_ssize_t message_used
        Py_ssize_t message_room
        # Number of its fragments; counted and cleared by `on_frame`.
        int fragments
        # TEXT or BINARY while a message is unfinished, otherwise -1; set and cleared by `on_frame`.
        int message_opcode

        # Whole frames received, control frames too; counted by `on_frame`.
        readonly unsigned long long ws_frames_in
        # Whole messages received; counted by `on_message`.
        readonly unsigned long long messages_in

    # For subclasses. A message, whole; ``data`` is borrowed: valid until return.
    cdef int on_message(self, int opcode, char* data, Py_ssize_t n) except -1
    # For subclasses. Called once, before the close frame goes out.
    cdef int before_close(self) except -1

    # Write one frame whose payload is a, b and c in a row; does nothing without a transport.
    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1
    cpdef send_close(self, int code)
    cdef int violate(self, int code, str detail) except -1
    cdef int take_text(self, const char* text, Py_ssize_t n) except -1
    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1
    cdef int on_frame(self, int opcode, bint fin, char* payload, Py_ssize_t n) except -1
    cdef int on_close(self, const char* payload, Py_ssize_t n) except -1
    cdef int add_fragment(self, const char* payload, Py_ssize_t n) except -1
    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1
