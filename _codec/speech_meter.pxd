from libc.stdint cimport uint32_t

cdef enum:
    WINDOWS = 16
    MOST_SEGMENTS = 64
    # Speech has ended after this much audio without any.
    HANGOVER_BYTES = 2400

# 32 bits of a position are six days.
cdef struct Segment:
    uint32_t start
    uint32_t end


cdef class SpeechMeter:
    cdef:
        # All audio in whole blocks so far, in bytes of mu-law, and what `skip` leaves out.
        readonly unsigned long long position_bytes
        # The present block: its length and its energy; cleared by `end_block`.
        Py_ssize_t block_bytes
        long long block_energy
        # The mean energy of the last block; negative before the first.
        double last
        # Smoothed energy; the noise floor is its minimum over the last WINDOWS windows.
        double smooth
        # That minimum; lowered by each block, computed anew with each window.
        double floor
        int window
        int window_blocks
        # Blocks above the threshold in a row, and the start of the first of them.
        int active_blocks
        unsigned long long active_from
        # The present segment; valid while `is_speaking`.
        bint is_speaking
        unsigned long long started_at
        unsigned long long last_active_at
        # Finished segments that nobody has taken, in a circle; the oldest are lost beyond the bound. NULL while there
        # are none: made by `end_segment`, freed by `take`.
        Segment* segments
        int first
        int count
        # The minimum of each window; behind all that each frame reads.
        double[WINDOWS] minima

    cdef void add_c(self, const char* text, Py_ssize_t n) noexcept nogil
    # As `skip`.
    cdef void skip_c(self, Py_ssize_t audio_bytes) noexcept nogil
    cdef void end_block(self) noexcept nogil
    cdef void end_segment(self) noexcept nogil
    cdef double least_before(self) noexcept nogil
    cdef void measure(self, long long energy, Py_ssize_t audio_bytes) noexcept nogil

    cdef inline unsigned long long end_bytes(self) noexcept nogil:
        """The position of the audio that comes next."""
        return self.position_bytes + <unsigned long long>self.block_bytes
