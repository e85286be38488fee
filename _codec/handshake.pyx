"""
Hands a WebSocket from picows' handshake to its wire.

An exception of ``on_open`` goes to picows, which logs or keeps it and closes the connection. A breach of the protocol
that picows finds before the wire reads is reported to the wire, with the code that picows sent. Bytes are copied from
picows' buffer by the sizes that it gives; this module parses nothing.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from picows.picows cimport WSFrame, WSListener, WSTransport

from _codec.wire cimport Wire


@cython.auto_pickle(False)
@cython.final
cdef class Handshake(WSListener):
    """
    A picows listener that hands its connection to a `Wire` when the handshake is done.

    A server's connection is handed over at once. A client's wire writes at once and reads from the first frame on,
    because picows shows the bytes behind the handshake only with that frame.

    Args:
        wire: Takes the connection over.
        on_open: Called with the transport, when the wire can write.
    """

    # Takes the connection over; set once.
    cdef Wire wire
    # Called when the wire can write; set once.
    cdef object on_open
    # The wire reads by itself, or the connection is lost: picows' events are ignored. Never cleared.
    cdef bint is_over

    def __init__(self, Wire wire not None, on_open):
        self.wire = wire
        self.on_open = on_open

    cpdef on_ws_connected(self, WSTransport transport):
        # picows keeps an error in this future, and asyncio logs an exception that is never retrieved.
        transport.disconnected_future.add_done_callback(_retrieve)
        self.wire.open(transport.underlying_transport)
        if not transport.is_client_side:
            self.is_over = True
            transport.underlying_transport.set_protocol(self.wire)
        self.on_open(transport.underlying_transport)

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        if self.is_over:
            # picows still delivers frames of its own buffer, whose bytes the wire already has.
            return
        self.is_over = True
        transport.underlying_transport.set_protocol(self.wire)
        # picows may still find an error in its buffer; only the wire sends a close frame.
        transport.is_close_frame_sent = True
        # A server's frame is not masked, so picows' buffer holds it and all bytes behind it unchanged.
        self.wire.feed(
            head_of(frame) + PyBytes_FromStringAndSize(frame.payload_ptr, frame.payload_size + frame.tail_size)
        )

    cpdef on_ws_disconnected(self, WSTransport transport):
        if self.is_over:
            return
        self.is_over = True
        if transport.close_handshake is not None and transport.close_handshake.sent is not None:
            self.wire.on_broken(transport.close_handshake.sent.code)
        self.wire.connection_lost(None)

    cpdef pause_writing(self):
        self.wire.pause_writing()

    cpdef resume_writing(self):
        self.wire.resume_writing()


def _retrieve(future):
    """Mark a future's exception as retrieved, if it has one."""
    if not future.cancelled():
        future.exception()


cdef bytes head_of(WSFrame frame):
    """Return the frame's header as the server sent it (RFC 6455 5.2)."""
    cdef int first = (
        frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4 | <int>frame.msg_type
    )
    if frame.payload_size < 126:
        return bytes((first, frame.payload_size))
    if frame.payload_size < 65536:
        return bytes((first, 126)) + frame.payload_size.to_bytes(2, "big")
    return bytes((first, 127)) + frame.payload_size.to_bytes(8, "big")
