# The parts of RFC 6455 that need no state: opcodes, masks, frame headers, close codes. Nothing here can fail; the
# caller gives room and bounds.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

cdef enum:
    # Two bytes, a 64-bit length, a mask.
    HEADER_MAX_BYTES = 14
    # Stands for a close frame without a code (7.1.5).
    NO_STATUS = 1005

cdef enum:
    # What `payload_bytes` returns in place of a length.
    UNKNOWN_LENGTH = -1
    WRONG_LENGTH = -2


cdef inline void apply_mask(char* data, Py_ssize_t n, uint32_t mask) noexcept nogil:
    """XOR n bytes in place with the mask, whose first byte in memory comes first (5.3)."""
    cdef uint64_t wide = (<uint64_t>mask << 32) | mask
    cdef uint64_t word
    cdef Py_ssize_t i = 0
    cdef const uint8_t* m = <const uint8_t*>&mask
    while i + 8 <= n:
        memcpy(&word, data + i, 8)
        word ^= wide
        memcpy(data + i, &word, 8)
        i += 8
    while i < n:
        data[i] = <char>(<uint8_t>data[i] ^ m[i & 3])
        i += 1


cdef inline Py_ssize_t put_header(char* out, int opcode, Py_ssize_t n) noexcept nogil:
    """Write the header of a whole frame of n bytes, without the mask, to out; return its length (5.2)."""
    cdef int shift
    out[0] = <char>(0x80 | opcode)
    if n < 126:
        out[1] = <char>n
        return 2
    if n < 65536:
        out[1] = 126
        out[2] = <char>(n >> 8)
        out[3] = <char>(n & 0xFF)
        return 4
    out[1] = 127
    for shift in range(8):
        out[2 + shift] = <char>((<uint64_t>n >> (56 - 8 * shift)) & 0xFF)
    return 10


cdef inline bint may_close_with(int code) noexcept nogil:
    """Whether a peer may send this code (7.4, and IANA's register for 1012 to 1014)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef inline const char* fault_in(const uint8_t* p, bint is_from_client) noexcept nogil:
    """Return what is wrong with a frame by its first two bytes, NULL if nothing is (5.2, 5.5)."""
    cdef int opcode = p[0] & 0x0F
    cdef bint is_masked = p[1] & 0x80 != 0
    if p[0] & 0x70:
        return "reserved bits set"
    if (CONTINUATION <= opcode <= BINARY) == (CLOSE <= opcode <= PONG):
        return "reserved opcode"
    if is_masked != is_from_client:
        return "masked frame from a server" if is_masked else "unmasked frame from a client"
    if opcode >= CLOSE and (p[1] & 0x7F > 125 or not p[0] & 0x80):
        return "control frame too long or in fragments"
    return NULL


cdef inline int64_t payload_bytes(const uint8_t* p, Py_ssize_t n, Py_ssize_t* header) noexcept nogil:
    """
    Return the length of a frame's payload; ``header`` is the length of what stands before it, without the mask.

    UNKNOWN_LENGTH while n bytes, of which there are two at least, do not tell it; WRONG_LENGTH if its form is not the
    shortest or its highest bit is set.
    """
    cdef uint64_t length = p[1] & 0x7F
    cdef int i
    header[0] = 2
    if length == 126:
        if n < 4:
            return UNKNOWN_LENGTH
        header[0] = 4
        length = (<uint64_t>p[2] << 8) | p[3]
        return WRONG_LENGTH if length < 126 else <int64_t>length
    if length == 127:
        if n < 10:
            return UNKNOWN_LENGTH
        header[0] = 10
        length = 0
        for i in range(8):
            length = (length << 8) | p[2 + i]
        return WRONG_LENGTH if length < 65536 or length >> 63 else <int64_t>length
    return <int64_t>length
