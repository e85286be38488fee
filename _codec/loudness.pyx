"""
How loud each side of a call is over time, for a picture of it: the last ten minutes in pieces of 100 ms.

A piece has a number, tenths of a second of `time.monotonic`, and its loudness is the magnitude of the loudest sample in
mu-law's own scale, without its two least bits. One of three samples is looked at, by the first character of each group
of base64, which has all of these bits: that is a picture's resolution, and costs little per frame.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memset

from _codec.call_audio cimport AGENT, AudioTap

cdef bytes ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef dict NUMBERS = {"caller": 0, "agent": 1, "cleared": 2}

cdef enum:
    CLEARED = 2
    PIECE_SAMPLES = 800
    GROUP_SAMPLES = 3
    GROUP_CHARACTERS = 4

# What a group's first character stands for; nothing for what is no base64.
cdef uint8_t MAGNITUDE[256]


cdef void fill_table() noexcept:
    cdef int i
    memset(MAGNITUDE, 0, sizeof(MAGNITUDE))
    for i in range(64):
        # Mu-law is sent inverted, with the sign first.
        MAGNITUDE[<uint8_t>ALPHABET[i]] = <uint8_t>(~i & 31)


fill_table()


@cython.auto_pickle(False)
@cython.final
cdef class Loudness(AudioTap):
    """Takes the audio of a call whose `CallAudio` it is attached to."""

    def __cinit__(self):
        cdef int side
        for side in range(SIDES):
            self.last[side] = -1

    def pieces(self, str side not None, long long first, Py_ssize_t count):
        """
        Return the loudness of ``count`` pieces from the number ``first`` on, a byte from 0 to 31 each.

        Args:
            side: ``caller``, ``agent``, or ``cleared``: the agent's audio that was not heard because of a clear.

        Raises:
            KeyError: There is no such side.
            ValueError: ``count`` is negative or more than there are.
        """
        cdef int number = NUMBERS[side]
        cdef bytes found
        cdef char* target
        cdef Py_ssize_t i
        if not 0 <= count <= MOST_PIECES:
            raise ValueError(f"count must be from 0 to {MOST_PIECES}, got {count}")
        found = PyBytes_FromStringAndSize(NULL, count)
        target = PyBytes_AS_STRING(found)
        for i in range(count):
            target[i] = <char>self.at(number, first + i)
        return found

    @property
    def last_piece(self):
        """The number of the last piece of any side; None before the first."""
        cdef long long last = max(self.last[0], self.last[1], self.last[2])
        return last if last >= 0 else None

    cdef void take_c(self, int side, const char* text, Py_ssize_t n, double at) noexcept:
        cdef const uint8_t* p = <const uint8_t*>text
        cdef Py_ssize_t left = n // GROUP_CHARACTERS
        cdef long long sample = <long long>(at * (10 * PIECE_SAMPLES))
        cdef long long piece
        cdef Py_ssize_t groups, i
        cdef uint8_t peak
        while left > 0:
            piece = sample // PIECE_SAMPLES
            groups = <Py_ssize_t>((piece + 1) * PIECE_SAMPLES - sample + GROUP_SAMPLES - 1) // GROUP_SAMPLES
            groups = min(groups, left)
            peak = 0
            for i in range(groups):
                peak = max(peak, MAGNITUDE[p[GROUP_CHARACTERS * i]])
            self.reach(side, piece)
            if piece > self.last[side] - MOST_PIECES:
                i = <Py_ssize_t>(piece % MOST_PIECES)
                self.peaks[side][i] = max(self.peaks[side][i], peak)
            p += GROUP_CHARACTERS * groups
            left -= groups
            sample += GROUP_SAMPLES * groups

    cdef void cut_c(self, double at) noexcept:
        # The piece of the clear itself is heard in part.
        cdef long long first = <long long>(at * 10) + 1
        cdef long long last = self.last[AGENT]
        cdef long long piece
        cdef Py_ssize_t i
        if last < first:
            return
        self.reach(CLEARED, last)
        for piece in range(max(first, last - MOST_PIECES + 1), last + 1):
            i = <Py_ssize_t>(piece % MOST_PIECES)
            if piece > self.last[CLEARED] - MOST_PIECES:
                self.peaks[CLEARED][i] = max(self.peaks[CLEARED][i], self.peaks[AGENT][i])
            self.peaks[AGENT][i] = 0

    cdef void reach(self, int side, long long piece) noexcept:
        """Let a side have this piece, with silence since its last one; the oldest give way."""
        cdef long long i
        if piece <= self.last[side]:
            return
        for i in range(max(self.last[side] + 1, piece - MOST_PIECES + 1), piece + 1):
            self.peaks[side][i % MOST_PIECES] = 0
        self.last[side] = piece

    cdef uint8_t at(self, int side, long long piece) noexcept:
        if piece > self.last[side] or piece <= self.last[side] - MOST_PIECES or piece < 0:
            return 0
        return self.peaks[side][piece % MOST_PIECES]
