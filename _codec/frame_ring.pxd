cdef class FrameRing:
    cdef char* arena
    cdef Py_ssize_t arena_bytes
    cdef Py_ssize_t head
    cdef Py_ssize_t used
    cdef Py_ssize_t entries
    cdef Py_ssize_t samples
    cdef readonly int capacity_ms
    cdef readonly long long dropped_frames

    # Queue n bytes at p; return how many payloads were dropped for it.
    cdef int push_c(self, const char* p, Py_ssize_t n) except -1
    # Return the length of the oldest payload, -1 if there is none.
    cdef Py_ssize_t peek_c(self) noexcept nogil
    # Remove the oldest payload and copy it to out, which has room for peek_c() bytes; NULL discards it.
    # Only after peek_c() has returned 0 or more.
    cdef void pop_c(self, char* out) noexcept nogil
    cdef int reserve(self, Py_ssize_t wanted) except -1
    cdef void read_at(self, Py_ssize_t offset, char* out, Py_ssize_t n) noexcept nogil
    cdef void append(self, const char* p, Py_ssize_t n) noexcept nogil
    cdef Py_ssize_t front_samples(self, Py_ssize_t n) noexcept nogil
    cdef void release(self) noexcept nogil
