from cpython.mem cimport PyMem_Calloc

cdef enum:
    MAX_PATHS = 8
    MAX_FIELDS = 16


cdef struct Field:
    # Small, because every search reads all fields.
    const char* key
    const char* value
    int value_bytes
    short key_bytes
    signed char scope
    signed char kind


cdef class SpanFinder:
    # The keys of the shape, each with the value required there; MAX_FIELDS of them, added by `append`. Finders that
    # `with_value` has made share those of the first one: a call's own finder is rarely in the processor's caches.
    cdef Field* fields
    # The number of fields in use; counted by `append`.
    cdef int field_count
    # Bit i is set if field i must be present; set by `append`.
    cdef unsigned int required
    # The field for which another value is required here, -1 without one, and the value; set by `with_value`.
    cdef int own_index
    cdef int own_bytes
    cdef const char* own_value
    # Whether the fields are this finder's; else they are those of the finder in ``texts``.
    cdef bint owns_fields
    # Keeps alive what the fields and ``own_value`` point to; grows with the fields.
    cdef list texts

    # Return whether the message has the shape, with the payload at p[start[0]:end[0]].
    cdef bint find_c(self, const char* p, Py_ssize_t n, Py_ssize_t* start, Py_ssize_t* end) noexcept nogil
    cdef int add(self, object path, int kind, bytes value) except -1
    cdef int field_of(self, bytes key, int scope) except -2
    cdef inline int make_fields(self) except -1:
        self.fields = <Field*>PyMem_Calloc(MAX_FIELDS, sizeof(Field))
        if self.fields == NULL:
            raise MemoryError("no memory for a finder")
        self.owns_fields = True
        return 0
    cdef int index_at(self, object path) except -1
    cdef int append(self, bytes key, int scope, int kind, bytes value) except -1
    cdef int lookup(self, int scope, const unsigned char* key, Py_ssize_t n) noexcept nogil
    cdef Py_ssize_t after_key(
        self, const unsigned char* p, Py_ssize_t n, Py_ssize_t i, int scope, int* index, unsigned int* seen
    ) noexcept nogil


cdef class Envelope:
    # The text before and after the payload; set once.
    cdef bytes prefix
    cdef bytes suffix
