from _codec.resample cimport Resampler


# The functions take any n from 0 to 2**60. They create no Python object and count no reference.
cdef class ToMulaw:
    cdef:
        # The rate of the incoming samples; set once.
        readonly int rate_hz
        # The incoming audio is A-law; set once.
        readonly bint is_alaw
        # Brings the samples to 8000 Hz; None if they have that rate. Set once.
        Resampler resampler
        # The first byte of a sample whose second byte is still to come, and whether there is one; set and cleared
        # by `convert_c`, cleared by `restart`.
        char first_byte
        bint has_first_byte

    # The number of bytes that `convert_c` writes for the next n.
    cdef Py_ssize_t out_bytes(self, Py_ssize_t n) noexcept nogil
    # Convert n bytes of samples, cut anywhere, or of A-law, to mu-law; return the number of bytes written. ``out`` has room for
    # `out_bytes` and does not overlap ``data``.
    cdef Py_ssize_t convert_c(self, const char* data, Py_ssize_t n, char* out) noexcept nogil
    cdef Py_ssize_t convert_samples(self, const char* pcm, Py_ssize_t count, char* out) noexcept nogil


cdef class FromMulaw:
    cdef:
        # The rate of the outgoing samples; set once.
        readonly int rate_hz
        # The outgoing audio is A-law; set once.
        readonly bint is_alaw
        # Brings the samples from 8000 Hz to that rate; None if it is the same. Set once.
        Resampler resampler

    # The number of bytes that `convert_c` writes for n.
    cdef Py_ssize_t out_bytes(self, Py_ssize_t n) noexcept nogil
    # Convert n bytes of mu-law to samples or A-law; return the number of bytes written. ``out`` has room for `out_bytes` and
    # does not overlap ``data``.
    cdef Py_ssize_t convert_c(self, const char* data, Py_ssize_t n, char* out) noexcept nogil
