from _codec.socket_reader cimport SocketReader

cdef class Peer(SocketReader):
    cdef:
        # Whole frames received, control frames too; counted by the subclass.
        readonly unsigned long long ws_frames_in
        # Whole messages received; counted by the subclass.
        readonly unsigned long long messages_in

        # Messages that are not plain audio which the peer may send; counted by the subclass, raised by `renew`.
        readonly Py_ssize_t messages_left
