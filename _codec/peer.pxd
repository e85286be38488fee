from _codec.socket_reader cimport SocketReader

cdef class Peer(SocketReader):
    cdef:
        # Whole frames received, control frames too; counted by the subclass.
        readonly unsigned long long ws_frames_in
        # Whole messages received; counted by the subclass.
        readonly unsigned long long messages_in

        # Messages that are not plain audio which the peer may send in a second; set once.
        Py_ssize_t messages_per_s
        # How many it may send now; counted by the subclass, raised by `look`.
        readonly Py_ssize_t messages_left

        # When the owner looked last, and how long that was after the look before it if the process stood still
        # meanwhile, else 0; set by `look`.
        double looked_at
        readonly double stood_still_s
        # When a look found that the peer had sent something; set by `look`, and by the owner.
        public double heard_at
        # How much it had sent then.
        unsigned long long heard
        # Until when the owner has nothing to do while the peer is well; set by the owner, 0 at first.
        public double settled_until
