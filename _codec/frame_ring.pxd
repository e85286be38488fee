from _codec.held_budget cimport HeldBudget

cdef class FrameRing:
    # The block that holds the payloads, each behind its length, in a circle; NULL while none is held.
    # `reserve` makes and grows it, `release` frees it.
    cdef char* arena
    # Size of the block; set and cleared with it.
    cdef Py_ssize_t arena_bytes
    # Where the oldest payload's length begins in the block; `pop_c` moves it on.
    cdef Py_ssize_t head
    # Bytes of the block in use, from the head on; `append` adds, `pop_c` takes away.
    cdef Py_ssize_t used
    # Number of payloads held; changed by `push_c` and `pop_c`, cleared by `release`.
    cdef Py_ssize_t entries
    # Payloads queued so far; counted by `push_c`.
    cdef unsigned long long pushed
    # The items between them: pairs of the number of payloads queued before, and the item; None
    # before the first. Changed by `push_item`,
    # `pop_item` and `clear_items`.
    cdef object items
    # How many they are; changed with them.
    cdef Py_ssize_t item_count
    # Duration of the payloads held, in samples of 8 kHz, which are bytes of mu-law; changed with the entries.
    cdef readonly Py_ssize_t samples
    # Bound on the duration, and on the number of payloads; set once.
    cdef readonly int capacity_ms
    # Counts the block's bytes; None: nobody does. Set once.
    cdef HeldBudget budget

    # Queue n bytes at p; return how many payloads were dropped for it.
    cdef int push_c(self, const char* p, Py_ssize_t n) except -1
    # Return the length of the oldest payload, -1 if there is none.
    cdef Py_ssize_t peek_c(self) noexcept nogil
    # Remove the oldest payload and copy it to out, which has room for peek_c() bytes; NULL discards it.
    # Only after peek_c() has returned 0 or more.
    cdef void pop_c(self, char* out) noexcept
    # Whether no payload stands before the oldest item; False if there is none.
    cdef bint is_item_next(self) except -1
    cdef int reserve(self, Py_ssize_t wanted) except -1
    cdef void read_at(self, Py_ssize_t offset, char* out, Py_ssize_t n) noexcept nogil
    cdef void append(self, const char* p, Py_ssize_t n) noexcept nogil
    cdef Py_ssize_t front_samples(self, Py_ssize_t n) noexcept nogil
    cdef void release(self) noexcept
