# Scans the strings of a JSON text: escapes (RFC 8259, section 7) and UTF-8 (RFC 3629, section 4). The functions cannot
# fail; each checks the bound before it reads a byte.


cdef extern from *:
    """
    #ifdef __SSE2__
    #include <emmintrin.h>
    #endif
    /* The index of the first byte from i on that is not printable ASCII, or is a quote or a backslash; n if none is. */
    static inline Py_ssize_t plain_end(const unsigned char *p, Py_ssize_t n, Py_ssize_t i)
    {
    #ifdef __SSE2__
        while (n - i >= 16) {
            __m128i text = _mm_loadu_si128((const __m128i *)(p + i));
            __m128i ends = _mm_or_si128(_mm_cmpeq_epi8(text, _mm_set1_epi8('"')),
                                        _mm_cmpeq_epi8(text, _mm_set1_epi8('\\\\')));
            /* As signed bytes, those beyond ASCII are below a space too. */
            ends = _mm_or_si128(ends, _mm_cmplt_epi8(text, _mm_set1_epi8(' ')));
            ends = _mm_or_si128(ends, _mm_cmpeq_epi8(text, _mm_set1_epi8(0x7F)));
            int found = _mm_movemask_epi8(ends);
            if (found)
                return i + __builtin_ctz((unsigned)found);
            i += 16;
        }
    #endif
        while (i < n && p[i] >= ' ' && p[i] < 0x7F && p[i] != '"' && p[i] != '\\\\')
            i++;
        return i;
    }
    """
    Py_ssize_t plain_end(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil


cdef inline bint is_hex(unsigned char c) noexcept nogil:
    return c"0" <= c <= c"9" or c"a" <= (c | 0x20) <= c"f"


cdef inline Py_ssize_t after_escape(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """
    Return the index after the escape whose backslash is at i; -1 if it is no escape, or half of a surrogate pair.

    Parsers differ about a lone half of a pair, so a full parser reads messages with one.
    """
    cdef unsigned char c
    if n - i < 2:
        return -1
    c = p[i + 1]
    if c == c"\"" or c == c"\\" or c == c"/" or c == c"b" or c == c"f" or c == c"n" or c == c"r" or c == c"t":
        return i + 2
    if c != c"u" or n - i < 6:
        return -1
    if not (is_hex(p[i + 2]) and is_hex(p[i + 3]) and is_hex(p[i + 4]) and is_hex(p[i + 5])):
        return -1
    if (p[i + 2] | 0x20) == c"d" and p[i + 3] >= c"8":
        return -1
    return i + 6


cdef inline Py_ssize_t after_character(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """Return the index after the character beyond ASCII that starts at i, which is below n; -1 if it is not UTF-8."""
    cdef unsigned char lead = p[i]
    # The range of the second byte, which shuts out long forms, surrogates and what is beyond U+10FFFF.
    cdef unsigned char low = 0x80
    cdef unsigned char high = 0xBF
    cdef Py_ssize_t length, k
    if 0xC2 <= lead <= 0xDF:
        length = 2
    elif 0xE0 <= lead <= 0xEF:
        length = 3
        if lead == 0xE0:
            low = 0xA0
        elif lead == 0xED:
            high = 0x9F
    elif 0xF0 <= lead <= 0xF4:
        length = 4
        if lead == 0xF0:
            low = 0x90
        elif lead == 0xF4:
            high = 0x8F
    else:
        return -1
    if n - i < length or not low <= p[i + 1] <= high:
        return -1
    for k in range(2, length):
        if p[i + k] & 0xC0 != 0x80:
            return -1
    return i + length


cdef inline Py_ssize_t any_string_end(const unsigned char* p, Py_ssize_t n, Py_ssize_t i) noexcept nogil:
    """
    Return the index of the quote that ends the string whose text starts at i.

    -1 if the string has no end, is not valid JSON, or contains DEL or half of a surrogate pair.
    """
    while i >= 0:
        i = plain_end(p, n, i)
        if i >= n:
            return -1
        if p[i] == c"\"":
            return i
        if p[i] == c"\\":
            i = after_escape(p, n, i)
        else:
            i = after_character(p, n, i)
    return -1
