from libc.stdint cimport uint32_t

from _codec.speech_meter cimport SpeechMeter

cdef enum:
    # The two sides of a call, as `AudioTap.take_c` has them.
    CALLER = 0
    AGENT = 1
    MOST_CHANGES = 32


# 32 bits of a position are six days.
cdef struct Change:
    double at
    float gap_s
    uint32_t position
    int kind


cdef class AudioTap:
    # The next one of the same call; set and cleared by `CallAudio`.
    cdef AudioTap next_tap

    # Audio of one side, n characters of base64 text, borrowed until return; its first sample is spoken or heard at `at`.
    cdef void take_c(self, int side, const char* text, Py_ssize_t n, double at) noexcept
    # The caller hears none of the agent's audio from `at` on that was taken before.
    cdef void cut_c(self, double at) noexcept


cdef class CallAudio:
    cdef:
        readonly SpeechMeter caller
        readonly SpeechMeter agent
        # What takes the audio too; set by `attach` and `detach`.
        AudioTap first_tap

        # The present stretch of the caller's audio: its first position, and when that was spoken. Set by
        # `follow_caller`, which also moves the time back for audio that comes earlier than it says; `follow_drift`
        # moves it on.
        bint has_caller
        unsigned long long caller_from
        double caller_from_at
        # Since when the caller's audio is late, from which position on, and by how much at least; 0 while it is not.
        double late_since
        unsigned long long late_from
        double late_s
        # The least lateness since the last `follow`.
        double least_late_s

        # Audio of the agent has been written since the last `cut`, and when the caller has heard it all.
        bint has_agent
        double agent_until
        # By how much its present stretch is late by now; cleared by the next one.
        double agent_late_s
        # That time is over, and `end_speech` has run; whether the agent was in mid-speech then.
        bint is_dry
        bint is_mid_speech

        # What `poll` has not returned, in a circle; the oldest are lost beyond the bound. NULL while there is nothing:
        # made by `note`, freed by `poll`.
        Change* changes
        int first
        int count

    cpdef bint follow(self, double now)
    cdef void add_caller_c(self, const char* text, Py_ssize_t n) noexcept
    cdef void add_agent_c(self, const char* text, Py_ssize_t n) noexcept
    cdef void cut_c(self) noexcept
    cdef void take_caller(self, const char* text, Py_ssize_t n, double now) noexcept
    cdef void take_agent(self, const char* text, Py_ssize_t n, double now) noexcept
    cdef void cut_at(self, double now) noexcept
    cdef void follow_caller(self, unsigned long long position, double length_s, double now) noexcept
    cdef void follow_drift(self) noexcept
    cdef double caller_time(self, unsigned long long position) noexcept
    cdef void start_agent(self, unsigned long long position, double now) noexcept
    cdef void end_speech(self) noexcept
    cdef bint has_caller_spoken(self, double gap_s) noexcept
    cdef void note(self, int kind, unsigned long long position, double at, double gap_s) noexcept
