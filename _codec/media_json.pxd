cdef enum:
    MAX_PATHS = 8
    MAX_FIELDS = 16


cdef struct Field:
    # Small, because every search reads all fields and a call's finder is rarely in the processor's caches.
    const char* key
    const char* value
    int value_bytes
    short key_bytes
    signed char scope
    signed char kind


cdef class SpanFinder:
    # The keys of the shape, each with the value required there; added by `append`, changed only in a copy by
    # `with_value`.
    cdef Field fields[MAX_FIELDS]
    # The number of fields in use; counted by `append`.
    cdef int field_count
    # Bit i is set if field i must be present; set by `append`.
    cdef unsigned int required
    # Keeps alive the keys and values to which the fields point; grows with the fields.
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
    # The text before and after the payload; set once.
    cdef bytes prefix
    cdef bytes suffix
