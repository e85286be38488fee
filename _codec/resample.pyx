"""
Resamples audio between 8 kHz and 16 or 24 kHz with a polyphase FIR filter.

Unsupported rates and an odd number of bytes raise ValueError, an argument that is not bytes-like TypeError, one that is
not contiguous BufferError, lack of memory MemoryError; all of them leave the state unchanged. Sums beyond 16 bits
saturate. ``process`` allocates the exact output first, and the loops write at most BLOCK samples into their buffers
before they empty them. The import fails with ImportError if the taps of `kaiser` do not fit the arrays.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memmove, memset

from _codec import kaiser

cdef enum:
    HALF = TAPS // 2
    TILE = 8

if kaiser.TAPS_PER_PHASE != TAPS:
    raise ImportError(f"built for {TAPS} taps per phase, got {kaiser.TAPS_PER_PHASE}: rebuild the codec")


cdef inline int rounded(double value) noexcept nogil:
    """Round half to even and saturate to 16 bits."""
    # Beyond 2**52 a double has no fraction, so the processor rounds when it adds.
    cdef double shifted = (value + 6755399441055744.0) - 6755399441055744.0
    if shifted > 32767.0:
        return 32767
    if shifted < -32768.0:
        return -32768
    return <int>shifted


cdef inline int sample_at(const unsigned char* pcm, Py_ssize_t index) noexcept nogil:
    return <short>(pcm[2 * index] | (pcm[2 * index + 1] << 8))


cdef inline void store(unsigned char* pcm, Py_ssize_t index, int sample) noexcept nogil:
    pcm[2 * index] = <unsigned char>(sample & 0xFF)
    pcm[2 * index + 1] = <unsigned char>((sample >> 8) & 0xFF)


cdef void add_phase(
    double* sums, const double* newest, const double* taps, Py_ssize_t count
) noexcept nogil:
    """
    Add ``taps[0] * newest[j] + taps[1] * newest[j - 1] + ...`` to ``sums[j]``, for ``count`` values of j.

    ``newest`` has HISTORY values before it. Eight sums at a time stay in registers. Each sum adds its products in the
    order of the taps, so the tiles do not change a bit of the result.
    """
    cdef double tile[TILE]
    cdef Py_ssize_t base = 0
    cdef Py_ssize_t j, q
    cdef const double* window
    cdef double tap, total
    while count - base >= TILE:
        for j in range(TILE):
            tile[j] = sums[base + j]
        for q in range(TAPS):
            tap = taps[q]
            window = newest + base - q
            for j in range(TILE):
                tile[j] += tap * window[j]
        for j in range(TILE):
            sums[base + j] = tile[j]
        base += TILE
    while base < count:
        total = sums[base]
        for q in range(TAPS):
            total += taps[q] * newest[base - q]
        sums[base] = total
        base += 1


cdef void add_delayed(
    double* sums, const double* newest, const double* taps, Py_ssize_t count
) noexcept nogil:
    """Do the work of ``add_phase`` for phase 0, whose taps are zero except the middle one."""
    cdef Py_ssize_t j
    for j in range(count):
        sums[j] += taps[HALF] * newest[j - HALF]


@cython.final
@cython.auto_pickle(False)
cdef class Resampler:
    """
    Converts a stream of 16-bit little-endian samples between 8000 Hz and 16000 or 24000 Hz.

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
        cdef double sums[BLOCK]
        cdef double* fresh = &self.streams[0][HISTORY]
        cdef Py_ssize_t i, p, size
        while count > 0:
            size = min(count, <Py_ssize_t>BLOCK)
            for i in range(size):
                fresh[i] = sample_at(pcm, i)
            for p in range(self.factor):
                memset(sums, 0, sizeof(sums))
                if p == 0:
                    add_delayed(sums, fresh, self.taps[0], size)
                else:
                    add_phase(sums, fresh, self.taps[p], size)
                for i in range(size):
                    store(out, i * self.factor + p, rounded(sums[i]))
            memmove(&self.streams[0][0], &self.streams[0][size], HISTORY * sizeof(double))
            pcm += 2 * size
            out += 2 * size * self.factor
            count -= size

    cdef void decimate(self, const unsigned char* pcm, Py_ssize_t count, unsigned char* out) noexcept nogil:
        """Write `out_samples` samples to ``out``."""
        cdef double sums[BLOCK]
        cdef Py_ssize_t i, p, ready
        cdef Py_ssize_t done = 0
        while done < count:
            ready = 0
            while done < count and ready < BLOCK:
                self.streams[self.next_stream][HISTORY + ready] = sample_at(pcm, done)
                done += 1
                if self.next_stream == 0:
                    ready += 1
                    self.next_stream = self.factor
                self.next_stream -= 1
            memset(sums, 0, sizeof(sums))
            add_delayed(sums, &self.streams[0][HISTORY], self.taps[0], ready)
            for p in range(1, self.factor):
                add_phase(sums, &self.streams[p][HISTORY], self.taps[p], ready)
            for i in range(ready):
                store(out, i, rounded(sums[i]))
            out += 2 * ready
            self.keep_history(ready)

    cdef void keep_history(self, Py_ssize_t used) noexcept nogil:
        """Move the last values to the front, and with them the value of an incomplete group, if any."""
        cdef Py_ssize_t p
        cdef Py_ssize_t kept = min(<Py_ssize_t>(HISTORY + 1), <Py_ssize_t>(HISTORY + BLOCK) - used)
        for p in range(self.factor):
            memmove(&self.streams[p][0], &self.streams[p][used], kept * sizeof(double))
