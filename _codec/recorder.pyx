"""
Collects the audio of one call for its recording: what the caller says, and what he hears.

Both are placed on one time line, whose positions are bytes of mu-law of 8 kHz. The agent's audio has the time at which
the caller hears it. The caller's follows without a gap; how late all of it is tells where a gap was.

Nothing on the way of a frame fails: what finds no room is refused, and ``is_full`` says so.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawRealloc
from cpython.time cimport monotonic
from libc.math cimport lround
from libc.string cimport memcpy

from _codec.base64_text cimport decode_c
from _codec.call_audio cimport CALLER, AudioTap

cdef enum:
    BYTES_PER_S = 8000
    HEAD_BYTES = 2 * sizeof(Py_ssize_t)
    # A gap of less than a millisecond is the rounding of times.
    ROUNDING_BYTES = 8
    # Half a second of both sides.
    FIRST_ROOM_BYTES = 8192

cdef Py_ssize_t NOTHING = 0x7FFF_FFFF_FFFF_FFFF


@cython.final
@cython.auto_pickle(False)
cdef class Recorder(AudioTap):
    """
    Args:
        zero_s: The time of position 0, by `time.monotonic`.
        most_bytes: The most audio of a side that waits for `take`.
    """

    def __cinit__(self, double zero_s, Py_ssize_t most_bytes):
        self.zero_s = zero_s
        self.most_bytes = most_bytes
        self.least_late = NOTHING
        self.last_run = -1

    def __dealloc__(self):
        PyMem_RawFree(self.caller.data)
        PyMem_RawFree(self.agent.data)

    @property
    def position(self):
        """The present moment."""
        return self.position_of(monotonic())

    def add_caller(self, bytes payload not None, Py_ssize_t position):
        """Add a frame of the caller that arrives at this position."""
        self.add_caller_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), position)

    def close(self):
        """Refuse all further audio."""
        self.is_full = True

    def take(self):
        """
        Return what came since the last call.

        Returns:
            The caller's audio; by how much it lags behind its arrival at the least, None without audio; and the agent's
            runs: a position, and what plays from there on in place of all audio before it that would play later.
        """
        cdef bytes caller = PyBytes_FromStringAndSize(self.caller.data, self.caller.used)
        cdef object late = self.least_late if self.least_late != NOTHING else None
        cdef list runs = []
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t[2] head
        while at < self.agent.used:
            memcpy(head, self.agent.data + at, HEAD_BYTES)
            at += HEAD_BYTES
            runs.append((head[0], PyBytes_FromStringAndSize(self.agent.data + at, head[1])))
            at += head[1]
        self.caller.used = self.agent.used = 0
        self.least_late = NOTHING
        self.last_run = -1
        self.give_back(&self.caller)
        self.give_back(&self.agent)
        return caller, late, runs

    cdef void take_c(self, int side, const char* text, Py_ssize_t n, double at) noexcept:
        if side == CALLER:
            self.add_caller_c(text, n, self.position_of(monotonic()))
        else:
            self.add_agent_c(text, n, self.position_of(at))

    cdef void cut_c(self, double at) noexcept:
        self.begin_run(self.position_of(at))

    cdef Py_ssize_t position_of(self, double at) noexcept:
        return lround((at - self.zero_s) * BYTES_PER_S)

    cdef void add_caller_c(self, const char* text, Py_ssize_t n, Py_ssize_t position) noexcept:
        cdef char* room = self.make_room(&self.caller, n)
        cdef Py_ssize_t late = position - self.caller_bytes
        if room == NULL:
            return
        n = decode_c(text, n, room)
        self.caller.used += n
        self.caller_bytes += n
        if n > 0 and late < self.least_late:
            self.least_late = late

    cdef void add_agent_c(self, const char* text, Py_ssize_t n, Py_ssize_t position) noexcept:
        cdef char* room
        cdef Py_ssize_t[2] head
        if position > self.agent_end + ROUNDING_BYTES:
            if not self.begin_run(position):
                return
        elif self.last_run < 0 and not self.begin_run(self.agent_end):
            return
        room = self.make_room(&self.agent, n)
        if room == NULL:
            return
        n = decode_c(text, n, room)
        self.agent.used += n
        self.agent_end += n
        memcpy(head, self.agent.data + self.last_run, HEAD_BYTES)
        head[1] += n
        memcpy(self.agent.data + self.last_run, head, HEAD_BYTES)

    cdef bint begin_run(self, Py_ssize_t position) noexcept:
        cdef Py_ssize_t[2] head
        cdef char* room = self.make_room(&self.agent, HEAD_BYTES)
        if room == NULL:
            return False
        head[0] = position
        head[1] = 0
        memcpy(room, head, HEAD_BYTES)
        self.last_run = self.agent.used
        self.agent.used += HEAD_BYTES
        self.agent_end = position
        return True

    cdef char* make_room(self, Block* block, Py_ssize_t n) noexcept:
        """Make room for n bytes at the end of a block; NULL where there is none."""
        cdef Py_ssize_t wanted = block.used + n
        cdef Py_ssize_t room = max(block.room, <Py_ssize_t>FIRST_ROOM_BYTES)
        cdef char* data
        if self.is_full or wanted > self.most_bytes:
            self.is_full = True
            return NULL
        if wanted > block.room:
            while room < wanted:
                room *= 2
            data = <char*>PyMem_RawRealloc(block.data, <size_t>room)
            if data == NULL:
                self.is_full = True
                return NULL
            block.data = data
            block.room = room
        return block.data + block.used

    cdef void give_back(self, Block* block) noexcept:
        """Free a block that is larger than usual."""
        if block.room > FIRST_ROOM_BYTES:
            PyMem_RawFree(block.data)
            block.data = NULL
            block.room = 0
