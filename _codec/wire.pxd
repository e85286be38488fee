from _codec.audio_writer cimport AudioWriter
from _codec.frame_ring cimport FrameRing
from _codec.media_json cimport SpanFinder
from _codec.transcode cimport ToMulaw

cdef class Wire(AudioWriter):
    cdef:
        # What each frame reads comes first, behind what it reads of `AudioWriter`.

        # Takes the audio that is found here; None: the owner does. Set by `join`, cleared when the socket ends.
        Wire partner
        # Finds the audio in text messages; None: no message is audio. Set by `set_format`, as are the next two; never
        # cleared.
        SpanFinder finder
        # Converts incoming audio to mu-law; None: it is mu-law already.
        ToMulaw decode
        # Incoming audio travels as bare binary messages.
        bint is_binary_in
        # Media messages received, and their audio in bytes of mu-law; counted by `on_message`.
        readonly unsigned long long media_in
        readonly unsigned long long audio_in_bytes

        # Audio may go out; set by `set_ready`, never cleared.
        readonly bint is_ready
        # Audio or items wait in ``held``; set by `note_held`, which follows each change.
        bint is_holding
        # From which length on audio is held; 0: never. Set by `set_most_ahead`.
        Py_ssize_t most_ahead_bytes

        # Audio, and the items between, that wait until the peer is ready and reads; emptied by `flush`, `clear_audio`,
        # `hand_held_to` and `lose_held`.
        FrameRing held
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

    cdef void fetch_ahead(self, int hop) noexcept
    cdef int send_audio_c(self, const char* payload, Py_ssize_t n) except -1
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
