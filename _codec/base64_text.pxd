# Write the base64 text of n bytes to out, which has room for encoded_bytes(n); return how long it is.
cdef Py_ssize_t encode_c(const char* data, Py_ssize_t n, char* out) noexcept nogil
# Write what n characters of valid base64 text stand for to out, which has room for n // 4 * 3; return how long it is.
cdef Py_ssize_t decode_c(const char* text, Py_ssize_t n, char* out) noexcept nogil


cdef inline Py_ssize_t encoded_bytes(Py_ssize_t n) noexcept nogil:
    """The length of the base64 text of n bytes."""
    return (n + 2) // 3 * 4


cdef inline Py_ssize_t decoded_bytes(const char* text, Py_ssize_t n) noexcept nogil:
    """The length of valid base64 text once decoded."""
    if n == 0:
        return 0
    return n // 4 * 3 - (text[n - 1] == c"=") - (text[n - 2] == c"=")
