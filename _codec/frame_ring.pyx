"""
A bounded queue of base64 payloads and of the items between them, in one block of memory that exists only while payloads
wait.

A capacity out of range raises ValueError, lack of memory MemoryError. A full queue does not fail: it discards payloads
and returns their number. ``push`` takes any bytes and does not check that they are base64. The bounds on time and
number keep the block small. The copies in and out wrap at the block's end; only ``reserve`` checks for room, and it
runs before the copies in.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from _codec.base64_text cimport decoded_bytes_c, decoded_bytes_of
from _codec.held_budget cimport HeldBudget

from collections import deque

cdef enum:
    SAMPLES_PER_MS = 8
    LENGTH_BYTES = sizeof(uint32_t)
    FIRST_ARENA_BYTES = 1024
    # Marks and keys: a mark for each frame of two minutes.
    MAX_ITEMS = 8192

# A day. The bound also keeps the size of the block far below the limit of a 32-bit length.
MAX_CAPACITY_MS = 24 * 3600 * 1000


@cython.final
@cython.auto_pickle(False)
cdef class FrameRing:
    """
    A first-in, first-out queue of base64 payloads of 8 kHz mu-law, bounded by their duration.

    A payload's duration follows from its decoded length. A payload that does not fit displaces the oldest ones; a
    payload longer than the capacity is dropped itself. The queue holds at most ``capacity_ms`` payloads, which also
    bounds the number of empty ones. ``budget``, if given, counts the block's bytes.

    An item keeps its place among the payloads, and stays when those before it are dropped or cleared.

    Raises:
        ValueError: If ``capacity_ms`` is below 1 or above a day.
    """

    def __cinit__(self, capacity_ms, HeldBudget budget=None):
        if not 1 <= capacity_ms <= MAX_CAPACITY_MS:
            raise ValueError(f"capacity_ms must be from 1 to {MAX_CAPACITY_MS}, got {capacity_ms}")
        self.capacity_ms = capacity_ms
        self.budget = budget

    def __dealloc__(self):
        self.release()

    def push(self, bytes payload not None):
        """
        Queue a payload.

        Returns:
            The number of payloads dropped for it.

        Raises:
            MemoryError: If the block cannot grow. The queue keeps its payloads, except those dropped to make room.
        """
        return self.push_c(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))

    def pop(self):
        """Remove and return the oldest payload, None if there is none."""
        cdef Py_ssize_t n = self.peek_c()
        cdef bytes payload
        if n < 0:
            return None
        payload = PyBytes_FromStringAndSize(NULL, n)
        self.pop_c(PyBytes_AS_STRING(payload))
        return payload

    def clear(self):
        """Remove all payloads and return how many there were."""
        cdef Py_ssize_t removed = self.entries
        self.release()
        return removed

    def __len__(self):
        return self.entries

    def push_item(self, item):
        """Queue an item behind all payloads; returns False if 8192 wait already."""
        if self.item_count == MAX_ITEMS:
            return False
        if self.items is None:
            self.items = deque()
        self.items.append((self.pushed, item))
        self.item_count += 1
        return True

    def pop_item(self):
        """Remove and return the oldest item if no payload stands before it, otherwise None."""
        if not self.is_item_next():
            return None
        self.item_count -= 1
        return self.items.popleft()[1]

    def clear_items(self):
        """Remove all items."""
        self.items = None
        self.item_count = 0

    cdef bint is_item_next(self) except -1:
        return self.item_count > 0 and <unsigned long long>self.items[0][0] <= self.pushed - self.entries

    cdef int push_c(self, const char* p, Py_ssize_t n) except -1:
        cdef Py_ssize_t capacity = <Py_ssize_t>self.capacity_ms * SAMPLES_PER_MS
        cdef Py_ssize_t added = decoded_bytes_c(p, n)
        cdef int dropped = 0
        if added > capacity:
            return 1
        while self.entries > 0 and (self.samples + added > capacity or self.entries >= self.capacity_ms):
            self.pop_c(NULL)
            dropped += 1
        self.reserve(self.used + LENGTH_BYTES + n)
        cdef uint32_t length = <uint32_t>n
        self.append(<const char*>&length, LENGTH_BYTES)
        self.append(p, n)
        self.entries += 1
        self.pushed += 1
        self.samples += added
        return dropped

    cdef Py_ssize_t peek_c(self) noexcept nogil:
        cdef uint32_t length
        if self.entries == 0:
            return -1
        self.read_at(0, <char*>&length, LENGTH_BYTES)
        return <Py_ssize_t>length

    cdef void pop_c(self, char* out) noexcept:
        cdef Py_ssize_t n = self.peek_c()
        if n < 0:
            return
        if out != NULL:
            self.read_at(LENGTH_BYTES, out, n)
        self.samples -= self.front_samples(n)
        self.entries -= 1
        if self.entries == 0:
            self.release()
            return
        self.used -= LENGTH_BYTES + n
        self.head += LENGTH_BYTES + n
        if self.head >= self.arena_bytes:
            self.head -= self.arena_bytes

    cdef Py_ssize_t front_samples(self, Py_ssize_t n) noexcept nogil:
        """Return the samples of the oldest payload, whose length is n."""
        cdef char tail[2]
        tail[0] = 0
        tail[1] = 0
        if n > 1:
            self.read_at(LENGTH_BYTES + n - 2, tail, 2)
        elif n > 0:
            self.read_at(LENGTH_BYTES, tail + 1, 1)
        return decoded_bytes_of(n, tail[1], tail[0])

    cdef int reserve(self, Py_ssize_t wanted) except -1:
        """Make the block at least ``wanted`` bytes; the bounds on duration and entries limit ``wanted``."""
        cdef Py_ssize_t size = self.arena_bytes if self.arena_bytes > 0 else FIRST_ARENA_BYTES
        cdef char* arena
        if wanted <= self.arena_bytes:
            return 0
        while size < wanted:
            size *= 2
        arena = <char*>PyMem_RawMalloc(<size_t>size)
        if arena == NULL:
            raise MemoryError(f"no memory for {size} bytes of queued audio")
        if self.used > 0:
            self.read_at(0, arena, self.used)
        PyMem_RawFree(self.arena)
        self.arena = arena
        if self.budget is not None:
            self.budget.used_bytes += size - self.arena_bytes
        self.arena_bytes = size
        self.head = 0
        return 0

    cdef void read_at(self, Py_ssize_t offset, char* out, Py_ssize_t n) noexcept nogil:
        """Copy n bytes that start ``offset`` after the head; the caller asks for bytes in use only."""
        cdef Py_ssize_t start = self.head + offset
        cdef Py_ssize_t first
        if n <= 0:
            return
        if start >= self.arena_bytes:
            start -= self.arena_bytes
        first = min(n, self.arena_bytes - start)
        memcpy(out, self.arena + start, <size_t>first)
        if n > first:
            memcpy(out + first, self.arena, <size_t>(n - first))

    cdef void append(self, const char* p, Py_ssize_t n) noexcept nogil:
        """Add n bytes at the end; the caller makes room by ``reserve`` first."""
        cdef Py_ssize_t start = self.head + self.used
        cdef Py_ssize_t first
        if n <= 0:
            return
        if start >= self.arena_bytes:
            start -= self.arena_bytes
        first = min(n, self.arena_bytes - start)
        memcpy(self.arena + start, p, <size_t>first)
        if n > first:
            memcpy(self.arena, p + first, <size_t>(n - first))
        self.used += n

    cdef void release(self) noexcept:
        """Remove all payloads and free the block."""
        PyMem_RawFree(self.arena)
        self.arena = NULL
        # The garbage collector may have taken the budget.
        if self.budget is not None:
            self.budget.used_bytes -= self.arena_bytes
        self.arena_bytes = 0
        self.head = 0
        self.used = 0
        self.entries = 0
        self.samples = 0
