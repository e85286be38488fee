from _codec.call_audio cimport CallAudio
from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport SpanFinder
from _codec.transcode cimport FromMulaw, ToMulaw
from _codec.websocket cimport WebSocket

cdef class Wire(WebSocket):
    cdef:
        # What each frame reads comes first, behind what it reads of `WebSocket`: that of its receiver, then that of its
        # sender.

        # Takes the audio that is found here; None: the owner does. Set by `join`, cleared when the socket ends.
        Wire partner
        # Finds the audio in text messages; None: no message is audio. Set by `set_format`, as are ``decode`` and all that
        # says so below; never cleared.
        SpanFinder finder
        # Converts incoming audio to mu-law; None: it is mu-law already.
        ToMulaw decode
        # Media messages received, and their audio in bytes of mu-law; counted by `on_message`.
        readonly unsigned long long media_in
        readonly unsigned long long audio_in_bytes
        # Incoming audio travels as bare binary messages; set by `set_format`, as is the next one.
        bint is_binary_in
        bint is_binary_out
        # Sees the audio of both directions where it passes; None: nobody does. Set by `set_call_audio`, never cleared.
        CallAudio call_audio

        # Audio may go out; set by `set_ready`, never cleared.
        readonly bint is_ready
        # Audio or items wait in ``held``; set by `note_held`, which follows each change.
        bint is_holding
        # The text before and after outgoing audio; set by `set_format`, as are the next two.
        bytes prefix
        bytes suffix
        # The texts between the numbers of outgoing audio; None: no numbers.
        tuple numbered
        # Converts mu-law to outgoing audio; None: it is mu-law already.
        FromMulaw encode
        # Audio that the peer has and has not played: added by `write_audio`, corrected by `set_ahead`, cleared by
        # `clear_audio`.
        Py_ssize_t ahead_bytes
        # From which length on audio is held; 0: never. Set by `set_most_ahead`.
        Py_ssize_t most_ahead_bytes
        # Audio from one mark to the next; 0: no marks. Set by `set_marks`.
        Py_ssize_t mark_every_bytes
        # Media messages sent; counted by `write_audio`.
        readonly unsigned long long audio_out_frames
        # Their audio in bytes of mu-law.
        readonly unsigned long long audio_out_bytes

        # Audio, and the items between, that wait until the peer is ready and reads; emptied by `flush`, `clear_audio`,
        # `hand_held_to` and `lose_held`.
        FrameRing held
        # Messages that carry a number; counted by `next_number`.
        unsigned long long messages_numbered
        # Audio sent since the last mark; counted by `write_marked_audio`, which clears it with each mark, as do
        # `set_marks` and `clear_audio`.
        Py_ssize_t bytes_since_mark
        # The text before and after a mark's name; set by `set_marks`.
        bytes mark_prefix
        bytes mark_suffix
        # How often the peer has cleared its audio; counted by `clear_audio`, cleared by `set_marks`.
        unsigned int generation
        # The next turn of the loop flushes; set by `flush_in_next_turn`, cleared by `flush_on`.
        bint is_flush_due
        # Frames sent when the last `clear_audio` sent its message; NEVER before the first.
        unsigned long long frames_at_clear
        # From how much held audio on an agent is not read; set once.
        Py_ssize_t hold_bytes
        # The wire whose audio comes here, which stops reading when the process holds too much; set and cleared by
        # that one's `join`.
        Wire source
        # Media messages lost because too many were held or the socket ended.
        readonly unsigned long long dropped_frames
        # Of these, those for which there was no room.
        readonly unsigned long long overflowed_frames
        # Media messages discarded by `clear_audio`.
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
    cdef int flush_in_next_turn(self) except -1
    cdef int flush_frame(self, Py_ssize_t n) except -1
    cdef int leave(self) except -1

    cdef inline bint must_wait(self) noexcept:
        return not self.is_ready or self.is_congested or self.is_holding

    cdef inline void note_held(self) noexcept:
        # A frame that goes through reads this flag, which is beside all else that it reads, and not the ring.
        self.is_holding = self.held.entries > 0 or self.held.item_count > 0

    cdef bint is_far_ahead(self) noexcept
    cdef int hold(self, const char* payload, Py_ssize_t n) except -1
    cdef int pause_furthest(self) except -1
    cdef int make_room(self) except -1
    cdef bint takes_audio(self, Py_ssize_t audio_bytes) except -1
