from libc.stdint cimport uint8_t

from _codec.call_audio cimport AudioTap

cdef enum:
    # The caller and the agent, as `AudioTap.take_c` has them, and the agent's audio that was cleared.
    SIDES = 3
    # Ten minutes.
    MOST_PIECES = 6000


cdef class Loudness(AudioTap):
    cdef:
        # The loudest sample of each piece of time, of each side: rings, whose slot is the piece's number modulo their
        # length.
        uint8_t[SIDES][MOST_PIECES] peaks
        # The last piece that each side has; below 0 before its first. All slots before it hold pieces, or silence.
        long long[SIDES] last

    cdef void reach(self, int side, long long piece) noexcept
    cdef uint8_t at(self, int side, long long piece) noexcept
