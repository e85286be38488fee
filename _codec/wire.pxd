from aiofastnet.transport cimport Protocol, Transport

from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport SpanFinder

cdef class Wire(Protocol):
    cdef:
        object __weakref__
        object owner
        object transport
        Transport native_transport
        Wire partner
        SpanFinder finder
        bytes prefix
        bytes suffix
        bint is_binary
        tuple numbered
        unsigned long long messages_numbered
        object decode
        object encode
        bytes mark_prefix
        bytes mark_suffix
        Py_ssize_t mark_every_bytes
        Py_ssize_t bytes_since_mark
        unsigned int generation
        FrameRing held
        bytes before_held
        list after_held
        Wire paused_source
        readonly bint is_client
        readonly bint is_ready
        readonly bint is_congested
        readonly bint is_closing
        readonly bint is_paused
        bint is_failed
        Py_ssize_t max_message_bytes

        char* partial
        Py_ssize_t partial_used
        Py_ssize_t partial_room
        bint reads_shared

        char* message
        Py_ssize_t message_used
        Py_ssize_t message_room
        int fragments
        int message_opcode

        readonly unsigned long long ws_frames_in
        readonly unsigned long long messages_in
        readonly unsigned long long media_in
        readonly unsigned long long audio_in_bytes
        # Of those that came in, for which Python was called.
        readonly unsigned long long decoded_frames
        readonly unsigned long long audio_out_frames
        # With marks or numbers only.
        readonly unsigned long long audio_out_bytes
        readonly unsigned long long dropped_frames
        readonly unsigned long long cleared_frames

    cdef int parse(self, char* data, Py_ssize_t n, Py_ssize_t* used) except -1
    cdef int on_frame(self, int opcode, bint fin, char* payload, Py_ssize_t n) except -1
    cdef int on_message(self, int opcode, char* text, Py_ssize_t n) except -1
    cdef int on_close(self, const char* payload, Py_ssize_t n) except -1
    cdef int add_fragment(self, const char* payload, Py_ssize_t n) except -1
    cdef int keep_partial(self, const char* data, Py_ssize_t n) except -1
    cdef int violate(self, int code, str detail) except -1
    cdef int send_audio_c(self, const char* payload, Py_ssize_t n) except -1
    cpdef unsigned long long next_number(self)
    cdef int write_numbered_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_text_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_marked_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_other_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int on_other_audio(self, const char* audio, Py_ssize_t n) except -1
    cdef int pass_on(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_frame(
        self, int opcode, const char* a, Py_ssize_t na, const char* b, Py_ssize_t nb, const char* c, Py_ssize_t nc
    ) except -1
    cdef int flush(self) except -1
    cdef int pause_source(self, Wire source) except -1
    cdef int resume_source(self) except -1
    cdef int forget_held(self) except -1
