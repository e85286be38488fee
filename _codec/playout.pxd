from _codec.call_audio cimport CallAudio
from _codec.wire cimport Wire

cdef class Playout:
    cdef:
        # The unplayed audio as of `advanced_at`.
        readonly double unplayed_s
        # Audio sent since then.
        long long sent_bytes
        # Audio that looks have counted, and `add_relayed` has not.
        long long looked_bytes
        double advanced_at

        # Until when looks may replace ticks, and of what they look at; set by `settle`, cleared by `unsettle`.
        double settled_until
        CallAudio audio
        Wire caller
        Wire agent
        # How much each of the two had received at the last look.
        unsigned long long caller_media
        unsigned long long agent_bytes

    cpdef void advance(self, long long held_bytes, double now) noexcept
