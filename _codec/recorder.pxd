from _codec.call_audio cimport AudioTap


cdef struct Block:
    char* data
    Py_ssize_t used
    Py_ssize_t room


cdef class Recorder(AudioTap):
    cdef:
        # The clock at position 0.
        double zero_s
        Py_ssize_t most_bytes
        # The caller's audio since the last `take`.
        Block caller
        # All of the caller's audio so far.
        Py_ssize_t caller_bytes
        # How far that lags behind its arrival, at the least since the last `take`; NOTHING without audio.
        Py_ssize_t least_late
        # The agent's audio since the last `take`, in runs: a head of two numbers, position and length, and the audio.
        Block agent
        # Where in ``agent`` the head of the last run is; -1 without one.
        Py_ssize_t last_run
        # Where the agent's audio ends.
        Py_ssize_t agent_end
        # Audio was refused, because too much waits or the recording is over.
        readonly bint is_full

    cdef Py_ssize_t position_of(self, double at) noexcept
    cdef void add_caller_c(self, const char* text, Py_ssize_t n, Py_ssize_t position) noexcept
    cdef void add_agent_c(self, const char* text, Py_ssize_t n, Py_ssize_t position) noexcept
    cdef bint begin_run(self, Py_ssize_t position) noexcept
    cdef char* make_room(self, Block* block, Py_ssize_t n) noexcept
    cdef void give_back(self, Block* block) noexcept
