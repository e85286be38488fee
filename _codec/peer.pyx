"""Counts what the peer of a socket sends, and how many messages it may send. Nothing here fails."""

cimport cython

from _codec.socket_reader cimport SocketReader


@cython.auto_pickle(False)
cdef class Peer(SocketReader):
    """
    One side's peer; subclasses count what it sends.

    Args:
        messages_per_s: Messages that are not plain audio which the peer may send until `renew`, and at most at once.
    """

    # Cython passes a subclass's arguments too: ``**_`` takes those.
    def __cinit__(self, owner, *, Py_ssize_t messages_per_s, **_):
        self.messages_left = messages_per_s

    def renew(self, Py_ssize_t messages, Py_ssize_t most):
        """Allow the peer some more messages that are not plain audio, ``most`` of them at once."""
        self.messages_left = min(most, self.messages_left + messages)

    cdef bint has_begun(self) noexcept:
        return self.ws_frames_in > 0
