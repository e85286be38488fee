# Return whether n characters are base64; reads only these.
cdef bint is_base64_c(const unsigned char* p, Py_ssize_t n) noexcept nogil
# Write the base64 text of n bytes to out, which has room for encoded_bytes(n); return its length.
cdef Py_ssize_t encode_c(const char* data, Py_ssize_t n, char* out) noexcept nogil
# Write the bytes of n characters of valid base64 text to out, which has room for n // 4 * 3; return their number.
cdef Py_ssize_t decode_c(const char* text, Py_ssize_t n, char* out) noexcept nogil


cdef inline Py_ssize_t encoded_bytes(Py_ssize_t n) noexcept nogil:
    """The length of the base64 text of n bytes."""
    return (n + 2) // 3 * 4


cdef inline Py_ssize_t decoded_bytes_of(Py_ssize_t n, char last, char last_but_one) noexcept nogil:
    """The decoded length of base64 text of n characters with this end; at least 0 for any other text."""
    cdef Py_ssize_t padding = 0
    if n > 0 and last == c"=":
        padding = 2 if n > 1 and last_but_one == c"=" else 1
    return max(<Py_ssize_t>0, <Py_ssize_t>(<size_t>n // 4 * 3 + <size_t>n % 4 * 3 // 4) - padding)


cdef inline Py_ssize_t decoded_bytes_c(const char* text, Py_ssize_t n) noexcept nogil:
    """The decoded length of base64 text; reads at most its last two characters."""
    return decoded_bytes_of(n, text[n - 1] if n > 0 else 0, text[n - 2] if n > 1 else 0)
