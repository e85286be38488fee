cdef class HeldBudget:
    # Bound on the bytes held; set once.
    cdef readonly Py_ssize_t limit_bytes
    # Bytes held by all sockets; changed by those who hold them.
    cdef readonly Py_ssize_t used_bytes
    # The wires whose audio waits; each enters itself and leaves.
    cdef set behind
