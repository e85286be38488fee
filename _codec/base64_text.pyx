"""
Checks, measures and converts base64 text.

For invalid text ``is_base64`` returns False, ``decode`` raises ValueError, and ``decoded_bytes`` returns some length of
at least 0. Arguments other than bytes raise TypeError, lack of memory MemoryError. The C functions cannot fail: they
read only the given length, and the caller provides an output of the size that base64_text.pxd states.

Source: RFC 4648, section 4.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t

cdef const char* ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

# The six bits of each character of the alphabet; 0 for all others. Padding is the only other one in valid text.
cdef uint8_t VALUES[256]


cdef void fill_values() noexcept nogil:
    cdef int i
    for i in range(256):
        VALUES[i] = 0
    for i in range(64):
        VALUES[<uint8_t>ALPHABET[i]] = <uint8_t>i


fill_values()


cdef extern from *:
    """
    #ifdef __SSE2__
    #include <emmintrin.h>

    /* All bits of each byte that is in the alphabet. */
    static inline __m128i of_alphabet(const unsigned char *p)
    {
        __m128i text = _mm_loadu_si128((const __m128i *)p);
        /* Moved so that a range begins at the least signed byte, one comparison finds what is in it. */
        __m128i letter = _mm_add_epi8(_mm_or_si128(text, _mm_set1_epi8(0x20)), _mm_set1_epi8((char)(128 - 'a')));
        __m128i digit = _mm_add_epi8(text, _mm_set1_epi8((char)(128 - '0')));
        __m128i good = _mm_or_si128(_mm_cmplt_epi8(letter, _mm_set1_epi8(-128 + 26)),
                                    _mm_cmplt_epi8(digit, _mm_set1_epi8(-128 + 10)));
        /* The last two differ in one bit. */
        return _mm_or_si128(good, _mm_cmpeq_epi8(_mm_or_si128(text, _mm_set1_epi8('+' ^ '/')), _mm_set1_epi8('/')));
    }
    #endif

    static inline int is_of_alphabet(const unsigned char *p, Py_ssize_t n)
    {
    #ifdef __SSE2__
        if (n >= 16) {
            /* The last sixteen bytes, of which some may come again. */
            __m128i all = of_alphabet(p + n - 16);
            for (Py_ssize_t i = 0; i < n - 16; i += 16)
                all = _mm_and_si128(all, of_alphabet(p + i));
            return _mm_movemask_epi8(all) == 0xFFFF;
        }
    #endif
        unsigned char bad = 0;
        /* With neither an early exit nor a table, the compiler turns this loop into vector instructions. */
        for (Py_ssize_t i = 0; i < n; i++) {
            unsigned char c = p[i];
            bad |= !(((unsigned char)((c | 0x20) - 'a') < 26) | ((unsigned char)(c - '0') < 10) | (c == '+') | (c == '/'));
        }
        return bad == 0;
    }
    """
    bint is_of_alphabet(const unsigned char* p, Py_ssize_t n) noexcept nogil


cdef bint is_base64_c(const unsigned char* p, Py_ssize_t n) noexcept nogil:
    if n % 4 != 0:
        return False
    if n > 0 and p[n - 1] == c"=":
        n -= 2 if p[n - 2] == c"=" else 1
    return is_of_alphabet(p, n)


def is_base64(bytes text not None):
    """
    Return whether a text is base64 with the standard alphabet, whole groups of four and no excess padding.

    Source: RFC 4648, section 4; bits left over before the padding are ignored.
    """
    return is_base64_c(<const unsigned char*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef Py_ssize_t encode_c(const char* data, Py_ssize_t n, char* out) noexcept nogil:
    cdef const uint8_t* p = <const uint8_t*>data
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t o = 0
    cdef uint32_t three
    while i + 3 <= n:
        three = (<uint32_t>p[i] << 16) | (<uint32_t>p[i + 1] << 8) | p[i + 2]
        out[o] = ALPHABET[three >> 18]
        out[o + 1] = ALPHABET[(three >> 12) & 63]
        out[o + 2] = ALPHABET[(three >> 6) & 63]
        out[o + 3] = ALPHABET[three & 63]
        i += 3
        o += 4
    if i < n:
        three = <uint32_t>p[i] << 16
        if i + 1 < n:
            three |= <uint32_t>p[i + 1] << 8
        out[o] = ALPHABET[three >> 18]
        out[o + 1] = ALPHABET[(three >> 12) & 63]
        out[o + 2] = ALPHABET[(three >> 6) & 63] if i + 1 < n else c"="
        out[o + 3] = c"="
        o += 4
    return o


cdef Py_ssize_t decode_c(const char* text, Py_ssize_t n, char* out) noexcept nogil:
    cdef const uint8_t* p = <const uint8_t*>text
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t o = 0
    cdef uint32_t three
    # An incomplete last group is not read.
    while i + 4 <= n:
        three = (
            (<uint32_t>VALUES[p[i]] << 18)
            | (<uint32_t>VALUES[p[i + 1]] << 12)
            | (<uint32_t>VALUES[p[i + 2]] << 6)
            | VALUES[p[i + 3]]
        )
        out[o] = <char>(three >> 16)
        out[o + 1] = <char>((three >> 8) & 0xFF)
        out[o + 2] = <char>(three & 0xFF)
        i += 4
        o += 3
    return decoded_bytes_c(text, i)


def decoded_bytes(bytes payload not None):
    """Return the decoded length of valid base64 text."""
    return decoded_bytes_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))


def encode(bytes data not None):
    """Return the base64 text of some bytes."""
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    cdef bytes text = PyBytes_FromStringAndSize(NULL, encoded_bytes(n))
    encode_c(PyBytes_AS_STRING(data), n, PyBytes_AS_STRING(text))
    return text


def decode(bytes text not None):
    """
    Decode a base64 text.

    Raises:
        ValueError: If the text is not valid base64.
    """
    cdef Py_ssize_t n = PyBytes_GET_SIZE(text)
    if not is_base64_c(<const unsigned char*>PyBytes_AS_STRING(text), n):
        raise ValueError("text is not base64")
    cdef bytes room = PyBytes_FromStringAndSize(NULL, n // 4 * 3)
    n = decode_c(PyBytes_AS_STRING(text), n, PyBytes_AS_STRING(room))
    return room[:n]
