cdef enum:
    TAPS = 32
    HALF = TAPS // 2
    HISTORY = TAPS - 1
    BLOCK = 160  # 20 ms at 8 kHz
    MAX_FACTOR = 6


cdef class Resampler:
    cdef:
        # Going up, one stream of samples at 8 kHz; going down, stream p holds the samples at p before a
        # multiple of the factor. Value HISTORY of a stream is its first unused one.
        float streams[MAX_FACTOR][HISTORY + BLOCK]
        # The filter's taps by phase; set once.
        float taps[MAX_FACTOR][TAPS]
        # How many times higher one rate is than the other; set once.
        Py_ssize_t factor
        # Going down, the stream that takes the next sample; advanced by `decimate`.
        Py_ssize_t next_stream
        # The output has the higher rate; set once.
        bint up

    # The number of samples that `process_c` writes for the next ``count``.
    cdef Py_ssize_t out_samples(self, Py_ssize_t count) noexcept nogil
    # Take ``count`` 16-bit little-endian samples; write the samples that they add to the output and return their
    # number. ``out`` has room for `out_samples` and does not overlap ``pcm``.
    cdef Py_ssize_t process_c(self, const char* pcm, Py_ssize_t count, char* out) noexcept nogil
    cdef void interpolate(self, const unsigned char* pcm, Py_ssize_t count, unsigned char* out) noexcept nogil
    cdef void decimate(self, const unsigned char* pcm, Py_ssize_t count, unsigned char* out) noexcept nogil
    cdef void keep_history(self, Py_ssize_t used) noexcept nogil
