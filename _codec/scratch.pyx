"""Memory that is used again and again within one callback. Lack of memory raises MemoryError, and changes nothing."""

cimport cython
from cpython.mem cimport PyMem_Free, PyMem_Realloc

cdef enum:
    # A longer message is rare, and its room is given back with the next one.
    KEPT_BYTES = 65536


@cython.final
@cython.auto_pickle(False)
cdef class Scratch:
    """Room for one step of a conversion: whoever asks for it is done with it before anybody else asks."""

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef char* room(self, Py_ssize_t n) except NULL:
        cdef Py_ssize_t wanted = max(n, <Py_ssize_t>KEPT_BYTES)
        cdef char* data
        if wanted != self.size:
            data = <char*>PyMem_Realloc(self.data, <size_t>wanted)
            if data == NULL:
                raise MemoryError(f"no memory for {wanted} bytes of audio")
            self.data = data
            self.size = wanted
        return self.data
