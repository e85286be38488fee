"""
Transcodes between mu-law at 8000 Hz and 16-bit little-endian samples at 8000, 16000, 24000 or 48000 Hz, or A-law at
8000 Hz.

A wire calls ``convert_c``, which reads memory of its caller and writes to memory of its caller. ``__call__`` does the
same with bytes. An object serves one direction of one call, because the filter keeps its state between frames.

An unsupported rate raises ValueError, audio that is not bytes TypeError, lack of memory MemoryError; all of them leave
the state unchanged. No audio is invalid: every byte is mu-law and A-law, every two bytes are a sample, and sums beyond 16 bits
saturate. The C functions cannot fail: they read only the given length, and the caller provides an output of the size
that ``out_bytes`` gives, which is at most 12 bytes for a byte of mu-law. The filter works on blocks of BLOCK samples at
8000 Hz, so that an object takes 6 KB and ``convert_c`` 2 KB of stack for any length of the audio.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from _codec.g711 cimport alaw_to_mulaw_c, mulaw_to_alaw_c, mulaw_to_pcm16_c, pcm16_to_mulaw_c
from _codec.resample cimport BLOCK, Resampler

from _codec import kaiser

PCM_RATES_HZ = (kaiser.BASE_HZ, *kaiser.FACTORS)


cdef Resampler resampler_between(from_hz, to_hz):
    """Return a resampler, None between equal rates."""
    return None if from_hz == to_hz else Resampler(from_hz, to_hz)


cdef int check_alaw(bint is_alaw, int rate_hz) except -1:
    if is_alaw and rate_hz != kaiser.BASE_HZ:
        raise ValueError(f"A-law has {kaiser.BASE_HZ} Hz, got {rate_hz}")
    return 0


@cython.final
@cython.auto_pickle(False)
cdef class ToMulaw:
    """
    Transcodes an agent's samples, or its A-law, to mu-law.

    A frame may have any number of bytes: half a sample waits for its other half.

    Raises:
        ValueError: If the rate is not supported.
    """

    def __cinit__(self, int rate_hz, *, bint is_alaw=False):
        check_alaw(is_alaw, rate_hz)
        self.rate_hz = rate_hz
        self.is_alaw = is_alaw
        self.resampler = resampler_between(rate_hz, kaiser.BASE_HZ)
        self.has_first_byte = False

    def restart(self):
        """Begin new audio: discard half a sample of the old."""
        self.has_first_byte = False

    def __call__(self, bytes audio not None):
        cdef Py_ssize_t n = PyBytes_GET_SIZE(audio)
        cdef bytes mulaw = PyBytes_FromStringAndSize(NULL, self.out_bytes(n))
        self.convert_c(PyBytes_AS_STRING(audio), n, PyBytes_AS_STRING(mulaw))
        return mulaw

    cdef Py_ssize_t out_bytes(self, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t count = (n + self.has_first_byte) // 2
        if self.is_alaw:
            return n
        return count if self.resampler is None else self.resampler.out_samples(count)

    cdef Py_ssize_t convert_c(self, const char* data, Py_ssize_t n, char* out) noexcept nogil:
        cdef Py_ssize_t written = 0
        cdef char[2] sample
        if self.is_alaw:
            alaw_to_mulaw_c(data, n, out)
            return n
        if self.has_first_byte and n > 0:
            self.has_first_byte = False
            sample[0] = self.first_byte
            sample[1] = data[0]
            written = self.convert_samples(sample, 1, out)
            data += 1
            n -= 1
        written += self.convert_samples(data, n // 2, out + written)
        if n % 2:
            self.first_byte = data[n - 1]
            self.has_first_byte = True
        return written

    cdef Py_ssize_t convert_samples(self, const char* pcm, Py_ssize_t count, char* out) noexcept nogil:
        cdef char[2 * BLOCK] low_rate
        cdef Py_ssize_t size, made
        cdef Py_ssize_t written = 0
        if self.resampler is None:
            pcm16_to_mulaw_c(pcm, count, out)
            return count
        while count > 0:
            # At most BLOCK samples come of these.
            size = min(count, BLOCK * self.resampler.factor)
            made = self.resampler.process_c(pcm, size, low_rate)
            pcm16_to_mulaw_c(low_rate, made, out + written)
            written += made
            pcm += 2 * size
            count -= size
        return written


@cython.final
@cython.auto_pickle(False)
cdef class FromMulaw:
    """
    Transcodes mu-law to samples, or to A-law, for an agent.

    Raises:
        ValueError: If the rate is not supported.
    """

    def __cinit__(self, int rate_hz, *, bint is_alaw=False):
        check_alaw(is_alaw, rate_hz)
        self.rate_hz = rate_hz
        self.is_alaw = is_alaw
        self.resampler = resampler_between(kaiser.BASE_HZ, rate_hz)

    def __call__(self, bytes mulaw not None):
        cdef Py_ssize_t n = PyBytes_GET_SIZE(mulaw)
        cdef bytes audio = PyBytes_FromStringAndSize(NULL, self.out_bytes(n))
        self.convert_c(PyBytes_AS_STRING(mulaw), n, PyBytes_AS_STRING(audio))
        return audio

    cdef Py_ssize_t out_bytes(self, Py_ssize_t n) noexcept nogil:
        if self.is_alaw:
            return n
        return 2 * (n if self.resampler is None else self.resampler.out_samples(n))

    cdef Py_ssize_t convert_c(self, const char* data, Py_ssize_t n, char* out) noexcept nogil:
        cdef char[2 * BLOCK] low_rate
        cdef Py_ssize_t size
        cdef Py_ssize_t written = 0
        if self.is_alaw:
            mulaw_to_alaw_c(data, n, out)
            return n
        if self.resampler is None:
            mulaw_to_pcm16_c(data, n, out)
            return 2 * n
        while n > 0:
            size = min(n, BLOCK)
            mulaw_to_pcm16_c(data, size, low_rate)
            written += 2 * self.resampler.process_c(low_rate, size, out + written)
            data += size
            n -= size
        return written
