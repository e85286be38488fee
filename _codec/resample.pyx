"""
Resamples audio between 8 kHz and 16 or 24 kHz with a polyphase FIR filter.

The sums are in single precision and in a fixed order: phase by phase, and in each phase from the newest sample to the
oldest. Each product and each partial sum is rounded, because ``-ffp-contract=off`` keeps compilers from fusing them. So
the bytes of the output are those of the reference on every processor, whatever the width of its vectors.

Unsupported rates and an odd number of bytes raise ValueError, an argument that is not bytes-like TypeError, one that is
not contiguous BufferError, lack of memory MemoryError; all of them leave the state unchanged. Sums beyond 16 bits
saturate. ``process`` allocates the exact output first, and the loops write at most BLOCK samples into their buffers
before they empty them: 3 KB in an object and 1 KB on the stack. The C functions cannot fail: they read only the given
length, and the caller provides an output of the size that resample.pxd states. The import fails with ImportError if the
taps of `kaiser` do not fit the arrays.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memmove, memset

from _codec import kaiser

if kaiser.TAPS_PER_PHASE != TAPS:
    raise ImportError(f"built for {TAPS} taps per phase, got {kaiser.TAPS_PER_PHASE}: rebuild the codec")

cdef extern from *:
    """
    /* Four floats. GCC and Clang make vector instructions of their operators, or scalar ones where there are none. */
    typedef float lanes __attribute__((vector_size(16), aligned(4), may_alias));

    /* Add taps[0] * newest[j] + taps[1] * newest[j - 1] + ... to sums[j], for each j below count. newest has
     * n_taps - 1 values before it. Twenty sums at a time stay in registers. */
    static void add_phase(float* sums, const float* newest, const float* taps, int n_taps, Py_ssize_t count) {
        Py_ssize_t j = 0;
        for (; j + 20 <= count; j += 20) {
            lanes tile[5];
            for (int i = 0; i < 5; i++) tile[i] = *(const lanes*)(sums + j + 4 * i);
            for (int q = 0; q < n_taps; q++) {
                for (int i = 0; i < 5; i++) tile[i] += taps[q] * *(const lanes*)(newest + j - q + 4 * i);
            }
            for (int i = 0; i < 5; i++) *(lanes*)(sums + j + 4 * i) = tile[i];
        }
        for (; j < count; j++) {
            for (int q = 0; q < n_taps; q++) sums[j] += taps[q] * newest[j - q];
        }
    }
    """
    void add_phase(float* sums, const float* newest, const float* taps, int n_taps, Py_ssize_t count) noexcept nogil


cdef inline float sample_at(const unsigned char* pcm, Py_ssize_t index) noexcept nogil:
    return <short>(pcm[2 * index] | (pcm[2 * index + 1] << 8))


cdef inline void round_sums(short* samples, const float* sums, Py_ssize_t count) noexcept nogil:
    """Round half to even and saturate."""
    cdef Py_ssize_t j
    cdef int whole
    for j in range(count):
        # No sum reaches 2**22. From 2**23 on a float has no fraction, so the processor rounds when it adds.
        whole = <int>((sums[j] + <float>12582912.0) - <float>12582912.0)
        samples[j] = <short>max(<int>-32768, min(<int>32767, whole))


cdef inline void store(unsigned char* pcm, Py_ssize_t step, const short* samples, Py_ssize_t count) noexcept nogil:
    """Write one sample to every ``step`` samples of ``pcm``."""
    cdef Py_ssize_t j
    cdef unsigned short sample
    for j in range(count):
        sample = <unsigned short>samples[j]
        pcm[0] = <unsigned char>sample
        pcm[1] = <unsigned char>(sample >> 8)
        pcm += 2 * step


cdef inline void add_delayed(float* sums, const float* newest, float tap, Py_ssize_t count) noexcept nogil:
    """Do the work of ``add_phase`` for phase 0, whose taps are zero except the middle one."""
    cdef Py_ssize_t j
    for j in range(count):
        sums[j] += tap * newest[j - HALF]


@cython.final
@cython.auto_pickle(False)
cdef class Resampler:
    """
    Converts a stream of 16-bit little-endian samples between 8000 Hz and 16000, 24000 or 48000 Hz.

    State is kept between calls, so the output does not depend on the division of the stream into calls.

    Raises:
        ValueError: If the pair of rates is not supported.

    Source of the filter: the window design of J. F. Kaiser, 1974, in ``_codec.kaiser``.
    """

    def __cinit__(self, from_hz, to_hz):
        factor, up = kaiser.ratio(from_hz, to_hz)
        self.factor = factor
        self.up = up
        self.next_stream = 0
        memset(self.streams, 0, sizeof(self.streams))
        for p, phase in enumerate(kaiser.phases(factor, up)):
            for q, tap in enumerate(phase):
                self.taps[<Py_ssize_t>p][<Py_ssize_t>q] = tap

    @property
    def delay_samples(self):
        """Group delay, in samples of the output: 2 ms."""
        return kaiser.HALF_LENGTH * (self.factor if self.up else 1)

    def process(self, pcm):
        """
        Return the next samples of the output; ``pcm`` is any bytes-like object.

        Raises:
            ValueError: If the length is odd.
        """
        cdef Py_buffer view
        cdef bytes result
        PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
        try:
            if view.len % 2:
                raise ValueError(f"pcm must hold whole 16-bit samples, got {view.len} bytes")
            result = PyBytes_FromStringAndSize(NULL, 2 * self.out_samples(view.len // 2))
            self.process_c(<const char*>view.buf, view.len // 2, PyBytes_AS_STRING(result))
        finally:
            PyBuffer_Release(&view)
        return result

    cdef Py_ssize_t out_samples(self, Py_ssize_t count) noexcept nogil:
        if self.up:
            return count * self.factor
        if count > self.next_stream:
            return (count - self.next_stream - 1) // self.factor + 1
        return 0

    cdef Py_ssize_t process_c(self, const char* pcm, Py_ssize_t count, char* out) noexcept nogil:
        cdef Py_ssize_t made = self.out_samples(count)
        if self.up:
            self.interpolate(<const unsigned char*>pcm, count, <unsigned char*>out)
        else:
            self.decimate(<const unsigned char*>pcm, count, <unsigned char*>out)
        return made

    cdef void interpolate(self, const unsigned char* pcm, Py_ssize_t count, unsigned char* out) noexcept nogil:
        """Write ``count * factor`` samples to ``out``."""
        cdef float[BLOCK] sums
        cdef short[BLOCK] samples
        cdef float* fresh = &self.streams[0][HISTORY]
        cdef Py_ssize_t i, p, size
        while count > 0:
            size = min(count, <Py_ssize_t>BLOCK)
            for i in range(size):
                fresh[i] = sample_at(pcm, i)
            for p in range(self.factor):
                memset(sums, 0, sizeof(sums))
                if p == 0:
                    add_delayed(sums, fresh, self.taps[0][HALF], size)
                else:
                    add_phase(sums, fresh, self.taps[p], TAPS, size)
                round_sums(samples, sums, size)
                store(out + 2 * p, self.factor, samples, size)
            memmove(&self.streams[0][0], &self.streams[0][size], HISTORY * sizeof(float))
            pcm += 2 * size
            out += 2 * size * self.factor
            count -= size

    cdef void decimate(self, const unsigned char* pcm, Py_ssize_t count, unsigned char* out) noexcept nogil:
        """Write `out_samples` samples to ``out``."""
        cdef float[BLOCK] sums
        cdef short[BLOCK] samples
        cdef float* fresh
        cdef Py_ssize_t i, p, size, made
        while count > 0:
            size = min(count, self.next_stream + 1 + (BLOCK - 1) * self.factor)
            made = self.out_samples(size)
            for p in range(self.factor):
                i = self.next_stream - p
                fresh = &self.streams[p][HISTORY]
                if i < 0:
                    # This stream has the first value already.
                    i += self.factor
                    fresh += 1
                while i < size:
                    fresh[0] = sample_at(pcm, i)
                    fresh += 1
                    i += self.factor
            self.next_stream += made * self.factor - size
            memset(sums, 0, sizeof(sums))
            add_delayed(sums, &self.streams[0][HISTORY], self.taps[0][HALF], made)
            for p in range(1, self.factor):
                add_phase(sums, &self.streams[p][HISTORY], self.taps[p], TAPS, made)
            round_sums(samples, sums, made)
            store(out, 1, samples, made)
            self.keep_history(made)
            pcm += 2 * size
            out += 2 * made
            count -= size

    cdef void keep_history(self, Py_ssize_t used) noexcept nogil:
        """Move the last values to the front, and with them the value of an incomplete group, if any."""
        cdef Py_ssize_t p
        cdef Py_ssize_t kept = min(<Py_ssize_t>(HISTORY + 1), <Py_ssize_t>(HISTORY + BLOCK) - used)
        for p in range(self.factor):
            memmove(&self.streams[p][0], &self.streams[p][used], kept * sizeof(float))
