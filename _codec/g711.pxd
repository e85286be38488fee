# Write the 16-bit little-endian samples of n mu-law bytes to out, which has room for 2 * n bytes.
cdef void mulaw_to_pcm16_c(const char* mulaw, Py_ssize_t n, char* out) noexcept nogil
# Write the mu-law bytes of n 16-bit little-endian samples to out, which has room for n bytes.
cdef void pcm16_to_mulaw_c(const char* pcm, Py_ssize_t n, char* out) noexcept nogil
# Write the codes of n bytes in the other law to out, which has room for n bytes.
cdef void mulaw_to_alaw_c(const char* mulaw, Py_ssize_t n, char* out) noexcept nogil
cdef void alaw_to_mulaw_c(const char* alaw, Py_ssize_t n, char* out) noexcept nogil
