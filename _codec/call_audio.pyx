"""
The audio of one call, seen where it passes its caller's wire: who speaks, and when the caller hears the agent.

Each side's audio has positions, bytes of mu-law, and stretches: from a stretch's position on, audio follows without
a gap from a known time. The caller's audio has the time at which it was spoken, the earliest that its arrival allows;
lateness that stays is a gap, lateness that the next messages make good is none. The agent's audio is heard when it is
written, or behind what is written and unplayed; a clear cuts that.

Nothing here fails or waits: invalid text is measured as some audio, and what does not fit the bounds is lost, the
oldest first. No object is made per frame. All times are seconds of Python's `time.monotonic`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.time cimport monotonic
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc

from _codec.base64_text cimport decoded_bytes_c
from _codec.speech_meter cimport HANGOVER_BYTES, SpeechMeter

cdef enum:
    # A change is a stretch of the caller or of the agent, or a cut.
    CUT = 2
    # Speech this close to the end of the agent's audio is cut off by it.
    MID_SPEECH_BYTES = 800

cdef tuple KINDS = ("caller", "agent", "cut")
cdef double BYTES_PER_S = 8000.0
# Lateness of the caller's audio from which on it may be a gap, and how long it must stay.
cdef double GAP_S = 0.1
cdef double GAP_STAYS_S = 0.3
# Audio of the agent that comes as fast as it plays is late by a little again and again: until it adds up to this, the
# stretch goes on.
cdef double LATE_S = 0.005
# A gap in mid-speech: shorter ones nobody hears, longer ones are pauses between two utterances.
cdef double SHORTEST_DRY_S = 0.02
cdef double LONGEST_DRY_S = 2.0
# After this time without audio, the agent's speech has ended.
cdef double DRY_S = 0.3
# How much of its lateness a stretch takes for the difference between two clocks, at each `follow`.
cdef double DRIFT_S = 0.0005
cdef double NEVER_S = 1e18


@cython.auto_pickle(False)
cdef class AudioTap:
    """
    Takes the audio of one call as it passes. This one ignores it: what keeps or draws audio overrides its C methods.

    They run once per frame, on the data path: they copy what they need and neither fail nor wait.
    """

    cdef void take_c(self, int side, const char* text, Py_ssize_t n, double at) noexcept:
        pass

    cdef void cut_c(self, double at) noexcept:
        pass


@cython.auto_pickle(False)
@cython.final
cdef class CallAudio:
    """
    Measures both sides of one call, over all its media sockets and agents.

    Attributes:
        caller, agent: Find each side's speech, by its positions.
    """

    def __cinit__(self):
        self.caller = SpeechMeter()
        # Synthetic speech.
        self.agent = SpeechMeter(is_clean=True)
        self.least_late_s = NEVER_S

    def __dealloc__(self):
        free(self.changes)

    def attach(self, AudioTap tap not None):
        """
        Give the audio to ``tap`` too, from now on.

        Raises:
            ValueError: If it is attached already.
        """
        cdef AudioTap other = self.first_tap
        while other is not None:
            if other is tap:
                raise ValueError("the tap is attached already")
            other = other.next_tap
        tap.next_tap = self.first_tap
        self.first_tap = tap

    def detach(self, AudioTap tap not None):
        """Give no more audio to ``tap``; one that is not attached stays so."""
        cdef AudioTap before = None
        cdef AudioTap other = self.first_tap
        while other is not None and other is not tap:
            before, other = other, other.next_tap
        if other is None:
            return
        if before is None:
            self.first_tap = tap.next_tap
        else:
            before.next_tap = tap.next_tap
        tap.next_tap = None

    def add_caller(self, bytes payload not None, double now):
        """Audio of the caller has come, base64 text of any length."""
        self.take_caller(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), now)

    def add_agent(self, bytes payload not None, double now):
        """Audio of the agent goes to the caller's carrier."""
        self.take_agent(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), now)

    def cut(self, double now):
        """The carrier discards the unplayed audio: it is cleared, or its socket is lost."""
        self.cut_at(now)

    cpdef bint follow(self, double now):
        """End what has ended by now, and return whether there is a change or a segment of speech to take."""
        if self.has_agent and not self.is_dry and now - self.agent_until >= DRY_S:
            self.end_speech()
        self.follow_drift()
        return self.count > 0 or self.caller.count > 0 or self.agent.count > 0

    def poll(self, double now):
        """
        Follow the audio up to ``now``, and return the changes since the last call, in order.

        A change is its kind, a position, a time and the length of a gap. ``caller`` and ``agent``: a stretch of that
        side begins, after a gap in mid-speech, or in the caller's media, of that length; 0 if there was none. A gap
        of the caller comes after the stretch before it, which comes again with the time that is known by then.
        ``cut``: the agent's audio before the position is not heard from the time on.
        """
        cdef list found = []
        cdef Change* change
        cdef int i
        self.follow(now)
        for i in range(self.count):
            change = &self.changes[(self.first + i) % MOST_CHANGES]
            found.append((KINDS[change.kind], change.position, change.at, change.gap_s))
        free(self.changes)
        self.changes = NULL
        self.first = self.count = 0
        return found

    @property
    def caller_since(self):
        """The caller's present stretch: its first position, and when that was spoken; None before his first audio."""
        return (self.caller_from, self.caller_from_at) if self.has_caller else None

    @property
    def caller_until(self):
        """When the last audio of the caller was spoken; None before the first."""
        return self.caller_time(self.caller.end_bytes()) if self.has_caller else None

    # What the wire calls

    cdef void add_caller_c(self, const char* text, Py_ssize_t n) noexcept:
        self.take_caller(text, n, monotonic())

    cdef void add_agent_c(self, const char* text, Py_ssize_t n) noexcept:
        self.take_agent(text, n, monotonic())

    cdef void cut_c(self) noexcept:
        self.cut_at(monotonic())

    # The caller's side

    cdef void take_caller(self, const char* text, Py_ssize_t n, double now) noexcept:
        cdef unsigned long long position = self.caller.end_bytes()
        cdef AudioTap tap = self.first_tap
        self.follow_caller(position, decoded_bytes_c(text, n) / BYTES_PER_S, now)
        while tap is not None:
            tap.take_c(CALLER, text, n, self.caller_time(position))
            tap = tap.next_tap
        self.caller.add_c(text, n)

    cdef double caller_time(self, unsigned long long position) noexcept:
        # A position before the stretch gives a time before it.
        return self.caller_from_at + <double><long long>(position - self.caller_from) / BYTES_PER_S

    cdef void follow_caller(self, unsigned long long position, double length_s, double now) noexcept:
        """Correct the present stretch by audio from ``position`` on, or begin another one."""
        cdef double late_s
        if not self.has_caller:
            self.has_caller = True
            self.caller_from = position
            self.caller_from_at = now - length_s
            self.note(CALLER, position, self.caller_from_at, 0)
            return
        late_s = now - length_s - self.caller_time(position)
        if late_s < 0:
            self.caller_from_at += late_s
            late_s = 0
        if late_s < GAP_S:
            self.late_since = 0
            self.least_late_s = min(self.least_late_s, late_s)
        elif self.late_since == 0:
            self.late_since = now
            self.late_from = position
            self.late_s = late_s
        else:
            self.late_s = min(self.late_s, late_s)
            if now - self.late_since >= GAP_STAYS_S:
                # The stretch that ends has been corrected since it was noted.
                self.note(CALLER, self.caller_from, self.caller_from_at, 0)
                self.caller_from_at = self.caller_time(self.late_from) + self.late_s
                self.caller_from = self.late_from
                self.late_since = 0
                self.note(CALLER, self.caller_from, self.caller_from_at, self.late_s)

    cdef void follow_drift(self) noexcept:
        if self.least_late_s < GAP_S:
            self.caller_from_at += min(self.least_late_s, DRIFT_S)
        self.least_late_s = NEVER_S

    # The agent's side

    cdef void take_agent(self, const char* text, Py_ssize_t n, double now) noexcept:
        cdef AudioTap tap = self.first_tap
        if not self.has_agent or now > self.agent_until:
            self.start_agent(self.agent.end_bytes(), now)
        while tap is not None:
            tap.take_c(AGENT, text, n, self.agent_until)
            tap = tap.next_tap
        self.agent.add_c(text, n)
        self.agent_until += decoded_bytes_c(text, n) / BYTES_PER_S

    cdef void start_agent(self, unsigned long long position, double now) noexcept:
        cdef double gap_s = now - self.agent_until if self.has_agent else 0
        if self.has_agent and not self.is_dry:
            self.agent_late_s += gap_s
            if self.agent_late_s < LATE_S:
                self.agent_until = now
                return
            self.is_mid_speech = self.agent.is_speaking and position - self.agent.last_active_at <= MID_SPEECH_BYTES
        if (
            gap_s < SHORTEST_DRY_S
            or gap_s > LONGEST_DRY_S
            or not self.is_mid_speech
            or self.has_caller_spoken(gap_s)
        ):
            gap_s = 0
        self.has_agent = True
        self.is_dry = False
        self.agent_late_s = 0
        self.agent_until = now
        self.note(AGENT, position, now, gap_s)

    cdef bint has_caller_spoken(self, double gap_s) noexcept:
        """Whether the caller has spoken in the last ``gap_s``."""
        cdef double spoke_at = <double>self.caller.last_active_at + gap_s * BYTES_PER_S
        return self.caller.is_speaking or (
            self.caller.last_active_at > 0 and spoke_at > <double>self.caller.end_bytes()
        )

    cdef void end_speech(self) noexcept:
        """No audio follows the agent's for a while: its speech has ended with it."""
        cdef unsigned long long position = self.agent.end_bytes()
        self.is_mid_speech = self.agent.is_speaking and position - self.agent.last_active_at <= MID_SPEECH_BYTES
        self.is_dry = True
        self.agent.skip_c(HANGOVER_BYTES)

    cdef void cut_at(self, double now) noexcept:
        cdef AudioTap tap = self.first_tap
        if self.has_agent and self.agent_until > now:
            self.note(CUT, self.agent.end_bytes(), now, 0)
            while tap is not None:
                tap.cut_c(now)
                tap = tap.next_tap
        if self.has_agent and not self.is_dry:
            self.end_speech()
        self.has_agent = False

    cdef void note(self, int kind, unsigned long long position, double at, double gap_s) noexcept:
        cdef Change* change
        if self.changes == NULL:
            self.changes = <Change*>malloc(MOST_CHANGES * sizeof(Change))
            if self.changes == NULL:
                # Without memory, a change is lost like those beyond the bound.
                return
        if self.count == MOST_CHANGES:
            self.first = (self.first + 1) % MOST_CHANGES
            self.count -= 1
        change = &self.changes[(self.first + self.count) % MOST_CHANGES]
        change.kind, change.position, change.at, change.gap_s = kind, <uint32_t>position, at, <float>gap_s
        self.count += 1
