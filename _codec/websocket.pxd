from _codec.held_budget cimport HeldBudget
from _codec.peer cimport Peer

cdef enum:
    # What a peer may send after it has broken the protocol: what was on its way, and its close frame.
    MOST_DISCARDED_BYTES = 1048576


cdef class WebSocket(Peer):
    cdef:
        # The peer has said that it sends no more; set by `eof_received`, never cleared.
        bint has_eof
        # The connection is lost, and bytes that were read before wait for their turn; set by `connection_lost`,
        # cleared by `end`.
        bint is_lost
        # The bytes that the sockets of the process hold together; set once.
        HeldBudget budget
        # This socket's share of them; changed by `charge`.
        Py_ssize_t charged_bytes
        # The fragments of an unfinished message in a row; NULL while there is none. Grown by `add_fragment`, taken
        # and freed by `on_frame` with the last fragment.
        char* message
        # Bytes that fit there; set and cleared with it.
        Py_ssize_t message_room
        # Number of its fragments; counted and cleared by `on_frame`.
        int fragments
        # Bytes that fit in ``partial``; set and cleared with it.
        Py_ssize_t partial_room

        # What each frame reads follows, and goes on in `Wire`: with a thousand sockets, a frame costs the less the fewer
        # lines of memory it loads (docs/performance.md).

        # The stream is at its end or broken: nothing more is read; set by `on_close`, `violate`, `on_broken` and
        # `end`, never cleared.
        bint is_failed
        # The present read fills the shared buffer, not the room behind `partial`; set by every `get_buffer_c`.
        bint reads_shared
        # TEXT or BINARY while a message is unfinished, otherwise -1; set and cleared by `on_frame`.
        int message_opcode
        # Bytes of the unfinished message that are there; set and cleared with ``message``.
        Py_ssize_t message_used
        # Bound on a message, in one frame or in many; set once.
        Py_ssize_t max_message_bytes
        # The beginning of a frame whose rest is still to come; NULL while there is none. Kept and freed by
        # `keep_partial`.
        char* partial
        # Bytes of it that are there; set and cleared with it.
        Py_ssize_t partial_used
        # Length of that frame, header and all; 0 while unknown. Set by `parse`, read by `keep_partial`.
        Py_ssize_t frame_bytes
        # Bytes that came after the stream's end; counted by `read`.
        Py_ssize_t discarded_bytes
        # How many messages that are not plain audio are left of the present turn; set by `read`, counted by `spend`.
        Py_ssize_t turn_left

    # For subclasses. A message, whole; ``data`` is borrowed: valid until return.
    cdef int on_message(self, int opcode, char* data, Py_ssize_t n) except -1
    # For subclasses. Nothing more is read, and the connection is lost.
    cdef int end(self) except -1
    cdef bint may_read_anywhere(self) noexcept
    cdef int take_read(self, char* data, Py_ssize_t n) except -1
    cdef int read(self, char* data, Py_ssize_t n) except -1
    cdef int read_kept(self) except -1
    cdef bint fits(self, Py_ssize_t n) noexcept
    cdef void charge(self) noexcept
    cdef int spend(self) except -1
    cdef int violate(self, int code, str detail) except -1
    cdef int take_text(self, const char* text, Py_ssize_t n) except -1
    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1
    cdef int on_frame(self, int opcode, bint fin, char* payload, Py_ssize_t n) except -1
    cdef int on_close(self, const char* payload, Py_ssize_t n) except -1
    cdef int add_fragment(self, const char* payload, Py_ssize_t n) except -1
    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1
