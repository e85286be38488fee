cdef class Scratch:
    # The memory, and how much of it there is; changed by `room`.
    cdef char* data
    cdef Py_ssize_t size

    # Return room for n bytes, which hold until the next call.
    cdef char* room(self, Py_ssize_t n) except NULL
