# Brings memory into the processor's caches before it is needed; an address that cannot be read does no harm.

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    static inline void fetch(const void *start, size_t n) {
        /* A number, because it may be NULL or shorter than n. */
        uintptr_t p = (uintptr_t)start;
        size_t i;
        /* A line has 64 bytes; the memory may begin in the middle of one. */
        for (i = 0; i < n; i += 64)
            __builtin_prefetch((const void *)(p + i), 1);
        __builtin_prefetch((const void *)(p + n - 1), 1);
    }
    """
    void fetch(const void* start, size_t n) noexcept nogil
