from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport SpanFinder
from _codec.websocket cimport WebSocket

cdef class Wire(WebSocket):
    cdef:
        # Takes the audio that is found here; None: the owner does. Set by `join`, cleared when the socket ends.
        Wire partner
        # Finds the audio in text messages; None: no message is audio. This and all down to ``encode``: set by
        # `set_format`, never cleared.
        SpanFinder finder
        # The text before and after outgoing audio.
        bytes prefix
        bytes suffix
        # Audio travels as bare binary messages.
        bint is_binary
        # The texts between the numbers of outgoing audio; None: no numbers.
        tuple numbered
        # Converters of incoming audio to mu-law and of mu-law to outgoing audio; None: it is mu-law already.
        object decode
        object encode

        # Messages that carry a number; counted by `next_number`.
        unsigned long long messages_numbered

        # The text before and after a mark's name; set by `set_marks`.
        bytes mark_prefix
        bytes mark_suffix
        # Audio from one mark to the next; 0: no marks. Set by `set_marks`.
        Py_ssize_t mark_every_bytes
        # Audio sent since the last mark; counted by `write_marked_audio`, which clears it with each mark, as do
        # `set_marks` and `new_generation`.
        Py_ssize_t bytes_since_mark
        # How often the peer has cleared its audio; counted by `new_generation`, cleared by `set_marks`.
        unsigned int generation

        # Audio may go out; set by `set_ready`, never cleared.
        readonly bint is_ready
        # Audio that waits until the peer is ready and reads; emptied by `flush` and `discard_held`.
        FrameRing held
        # The message that goes out before held audio; set by `send_text_before_audio`, cleared like ``held``.
        bytes before_held
        # The messages that go out behind held audio; added by `send_text_after_audio`, cleared like ``held``.
        list after_held
        # The wire that stopped reading because its audio waits here; set by `pause_source`, cleared by
        # `resume_source`.
        Wire paused_source
        # Another wire holds too much of this one's audio, so that it does not read; set and cleared by that one.
        readonly bint is_paused

        # Media messages received, and their audio in bytes of mu-law; counted by `on_message`.
        readonly unsigned long long media_in
        readonly unsigned long long audio_in_bytes
        # Of those, the ones that Python has decoded; counted by `on_other_audio`.
        readonly unsigned long long decoded_frames
        # Media messages sent; counted by `write_audio`.
        readonly unsigned long long audio_out_frames
        # Their audio in bytes of mu-law, with marks or numbers only.
        readonly unsigned long long audio_out_bytes
        # Media messages lost because too many were held or the socket ended.
        readonly unsigned long long dropped_frames
        # Media messages discarded by `drop_held`.
        readonly unsigned long long cleared_frames

    cdef int send_audio_c(self, const char* payload, Py_ssize_t n) except -1
    cpdef unsigned long long next_number(self)
    cdef int write_numbered_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_text_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_marked_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_other_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int on_other_audio(self, const char* audio, Py_ssize_t n) except -1
    cdef int pass_on(self, const char* payload, Py_ssize_t n) except -1
    cdef int flush(self) except -1
    cdef int pause_source(self, Wire source) except -1
    cdef int resume_source(self) except -1
    cdef int discard_held(self) except -1
