"""
Estimates how much of the agent's audio Twilio has that has not played, by the clock.

A look at a call in which nothing is due touches few objects of Python: with hundreds of calls, the lines of memory that
each tick loads cost more than its work. Only `Playout.settle` can fail, by a TypeError for other objects.
"""

cimport cython

from _codec.call_audio cimport CallAudio
from _codec.wire cimport Wire

# Mu-law, 8 kHz.
cdef double BYTES_PER_S = 8000


@cython.auto_pickle(False)
@cython.final
cdef class Playout:
    """
    Estimates the unplayed audio of one stream, to within one tick.

    Attributes:
        unplayed_s: The estimate as of the last `advance` or `look`.
    """

    def __cinit__(self, double now):
        self.advanced_at = now

    def add(self, Py_ssize_t audio_bytes):
        """Audio goes out, or waits for it, that the call has passed on itself."""
        self.sent_bytes += audio_bytes

    def add_relayed(self, Py_ssize_t audio_bytes):
        """Likewise of all that was relayed since the last call."""
        self.sent_bytes += audio_bytes - self.looked_bytes
        self.looked_bytes = 0
        if self.agent is not None:
            self.agent_bytes = self.agent.audio_in_bytes

    cpdef void advance(self, long long held_bytes, double now) noexcept:
        """Let the time since the last call play; while Twilio does not read, held audio does not."""
        # The time since the last tick counts as played before the audio sent within it is added. The estimate is
        # late by a tick at most, which the margin covers.
        self.unplayed_s = max(0.0, self.unplayed_s - (now - self.advanced_at))
        self.unplayed_s = max(self.unplayed_s + <double>self.sent_bytes / BYTES_PER_S, <double>held_bytes / BYTES_PER_S)
        self.sent_bytes = 0
        self.advanced_at = now

    def restart(self, long long held_bytes=0):
        """Only the audio held is left: Twilio has discarded the rest."""
        self.unplayed_s = <double>held_bytes / BYTES_PER_S
        self.sent_bytes = 0

    def state(self):
        """All that this object knows of the audio, for `restore`."""
        return self.unplayed_s, self.sent_bytes - self.looked_bytes, self.advanced_at

    def restore(self, double unplayed_s, long long sent_bytes, double advanced_at):
        """Go on from a former `state`."""
        self.unplayed_s, self.advanced_at = unplayed_s, advanced_at
        self.sent_bytes = max(0, sent_bytes)
        self.looked_bytes = max(0, -sent_bytes)

    # A call in which nothing is due

    def settle(self, double until, CallAudio audio not None, Wire caller not None, Wire agent not None):
        """
        Let `look` do what a tick would until then, right after a tick.

        Args:
            audio: What passes the caller's wire.
            caller, agent: The two wires; each is joined to the other.
        """
        self.settled_until = until
        self.audio = audio
        self.caller = caller
        self.agent = agent
        self.caller_media = caller.media_in
        self.agent_bytes = agent.audio_in_bytes

    def unsettle(self):
        """Something may be due: the next look asks for a tick."""
        self.settled_until = 0
        self.audio = None
        self.caller = self.agent = None

    def look(self, double now):
        """
        Advance, and follow the audio; the caller of this does that a few times a second.

        Returns:
            Whether there is no need of a tick: the call is settled, the caller's audio comes, the agent has said
            nothing but audio, and of neither side's speech there is anything to take.
        """
        cdef long long sent
        if self.agent is None or now >= self.settled_until:
            return False
        if (
            # What it says may make something due: its own leg is no longer settled either.
            self.agent.settled_until == 0
            or self.agent.partner is not self.caller
            or self.caller.partner is not self.agent
            or self.caller.media_in == self.caller_media
            or self.audio.follow(now)
        ):
            return False
        sent = <long long>(self.agent.audio_in_bytes - self.agent_bytes)
        self.caller_media = self.caller.media_in
        self.agent_bytes = self.agent.audio_in_bytes
        self.sent_bytes += sent
        self.advance(<long long>self.caller.held.samples, now)
        # `add_relayed` counts the same audio later.
        self.looked_bytes += sent
        return True
