# Assembles a message in a buffer. The functions cannot fail; the caller provides the room.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcpy


cdef inline Py_ssize_t put(char* out, Py_ssize_t used, bytes text) noexcept:
    """Add a text to ``out``, of which ``used`` bytes are used; return how many are then."""
    memcpy(out + used, PyBytes_AS_STRING(text), <size_t>PyBytes_GET_SIZE(text))
    return used + PyBytes_GET_SIZE(text)


cdef inline Py_ssize_t put_number(char* out, Py_ssize_t used, unsigned long long number) noexcept:
    """Add a number in decimal digits, 20 at most."""
    cdef char digits[20]
    cdef int first = 20
    while True:
        first -= 1
        digits[first] = <char>(c"0" + number % 10)
        number //= 10
        if number == 0:
            break
    memcpy(out + used, digits + first, <size_t>(20 - first))
    return used + 20 - first
