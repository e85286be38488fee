# Brings memory into the processor's caches before it is needed; an address that cannot be read does no harm.

cdef extern from *:
    """
    #include <stddef.h>

    static inline void fetch(const void *start, size_t n) {
        const char *p = (const char *)start;
        size_t i;
        /* A line has 64 bytes; the memory may begin in the middle of one. */
        for (i = 0; i < n; i += 64)
            __builtin_prefetch(p + i, 1);
        __builtin_prefetch(p + n - 1, 1);
    }
    """
    void fetch(const void* start, size_t n) noexcept nogil
