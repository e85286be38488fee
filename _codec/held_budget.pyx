"""The bytes that the sockets of a process hold together. Nothing here can fail but the constructor."""

cimport cython


@cython.final
@cython.auto_pickle(False)
cdef class HeldBudget:
    """
    One budget for audio that waits and for messages that are incomplete, over all sockets of a process.

    It only counts. `Wire` and `WebSocket` check the limit: the first pauses an agent, the second refuses a message.

    Raises:
        ValueError: If ``limit_bytes`` is below 1.
    """

    def __cinit__(self, Py_ssize_t limit_bytes):
        if limit_bytes < 1:
            raise ValueError(f"limit_bytes must be at least 1, got {limit_bytes}")
        self.limit_bytes = limit_bytes
        self.behind = set()
