"""
Gives memory of TLS transports back to the system, on Linux.

A transport's buffer is often made in memory that an earlier handshake has used and freed. All its pages count as used
then, of which a call's frames need the first. Failures are those of the transport's `get_extra_info`.
"""

from libc.stdint cimport uintptr_t

from aiofastnet.ssl_engine cimport SSLEngine

cdef extern from "<sys/mman.h>":
    int madvise(void* start, size_t n, int advice) nogil
    int MADV_DONTNEED

cdef extern from "<unistd.h>":
    long sysconf(int name) nogil
    int _SC_PAGESIZE


cpdef give_back(transport):
    """Give back what a transport of aiofastnet does not use of its buffer for reading; a plain one stays as it is."""
    cdef char* unused
    cdef Py_ssize_t n
    cdef uintptr_t page, first, end
    engine = transport.get_extra_info("ssl_object")
    if not isinstance(engine, SSLEngine) or not (<SSLEngine>engine).ssl_incoming_use_membio():
        return
    try:
        # From where the next bytes go to the end: what is there means nothing.
        (<SSLEngine>engine).incoming_bio_get_write_buf(&unused, &n)
    except RuntimeError:
        # It is full.
        return
    page = <uintptr_t>sysconf(_SC_PAGESIZE)
    first = (<uintptr_t>unused + page - 1) // page * page
    end = (<uintptr_t>unused + <uintptr_t>n) // page * page
    if first < end:
        # A refusal leaves the memory as it is.
        madvise(<void*>first, end - first, MADV_DONTNEED)
