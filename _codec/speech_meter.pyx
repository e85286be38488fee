"""
Finds the segments of speech in base64 text of mu-law, 8 kHz.

The text is measured without a copy, group by group. Blocks of 10 ms, in whole groups, are compared with a noise floor,
the minimum of the smoothed energy over the last three seconds. A segment begins after three blocks above the threshold,
at the first of them, and ends HANGOVER_BYTES after the last one, at that one's end.

Invalid text gives some energy and raises nothing: all 256 characters have a value, and only the given length is read.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int16_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc

from _codec.base64_text cimport decoded_bytes_c
from _codec.g711 cimport mulaw_to_pcm16_c

cdef const char* ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

cdef enum:
    BLOCK_BYTES = 80
    WINDOW_BLOCKS = 20
    ONSET_BLOCKS = 3

# Mean square of a sample: what is quieter is no speech, whatever the floor.
cdef double QUIETEST = 2500.0
# How far above the floor speech is.
cdef double ABOVE = 2.0
cdef double LOUDEST = 1e18
# The noise of clean audio before any of it is heard: 30 dB below full scale.
cdef double CLEAN = 1e6

# The six bits of each character of the alphabet, 0 for all others, at each of the four places in a group.
cdef uint32_t BITS[4][256]
# The energy of each code of mu-law.
cdef uint32_t ENERGY[256]


cdef void fill_tables() noexcept:
    cdef int i, place
    cdef char code
    cdef int16_t sample
    for i in range(256):
        code = <char>i
        mulaw_to_pcm16_c(&code, 1, <char*>&sample)
        ENERGY[i] = <uint32_t>(<int>sample * sample)
    for place in range(4):
        for i in range(256):
            BITS[place][i] = 0
        for i in range(64):
            BITS[place][<uint8_t>ALPHABET[i]] = <uint32_t>i << (6 * (3 - place))


fill_tables()


@cython.auto_pickle(False)
@cython.final
cdef class SpeechMeter:
    """
    Measures one direction of a call; times are bytes of mu-law since the first.

    Args:
        is_clean: The audio has no loud noise: what is loud at its very beginning is speech. Else that becomes the
            noise floor, for three seconds or until it is quieter.
    """

    def __cinit__(self, *, bint is_clean=False):
        cdef int i
        self.last = -1.0
        self.floor = CLEAN if is_clean else LOUDEST
        for i in range(WINDOWS):
            self.minima[i] = self.floor

    def __dealloc__(self):
        free(self.segments)

    def add(self, bytes payload not None):
        """Measure a payload of any length."""
        self.add_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def skip(self, Py_ssize_t audio_bytes):
        """
        Let time pass without audio, which ends a segment whose last block is older than the hangover.

        Raises:
            ValueError: If ``audio_bytes`` is negative.
        """
        if audio_bytes < 0:
            raise ValueError(f"audio_bytes must be at least 0, got {audio_bytes}")
        self.skip_c(audio_bytes)

    @property
    def open_since_bytes(self):
        """The start of the segment that has not ended; None while nobody speaks."""
        return self.started_at if self.is_speaking else None

    @property
    def next_from_bytes(self):
        """No segment that has not ended begins before this."""
        if self.is_speaking:
            return self.started_at
        return self.active_from if self.active_blocks > 0 else self.position_bytes

    def take(self):
        """Return the finished segments, start and end, since the last call."""
        cdef list taken = []
        cdef Segment* segment
        cdef int i
        for i in range(self.count):
            segment = &self.segments[(self.first + i) % MOST_SEGMENTS]
            taken.append((segment.start, segment.end))
        free(self.segments)
        self.segments = NULL
        self.first = self.count = 0
        return taken

    cdef void add_c(self, const char* text, Py_ssize_t n) noexcept nogil:
        cdef const uint8_t* p = <const uint8_t*>text
        cdef Py_ssize_t left = decoded_bytes_c(text, n)
        cdef Py_ssize_t groups, i
        cdef long long energy
        cdef uint32_t bits
        while left >= 3:
            # Up to the end of the block, or of the whole groups.
            groups = min(<Py_ssize_t>(BLOCK_BYTES - self.block_bytes + 2) // 3, left // 3)
            energy = 0
            for i in range(groups):
                # The three bytes of a group of four characters.
                bits = BITS[0][p[4 * i]] | BITS[1][p[4 * i + 1]] | BITS[2][p[4 * i + 2]] | BITS[3][p[4 * i + 3]]
                energy += ENERGY[bits >> 16]
                energy += ENERGY[bits >> 8 & 0xFF]
                energy += ENERGY[bits & 0xFF]
            p += 4 * groups
            left -= 3 * groups
            self.measure(energy, 3 * groups)
        if left > 0:
            # One byte has two characters at least, two bytes have three.
            bits = BITS[0][p[0]] | BITS[1][p[1]]
            energy = ENERGY[bits >> 16]
            if left == 2:
                energy += ENERGY[(bits | BITS[2][p[2]]) >> 8 & 0xFF]
            self.measure(energy, left)

    cdef void skip_c(self, Py_ssize_t audio_bytes) noexcept nogil:
        self.position_bytes = self.end_bytes() + <unsigned long long>audio_bytes
        self.block_bytes = 0
        self.block_energy = 0
        self.active_blocks = 0
        if self.is_speaking and self.position_bytes - self.last_active_at >= HANGOVER_BYTES:
            self.end_segment()

    cdef void measure(self, long long energy, Py_ssize_t audio_bytes) noexcept nogil:
        self.block_energy += energy
        self.block_bytes += audio_bytes
        if self.block_bytes >= BLOCK_BYTES:
            self.end_block()

    cdef double least_before(self) noexcept nogil:
        """The minimum of all windows but the present one."""
        cdef double least = LOUDEST
        cdef int i
        for i in range(WINDOWS):
            if self.minima[i] < least:
                least = self.minima[i]
        return least

    cdef void end_block(self) noexcept nogil:
        cdef double mean = <double>self.block_energy / self.block_bytes
        cdef double pair = mean if self.last < 0 else (mean + self.last) / 2
        cdef double threshold
        cdef unsigned long long start = self.position_bytes
        self.position_bytes += <unsigned long long>self.block_bytes
        self.smooth = mean if self.last < 0 else self.smooth * 0.7 + mean * 0.3
        self.last = mean
        self.block_bytes = 0
        self.block_energy = 0
        if self.smooth < self.minima[self.window]:
            self.minima[self.window] = self.smooth
            if self.smooth < self.floor:
                self.floor = self.smooth
        threshold = max(QUIETEST, self.floor * ABOVE)
        self.window_blocks += 1
        if self.window_blocks == WINDOW_BLOCKS:
            self.window_blocks = 0
            self.window = (self.window + 1) % WINDOWS
            self.minima[self.window] = LOUDEST
            self.floor = self.least_before()
        if pair > threshold:
            if self.active_blocks == 0:
                self.active_from = start
            self.active_blocks += 1
            if self.active_blocks >= ONSET_BLOCKS:
                if not self.is_speaking:
                    self.is_speaking = True
                    self.started_at = self.active_from
                # The pair's first block may be all of its energy.
                self.last_active_at = self.position_bytes if mean > threshold else start
        else:
            self.active_blocks = 0
            if self.is_speaking and self.position_bytes - self.last_active_at >= HANGOVER_BYTES:
                self.end_segment()

    cdef void end_segment(self) noexcept nogil:
        cdef Segment* segment
        self.is_speaking = False
        if self.segments == NULL:
            self.segments = <Segment*>malloc(MOST_SEGMENTS * sizeof(Segment))
            if self.segments == NULL:
                # Without memory, speech is lost like that beyond the bound.
                return
        if self.count == MOST_SEGMENTS:
            self.first = (self.first + 1) % MOST_SEGMENTS
            self.count -= 1
        segment = &self.segments[(self.first + self.count) % MOST_SEGMENTS]
        segment.start, segment.end = <uint32_t>self.started_at, <uint32_t>self.last_active_at
        self.count += 1
