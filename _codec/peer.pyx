"""
Looks at the peer of a socket: whether it lives, and how many messages it may send.

A look at a peer that does well touches no Python object but this one: with a thousand sockets, the lines of memory that
each look loads would cost more than the work. It has the failures of `SocketReader.read_by`.
"""

cimport cython
from libc.math cimport lround

from _codec.socket_reader cimport SocketReader
from _codec.socket_set cimport SocketSet

# Looks come twice a second. After a longer pause the whole process stood still: it was not the peers that were silent.
cdef double STOOD_STILL_S = 2.0


@cython.auto_pickle(False)
cdef class Peer(SocketReader):
    """
    One side's peer; subclasses count what it sends.

    Args:
        messages_per_s: Messages that are not plain audio which the peer may send in a second.
        now: The owner's time, in seconds.

    Attributes:
        heard_at: When a look found that the peer had sent something; the owner may set it.
        settled_until: Until when the owner has nothing to do while the peer is well; set by the owner.
    """

    # Cython passes a subclass's arguments too: ``**_`` takes those.
    def __cinit__(self, owner, *, Py_ssize_t messages_per_s, double now=0, **_):
        self.messages_per_s = self.messages_left = messages_per_s
        self.looked_at = self.heard_at = now

    def look(self, double now, SocketSet socket_set not None):
        """
        See how the peer does; the owner calls it a few times a second.

        What the peer has sent since the last look is a sign of life. The time since then allows it further messages.
        ``socket_set`` reads the socket from now on, as `read_by` has it.

        Returns:
            Whether the owner has something to do: ``settled_until`` is over, the peer is quiet, does not read or is
            not read, or the process stood still.
        """
        cdef double elapsed_s = now - self.looked_at
        # A caller's pings are no sign: its media must come.
        cdef unsigned long long sent = self.ws_frames_in if self.is_client else self.messages_in
        cdef bint is_quiet = sent == self.heard
        self.looked_at = now
        self.messages_left = min(
            self.messages_per_s, self.messages_left + <Py_ssize_t>lround(elapsed_s * <double>self.messages_per_s)
        )
        self.stood_still_s = 0
        if elapsed_s > STOOD_STILL_S:
            # What the peer sent meanwhile is in its socket, and was not read.
            self.stood_still_s = elapsed_s
            self.heard_at += elapsed_s
        if not is_quiet:
            self.heard = sent
            self.heard_at = now
        self.read_by(socket_set)
        return (
            is_quiet
            or now >= self.settled_until
            or self.is_congested
            or self.pauses != 0
            or self.stood_still_s > 0
        )

    cdef bint has_begun(self) noexcept:
        return self.ws_frames_in > 0
