from _codec.call_audio cimport CallAudio
from _codec.media_json cimport Envelope
from _codec.transcode cimport FromMulaw
from _codec.websocket cimport WebSocket

cdef class AudioWriter(WebSocket):
    cdef:
        # What each frame reads comes first, behind what it reads of `WebSocket`.

        # Sees the audio where it passes; None: nobody does. Set by `Wire.set_call_audio`, never cleared.
        CallAudio call_audio
        # The text before and after outgoing audio; set by `set_format_out`, as are the next three.
        bytes prefix
        bytes suffix
        # The texts between the numbers of outgoing audio; None: no numbers.
        tuple numbered
        # Converts mu-law to outgoing audio; None: it is mu-law already.
        FromMulaw encode
        # Outgoing audio travels as bare binary messages.
        bint is_binary_out
        # Audio that the peer has and has not played: added by `write_audio`, corrected by `Wire.set_ahead`, cleared by
        # `Wire.clear_audio`.
        Py_ssize_t ahead_bytes
        # Audio from one mark to the next; 0: no marks. Set by `set_marks`.
        Py_ssize_t mark_every_bytes
        # Media messages sent; counted by `write_audio`.
        readonly unsigned long long audio_out_frames
        # Their audio in bytes of mu-law.
        readonly unsigned long long audio_out_bytes

        # Messages that carry a number; counted by `next_number`.
        unsigned long long messages_numbered
        # Audio sent since the last mark; counted by `write_marked_audio`, which clears it with each mark, as do
        # `set_marks` and `Wire.clear_audio`.
        Py_ssize_t bytes_since_mark
        # The text before and after a mark's name; set by `set_marks`.
        bytes mark_prefix
        bytes mark_suffix
        # How often the peer has cleared its audio; counted by `Wire.clear_audio`, cleared by `set_marks`.
        unsigned int generation

    # As `fetch_ahead`, for the next frame sent; from hop 2 on, because hop 1 brings this object.
    cdef void fetch_for_writing(self, int hop) noexcept
    # Write n bytes of base64 text of mu-law.
    cdef int write_audio(self, const char* payload, Py_ssize_t n) except -1
    cpdef unsigned long long next_number(self)
    cdef int set_format_out(
        self, Envelope envelope, bint is_binary_out, tuple numbered, FromMulaw encode
    ) except -1
    cdef int write_numbered_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_text_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_marked_audio(self, const char* payload, Py_ssize_t n) except -1
    cdef int write_other_audio(self, const char* payload, Py_ssize_t n) except -1
