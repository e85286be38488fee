"""
Converts between G.711 mu-law, A-law and 16-bit samples by table.

An odd number of bytes to encode raises ValueError, an argument that is not bytes-like TypeError, one that is not
contiguous BufferError, lack of memory MemoryError. The loops end with the argument's buffer, and every byte and every
sample has an entry in its table.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

# G.711 codes the upper 14 of 16 bits, so the table has 2**14 entries.
cdef unsigned char ULAW_OF_14_BITS[16384]
cdef unsigned char PCM16_OF_ULAW[256][2]
cdef unsigned char ULAW_OF_ALAW[256]
cdef unsigned char ALAW_OF_ULAW[256]


cdef unsigned char encode(int sample) noexcept nogil:
    """Return the code of a 14-bit sample. Source: ITU-T G.711, table 2a; bias 33."""
    cdef int inverted = 0xFF
    cdef int segment = 0
    if sample < 0:
        sample = -sample
        inverted = 0x7F
    # 8158 is the largest value whose biased form is still in the last segment.
    sample = min(sample, 8158) + 33
    while segment < 7 and sample >> (segment + 6):
        segment += 1
    return <unsigned char>(((segment << 4) | ((sample >> (segment + 1)) & 0x0F)) ^ inverted)


cdef int decode(int code) noexcept nogil:
    cdef int inverted = code ^ 0xFF
    cdef int magnitude = ((((inverted & 0x0F) << 3) + 132) << ((inverted >> 4) & 7)) - 132
    return -magnitude if inverted & 0x80 else magnitude


cdef unsigned char encode_alaw(int sample) noexcept nogil:
    """Return the A-law code of a 16-bit sample. Source: ITU-T G.711, table 1a; even bits are inverted."""
    # A-law codes the upper 13 bits, and the magnitudes of negative ones begin with 1.
    cdef int magnitude = sample >> 3 if sample >= 0 else -(sample >> 3) - 1
    cdef int segment = 0
    while segment < 7 and magnitude >> (segment + 5):
        segment += 1
    return <unsigned char>(
        ((segment << 4) | ((magnitude >> max(segment, 1)) & 0x0F)) ^ (0xD5 if sample >= 0 else 0x55)
    )


cdef int decode_alaw(int code) noexcept nogil:
    cdef int plain = code ^ 0x55
    cdef int segment = (plain >> 4) & 7
    cdef int magnitude = ((plain & 0x0F) << 4) + 8
    if segment > 0:
        magnitude = (magnitude + 256) << (segment - 1)
    return magnitude if plain & 0x80 else -magnitude


cdef void fill_tables() noexcept nogil:
    cdef int i, sample
    for i in range(16384):
        ULAW_OF_14_BITS[i] = encode(i - 16384 if i >= 8192 else i)
    for i in range(256):
        sample = decode(i)
        PCM16_OF_ULAW[i][0] = <unsigned char>(sample & 0xFF)
        PCM16_OF_ULAW[i][1] = <unsigned char>((sample >> 8) & 0xFF)
        ALAW_OF_ULAW[i] = encode_alaw(sample)
        ULAW_OF_ALAW[i] = encode(decode_alaw(i) >> 2)


fill_tables()


cdef void mulaw_to_pcm16_c(const char* mulaw, Py_ssize_t n, char* out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(out + 2 * i, PCM16_OF_ULAW[<unsigned char>mulaw[i]], 2)


def mulaw_to_pcm16(ulaw):
    """Decode mu-law, in any bytes-like object, to 16-bit little-endian samples."""
    cdef Py_buffer view
    cdef bytes result
    PyObject_GetBuffer(ulaw, &view, PyBUF_SIMPLE)
    try:
        result = PyBytes_FromStringAndSize(NULL, 2 * view.len)
        mulaw_to_pcm16_c(<const char*>view.buf, view.len, PyBytes_AS_STRING(result))
    finally:
        PyBuffer_Release(&view)
    return result


cdef void pcm16_to_mulaw_c(const char* pcm, Py_ssize_t n, char* out) noexcept nogil:
    cdef const unsigned char* source = <const unsigned char*>pcm
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <char>ULAW_OF_14_BITS[(source[2 * i] >> 2) | (source[2 * i + 1] << 6)]


def pcm16_to_mulaw(pcm):
    """
    Encode 16-bit little-endian samples, in any bytes-like object, to mu-law.

    Raises:
        ValueError: If the length is odd.
    """
    cdef Py_buffer view
    cdef bytes result
    PyObject_GetBuffer(pcm, &view, PyBUF_SIMPLE)
    try:
        if view.len % 2:
            raise ValueError(f"pcm must hold whole 16-bit samples, got {view.len} bytes")
        result = PyBytes_FromStringAndSize(NULL, view.len // 2)
        pcm16_to_mulaw_c(<const char*>view.buf, view.len // 2, PyBytes_AS_STRING(result))
    finally:
        PyBuffer_Release(&view)
    return result


cdef void mulaw_to_alaw_c(const char* mulaw, Py_ssize_t n, char* out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <char>ALAW_OF_ULAW[<unsigned char>mulaw[i]]


cdef void alaw_to_mulaw_c(const char* alaw, Py_ssize_t n, char* out) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = <char>ULAW_OF_ALAW[<unsigned char>alaw[i]]
