cdef enum:
    MAX_PATHS = 8
    MAX_FIELDS = 16


cdef struct Field:
    # Small, for a message reads them all: a finder of its own for each call is not in the processor's caches.
    const char* key
    const char* value
    int value_bytes
    short key_bytes
    signed char scope
    signed char kind


cdef class SpanFinder:
    cdef Field fields[MAX_FIELDS]
    cdef int field_count
    cdef unsigned int required
    # Keeps alive what the fields point to.
    cdef list texts

    # Return whether the message has the shape, with the payload at p[start[0]:end[0]].
    cdef bint find_c(self, const char* p, Py_ssize_t n, Py_ssize_t* start, Py_ssize_t* end) noexcept nogil
    cdef int add(self, object path, int kind, bytes value) except -1
    cdef int field_of(self, bytes key, int scope) except -2
    cdef Field* field_at(self, object path) except NULL
    cdef int append(self, bytes key, int scope, int kind, bytes value) except -1
    cdef int lookup(self, int scope, const unsigned char* key, Py_ssize_t n) noexcept nogil
    cdef Py_ssize_t after_key(
        self, const unsigned char* p, Py_ssize_t n, Py_ssize_t i, int scope, int* index, unsigned int* seen
    ) noexcept nogil


cdef class Envelope:
    cdef bytes prefix
    cdef bytes suffix
